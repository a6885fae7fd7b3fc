"""Why requests are lost in a rollout today: rules that read the Pod, its Services and its strategy.

In: `Evidence`. Out: hits. What is known for sure says "loses": the server's program is in its
command, or the strategy takes all Pods away. Everything else "may lose": an image's name is a hint,
and of an unknown server nobody knows what it does at its signal. podgrace fixes most of these.

Sources: pod termination and EndpointSlices (kubernetes.io, pod-lifecycle, endpoint-slices);
docs/profiles.md for what each server was measured to do.
"""

from collections.abc import Iterator
from typing import Final

from webhook.cli.plan.evidence import Evidence, Server
from webhook.cli.plan.rule import PODGRACE, YOU, Hit, Rule
from webhook.core.pod import stop_signal
from webhook.core.profile import image_name


def _by(server: Server, *, signal: bool = False) -> str:
    """Say who fixes what a server lacks. `signal`: a sleep alone does not."""
    desired = server.desired
    if desired is None or desired.waits is None:
        return YOU
    hook = desired.pre_stop
    return YOU if signal and isinstance(hook, dict) and "sleep" in hook else PODGRACE


def _harm(server: Server) -> str:
    return "loses" if server.certain else "may-lose"


def _who(server: Server) -> str:
    if not server.known:
        return "unknown server"
    name = server.look.profile.name
    return name if server.certain else f"{name}, by its image's name"


def _delay(server: Server) -> int | None:
    """Seconds for which its own preStop holds its signal back; None if that cannot be told."""
    if server.sleep is not None:
        return server.sleep
    return server.effect.delay if server.effect.shown else None


