"""`podgrace inject`, `uninject` and `explain`: the webhook's decision about manifests, offline.

In: manifests as text. Out: the manifests as they would be admitted, what changes, or why. Every workload that is handed in is
acted on, with or without a label, since handing it in says so; one whose Pod template says `podgrace.io/inject: disabled` is
left alone. Parsing and writing belong to `manifests`, the decision to `webhook.admission`.
"""

import argparse
import sys

import msgspec

from webhook.admission import Outcome
from webhook.cli import manifests, show
from webhook.config import Config

OK, DIFFERS = 0, 3


def inject(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Write manifests as the webhook would admit them."""
    pieces = manifests.read(text, where)
    changed = False
    for piece in pieces:
        for workload in list(piece.workloads()):
            outcome = manifests.inject(piece, workload, config)
            changed |= bool(outcome.ops)
            codes = dict.fromkeys(d.code for d in outcome.plan.decisions)
            print(
                f"{workload.kind.lower()} {workload.name!r} {_state(outcome)}: {', '.join(codes)}",
                file=sys.stderr,
            )
    if args.check:
        return DIFFERS if changed else OK
    _put(text, manifests.write(pieces), where, diff=args.diff)
    return OK


def uninject(args: argparse.Namespace, text: str, where: str, _: Config) -> int:
    """Take everything of ours out again."""
    pieces = manifests.read(text, where)
    for piece in pieces:
        for workload in list(piece.workloads()):
            manifests.uninject(piece, workload)
    _put(text, manifests.write(pieces), where, diff=args.diff)
    return OK


def explain(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Say what would be done to each container, why, and what would change it."""
    found = [
        (w, manifests.decided(w, config))
        for piece in manifests.read(text, where)
        for w in piece.workloads()
    ]
    if args.output == "json":
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
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return OK
    for number, (workload, outcome) in enumerate(found):
        print(
            ("\n" if number else "")
            + show.bold(f"{workload.kind} {workload.name}", colour=show.coloured())
        )
        print(show.explanation(outcome))
    if not found:
        print("no workload in it")
    return OK


def _state(outcome: Outcome) -> str:
    if outcome.plan.skip:
        return "left alone"
    if not outcome.ops:
        return "unchanged"
    return "marked" if outcome.plan.idle else "injected"


def _put(before: str, after: str, where: str, *, diff: bool) -> None:
    """Print the text as it is, byte for byte: whatever the terminal's encoding and line ends."""
    if diff:
        after = show.diff(before, after, where, colour=show.coloured())
        after += "\n" if after else ""
    sys.stdout.flush()
    sys.stdout.buffer.write(after.encode())
    sys.stdout.buffer.flush()
