"""One stop of one server, as a client and as a kubelet see it.

In: a row of the catalogue and a `Way` to be stopped. Out: `Result`, which is also written to
build/servers/results as JSON for the report. The Pod is what the webhook makes of it: an
AdmissionReview goes in, its JSON Patch is applied, and the kubelet here runs what comes out.

Times count from the moment when the Pod is deleted. One second before, a request is sent that takes
four: three are left. It is the last thing in flight. An idle kept-alive connection stands beside
it, and new connections are tried on the way. Every other request takes 20 ms: an answer within one
tick of the kernel's clock (4 ms) would be ambiguous to the helper for ten seconds.
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import jsonpatch

from tests.servers import catalog
from tests.servers.catalog import ROOT, Server
from tests.servers.client import Answer, Connection, Traffic, get, restless, serving
from tests.servers.kubelet import START, Pod
from tests.servers.network import Network
from webhook.admission import answer
from webhook.config import load
from webhook.core.names import INJECT_LABEL, PREFIX

T = TypeVar("T")

HELPER: Final = Path(
    os.environ.get("PODGRACE_HELPER", ROOT / "entrypoint" / "build" / "podgrace-helper")
)
"""The built binary; the variable names another build of it (sanitizers)."""
RESULTS: Final = ROOT / "build" / "servers" / "results"

TIMES: Final = {
    "delay-min": "1",
    "quiet": "1",
    "delay-max": "4",
    "drain-timeout": "8",
    "patience": "4",
}
"""Shorter than the defaults, so that a run is short; the order of events is the same."""

TRIES: Final = (0.3, 0.8, 2.4)
"""When new connections are tried: two in the delay, one with only the slow request left."""

LATE: Final = 0.7
FRONT_LETS_GO: Final = 2.0


@dataclass(frozen=True)
class Way:
    """How it is stopped. `command`: the Pod names its command (else only the image knows it)."""

    name: str
    labelled: bool = False
    command: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    init: tuple[str, ...] = ()
    image_signal: bool = False


BARE: Final = Way("bare")
IMAGE: Final = Way("bare-image", image_signal=True)
TINI: Final = Way("tini", init=("/usr/bin/tini", "--"))
HOOK: Final = Way("hook", labelled=True)
"""The default where only the image knows what it runs: the helper finds the server."""
HOOK_INIT: Final = Way("hook-tini", labelled=True, init=TINI.init)
"""The same in an image that has an init, which is not wrapped again."""
WRAP: Final = Way("wrap", labelled=True, command=True)
"""The default where the Pod names its command: hook and PID 1."""
RUN: Final = Way(
    "run", labelled=True, command=True, annotations={"prestop": "disabled"}, image_signal=True
)
"""PID 1 alone, with the image's own stop signal: nothing runs before it."""


SLEEP: Final = Way("sleep", labelled=True, annotations={"mode": "sleep"})
"""The native sleep alone, as everybody can write it."""


@dataclass
class Load:
    """What clients counted."""

    fresh: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    last: float = 0.0

    @property
    def lost(self) -> int:
        return sum(
            n
            for counts in (self.fresh, self.reused)
            for outcome, n in counts.items()
            if outcome != "answered"
        )


@dataclass
class Result:
    """What was seen. Seconds since the Pod was deleted; None for what did not happen."""

    server: str
    way: str
    profile: str = ""
    slow: str = ""
    slow_at: float = 0.0
    idle_closed_at: float | None = None
    tries: dict[str, str] = field(default_factory=dict)
    hook_at: float | None = None
    hook_codes: list[int | None] = field(default_factory=list)
    signalled_at: float | None = None
    exit_at: float = 0.0
    codes: list[int | None] = field(default_factory=list)
    killed: bool = False
    sidecar_at: float | None = None
    sidecar_code: int | None = None
    grace: int = 0
    leftovers: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    load: Load | None = None
    logs: str = field(default="", repr=False)

    @property
    def drained(self) -> bool:
        """Whether the helper says, for each container, that the stop lost nothing in flight."""
        ends = [record["drain_end"] for record in self.records if record["podgrace"] == "drain"]
        return len(ends) == len(self.codes) and set(ends) <= {"idle", "finishes"}

    def write(self) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        fields = {name: value for name, value in asdict(self).items() if name != "logs"}
        kind = "load-" if self.load is not None else ""
        (RESULTS / f"{self.server}.{kind}{self.way}.json").write_text(
            json.dumps(fields, indent=1) + "\n", encoding="utf-8"
        )


