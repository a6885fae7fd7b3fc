"""Streams: events, tokens, uploads, sockets, HTTP/2 and gRPC, while their servers are rolled.

The short run shows that podgrace cuts none of them, beside a bare roll; the long one
(PODGRACE_FULL) has longer streams, and a plain sleep. What it prints is the table of docs/proof.md.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.cluster import streams
from tests.cluster.install import Release
from tests.cluster.kube import Api
from tests.cluster.streams import Row

FULL = bool(os.environ.get("PODGRACE_FULL"))
SHORT = ("events", "tokens", "upload", "websocket", "http2", "calls", "unary")
ONLY_THE_APPLICATION = {"events-minute", "http2-hypercorn", "unary"}
"""What podgrace alone cannot keep: streams longer than `drain-timeout`; a server that cuts what a
client goes on asking; a call that crosses the end of what grpcio's server takes."""


@pytest.fixture(scope="session")
def streams_image(build_image: Callable[..., str]) -> str:
    return streams.build(build_image)


def keep(name: str, rows: list[Row]) -> None:
    print(f"\n{name}\n\n{streams.table(rows)}")
    if where := os.environ.get("PODGRACE_RESULTS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        text = json.dumps([row._asdict() for row in rows], indent=1)
        (Path(where) / f"{name}.json").write_text(text, encoding="utf-8")


@pytest.mark.timeout(900)
def test_streams_end_as_they_should(
    podgrace: Release, namespaces: Callable[..., str], streams_image: str
) -> None:
    """A bare roll cuts some, so that "none cut" is worth something."""
    wanted: dict[str, Sequence[str]] = {"podgrace": tuple(streams.KINDS)}
    if not FULL:
        wanted = {"bare": ["tokens"], "podgrace": SHORT}
    places = {variant: (namespaces(podgrace.labels), kinds) for variant, kinds in wanted.items()}
    rows = streams.run(podgrace.api, places, streams_image, long=FULL)
    keep("streams-podgrace", rows)
    lost = {row.kind for row in rows if row.lost and row.variant == "podgrace"}
    assert lost <= ONLY_THE_APPLICATION
    assert FULL or [row for row in rows if row.lost and row.variant == "bare"]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not FULL, reason="part of the long measurement: PODGRACE_FULL=1")
@pytest.mark.parametrize("variant", ["bare", "sleep"])
def test_without_podgrace_streams_are_cut(
    api: Api, namespaces: Callable[..., str], streams_image: str, variant: str
) -> None:
    kinds = [kind for kind, about in streams.KINDS.items() if not about.annotation]
    rows = streams.run(api, {variant: (namespaces({}), kinds)}, streams_image, long=True)
    keep(f"streams-{variant}", rows)
    assert [row for row in rows if row.lost]
