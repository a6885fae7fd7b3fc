"""The mission: workloads under load through Services, disturbed in turn, every request counted.

In: servers, a variant, disturbances. Out: a `Row` for each server, disturbance and kind of client.
All servers share one window of load, because most of the time is waiting; each has its own
`podgrace prove`, which runs where Services can be reached.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.cluster import kube
from tests.cluster.kube import Api, Tree
from tests.cluster.workloads import REPLICAS, VARIANTS, manifest


class Pressure(NamedTuple):
    """The load on one server: quick requests of each kind of client, and ten-second answers.

    lead: seconds of load before the first disturbance, as the measure of the rest.
    """

    rate: float = 4
    connections: int = 4
    slow_rate: float = 0.5
    new: bool = True
    method: str = "GET"
    path: str = "/"
    lead: float = 4


USUAL = Pressure()


class Front(NamedTuple):
    """What clients speak to: an address, and the words that `prove` needs to be let through."""

    address: str
    words: tuple[str, ...] = ()


Reach = Callable[[Api, str, str, str], Front]
"""Make what stands in front of a Service: API, namespace, name and address of it in."""


def _service(_api: Api, _namespace: str, _server: str, address: str) -> Front:
    """Let clients speak to the Service itself."""
    return Front(address)


_PODS_GONE = 180.0
"""Seconds until the last Pod told to stop is gone; above podgrace's grace period."""


class Row(NamedTuple):
    """What one kind of client saw of one disturbance of one server. Times in seconds.

    outcomes: of the lost.

    stay: of the old Pod that took longest, from its deletion to its end.
    """

    server: str
    variant: str
    disturbance: str
    client: str
    sent: int
    lost: int
    retried: int
    outcomes: dict[str, int]
    done: float
    gone: float
    stay: float = 0.0


class Phase(NamedTuple):
    """One disturbance of one server: its begin, the controller's end, the last Pod's end.

    stay: the longest time from a Pod's deletion to its end.
    """

    name: str
    begin: float
    done: float
    gone: float
    stay: float


Prove = Callable[..., "list[str]"]