# -- the Pod ---------------------------------------------------------------------------------------


def manifest(
    server: Server, way: Way, images: dict[str, Any], extra: dict[str, str]
) -> dict[str, Any]:
    """Write the Pod as its author would, and let the webhook see it if it wears the label."""
    containers = []
    for (name, program), (image, content) in zip(
        server.programs.items(), images.items(), strict=True
    ):
        container: dict[str, Any] = {
            "name": name,
            "image": image,
            "ports": [{"containerPort": program.port}],
        }
        if program.user:
            container["securityContext"] = {"runAsUser": program.user}
        if way.command:
            container["command"] = list(content.entrypoint)
        containers.append(container)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": server.name, "namespace": "servers"},
        "spec": {
            "containers": containers,
            "terminationGracePeriodSeconds": server.grace,
            "restartPolicy": "Always",
        },
    }
    if not way.labelled:
        return pod
    pod["metadata"] |= {  # type: ignore[operator]  # a dict
        "labels": {INJECT_LABEL: "enabled"},
        "annotations": {
            PREFIX + key: value
            for key, value in (TIMES | server.annotations | way.annotations | extra).items()
        },
    }
    return admitted(pod)


def admitted(pod: dict[str, Any]) -> dict[str, Any]:
    """Send a Pod through the webhook."""
    request = {
        "uid": "1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "servers",
        "object": pod,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    response = json.loads(answer(json.dumps(review).encode(), load(None)).body)["response"]
    assert response["allowed"] and response.get("patch"), response
    patched: dict[str, Any] = jsonpatch.apply_patch(
        pod, base64.b64decode(response["patch"]).decode()
    )
    return patched


# -- the run ---------------------------------------------------------------------------------------


class Run:
    """A Pod that serves, and its clients."""

    def __init__(self, server: Server, way: Way, pod: Pod, network: Network) -> None:
        self.server, self.way, self.pod, self.network = server, way, pod, network
        self.result = Result(
            server.name, way.name, grace=int(pod.manifest["spec"]["terminationGracePeriodSeconds"])
        )

    def get(self, path: str, body: bytes) -> "Future[Answer]":
        return self.network.start(get(self.server.port, path, body))

    def idle(self) -> "Future[float | None]":
        """Open a connection, use it once, return when the server closes it; None: no keep-alive."""
        ready: Future[None] = Future()

        async def stand() -> float | None:
            connection = Connection(self.server.port)
            try:
                first = await connection.get("/", self.server.fast_body)
                ready.set_result(None)
                return None if first.close else await connection.closed()
            finally:
                await connection.end()

        future = self.network.start(stand())
        ready.result(START)
        return future

    def stop(self) -> None:
        """Delete the Pod and see it out."""
        self.pod.begin_stop()
        attempts = [(at, self.network.start(self._try(at))) for at in TRIES]
        self.pod.await_stop()
        for at, attempt in attempts:
            self.result.tries[str(at)] = attempt.result(60).outcome

    async def _try(self, at: float) -> Answer:
        await asyncio.sleep(max(0.0, self.pod.began + at - time.monotonic()))
        return await get(self.server.port, "/", self.server.fast_body)

    def since(self, moment: float) -> float:
        return round(moment - self.pod.began, 3)

    def finish(self) -> Result:
        """Write down what the kubelet saw."""
        result, pod = self.result, self.pod
        hooks = [container.hook_returned for container in pod.containers if container.hook_returned]
        signals = [container.signalled for container in pod.containers if container.signalled]
        result.hook_at = self.since(max(hooks)) if hooks else None
        result.hook_codes = [
            container.hook_code for container in pod.containers if container.hook_returned
        ]
        result.signalled_at = self.since(min(signals)) if signals else None
        result.exit_at = self.since(max(container.exited for container in pod.containers))
        result.codes = [container.code for container in pod.containers]
        result.killed = any(container.killed for container in pod.containers)
        for sidecar in pod.sidecars:
            result.sidecar_at, result.sidecar_code = self.since(sidecar.exited), sidecar.code
        result.leftovers = len(pod.leftovers())
        result.logs = pod.logs()
        result.records = [record for sidecar in pod.sidecars for record in records(sidecar.log)]
        status = pod.manifest["metadata"].get("annotations", {}).get(PREFIX + "status")
        if status:
            result.profile = ",".join(
                c.get("profile", "") for c in json.loads(status)["containers"].values()
            )
        return result


def records(log: Path) -> Iterator[dict[str, Any]]:
    """Read what the helper has reported to the sidecar.

    It is in the container's log, too, unless the server closed its output.
    """
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "podgrace" in line:
                yield record


@contextmanager
def running(server: Server, way: Way, directory: Path, **extra: str) -> Iterator[Run]:
    """Start a Pod and wait until it answers."""
    images = catalog.images(
        server, server.image_signal if way.image_signal else "TERM", way.init, directory
    )
    directory.chmod(0o755)
    network = Network()
    helper = directory / "image" / HELPER.name
    if way.labelled:
        # Beside the checkout, which another user need not be able to read.
        helper.parent.mkdir()
        shutil.copy(HELPER, helper)
    pod = Pod(manifest(server, way, images, extra), images, helper, directory, network)
    upstream = network.start(_upstream()) if server.upstream else None
    try:
        pod.start()
        alive = lambda: all(container.alive for container in pod.containers)  # noqa: E731
        try:
            network.start(
                serving(server.port, "/", server.fast_body, alive, time.monotonic() + START)
            ).result(START + 30)
        except TimeoutError as error:
            raise AssertionError(f"{server.name} does not serve: {error}\n{pod.logs()}") from error
        yield Run(server, way, pod, network)
    finally:
        if upstream is not None:
            upstream.cancel()
        pod.close()
        network.close()


def stop(server: Server, way: Way, directory: Path, *, pooled: bool = False) -> Result:
    """Stop it with one request in flight and one idle connection.

    `pooled`: the client keeps its connection after the answer.
    """
    with running(server, way, directory) as run:
        idle = run.idle()
        pool = Connection(server.port)
        slow = (
            run.network.start(pool.get(server.slow, server.slow_body))
            if pooled
            else run.get(server.slow, server.slow_body)
        )
        time.sleep(1.0)  # the request must be one second old: a stop as it arrives is another case
        run.stop()
        result = run.finish()
        last = slow.result(60)
        result.slow, result.slow_at = last.outcome, run.since(last.ended)
        closed = idle.result(60)
        result.idle_closed_at = None if closed is None else run.since(closed)
        run.network.start(pool.end()).result(10)
        if pooled:
            result.way += "-pooled"
        result.write()
        return result


def stop_with_silence(server: Server, way: Way, directory: Path) -> Result:
    """Stop it with a client connected who never sends, like preconnects and TCP health checks."""
    with running(server, way, directory) as run:
        silent = Connection(server.port)
        run.network.start(silent.open()).result(10)
        run.pod.begin_stop()
        run.pod.await_stop()
        run.network.start(silent.end()).result(10)
        result = run.finish()
        result.way += "-silent"
        result.write()
        return result


def stop_loaded(
    server: Server, way: Way, directory: Path, *, for_ever: bool = False, **extra: str
) -> Result:
    """Stop it under a small steady load.

    Eight clients connect anew for each request, from a second before the deletion on. Late, when
    the deletion is `LATE` seconds old, come a slow request and two clients that keep their
    connection: until then nothing is in flight most of the time, so only the delay keeps the server
    up. The front lets go of the Pod after two seconds: then only the slow request keeps it up.
    `for_ever`: those that keep their connection do not heed the front.
    """
    with running(server, way, directory, **extra) as run:
        traffic = Traffic(server.port, "/", server.fast_body)
        clients = [run.network.start(traffic.fresh_client(0.2)) for _ in range(8)]
        time.sleep(1.0)
        run.pod.begin_stop()
        late = run.network.start(_after(run, LATE, get(server.port, server.slow, server.slow_body)))
        clients += [
            run.network.start(_after(run, LATE, traffic.reusing_client(0.05, for_ever=for_ever)))
            for _ in range(2)
        ]
        run.network.start(_after(run, FRONT_LETS_GO, traffic.let_go()))
        run.pod.await_stop()
        for client in clients:
            client.result(60)
        result = run.finish()
        last = late.result(60)
        result.slow, result.slow_at = last.outcome, run.since(last.ended)
        result.load = Load(dict(traffic.fresh), dict(traffic.reused), run.since(traffic.last))
        if for_ever:
            result.way += "-forever"
        result.write()
        return result


@dataclass
class Finish:
    """How a server took its own signal while clients kept sending on kept connections."""

    server: str
    path: str
    signal: str
    clients: int = 0
    answered: int = 0
    """Requests sent after the signal and answered in full."""
    lost: dict[str, int] = field(default_factory=dict)
    """The others of them, by outcome: at most one a client."""
    last_at: float = 0.0
    slow: str = ""
    exit_at: float = 0.0
    killed: bool = False
    told: int = 0
    """Clients that were sent away by an answer with `Connection: close`."""


def finish(server: Server, directory: Path, path: str) -> Finish:
    """Send the profile's signal to a server whose twelve clients never pause, half with POST.

    `path`: what they ask for. Those of `/slow` begin a third of a second after each other, so that
    their answers are due at different times. Whoever finishes by itself answers each request that
    it has been sent, sends its clients away, and exits without being asked a second time.
    """
    clients, slowly = 12, path == server.slow
    long = replace(server, grace=20)
    with running(long, IMAGE, directory) as run:
        seen: list[list[Answer]] = [[] for _ in range(clients)]
        content = [None, b"x" * 2000]
        body = server.slow_body if slowly else server.fast_body
        futures = []
        for i, answers in enumerate(seen):
            futures.append(
                run.network.start(restless(server.port, path, body, content[i % 2], answers))
            )
            time.sleep(server.slow_seconds / clients if slowly else 0)
        slow = run.get(server.slow, server.slow_body)
        # Between two answers of those that ask slowly: a request that crosses the close of its
        # connection is another question.
        time.sleep(1.0 + server.slow_seconds / clients / 2)
        run.pod.begin_stop()
        run.pod.await_stop()
        ended = run.finish()
        for future in futures:
            future.result(30)
        after = [a for answers in seen for a in answers if a.ended > run.pod.began]
        lost = Counter(a.outcome for a in after if not a.kept)
        return Finish(
            server.name,
            path,
            server.image_signal,
            clients,
            sum(a.kept for a in after),
            dict(lost),
            max((run.since(a.ended) for a in after if a.kept), default=0.0),
            slow.result(30).outcome,
            ended.exit_at,
            ended.killed,
            sum(answers[-1].kept and answers[-1].close for answers in seen if answers),
        )


async def _after(run: Run, seconds: float, what: Coroutine[Any, Any, T]) -> T:
    await asyncio.sleep(max(0.0, run.pod.began + seconds - time.monotonic()))
    return await what


# -- what proxies stand in front of ----------------------------------------------------------------


async def _upstream() -> None:
    """Serve on port 9000, as another Pod's application: `/` after 20 ms, `/slow` after 4 s."""
    async with _listening() as server:
        await server.serve_forever()


@asynccontextmanager
async def _listening() -> AsyncIterator[asyncio.Server]:
    server = await asyncio.start_server(_answer, "127.0.0.1", 9000)
    try:
        yield server
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A cancelled task is the end of the test; asyncio's own callback would report it.
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        head = await reader.readuntil(b"\r\n\r\n")
        slow = b" /slow " in head.split(b"\r\n")[0]
        if length := re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head):
            await reader.readexactly(int(length[1]))
        await asyncio.sleep(4 if slow else 0.02)
        body = b"slow\n" if slow else b"fast\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
    writer.close()
