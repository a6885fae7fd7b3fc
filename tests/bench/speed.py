"""How fast the webhook is: `make bench` prints it.

In: the recorded review of a Deployment's Pod with two containers. Out: where the time of a decision
goes; calls a second over HTTPS, the whole server with every feature on, pinned to one core, its
clients to another; and the same for the obvious way to write it, and for a webhook on
controller-runtime (`make build/peer`, which needs Go). They take turns: ratios of one run say more
than figures, since both sides had the same machine at the same time.
"""

import asyncio
import copy
import gc
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec

from certs.local import ephemeral
from tests.admission.test_worst import FAMILIES, review
from webhook import admission
from webhook.admission import Review
from webhook.config import Config, load
from webhook.core.patch import render
from webhook.core.plan import decide
from webhook.core.pod import Pod
from webhook.policy import resolve
from webhook.server import SWITCH
from webhook.server.application import LARGE
from webhook.server.replicas import Replicas

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "samples" / "deployment-nginx-and-django-create.json"
SECONDS = float(os.environ.get("SECONDS", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "2"))
CONNECTIONS = 16
PEER = HERE.parents[1] / "build" / "peer"


def micros(function: Callable[[], Any], rounds: int = 60, calls: int = 200) -> float:
    """Time a call: the best of many short rounds, since whatever else runs only ever adds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


def row(name: str, value: float, unit: str, note: str = "") -> None:
    print(f"  {name:44} {value:>10,.1f} {unit:6} {note}")


def decision(body: bytes) -> None:
    config, replicas = load(None), Replicas(load(None))
    review_decoder, pod_decoder, encode = (
        msgspec.json.Decoder(Review),
        msgspec.json.Decoder(Pod),
        msgspec.json.Encoder().encode,
    )
    request = review_decoder.decode(body).request
    assert request is not None
    pod = pod_decoder.decode(request.object)
    settings = resolve(pod, config)
    plan = decide(pod, settings, config.operator, "samples")
    ops = render(pod, plan)
    before = json.loads(body)["request"]["object"]
    after = jsonpatch.apply_patch(copy.deepcopy(before), json.loads(encode(ops)))
    print(
        f"A decision, without I/O ({SAMPLE.name}, {len(body)} bytes, "
        f"{len(pod.spec.containers)} containers, {len(ops)} operations)"
    )
    gc.freeze()
    sys.setswitchinterval(SWITCH)
    row(
        "decode: envelope, then what is read of the Pod",
        micros(lambda: pod_decoder.decode(review_decoder.decode(body).request.object)),
        "µs",
    )
    row("settings from annotations", micros(lambda: resolve(pod, config)), "µs")
    row(
        "decide, every reason recorded",
        micros(lambda: decide(pod, settings, config.operator, "samples")),
        "µs",
    )
    row("render the operations", micros(lambda: render(pod, plan)), "µs")
    row("encode the patch", micros(lambda: b64encode(encode(ops))), "µs")
    whole = micros(lambda: admission.answer(body, config))
    again = micros(lambda: admission.answer_by(body, replicas.judge))
    row("the whole answer, first Pod of its kind", whole, "µs")
    row("the whole answer, its replicas", again, "µs", f"{whole / again:.1f} x as fast")
    worst = [review(pod) for make in FAMILIES.values() for pod in make().values()]
    took = {body: _cpu(body, config) for body in worst}
    row("the worst of the Pods of tests/admission/test_worst.py", max(took.values()) * 1e3, "ms")
    ours = max(took[body] for body in worst if len(body) <= LARGE)
    row("of those, the worst that the event loop decides", ours * 1e3, "ms", "of CPU")
    slowest = sorted((body for body in worst if len(body) > LARGE), key=took.__getitem__)[-5:]
    lag = min(asyncio.run(_lag(slowest, config)) for _ in range(5))
    row("the event loop's lag beside the worst others", lag * 1e3, "ms")
    diff = micros(lambda: jsonpatch.make_patch(before, after), 20, 20)
    row(
        "only to compare: jsonpatch.make_patch",
        diff,
        "µs",
        f"{diff / whole:.1f} x a whole answer of ours",
    )


def _cpu(body: bytes, config: Config) -> float:
    """Measure CPU seconds of an answer: the least of some."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        admission.answer(body, config)
        best = min(best, time.process_time() - began)
    return best