def _restart(api: Api, namespace: str, server: str) -> None:
    """Do as `kubectl rollout restart` does."""
    stamp = {
        "kubectl.kubernetes.io/restartedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    }
    api.patch(
        "Deployment",
        namespace,
        server,
        {"spec": {"template": {"metadata": {"annotations": stamp}}}},
    )


def _scale(replicas: int) -> Callable[[Api, str, str], None]:
    def scale(api: Api, namespace: str, server: str) -> None:
        api.patch("Deployment", namespace, server, {"spec": {"replicas": replicas}})

    return scale


def _evict(api: Api, namespace: str, server: str) -> None:
    pod = next(
        pod for pod in api.pods(namespace, server) if kube.ready(pod) and not kube.going(pod)
    )
    answer = api.evict(namespace, pod["metadata"]["name"])
    assert answer.status < 300, answer


def _both(api: Api, namespace: str, server: str) -> None:
    """Remove a replica, and evict one of the others: one serves until the new one is ready."""
    _scale(REPLICAS - 1)(api, namespace, server)
    kube.wait(
        "a Pod that goes", lambda: any(kube.going(pod) for pod in api.pods(namespace, server))
    )
    _evict(api, namespace, server)


DISTURBANCES: dict[str, Callable[[Api, str, str], None]] = {
    "rolling update": _restart,
    "eviction": _evict,
    "scale-down": _scale(REPLICAS - 1),
    "scale-down and eviction": _both,
}


def deploy(
    api: Api,
    namespace: str,
    servers: Sequence[str],
    variant: str,
    image: str,
    *,
    replicas: int = REPLICAS,
    annotations: dict[str, str] | None = None,
) -> dict[str, str]:
    """Make the workloads and wait until they serve; returns the address of each one's Service."""
    addresses = {}
    for server in servers:
        addresses[server] = api.create(kube.service(server), namespace)["spec"]["clusterIP"]
        made = manifest(server, variant, image, replicas=replicas, annotations=annotations)
        api.create(made, namespace)
    for server in servers:
        kube.wait_ready(api, namespace, server, replicas, seconds=240)
        kube.wait(
            f"{replicas} addresses behind {server}",
            lambda server=server: _addresses(api, namespace, server) == replicas,
        )  # type: ignore[misc]
        for pod in api.pods(namespace, server):
            # Without a readiness probe a Pod is Ready before its server answers.
            path = f"{api.path('Pod', namespace, pod['metadata']['name'])}:8080/proxy/"
            kube.wait(
                f"an answer of {server}", lambda path=path: api.ask("GET", path).status == 200
            )  # type: ignore[misc]
    return addresses


def _addresses(api: Api, namespace: str, server: str) -> int:
    slices = api.list("EndpointSlice", namespace, f"kubernetes.io/service-name={server}")
    return sum(
        1
        for part in slices
        for endpoint in part["endpoints"] or ()
        if endpoint["conditions"]["ready"]
    )


def disturb(
    api: Api, namespace: str, servers: Sequence[str], name: str, clock: Callable[[], float]
) -> dict[str, Phase]:
    """Disturb all servers in one way, and wait until each has its replicas and no Pod goes."""
    begin, before, done, gone = {}, {}, dict.fromkeys(servers, 0.0), dict.fromkeys(servers, 0.0)
    lives: dict[str, dict[str, tuple[float, float]]] = {server: {} for server in servers}
    for server in servers:
        before[server] = {pod["metadata"]["uid"] for pod in api.pods(namespace, server)}
        begin[server] = clock()
        DISTURBANCES[name](api, namespace, server)

    def settled() -> bool | str:
        pods, now = api.pods(namespace), clock()
        deployments = {tree["metadata"]["name"]: tree for tree in api.list("Deployment", namespace)}
        for server in servers:
            mine = [pod for pod in pods if pod["metadata"]["labels"].get("app") == server]
            left = {pod["metadata"]["uid"] for pod in mine if kube.going(pod)}
            for uid in left:
                told, _ = lives[server].get(uid, (now, now))
                lives[server][uid] = (told, now)
            serving = sum(kube.ready(pod) and not kube.going(pod) for pod in mine)
            # The controller's own count is of a moment ago: right after an eviction nothing is
            # missing yet.
            whole = serving == deployments[server]["spec"]["replicas"]
            if not done[server] and whole and kube.rolled_out(deployments[server]):
                done[server] = clock() - begin[server]
            if (
                done[server]
                and not gone[server]
                and not left
                and {pod["metadata"]["uid"] for pod in mine} != before[server]
            ):
                gone[server] = clock() - begin[server]
        unsettled = [kube.state(pod) for pod in pods if kube.going(pod) or not kube.ready(pod)]
        return all(gone.values()) or f"not yet: {unsettled}"

    kube.wait(f"the end of the {name}", settled, _PODS_GONE, every=0.25)
    stay = {
        server: max((end - told for told, end in lives[server].values()), default=0.0)
        for server in servers
    }
    return {
        server: Phase(name, begin[server], done[server], gone[server], stay[server])
        for server in servers
    }


class Place(NamedTuple):
    """Where it happens: the API, a namespace, the image, the way to run `podgrace prove`."""

    api: Api
    namespace: str
    image: str
    prove: Prove


def run(
    place: Place,
    servers: Sequence[str],
    variant: str,
    disturbances: Sequence[str],
    pressure: Pressure = USUAL,
    *,
    replicas: int = REPLICAS,
    reach: Reach = _service,
    annotations: dict[str, str] | None = None,
) -> tuple[list[Row], dict[str, Tree]]:
    """Deploy, load, disturb, count; returns the rows, and each server's whole report."""
    api, namespace, image, prove = place
    shape: dict[str, Any] = {"replicas": replicas, "annotations": annotations}
    addresses = deploy(api, namespace, servers, variant, image, **shape)
    fronts = {
        server: reach(api, namespace, server, address) for server, address in addresses.items()
    }
    started: dict[str, float] = {}
    phases: dict[str, list[Phase]] = {server: [] for server in servers}
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for server, front in fronts.items():
            processes[server] = kube.wait(
                f"the load on {server}", lambda front=front: _load(prove, front, pressure)
            )  # type: ignore[misc]
            started[server] = time.monotonic()
        time.sleep(pressure.lead)
        for name in disturbances:
            for server, phase in disturb(api, namespace, servers, name, time.monotonic).items():
                phases[server].append(phase)
            time.sleep(2)  # of load after it: what is lost late belongs to it
        reports = {server: _report(server, process) for server, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    rows = [
        row
        for server in servers
        for row in _rows(server, variant, phases[server], reports[server], started[server])
    ]
    return rows, reports


Ran = tuple[list[Row], dict[str, Tree]]
"""What `run` gives."""


def at_once(runs: Mapping[str, Callable[[], Ran]]) -> tuple[list[Row], dict[str, dict[str, Tree]]]:
    """Do runs at the same time, each in its own namespace: other load meets all of them alike.

    Returns the rows of all, and the reports by the run's name and the server's.
    """
    with ThreadPoolExecutor(len(runs)) as pool:
        futures = {name: pool.submit(run) for name, run in runs.items()}
    done = {name: future.result() for name, future in futures.items()}
    rows = [row for found, _ in done.values() for row in found]
    return rows, {name: reports for name, (_, reports) in done.items()}


def beside(
    places: Callable[[], Place], servers: Sequence[str], disturbance: str, **options: Any
) -> tuple[list[Row], dict[str, dict[str, Tree]]]:
    """Run all variants at once; `options` are those of `run`."""

    def one(variant: str) -> Callable[[], Ran]:
        place = places()
        return lambda: run(place, servers, variant, [disturbance], **options)

    return at_once({variant: one(variant) for variant in VARIANTS})


def lost(rows: Sequence[Row], variant: str) -> list[Row]:
    """Give the rows of a variant in which something was lost."""
    return [row for row in rows if row.variant == variant and row.lost]


def explained(reports: Mapping[str, Mapping[str, Tree]], rows: Sequence[Row]) -> str:
    """Write down each loss of these rows."""
    return json.dumps({row.server: reports[row.variant][row.server]["losses"] for row in rows})


def _load(prove: Prove, front: Front, pressure: Pressure) -> "subprocess.Popen[str] | str":
    """Start a load, once every node routes to the address: the EndpointSlice has it earlier."""
    base = f"http://{front.address}"
    options = ["--rate", f"{pressure.rate}", "--connections", f"{pressure.connections}"]
    options += ["--method", pressure.method, "--until-eof", "-o", "json"]
    options += ["--timeout", "45" if pressure.path == "/sleep" else "15"]
    if pressure.slow_rate:
        options += ["--slow-url", f"{base}/sleep", "--slow-rate", f"{pressure.slow_rate}"]
        options += ["--slow-timeout", "45"]
    if not pressure.new:
        options.append("--no-new")
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        prove(base + pressure.path, *options, *front.words),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    assert process.stderr
    line = process.stderr.readline()
    if line.startswith("loading"):
        return process
    _, more = process.communicate("")
    return f"not yet: {line}{more}"


def _report(server: str, process: "subprocess.Popen[str]") -> Tree:
    out, err = process.communicate("", timeout=120)
    assert process.returncode in (0, 3), f"{server}: prove ended with {process.returncode}: {err}"
    report: Tree = json.loads(out)
    return report


def _rows(
    server: str, variant: str, phases: Sequence[Phase], report: Tree, started: float
) -> list[Row]:
    """Give each disturbance the requests sent and lost until the next one.

    The first has the lead-in too.
    """
    rows = []
    for number, phase in enumerate(phases):
        low = 0.0 if number == 0 else phase.begin - started
        high = phases[number + 1].begin - started if number + 1 < len(phases) else 1e9

        def here(at: float, low: float = low, high: float = high) -> bool:
            return (
                int(low) <= int(at) < int(high)
            )  # by whole seconds, as the timeline counts what was sent

        timeline = [row for row in report["timeline"] if here(row["second"])]
        for client in report["clients"]:
            lost = [
                loss
                for loss in report["losses"]
                if loss["client"] == client and here(loss["at"] - loss["took"])
            ]
            outcomes: dict[str, int] = {}
            for loss in lost:
                outcomes[loss["outcome"]] = outcomes.get(loss["outcome"], 0) + 1
            sent = sum(row["sent"].get(client, 0) for row in timeline)
            retried = (
                sum(row["marks"].get("retried", 0) for row in timeline)
                if client == "keep-alive"
                else 0
            )
            rows.append(
                Row(
                    server,
                    variant,
                    phase.name,
                    client,
                    sent,
                    len(lost),
                    retried,
                    outcomes,
                    round(phase.done, 1),
                    round(phase.gone, 1),
                    round(phase.stay, 1),
                )
            )
    return rows


def told(rows: Sequence[Row]) -> str:
    """Write rows as a table in Markdown."""
    names = "server variant disturbance client requests lost retried"
    head = f"| {' | '.join(names.split())} | what was lost | done | last Pod gone | longest stay |"
    lines = [head, "|---|---|---|---|---:|---:|---:|---|---:|---:|---:|"]
    for row in rows:
        what = ", ".join(f"{name} {count}" for name, count in sorted(row.outcomes.items())) or "-"
        cells = (
            row.server,
            row.variant,
            row.disturbance,
            row.client,
            row.sent,
            row.lost,
            row.retried,
            what,
            f"{row.done} s",
            f"{row.gone} s",
            f"{row.stay} s",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def why(api: Api, namespace: str, server: str) -> Any:
    """Collect what explains a loss: the recorder's lines in the sidecars' logs, and the events."""
    events = [
        f"{event['reason']}: {event['message'][:200]}"
        for event in api.list("Event", namespace)
        if server in event["involvedObject"].get("name", "")
    ]
    logs = {
        pod["metadata"]["name"]: api.log(namespace, pod["metadata"]["name"], "podgrace")
        for pod in api.pods(namespace, server)
    }
    return {"events": events[-20:], "recorder": logs}
