"""Label selectors, as the API server evaluates them. Pure."""

from collections.abc import Iterable
from typing import Any, Final


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Evaluate a label selector as the API server does; an empty one selects everything."""
    selector = selector or {}
    expressions: Iterable[dict[str, Any]] = selector.get("matchExpressions") or ()
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(
        _OPERATORS[item["operator"]](labels.get(item["key"]), item.get("values") or ())
        for item in expressions
    )


_OPERATORS: Final[dict[str, Any]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}
