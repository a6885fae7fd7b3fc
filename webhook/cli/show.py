"""What a person reads of a decision: reasons, ports, coloured diffs.

In: outcomes and texts. Out: lines of text. No decision is made here.
"""

import difflib
import io
from typing import Any, Final

from webhook.admission import Outcome, sentence
from webhook.cli.terminal import table
from webhook.core.decision import Decision, Desired
from webhook.core.reasons import REASONS

_RED: Final = "\033[31m"
_GREEN: Final = "\033[32m"
_END: Final = "\033[0m"


def diff(before: str, after: str, name: str, *, colour: bool) -> str:
    """Show two texts as a unified diff for `patch` and `git apply`; "" if they are the same.

    Line ends are kept.
    """
    # Split at newlines only: to `patch` nothing else ends a line.
    # A name that has blanks in it ends at a tab.
    old, new = (f"{side}/{name.lstrip('/')}" + "\t" * (" " in name) for side in "ab")
    made = difflib.unified_diff(_lines(before), _lines(after), old, new, n=3)
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in made
    ]
    if not colour:
        return "".join(lines)
    colours = {"-": _RED, "+": _GREEN}
    return "".join(
        f"{colours.get(line[0], '')}{line.removesuffix(chr(10))}{_END}\n" for line in lines
    )


def _lines(text: str) -> list[str]:
    return io.StringIO(text, newline="\n").readlines()


def explanation(outcome: Outcome) -> str:
    """Explain an outcome: what, why, and what would change it, a row a reason."""
    rows = [(d.container or "(Pod)", d.code, sentence(d), _hint(d)) for d in _ordered(outcome)]
    why = table(("CONTAINER", "WHAT", "WHY", "CHANGED BY"), rows)
    if outcome.plan.skip:
        return why
    head = ("CONTAINER", "WAITS FOR REQUESTS ON", "NOT ON")
    return why + "\n\n" + table(head, [_ports(c) for c in outcome.plan.containers])


def containers(outcome: Outcome) -> list[dict[str, Any]]:
    """Give the ports of each container for machines; `watched` is "all" for whatever listens."""
    return [
        {
            "name": c.container.name,
            "declared": [port.container_port for port in c.container.ports or ()],
            "watched": [] if c.watched is None else list(c.watched) or "all",
        }
        for c in outcome.plan.containers
    ]


def _ports(desired: Desired) -> tuple[str, str, str]:
    """Show a container's ports: those that are watched, and others that it declares."""
    watched = desired.watched
    said = "-" if watched is None else ", ".join(map(str, watched)) or "whatever listens"
    rest = [
        f"{p.container_port} {p.name or ''}".rstrip()
        for p in desired.container.ports or ()
        if watched is None or (watched and p.container_port not in watched)
    ]
    return desired.container.name, said, ", ".join(rest) or "-"


def records(outcome: Outcome) -> list[dict[str, Any]]:
    """Give the same for machines."""
    return [
        {
            "container": d.container or None,
            "code": d.code,
            "detail": d.detail or None,
            "why": REASONS[d.code].sentence,
            "warn": REASONS[d.code].warn,
            "changedBy": _hint(d) or None,
        }
        for d in _ordered(outcome)
    ]


def _hint(decision: Decision) -> str:
    return REASONS[decision.code].hint.replace("<container>", decision.container or "<container>")


def _ordered(outcome: Outcome) -> list[Decision]:
    """Put the Pod's reasons first, then each container's together."""
    names = list(dict.fromkeys(d.container for d in outcome.plan.decisions))
    names.sort(key=bool)
    return [d for name in names for d in outcome.plan.decisions if d.container == name]
