"""Streams while their servers are rolled: in several variants at once, under the same load.

In: kinds of streams, variants, how long the streams are. Out: for each variant and kind, the
outcome of each stream, and what podgrace's recorder wrote. The servers and the clients that count
are in `images/streams`; a variant is what it is in `workloads`.
"""

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import kube
from tests.cluster.follow import Follower
from tests.cluster.kube import Api, Tree
from tests.cluster.workloads import VARIANTS
from webhook.core.probe import TIMES

SOURCES = Path(__file__).parent / "images" / "streams"
LOCK = Path(__file__).parents[2] / "requirements" / "streams.txt"
SHARE = {"requests": {"cpu": "50m"}}
"""So that neither servers nor clients starve beside what else a node runs: streams are timed."""


class Kind(NamedTuple):
    """A kind: its server; parts, and seconds between them, of a short stream and a long one."""

    about: str
    command: str
    short: tuple[int, float]
    long: tuple[int, float]
    annotation: tuple[str, str] | None = None
    headless: bool = False
    replicas: int = 1


_UVICORN = "uvicorn app:app --host=0.0.0.0 --port=8080 --log-level=warning --no-access-log"
_HYPERCORN = "hypercorn app:app --bind=0.0.0.0:8080"
_GRANIAN = "granian app:app --interface=asgi --host=0.0.0.0 --port=8080 --http=2 --no-ws"
_SOCKETS = "python3 sockets.py"
_CALLS = "python3 calls.py"
_MINUTE = "podgrace.io/drain-timeout", "75"

KINDS = {
    "events": Kind("server-sent events, uvicorn", _UVICORN, (9, 2), (16, 2)),
    "events-minute": Kind("the same for 60 s", _UVICORN, (31, 2), (31, 2)),
    "events-longer": Kind("the same, drain-timeout 75", _UVICORN, (31, 2), (31, 2), _MINUTE),
    "tokens": Kind("tokens after 4 s of thinking, hypercorn", _HYPERCORN, (50, 0.2), (100, 0.2)),
    "upload": Kind("an upload, hypercorn", _HYPERCORN, (30, 0.5), (50, 0.5)),
    "websocket": Kind("WebSocket in use", _SOCKETS, (1, 1), (1, 1)),
    "websocket-idle": Kind("WebSocket at rest", _SOCKETS, (1, 60), (1, 60)),
    "http2": Kind("5 streams on one HTTP/2 connection, granian", _GRANIAN, (9, 1), (20, 1)),
    "http2-hypercorn": Kind("the same, hypercorn", _HYPERCORN, (9, 1), (20, 1)),
    "calls": Kind("gRPC streams, grpcio", _CALLS, (15, 1), (20, 1), headless=True),
    "unary": Kind("gRPC calls, grpcio", _CALLS, (5, 0), (10, 0), None, True, 2),
}
"""By name, whose first word is the client's in `images/streams/clients.py`. An
annotation means something to podgrace only."""


class Row(NamedTuple):
    """What became of the streams of one kind in one variant. Times in seconds."""

    kind: str
    variant: str
    outcomes: dict[str, int]
    details: dict[str, int]
    """Of all that did not end as they should."""
    done: float
    gone: float
    drains: list[Tree]

    @property
    def lost(self) -> int:
        return self.outcomes.get("cut", 0) + self.outcomes.get("refused", 0)


