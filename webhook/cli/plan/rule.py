"""What a rule is: a code, how bad it is, what it says, what fixes it, and how it is found.

In: nothing. Out: `Rule`, `Hit`, and the words for harm and place. The rules themselves stand in
`today`, `obstacles` and `beyond`; `rules` has them all. A code is stable, like those of
`webhook.core.reasons`: pipelines compare it, docs/plan.md explains it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, ParamSpec

from webhook.cli.plan.evidence import Around, Evidence
from webhook.config import Config
from webhook.core.names import CLASS_LABEL

P = ParamSpec("P")

HARMS: Final[Mapping[str, str]] = {
    "loses": "loses requests",
    "may-lose": "may lose requests",
    "refused": "Pods would be refused",
    "less": "podgrace does less",
    "drains": "node drains suffer",
    "slower": "takes longer",
    "advice": "advice",
}
"""Harm -> what it says to people; the worst first."""

PLACES: Final[Mapping[str, str]] = {
    "today": "Why requests are lost today",
    "obstacles": "What stands in the way",
    "beyond": "What no Pod patch can fix",
}
"""Where a rule belongs -> its heading."""

PODGRACE: Final = "podgrace"
YOU: Final = "you"
"""Who fixes it."""


class Hit(NamedTuple):
    """What a rule found. `harm`: "" for the rule's own; `by`: who fixes it."""

    detail: str
    harm: str = ""
    by: str = YOU


class Space(NamedTuple):
    """A namespace: its labels, its workloads, and the whole configuration with all its classes."""

    name: str
    labels: Mapping[str, str]
    workloads: Sequence[Evidence]
    around: Around
    whole: Config

    @property
    def config(self) -> Config:
        """The configuration of the namespace's class."""
        return self.whole.of(self.labels.get(CLASS_LABEL, ""))


class Rule(NamedTuple, Generic[P]):
    """One rule. `sentence`: what it means; `remedy`: what to do; `find`: reads the evidence.

    It reads an `Evidence` (a workload), a `Space` (a namespace), or `Around` and the configuration
    (the cluster).
    """

    code: str
    harm: str
    sentence: str
    remedy: str
    find: Callable[P, Iterable[Hit]]
