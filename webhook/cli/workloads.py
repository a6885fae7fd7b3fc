"""`podgrace inject`, `uninject` and `explain`: the webhook's decision about manifests, offline.

In: manifests as text. Out: the manifests as they would be admitted, what changes, or why. Every
workload counts, with or without the label, because the user names it. One whose Pod template says
`podgrace.io/inject: disabled` is left alone. Standard error names each object that has containers
but is not read, and each workload that a load balancer in the same file lets go of late. Reading
and writing belong in `manifests`, which kinds are workloads in `kinds`, and the decision in
`webhook.admission`.
"""

import argparse
import sys
from collections.abc import Iterable
from typing import Any, Final

from webhook.admission import Outcome
from webhook.cli import kinds, manifests, services, show, terminal
from webhook.cli.arguments import add_class, add_config, add_file, command, with_text
from webhook.cli.exits import DIFFERS, OK
from webhook.cli.manifests import Workload
from webhook.config import Config


def add_inject(commands: Any) -> None:
    """Add `inject` to the top parser's commands."""
    text = "Write manifests as the webhook would admit them."
    made = command(commands, "inject", with_text(inject), text, _INJECT)
    add_file(made)
    add_config(made)
    add_class(made)
    made.add_argument("--diff", action="store_true", help="show what would change instead")
    made.add_argument(
        "--check", action="store_true", help="write nothing; exit 3 if anything would change"
    )


def add_uninject(commands: Any) -> None:
    """Add `uninject` to the top parser's commands."""
    text = "Remove everything that podgrace has added to manifests."
    made = command(commands, "uninject", with_text(uninject), text, _UNINJECT)
    add_file(made)
    add_config(made)
    made.add_argument("--diff", action="store_true", help="show what would change instead")


def add_explain(commands: Any) -> None:
    """Add `explain` to the top parser's commands."""
    text = "Say for every container what would be done, why, and what would change it."
    made = command(commands, "explain", with_text(explain), text, _EXPLAIN)
    add_file(made)
    add_config(made)
    add_class(made)
    terminal.add_output(made, "table", "json", "yaml")


_INJECT: Final = """
podgrace inject -f shop.yaml | kubectl apply -f -
podgrace inject -f shop.yaml --diff
"""
_UNINJECT: Final = """
podgrace uninject -f injected.yaml --diff
"""
_EXPLAIN: Final = """
podgrace explain -f shop.yaml
kubectl -n shop get deployment web -o yaml | podgrace explain -f -
"""


def inject(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Write manifests as the webhook would admit them."""
    read, found = _decided(text, where, config)
    changed = False
    for workload, outcome in found:
        read.patch(workload, outcome.ops)
        changed |= bool(outcome.ops)
        codes = dict.fromkeys(d.code for d in outcome.plan.decisions)
        print(
            f"{workload.kind.lower()} {workload.name!r} {_state(outcome)}: {', '.join(codes)}",
            file=sys.stderr,
        )
    if args.check:
        return DIFFERS if changed else OK
    _put(text, read.written(back=False), where, diff=args.diff)
    return OK


def uninject(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Remove everything that podgrace has added."""
    read = manifests.read(text, where, kinds.known(config))
    for workload in read.workloads:
        read.patch(workload, manifests.restored(workload))
    _put(text, read.written(back=True), where, diff=args.diff)
    return OK


def explain(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Say what would be done to each container, why, and what would change it."""
    _, found = _decided(text, where, config)
    if args.output != "table":
        rows = [
            {
                "kind": w.kind,
                "name": w.name,
                "namespace": w.namespace or None,
                "result": _state(o),
                "containers": show.containers(o),
                "decisions": show.records(o),
            }
            for w, o in found
        ]
        print(terminal.structured(rows, args.output))
        return OK
    for number, (workload, outcome) in enumerate(found):
        print(
            ("\n" if number else "")
            + terminal.bold(f"{workload.kind} {workload.name}", colour=terminal.coloured())
        )
        print(show.explanation(outcome))
    if not found:
        print("no workload in it")
    return OK


def _decided(
    text: str, where: str, config: Config
) -> tuple[manifests.Manifests, list[tuple[Workload, Outcome]]]:
    """Read a file, decide about its workloads, and say what its other objects mean for them."""
    read = manifests.read(text, where, kinds.known(config))
    _tell(read.passed)
    found = [(workload, manifests.decided(workload, config)) for workload in read.workloads]
    _tell(services.late(read.objects, found, config.operator.balancers))
    _tell(services.datagrams(read.objects, found))
    return read, found


def _tell(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(f"podgrace: {sentence}", file=sys.stderr)


def _state(outcome: Outcome) -> str:
    if outcome.plan.skip:
        return "left alone"
    if not outcome.ops:
        return "unchanged"
    return "marked" if outcome.plan.idle else "injected"


def _put(before: str, written: tuple[str, list[str]], where: str, *, diff: bool) -> None:
    """Print the text as it is, byte for byte: whatever the terminal's encoding and line ends."""
    after, notes = written
    _tell(notes)
    if diff:
        after = show.diff(before, after, where, colour=terminal.coloured())
    sys.stdout.flush()
    sys.stdout.buffer.write(after.encode())
    sys.stdout.buffer.flush()
