"""The mission: workloads under load through their Services, disturbed one way after another, every request counted.

In: servers, a variant, disturbances. Out: a `Row` for each server, disturbance and kind of client. All servers share one window
of load, since what takes time is waiting; each has its own `podgrace prove`, which runs where Services can be reached.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.cluster import kube
from tests.cluster.kube import Api, Tree
from tests.cluster.workloads import REPLICAS, manifest


class Pressure(NamedTuple):
    """The load on one server: quick requests a second of each kind of client, and answers of ten seconds."""

    rate: float = 4
    connections: int = 4
    slow_rate: float = 0.5
    new: bool = True


USUAL = Pressure()


_PODS_GONE = 180.0
"""Seconds until the last Pod that was told to stop is gone; above the grace period that podgrace asks for."""


class Row(NamedTuple):
    """What one kind of client saw of one disturbance of one server. `outcomes`: of the lost. Times in seconds."""

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


class Phase(NamedTuple):
    """One disturbance of one server: when it began, when the controller was done, when the last Pod was gone."""

    name: str
    begin: float
    done: float
    gone: float


Prove = Callable[..., "list[str]"]


def _deployment(api: Api, namespace: str, server: str) -> Tree:
    return api.get("Deployment", namespace, server)


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
    """Take a replica away, and evict one of those that stay: one is left to serve until the new one is ready."""
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
    api: Api, namespace: str, servers: Sequence[str], variant: str, image: str
) -> dict[str, str]:
    """Make the workloads and wait until they serve; returns the address of each one's Service."""
    addresses = {}
    for server in servers:
        addresses[server] = api.create(kube.service(server), namespace)["spec"]["clusterIP"]
        api.create(manifest(server, variant, image), namespace)
    for server in servers:
        kube.wait_ready(api, namespace, server, REPLICAS, seconds=240)
        kube.wait(
            f"three addresses behind {server}",
            lambda server=server: _addresses(api, namespace, server) == REPLICAS,
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
    """Disturb all servers in one way, and wait until each has its replicas again and no Pod that is going."""
    begin, before, done, gone = {}, {}, dict.fromkeys(servers, 0.0), dict.fromkeys(servers, 0.0)
    for server in servers:
        before[server] = {pod["metadata"]["uid"] for pod in api.pods(namespace, server)}
        begin[server] = clock()
        DISTURBANCES[name](api, namespace, server)

    def settled() -> bool | str:
        pods = api.pods(namespace)
        deployments = {tree["metadata"]["name"]: tree for tree in api.list("Deployment", namespace)}
        for server in servers:
            mine = [pod for pod in pods if pod["metadata"]["labels"].get("app") == server]
            left = [pod for pod in mine if kube.going(pod)]
            if not done[server] and kube.rolled_out(deployments[server]):
                done[server] = clock() - begin[server]
            if (
                done[server]
                and not gone[server]
                and not left
                and {pod["metadata"]["uid"] for pod in mine} != before[server]
            ):
                gone[server] = clock() - begin[server]
        return (
            all(gone.values())
            or f"not yet: {[kube.state(pod) for pod in pods if kube.going(pod) or not kube.ready(pod)]}"
        )

    kube.wait(f"the end of the {name}", settled, _PODS_GONE, every=0.5)
    return {server: Phase(name, begin[server], done[server], gone[server]) for server in servers}


class Place(NamedTuple):
    """Where it all happens: the API, a namespace, the image of the servers, and how to run `podgrace prove` inside the cluster."""

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
) -> tuple[list[Row], dict[str, Tree]]:
    """Deploy, load, disturb, count; returns the rows, and each server's whole report."""
    api, namespace, image, prove = place
    addresses = deploy(api, namespace, servers, variant, image)
    started: dict[str, float] = {}
    phases: dict[str, list[Phase]] = {server: [] for server in servers}
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for server, address in addresses.items():
            processes[server] = kube.wait(
                f"the load on {server}", lambda address=address: _load(prove, address, pressure)
            )  # type: ignore[misc]
            started[server] = time.monotonic()
        time.sleep(4)  # of load on what nobody disturbs, as the measure of the rest
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


def _load(prove: Prove, address: str, pressure: Pressure) -> "subprocess.Popen[str] | str":
    """Start a load. An address may be in the EndpointSlice before every node routes to it: then there is no load yet."""
    options = [
        "--rate",
        str(pressure.rate),
        "--connections",
        str(pressure.connections),
        "--timeout",
        "15",
        "--until-eof",
        "-o",
        "json",
    ]
    if pressure.slow_rate:
        options += [
            "--slow-url",
            f"http://{address}/sleep",
            "--slow-rate",
            str(pressure.slow_rate),
            "--slow-timeout",
            "45",
        ]
    if not pressure.new:
        options.append("--no-new")
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        prove(f"http://{address}/", *options), stdin=pipe, stdout=pipe, stderr=pipe, text=True
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
    """Give each disturbance what was sent and lost from its begin to the next one's; the first has the lead-in as well."""
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
                )
            )
    return rows


def told(rows: Sequence[Row]) -> str:
    """Write rows as a table in Markdown."""
    head = "| server | variant | disturbance | client | requests | lost | retried | what was lost | done after | last Pod gone after |"
    lines = [head, "|---|---|---|---|---:|---:|---:|---|---:|---:|"]
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