def build(build_image: Callable[..., str]) -> str:
    """Build the image of servers and clients."""
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch) / "streams"
        shutil.copytree(SOURCES, context, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(LOCK, context / "requirements.txt")
        return build_image("podgrace.test/e2e-streams", context)


def manifest(kind: str, variant: str, image: str) -> Tree:
    """Make the Deployment of one kind's server."""
    command = KINDS[kind].command.split()
    made = kube.container("app", image, command=command, ports=[{"containerPort": 8080}])
    made["resources"] = SHARE
    if variant == "sleep":
        made["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
        made["readinessProbe"] = {"tcpSocket": {"port": 8080}, **TIMES}
    labels = {"podgrace.io/inject": "enabled"} if variant.startswith("podgrace") else {}
    annotations = dict([note]) if (note := KINDS[kind].annotation) else {}
    template = kube.pod_template(kind, [made], labels=labels, annotations=annotations)
    return kube.deployment(kind, KINDS[kind].replicas, template)


class _Side:
    """One variant in its namespace."""

    def __init__(self, api: Api, variant: str, namespace: str, kinds: Sequence[str]) -> None:
        self.api, self.variant, self.namespace, self.kinds = api, variant, namespace, kinds
        self.old: dict[str, str] = {}
        self.done: dict[str, float] = {}
        self.gone: dict[str, float] = {}

    def deploy(self, image: str) -> None:
        for kind in self.kinds:
            service = kube.service(kind)
            service["spec"]["ports"] = [{"port": 8080}]
            if KINDS[kind].headless:
                service["spec"]["clusterIP"] = "None"
            self.api.create(service, self.namespace)
            self.api.create(manifest(kind, self.variant, image), self.namespace)

    def load(self, image: str, *, long: bool) -> None:
        words = []
        for kind in self.kinds:
            kube.wait_ready(self.api, self.namespace, kind, KINDS[kind].replicas)
            count, gap = KINDS[kind].long if long else KINDS[kind].short
            words.append(f"{kind}={kind}:8080,{count},{gap}")
            for pod in self.api.pods(self.namespace, kind):
                self.old[pod["metadata"]["name"]] = kind
        client = kube.container("client", image, command=["python3", "clients.py", *words])
        client["resources"] = SHARE
        spec = {"containers": [client], "terminationGracePeriodSeconds": 150}
        metadata = {"name": "client", "labels": {"app": "client"}}
        tree = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.api.create(tree, self.namespace)
        kube.wait_ready(self.api, self.namespace, "client", 1)

    def follow(self) -> None:
        self.client = Follower(self.namespace, "client", "client")
        records = [pod for pod in self.old if self.variant.startswith("podgrace")]
        self.records = {pod: Follower(self.namespace, pod, "podgrace") for pod in records}

    def restart(self) -> None:
        self.begin = time.monotonic()
        stamp = {"kubectl.kubernetes.io/restartedAt": str(self.begin)}
        change = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        for kind in self.kinds:
            self.api.patch("Deployment", self.namespace, kind, change)

    def look(self) -> bool:
        """Note which kinds are rolled out, and which old Pods are gone; tell whether all are."""
        pods = self.api.pods(self.namespace)
        left = {self.old.get(pod["metadata"]["name"]) for pod in pods}
        trees = {t["metadata"]["name"]: t for t in self.api.list("Deployment", self.namespace)}
        now = round(time.monotonic() - self.begin, 1)
        for kind in self.kinds:
            if kube.rolled_out(trees[kind]):
                self.done.setdefault(kind, now)
                if kind not in left:
                    self.gone.setdefault(kind, now)
        return len(self.gone) == len(self.kinds)

    def rows(self) -> list[Row]:
        return [self._row(kind) for kind in self.kinds]

    def _row(self, kind: str) -> Row:
        lines = [line for line in self.client.lines if line.get("kind") == kind]
        drains = [
            line
            for pod, follower in self.records.items()
            if self.old[pod] == kind
            for line in follower.lines
            if line.get("podgrace") == "drain"
        ]
        outcomes = dict(Counter(line["outcome"] for line in lines))
        bad = [f"{x['outcome']}: {x['detail'][:80]}" for x in lines if x["outcome"] != "whole"]
        times = self.done[kind], self.gone[kind]
        return Row(kind, self.variant, outcomes, dict(Counter(bad)), *times, drains)

    def close(self) -> None:
        for follower in (self.client, *self.records.values()):
            follower.close()


def run(
    api: Api,
    places: Mapping[str, tuple[str, Sequence[str]]],
    image: str,
    *,
    long: bool,
) -> list[Row]:
    """Deploy, load, restart, count. `places`: of each variant its namespace and its kinds."""
    sides = [_Side(api, variant, *place) for variant, place in places.items()]
    for side in sides:
        side.deploy(image)
    for side in sides:
        side.load(image, long=long)
        side.follow()
    try:
        time.sleep(6)  # so that streams are under way
        for side in sides:
            side.restart()

        def settled() -> Any:
            return all([side.look() for side in sides]) or _left(sides)  # noqa: C419  # each

        kube.wait("the end of the rolling update", settled, 300, every=0.5)
        time.sleep(2)
        for side in sides:
            # TERM: the clients begin nothing new, and tell of what is under way when it ends.
            api.delete("Pod", side.namespace, "client")
        for side in sides:
            kube.wait("the clients' end", lambda side=side: _told(side), 150)  # type: ignore[misc]
    finally:
        for side in sides:
            side.close()
    return [row for side in sides for row in side.rows()]


def _told(side: _Side) -> bool:
    return any("done" in line for line in side.client.lines)


def _left(sides: Sequence[_Side]) -> str:
    pods = [pod for side in sides for pod in side.api.pods(side.namespace)]
    names = {pod for side in sides for pod in side.old}
    return f"not yet: {[kube.state(pod) for pod in pods if pod['metadata']['name'] in names]}"


def table(rows: Sequence[Row]) -> str:
    """Write rows as a table in Markdown, a line for each kind and variant."""
    head = "| kind | variant | whole | cut | refused | told | how | done | last old Pod gone |"
    lines = [head, "|---|---|---:|---:|---:|---:|---|---:|---:|"]
    for row in rows:
        counts = [row.outcomes.get(name, 0) for name in ("whole", "cut", "refused", "told")]
        how = ", ".join(f"{what} x{n}" for what, n in sorted(row.details.items())) or "-"
        cells = row.kind, row.variant, *counts, how, f"{row.done:.0f} s", f"{row.gone:.0f} s"
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _cell(row: "Row | None") -> str:
    """How many of how many streams were lost, and when the last old Pod was gone."""
    if row is None:
        return "-"
    lost = f"**{row.lost}**" if row.lost else "0"
    told = f", {row.outcomes['told']} told" if "told" in row.outcomes else ""
    return f"{lost} of {sum(row.outcomes.values())}{told}; {row.gone:.0f} s"


def beside(rows: Sequence[Row], *, long: bool) -> str:
    """Write the table of docs/proof.md: a line for each kind, a column for each variant."""
    found = {(row.kind, row.variant): row for row in rows}
    lines = [
        "| stream | lasts | bare | plain sleep of 5 s | podgrace |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, kind in KINDS.items():
        count, gap = kind.long if long else kind.short
        seconds = (count - 1) * gap + (4 if name.startswith("tokens") else 0)
        lasts = f"{seconds:.0f} s" if seconds else "-"
        cells = [_cell(found.get((name, variant))) for variant in ("bare", "sleep", "podgrace")]
        lines.append(f"| {kind.about} | {lasts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(directory: Path) -> None:
    """Print that table of what the long measurement wrote to PODGRACE_RESULTS."""
    files = [
        file for variant in VARIANTS if (file := directory / f"streams-{variant}.json").exists()
    ]
    rows = [Row(**row) for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    print(beside(rows, long=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
