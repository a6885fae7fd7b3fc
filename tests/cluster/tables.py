"""The tables of docs/proof.md, from what the long measurement wrote: `python -m tests.cluster.tables DIRECTORY`.

In: `bare.json`, `sleep.json`, `podgrace.json`, `busy-*.json` in PODGRACE_RESULTS. Out: docs/proof.md, between its two marks.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.mission import Row
from tests.cluster.workloads import SERVERS, VARIANTS

PROOF = Path(__file__).parents[2] / "docs" / "proof.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

CLIENTS = ("new", "keep-alive", "slow")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Set a table in Markdown; every column but the first two is of numbers."""
    rules = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rules, *rows))


def lost(rows: Sequence[Row]) -> str:
    """How many of how many requests, and what a client had to send again."""
    sent, gone, retried = (
        sum(r.sent for r in rows),
        sum(r.lost for r in rows),
        sum(r.retried for r in rows),
    )
    return f"{f'**{gone}**' if gone else 0} of {sent}" + (
        f" (+{retried} retried)" if retried else ""
    )


def read(directory: Path, name: str) -> list[Row]:
    return [
        Row(**row) for row in json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
    ]


def text(directory: Path) -> Iterator[str]:
    rows = [row for variant in VARIANTS for row in read(directory, variant)]
    disturbances = list(dict.fromkeys(row.disturbance for row in rows))

    def of(**fields: str) -> list[Row]:
        return [
            row
            for row in rows
            if all(getattr(row, name) == value for name, value in fields.items())
        ]

    yield "Requests lost, all kinds of client together:\n"
    head = ("disturbance", "server", "bare", "plain sleep of 5 s", "podgrace")
    cells = [
        (d, s, *(lost(of(disturbance=d, server=s, variant=v)) for v in VARIANTS))
        for d in disturbances
        for s in SERVERS
    ]
    cells.append(("**all**", "", *(lost(of(variant=v)) for v in VARIANTS)))
    yield table(head, cells)

    yield "\nBy kind of client, all servers together:\n"
    cells = [
        (d, c, *(lost(of(disturbance=d, client=c, variant=v)) for v in VARIANTS))
        for d in disturbances
        for c in CLIENTS
    ]
    yield table(("disturbance", "client", "bare", "plain sleep of 5 s", "podgrace"), cells)

    yield "\nSeconds until the controller was done (`kubectl rollout status` returns) / until the last old Pod was gone:\n"

    def times(d: str, s: str, v: str) -> str:
        row = of(disturbance=d, server=s, variant=v)[0]
        return f"{row.done:.0f} / {row.gone:.0f}"

    cells = [(d, s, *(times(d, s, v) for v in VARIANTS)) for d in disturbances for s in SERVERS]
    yield table(("disturbance", "server", "bare", "plain sleep of 5 s", "podgrace"), cells)

    yield "\nKept connections that never pause (50 requests a second over 4 of them), rolling update:\n"
    busy = {variant: read(directory, f"busy-{variant}") for variant in ("sleep", "podgrace")}
    servers = list(dict.fromkeys(row.server for row in busy["sleep"]))
    cells = [
        ("rolling update", s, *(lost([r for r in busy[v] if r.server == s]) for v in busy))
        for s in servers
    ]
    yield table(("disturbance", "server", "plain sleep of 5 s", "podgrace"), cells)


def main(directory: Path) -> None:
    before, _, rest = PROOF.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PROOF.write_text(
        before + BEGIN + "\n" + "\n".join(text(directory)) + "\n\n" + END + after, encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
