"""Our readiness probe: what it is made of, and how it is recognised.

In: a kind, a port and a path, or a probe to copy. Out: the probe as JSON, and its name and times,
which tell it from the user's in a later pass. Whether a container gets one belongs to `readiness`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from webhook.core.pod import Handler, PortHandler, Raw, handler

Probe = dict[str, Any]

TIMES: Final[Mapping[str, int]] = {
    "timeoutSeconds": 2,
    "periodSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 10,
}
"""The times of the probes that we add. The kubelet probes as soon as a container runs, mostly too
early, and then once a period, counted from when it first saw the Pod. So each new Pod of a rollout
waits for the end of a period, and one second is the shortest (docs/proof.md, what a start costs).
A Pod is taken out after 10 failures in a row, at least 10 s: as patient as longer periods.
"""

RARE: Final[Mapping[str, int]] = {
    "timeoutSeconds": 2,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
"""The same for a TCP probe of a server that logs each connection without a handshake."""

_FIRST_TIMES: Final[Mapping[str, int]] = {
    "timeoutSeconds": 2,
    "periodSeconds": 2,
    "successThreshold": 1,
    "failureThreshold": 5,
}
"""The times of a probe whose status annotation names none. Never change them."""

_NOT_SET: Final[Mapping[str, int]] = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
    "initialDelaySeconds": 0,
}
"""What the API server fills in (core/v1 defaulting)."""


_FIELDS: Final = [
    (f.name, f.encode_name, _NOT_SET[f.encode_name])
    for f in msgspec.structs.fields(Handler)
    if f.encode_name in _NOT_SET
]


def made(kind: str, port: int | str, path: str = "", *, rare: bool = False) -> Probe:
    """Make a probe of a kind: "http", "tcp" or "grpc"; `path` is for http."""
    times = RARE if rare else TIMES
    if kind == "http":
        return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, **times}
    return {"tcpSocket" if kind == "tcp" else "grpc": {"port": port}, **times}


def copied(own: Handler) -> Probe:
    """Copy a user's probe, never stricter than the original.

    Without `host`, since Pod Security "baseline" refuses one. Without the initial delay, which
    keeps a container from being restarted while it starts: readiness restarts nothing.
    """
    get, times = own.http_get, _as_patient(own)
    if get is not None:
        copy: Probe = {"path": get.path or "/", "port": get.port, "scheme": get.scheme or "HTTP"}
        if get.http_headers:
            copy["httpHeaders"] = [{"name": h.name, "value": h.value} for h in get.http_headers]
        return {"httpGet": copy, **times}
    if own.tcp_socket is not None:
        return {"tcpSocket": {"port": own.tcp_socket.port}, **times}
    grpc = own.grpc or PortHandler()
    copy = {"port": grpc.port}
    if grpc.service is not None:
        copy["service"] = grpc.service
    return {"grpc": copy, **times}


def _as_patient(own: Handler) -> dict[str, int]:
    """Derive the times of a copy.

    1. The timeout is the source's, but at least that of our own probes.
    2. Up to twice as often as the source, but not more often than our own: a Pod is ready sooner.
    3. Enough failures in a row to last at least as long as the source tolerates; five at least.
    """
    every = own.period_seconds or _NOT_SET["periodSeconds"]
    failures = own.failure_threshold or _NOT_SET["failureThreshold"]
    period = min(every, max(TIMES["periodSeconds"], (every + 1) // 2))
    return {
        "timeoutSeconds": max(TIMES["timeoutSeconds"], own.timeout_seconds or 1),
        "periodSeconds": period,
        "successThreshold": 1,
        "failureThreshold": max(5, -(-every * failures // period)),
    }


def name(probe: Probe) -> str:
    """Name a probe by kind, port and path: `http:8080/healthz`, `tcp:5432`, `grpc:9000`."""
    if (get := probe.get("httpGet")) is not None:
        return f"http:{get['port']}{get['path']}"
    kind = "tcp" if "tcpSocket" in probe else "grpc"
    return f"{kind}:{(probe.get('tcpSocket') or probe['grpc'])['port']}"


def times(probe: Probe) -> dict[str, int]:
    """Give the times of a probe of ours, as `is_made` wants them; {} for the first version's."""
    found = {key: probe[key] for key in TIMES}
    return {} if found == _FIRST_TIMES else found


def is_made(raw: Raw, known: str, then: Mapping[str, int]) -> bool:
    """Whether a probe is the one that we made, by its name `known` and its times `then`."""
    probe = handler(raw)
    then = then or _FIRST_TIMES
    return _name(probe) == known and all(
        (default if (now := getattr(probe, field)) is None else now) == then.get(key, default)
        for field, key, default in _FIELDS
    )


def period(probe: Any) -> int:
    """Seconds between two probes of a terminating Pod (only readiness goes on); 0 without one.

    `probe` is ours, or the user's as raw JSON. An exec probe makes no connection.
    """
    if probe is None:
        return 0
    if isinstance(probe, Raw):
        own = handler(probe)
        if own.http_get is None and own.tcp_socket is None and own.grpc is None:
            return 0
        return own.period_seconds or 10
    return int(probe["periodSeconds"])


def _name(probe: Handler) -> str:
    if probe.http_get is not None:
        return f"http:{probe.http_get.port}{probe.http_get.path or '/'}"
    if probe.tcp_socket is not None:
        return f"tcp:{probe.tcp_socket.port}"
    return f"grpc:{probe.grpc.port}" if probe.grpc is not None else ""