def _no_delay(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        if server.hook is None and not server.keeper and it.facts.grace:
            yield Hit(
                f"{server.name} ({_who(server)}): no preStop, so its stop signal comes at once",
                _harm(server),
                _by(server),
            )


def _stops_first(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        found = server.effect
        if server.sleep is None and found.shown and not found.delay:
            yield Hit(
                f"{server.name}: its preStop begins with: {found.shown}",
                "may-lose" if found.guess else _harm(server),
                _by(server),
            )


def _short_delay(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        delay, balancer = _delay(server), it.facts.balancer
        needed = server.look.settings.delay_min if balancer is None else balancer.delay
        if server.hook is None or delay is None or delay >= needed:
            continue
        if delay or server.sleep is not None:
            why = "are usual" if balancer is None else f"are what {balancer.name} needs"
            yield Hit(
                f"{server.name}: its preStop waits {delay} s; {needed} s {why}", "", _by(server)
            )


def _over_grace(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        delay = _delay(server)
        if delay and delay >= it.facts.grace > 0:
            enough = it.grace > max(delay, it.facts.grace)
            yield Hit(
                f"{server.name}: its preStop sleeps {delay} s of {it.facts.grace} s of grace",
                _harm(server),
                _by(server) if enough else YOU,
            )


def _opaque(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        if server.sleep is None and not server.effect.shown:
            yield Hit(f"{server.name}: nobody can tell how long its preStop waits", "", _by(server))


def _grace_zero(it: Evidence) -> Iterator[Hit]:
    if it.facts.grace == 0:
        yield Hit("terminationGracePeriodSeconds is 0: killed at once, no preStop runs")


def _shell(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        if server.keeper:
            behind = server.look.profile.name if server.known else "its server"
            by = YOU if it.facts.shared_pid else _by(server, signal=True)
            yield Hit(
                f"{server.name}: {server.keeper} stays in front of {behind}; if it keeps TERM to"
                f" itself, the Pod is killed after {it.facts.grace} s with what is in flight",
                "",
                by,
            )


def _signal(it: Evidence) -> Iterator[Hit]:
    for server in it.servers:
        container, profile = server.look.container, server.look.profile
        if (
            profile.signal in ("TERM", stop_signal(container))
            or image_name(container.image or "") in profile.images
            or server.keeper
        ):
            continue
        by = YOU if it.facts.shared_pid else _by(server, signal=True)
        yield Hit(
            f"{server.name}: {profile.name} finishes its requests on {profile.signal}; unless its"
            " image says STOPSIGNAL, it gets TERM",
            "",
            by,
        )


def _no_readiness(it: Evidence) -> Iterator[Hit]:
    if not it.servers or any(look.view.readiness is not None for look in it.looks):
        return
    names = ", ".join(server.name for server in it.servers)
    made = it.ready_made
    does = f"; {made} would get one" if made else "; no safe one can be guessed"
    yield Hit(f"{names}: ready as soon as it runs{does}", "", PODGRACE if made else YOU)


def _publishes(it: Evidence) -> Iterator[Hit]:
    for service in it.services:
        if service.publishes_unready:
            kind = "headless Service" if service.headless else "Service"
            yield Hit(
                f"{kind} {service.name}: new connections go to a Pod until it is gone",
                "may-lose" if service.headless else "loses",
            )


def _undeclared(it: Evidence) -> Iterator[Hit]:
    if it.servers:
        return
    containers = it.workload.pod.spec.containers
    declared = {port.container_port for one in containers for port in one.ports or ()}
    for service in it.services:
        targets = [
            port.port if port.target_port is None else port.target_port
            for port in service.ports
            if port.protocol == "TCP"
        ]
        wanted = [port for port in targets if isinstance(port, int) and port not in declared]
        if wanted:
            ports = ",".join(map(str, wanted))
            yield Hit(
                f"Service {service.name} sends to port {ports}, which no container declares: set"
                f' podgrace.io/ports.{containers[0].name}: "{ports}"'
            )


def _recreate(it: Evidence) -> Iterator[Hit]:
    if it.workload.strategy == "Recreate" and it.replicas:
        yield Hit("strategy Recreate: all Pods go before the first new one starts")


def _all_unavailable(it: Evidence) -> Iterator[Hit]:
    replicas, gone = it.replicas, it.at_once
    if it.workload.strategy == "Recreate" or not replicas or gone is None or gone < replicas:
        return
    if it.workload.kind == "StatefulSet" and it.workload.unavailable is None:
        yield Hit("one replica: its Pod is deleted before the next one starts")
    else:
        kind = "node" if it.workload.kind == "DaemonSet" else "replica"
        yield Hit(f"an update may take {gone} of {replicas} Pods away at once ({kind}s)")


RULES: Final = (
    Rule(
        "recreate",
        "loses",
        "every rollout is an outage: all Pods are stopped before a new one starts",
        "strategy.type: RollingUpdate, if two versions may run side by side",
        _recreate,
    ),
    Rule(
        "all-unavailable",
        "loses",
        "a rollout may take all Pods away before one of the new ones serves",
        "maxUnavailable: 0 with maxSurge: 1 (Deployment); two replicas or more (StatefulSet)",
        _all_unavailable,
    ),
    Rule(
        "grace-zero",
        "loses",
        "its Pods are killed at once, with all that is in flight",
        "leave terminationGracePeriodSeconds out, or set 30",
        _grace_zero,
    ),
    Rule(
        "no-delay",
        "loses",
        "it stops while proxies and load balancers still send to it",
        "enable podgrace; or a preStop sleep of 5 to 15 s",
        _no_delay,
    ),
    Rule(
        "pre-stop-stops",
        "loses",
        "its own preStop stops the server first, while requests still come",
        "enable podgrace, which runs it after the drain; or sleep before the command",
        _stops_first,
    ),
    Rule(
        "pre-stop-over-grace",
        "loses",
        "its preStop takes all of the grace period: no time is left to finish requests",
        "terminationGracePeriodSeconds: its preStop, the longest request, and 5 s",
        _over_grace,
    ),
    Rule(
        "publishes-unready",
        "loses",
        "its Service publishes Pods that are not ready, so also those that stop",
        "publishNotReadyAddresses: false; for peers, a headless Service of their own",
        _publishes,
    ),
    Rule(
        "short-delay",
        "may-lose",
        "its preStop sleep is shorter than load balancers take to deregister the Pod",
        "enable podgrace, which waits until no new connection comes; or sleep longer",
        _short_delay,
    ),
    Rule(
        "pre-stop-unknown",
        "may-lose",
        "whether its own preStop waits for load balancers is not known",
        "read that script; podgrace runs it, and waits besides",
        _opaque,
    ),
    Rule(
        "shell-pid-1",
        "may-lose",
        "a shell, npm or the like is PID 1, and may not hand the stop signal on",
        "enable podgrace, which finds the server; or `exec` in the last line of the script",
        _shell,
    ),
    Rule(
        "stop-signal",
        "may-lose",
        "it finishes requests on another signal than the one that it may get",
        "enable podgrace, which sends the right one; or STOPSIGNAL in the image",
        _signal,
    ),
    Rule(
        "no-readiness",
        "may-lose",
        "no readiness probe: requests reach a Pod before it answers, and rollouts do not wait",
        "a readinessProbe, or the annotation podgrace.io/readiness-probe",
        _no_readiness,
    ),
    Rule(
        "undeclared-port",
        "may-lose",
        "a Service sends to it, yet no port says so: podgrace would leave it alone",
        "declare containerPort, or set podgrace.io/ports.<container>",
        _undeclared,
    ),
)
