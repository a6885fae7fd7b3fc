"""The tables of docs/proof.md, from the long measurement: `python -m tests.cluster.tables DIR`.

In: `bare.json`, `sleep.json`, `podgrace.json`, `busy-*.json` in PODGRACE_RESULTS, and those that
`SCENES` names. Out: docs/proof.md, between its two pairs of marks.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.mission import Row
from tests.cluster.workloads import SERVERS, VARIANTS

PROOF = Path(__file__).parents[2] / "docs" / "proof.md"

SCENES = {
    "ingress": "two replicas behind Traefik, rolling update",
    "nftables": "kube-proxy in nftables mode, rolling update",
    "drain": "`kubectl drain` of a node of two",
    "single": "a single replica, evicted",
    "single-ingress": "a single replica behind Traefik, evicted",
    "pause": "clients that never pause, rolling update",
}
"""What stands in front of a workload or is done to it -> what the table says."""

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

    yield (
        "\nSeconds until the controller was done (`kubectl rollout status` returns) / until the "
        "last old Pod\nwas gone:\n"
    )

    def times(d: str, s: str, v: str) -> str:
        row = of(disturbance=d, server=s, variant=v)[0]
        return f"{row.done:.0f} / {row.gone:.0f}"

    cells = [(d, s, *(times(d, s, v) for v in VARIANTS)) for d in disturbances for s in SERVERS]
    yield table(("disturbance", "server", "bare", "plain sleep of 5 s", "podgrace"), cells)

    yield (
        "\nKept connections that never pause (50 requests a second over 4 of them), "
        "rolling update:\n"
    )
    busy = {variant: read(directory, f"busy-{variant}") for variant in ("sleep", "podgrace")}
    servers = list(dict.fromkeys(row.server for row in busy["sleep"]))
    cells = [
        ("rolling update", s, *(lost([r for r in busy[v] if r.server == s]) for v in busy))
        for s in servers
    ]
    yield table(("disturbance", "server", "plain sleep of 5 s", "podgrace"), cells)


def scene(directory: Path, name: str) -> list[Row]:
    """Read one scene; a drain has been measured variant by variant."""
    if name != "drain":
        return read(directory, name)
    rows = [row for variant in ("bare", "sleep") for row in read(directory, f"drain-{variant}")]
    return rows + read(directory, "drain-sidecar")


def scenes(directory: Path) -> Iterator[str]:
    yield "Requests lost / seconds that the last old Pod took from its deletion to its end:\n"
    cells = []
    for name, about in SCENES.items():
        try:
            rows = scene(directory, name)
        except FileNotFoundError:
            continue  # what was not measured is no row
        for server in dict.fromkeys(row.server for row in rows):
            of = [[r for r in rows if (r.server, r.variant) == (server, v)] for v in VARIANTS]
            # `kubectl drain` returns when the Pods are gone: there its own time counts.
            stays = [max(row.stay or row.gone for row in found) for found in of]
            both = (f"{lost(found)} / {stay:.0f}" for found, stay in zip(of, stays, strict=True))
            cells.append((about, server, *both))
    yield table(("what", "server", "bare", "plain sleep of 5 s", "podgrace"), cells)


def put(name: str, lines: Iterator[str], page: str) -> str:
    """Put lines between the marks of a name."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after


def main(directory: Path) -> None:
    """Rewrite what was measured; the rest stays as it is."""
    page = PROOF.read_text(encoding="utf-8")
    parts = {"measured": (text, "busy-sleep"), "scenes": (scenes, "pause")}
    for name, (lines, last) in parts.items():
        if (directory / f"{last}.json").exists():
            page = put(name, lines(directory), page)
    PROOF.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
