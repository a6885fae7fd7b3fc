"""The readiness probe of a container that has none.

In: the `Look` of a container, the Pod's `Facts`, and whether another container serves too. Out:
`Answer`: a probe and the reason, or no probe and the reason. An existing probe is never replaced.
Only http, tcp and grpc: an exec probe needs a program in the image, and some versions of the
kubelet break it during termination (kubernetes 1.35, from 1.36.3).

A probe that never succeeds stops a rollout that used to work, so we never guess one that might
fail. What counts as evidence, the first row that fits:

| evidence                                     | probe                                             |
|----------------------------------------------|---------------------------------------------------|
| an annotation                                | as it says                                        |
| a mesh in the Pod                            | none: it rewrites probes, and would not see ours  |
| its own startup or liveness probe            | a copy, never stricter than its source; no copy   |
|                                              | of liveness where members start one after another |
| a virtual node                               | none: that of AKS takes no Pod with a TCP probe   |
| a StatefulSet, or an unknown controller;     | none: members may wait for each other before they |
| arguments or a port for peers                | open                                              |
| another container that serves                | none: one must not take the other out of its      |
|                                              | Service; and no copy, where this one shows no     |
|                                              | sign of serving users                             |
| arguments about leader election              | none: perhaps only the leader opens the port      |
| a claim's volume, but no known server        | none: the old Pod may hold a lock on the data     |
| a listener that starts work per connection   | none: each probe would start it                   |
| a known stand-alone server; or a port whose  | TCP, if one such port is left, not bound to       |
| name or number says that it serves users     | loopback, not UDP, and no argument says otherwise |
| none of these                                | none: a declared port proves nothing              |

TCP is probed every 10 s instead of every second if the server may log each connection without a
handshake (TLS), and not at all if it counts such connections as errors (MySQL).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from webhook.core import arguments, probe
from webhook.core.decision import Facts, Look
from webhook.core.pod import port_number, variables
from webhook.core.ports import has_peers, is_shy, is_tls, is_udp, plausible
from webhook.core.probe import Probe
from webhook.core.profile import image_name


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A code, its detail, and the probe. `refused`: no evidence, but the author can give it."""

    code: str
    detail: str = ""
    probe: Probe | None = None
    refused: bool = False


KEPT: Final = Answer("readiness-kept")


def choose_all(looks: Sequence[Look], facts: Facts) -> dict[int, Answer]:
    """Settle the probes of the containers that serve, by their index in the Pod."""
    seen = [look.index for look in looks if _is_seen_to_serve(look)]
    return {
        look.index: choose(look, facts, neighbours=bool(seen) and seen != [look.index])
        for look in looks
    }


def choose(look: Look, facts: Facts, *, neighbours: bool) -> Answer:
    """Settle the probe of one container. `neighbours`: another container of the Pod serves."""
    if look.view.readiness is not None:
        return KEPT
    kind = look.settings.readiness
    if kind == "off":
        return Answer("readiness-off")
    if kind != "auto":
        return _annotated(look)
    if facts.mesh:
        return Answer("readiness-mesh")
    probes = look.probes
    if neighbours and not _is_seen_to_serve(look):
        # An exporter's health must not take the server beside it out of its Service.
        probes = ()
    for source, own in probes:
        where = own.http_get or own.tcp_socket
        if where is not None and where.host:
            # The server may listen only where that name leads; a probe to the Pod's own address
            # would keep it unready for ever.
            return Answer("readiness-host")
        # Until the startup probe succeeds, the container is unready even without us.
        if not facts.ordered or source == "startup":
            return _with(f"readiness-{source}", probe.copied(own))
    return _guessed(look, facts, neighbours=neighbours)


def _is_seen_to_serve(look: Look) -> bool:
    """Whether anything besides a declared port says that a container serves."""
    return bool(look.serving) or look.view.readiness is not None or look.profile.standalone


def _candidates(look: Look) -> list[int]:
    """Return the ports that serve users, as their name, number or server says."""
    if look.profile.standalone and look.ports:
        return [p for p in plausible(look.container, look.ports) if p in look.ports]
    return [p for p in look.serving if p in look.ports]


def _guessed(look: Look, facts: Facts, *, neighbours: bool) -> Answer:
    if not look.ports:
        return _refused("readiness-no-port")
    if facts.no_helper == "virtual-node":
        return _refused("readiness-virtual-node")
    if facts.ordered:
        return _refused("readiness-stateful", facts.owner)
    if neighbours:
        return _refused("readiness-neighbour")
    told = arguments.read([*look.command, *(look.view.args or ())], variables(look.container))
    if told.elects:
        return _refused("readiness-elected")
    if told.peers or has_peers(look.container):
        return _refused("readiness-stateful", "it has peers")
    if not look.profile.standalone and _writes_to(look, facts.claims):
        return _refused("readiness-stateful", "the old one may hold a lock on its volume")
    # An unknown entrypoint often is the program that the image is named after: socat, xinetd.
    named = "" if look.command else image_name(look.container.image or "")
    if told.per_connection or named in arguments.TOOLS:
        return _refused("readiness-per-connection")
    found = _candidates(look)
    if not found:
        return _refused("readiness-unproven")
    found = list(plausible(look.container, found))
    if len(found) != 1:
        return _refused("readiness-ambiguous", ", ".join(map(str, found)))
    port = found[0]
    if told.closed(port):
        return _refused("readiness-loopback")
    if port in told.udp or is_udp(look.container, port):
        return _refused("readiness-udp", str(port))
    if told.listens and port not in told.listens:
        return _refused(
            "readiness-unproven", f"its arguments name {', '.join(map(str, sorted(told.listens)))}"
        )
    if is_shy(look.container, port):
        return _refused("readiness-handshake", str(port))
    return _with("readiness-tcp", probe.made("tcp", port, rare=is_tls(look.container, port)))


def _writes_to(look: Look, volumes: frozenset[str]) -> bool:
    mounts = look.container.volume_mounts if volumes else None
    return any(mount.name in volumes and not mount.read_only for mount in mounts or ())


def _annotated(look: Look) -> Answer:
    settings = look.settings
    port: int | str | None = settings.readiness_port
    if port is None:
        found = plausible(look.container, look.ports)
        port = found[0] if len(found) == 1 else None
        if port is None:
            return Answer("readiness-ambiguous" if found else "readiness-no-port")
    # With a name that the container does not declare, every probe would fail; a grpc probe takes
    # only numbers.
    number = port_number(port, look.container)
    if number is None:
        return Answer("readiness-no-port")
    port = number if settings.readiness == "grpc" else port
    return _with(
        "readiness-annotated", probe.made(settings.readiness, port, settings.readiness_path)
    )


def _with(code: str, made: Probe) -> Answer:
    return Answer(code, probe.name(made), made)


def _refused(code: str, detail: str = "") -> Answer:
    return Answer(code, detail, refused=True)