async def _lag(bodies: list[bytes], config: Config) -> float:
    """Give how late the event loop was at most, in seconds, while a thread decided about these."""
    loop, worst = asyncio.get_running_loop(), 0.0
    with ThreadPoolExecutor(1) as aside:
        for body in bodies:
            done = loop.run_in_executor(aside, admission.answer, body, config)
            while not done.done():
                due = loop.time() + 0.001
                await asyncio.sleep(0.001)
                worst = max(worst, loop.time() - due)
    return worst


def https(
    name: str, command: list[str], directory: Path, port: int, *options: str
) -> dict[str, float]:
    """Start a server on the first core, load it from the last, stop it."""
    cores = sorted(os.sched_getaffinity(0))
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, cores[:1]),  # noqa: PLW1509
        )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        load_command = [
            sys.executable,
            str(HERE / "load.py"),
            str(port),
            str(directory / "ca.crt"),
            str(SAMPLE),
            *options,
        ]
        spent = cpu(server.pid)
        ran = subprocess.run(
            [*load_command, "--connections", str(CONNECTIONS), "--seconds", str(SECONDS)],
            check=True,
            capture_output=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores[-1:]),
        )
        found = json.loads(ran.stdout)
        # The load warms up for a tenth of its time; those calls are in the server's CPU time too.
        found["cpu"] = (cpu(server.pid) - spent) / (found["calls"] * 1.1) * 1e6
        found["rss"] = memory(server.pid)
    finally:
        server.terminate()
        server.wait(30)
    row(
        name,
        found["perSecond"],
        "/s",
        f"p50 {found['p50ms']:.2f} ms, p99 {found['p99ms']:.2f} ms, "
        f"{found['cpu']:.0f} µs of CPU a call, {found['rss']:.0f} MiB",
    )
    return found


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def main() -> None:
    body = SAMPLE.read_bytes()
    load_before = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores, "
        f"load {load_before:.1f} before this began\n"
    )
    decision(body)
    print(
        f"\nOver HTTPS: one core for the server, {CONNECTIONS} connections kept alive, "
        f"{SECONDS:g} s each, every answer's status checked"
    )
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ephemeral(directory, ["localhost"])

        def serve() -> tuple[list[str], int]:
            port = free_port()
            listen = ["--host", "127.0.0.1", "--port", str(port), "--plain-port", "0"]
            return [
                sys.executable,
                "-m",
                "webhook.cli",
                "serve",
                *listen,
                "--cert-dir",
                name,
                "--drain-seconds",
                "0",
            ], port

        rounds = []
        for _ in range(ROUNDS):
            found = {}
            for kind, options in (("replicas", []), ("every Pod another", ["--different"])):
                command, port = serve()
                found[kind] = https(f"podgrace, {kind}", command, directory, port, *options)
            for other, command in others(name).items():
                port = free_port()
                command = [part.format(port=port) for part in command]  # noqa: PLW2901
                found[other] = https(other, command, directory, port)
            rounds.append(found)
    summary(rounds)


def others(directory: str) -> dict[str, list[str]]:
    """Give the servers to compare with, by name."""
    found = {
        "the obvious way (naive.py)": [sys.executable, str(HERE / "naive.py"), "{port}", directory]
    }
    if PEER.exists():
        certificate = [f"{directory}/tls.crt", f"{directory}/tls.key"]
        found["controller-runtime"] = ["env", "GOMAXPROCS=1", str(PEER), "{port}", *certificate]
    return found


def summary(rounds: list[dict[str, dict[str, float]]]) -> None:
    """Print the ratios of each round."""
    print()
    for ours in ("replicas", "every Pod another"):
        for other in list(rounds[0])[2:]:
            calls = [f"{r[ours]['perSecond'] / r[other]['perSecond']:.1f}" for r in rounds]
            spent = [f"{r[other]['cpu'] / r[ours]['cpu']:.1f}" for r in rounds]
            print(
                f"  {ours}: {', '.join(calls)} x the calls of {other}; "
                f"it spends {', '.join(spent)} x our CPU time on a call"
            )


if __name__ == "__main__":
    main()
