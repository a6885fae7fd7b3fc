"""All rules, by code: the table that docs/plan.md is held to.

In: the rules of `today`, `obstacles` and `beyond`. Out: `RULES`, and the place of each.
"""

from collections.abc import Mapping
from typing import Final

from webhook.cli.plan import beyond, obstacles, today
from webhook.cli.plan.rule import Rule

BY_PLACE: Final[Mapping[str, tuple[Rule[...], ...]]] = {
    "today": today.RULES,
    "obstacles": (*obstacles.RULES, *obstacles.SPACE_RULES, *obstacles.CLUSTER_RULES),
    "beyond": beyond.RULES,
}
"""Place (see `rule.PLACES`) -> its rules."""

RULES: Final[Mapping[str, Rule[...]]] = {
    rule.code: rule for rules in BY_PLACE.values() for rule in rules
}
