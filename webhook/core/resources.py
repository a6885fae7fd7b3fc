"""Resource totals of a Pod: whether the sidecar still fits.

In: a Pod with `spec.resources` (KEP-2837), and what the sidecar asks for. Out: yes or no. The API server refuses a Pod whose
containers request more than its total, so a total that is too tight must cost the helper, never the Pod. Amounts are read as
the API reads them (apimachinery, resource.Quantity). What the sidecar asks for is the operator's choice, in `config`.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import msgspec

from webhook.core.pod import Container, Pod, Raw, present

_QUANTITY = re.compile(
    r"([+-]?)([0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?"
)
_SUFFIX: Final[Mapping[str, Fraction]] = {
    **{letter: Fraction(10) ** power for letter, power in zip("num", (-9, -6, -3), strict=True)},
    **{letter: Fraction(10) ** (3 * i) for i, letter in enumerate("kMGTPE", 1)},
    **{letter + "i": Fraction(1024) ** i for i, letter in enumerate("KMGTPE", 1)},
}


class _Resources(msgspec.Struct):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


_decoder: Final = msgspec.json.Decoder(_Resources)


def quantity(text: str | float) -> Fraction:
    """Read an amount: `250m`, `1.5`, `16Mi`, `2e3`. Raises `ValueError`."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r}: accepted: an amount like 250m, 1.5 or 16Mi")
    sign, digits, suffix, exponent = found.groups()
    value = Fraction(digits if digits[-1] != "." else digits[:-1])
    value *= _SUFFIX[suffix] if suffix else Fraction(10) ** int(exponent or 0)
    return -value if sign == "-" else value


def fits(pod: Pod, sidecar: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the Pod's own total, if it has one, leaves room for the sidecar's requests and limits."""
    raw = present(pod.spec.resources)
    if raw is None:
        return True
    total = _decoder.decode(raw)
    limits = total.limits or {}
    requests = limits | (total.requests or {})
    try:
        for name, limit in sidecar.get("limits", {}).items():
            if name in limits and quantity(limit) > quantity(limits[name]):
                return False
        for name, wanted in sidecar.get("requests", {}).items():
            if name in requests and quantity(wanted) + _requested(pod, name) > quantity(
                requests[name]
            ):
                return False
    except ValueError:
        return False
    return True


def _requested(pod: Pod, name: str) -> Fraction:
    """Sum of what runs at the same time: the containers and the native sidecars."""
    running: list[Container] = [
        *pod.spec.containers,
        *(c for c in pod.spec.init_containers or () if c.restart_policy == "Always"),
    ]
    return sum((_request(c.resources, name) for c in running), start=Fraction(0))


def _request(raw: Raw, name: str) -> Fraction:
    resources = present(raw)
    if resources is None:
        return Fraction(0)
    own = _decoder.decode(resources)
    # Where only a limit is given, it is the request too (core/v1 defaulting).
    return quantity((own.requests or {}).get(name, (own.limits or {}).get(name, 0)))
