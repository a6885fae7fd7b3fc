"""preStop: composing with the one that is there, and writing ours.

In: a container that has its rung (`Choice`). Out: the order of both hooks, what it needs of the grace period, and the handler.
A hook of the user's is never lost: it runs through the helper, or it stays and ours steps back.
"""

import re
from typing import Any

from webhook.core import budget, helper
from webhook.core.budget import Need
from webhook.core.decision import Choice
from webhook.core.helper import Waits
from webhook.core.pod import Handler, handler, port_number
from webhook.core.settings import KILL_MARGIN

_PLAIN = re.compile(r"[!-~]*")


def compose(choice: Choice, grace: int, drain_bound: int) -> None:
    """Settle what becomes of the user's own preStop; `choice.rung` may become "" (nothing of ours is left to do)."""
    raw, settings = choice.desired.view.pre_stop, choice.settings
    own: int | None = 0
    if raw is not None:
        user = handler(raw)
        own = helper.literal_sleep(user)
        code, detail = _why_kept(choice, user)
        if code:
            choice.note(code, detail)
            choice.delivery = "none"
            if choice.rung != "wrap":
                choice.rung = ""
                return
        else:
            choice.user = user
            # A hook that it cannot tell the length of had the whole grace period, and keeps it.
            choice.hook_timeout = min(grace, helper.LONGEST) if own is None else 0
            after = settings.existing == "after" or (
                settings.existing == "auto"
                and user.exec is not None
                and helper.stops_server(user.exec)
            )
            choice.order = "after" if after else "before"
            choice.note(
                "prestop-after" if after else "prestop-before",
                f"its {own} s count as delay" if own and not after else "",
            )
    elif not settings.prestop:
        choice.note("prestop-off")
        choice.delivery = "none"
    else:
        choice.note("prestop-added")
    choice.note("hook-http" if choice.delivery == "http" else choice.rung)
    choice.record.mode = choice.rung
    choice.need = Need(_waits(choice, own, grace, drain_bound), own)


def sleep_of(waits: Waits) -> dict[str, Any]:
    """Write the native handler (KEP-3960)."""
    return {"sleep": {"seconds": waits.delay_max}}


def http_of(choice: Choice, waits: Waits, port: int) -> dict[str, Any]:
    """Write a request to the sidecar: the kubelet waits for the answer, whatever its status."""
    name = choice.desired.container.name
    return {
        "httpGet": {
            "path": helper.drain_path(name, choice.ports, waits),
            "port": port,
            "scheme": "HTTP",
        }
    }


def _why_kept(choice: Choice, user: Handler) -> tuple[str, str]:
    """Return why the user's preStop stays as it is, or "" if it is composed with ours."""
    if not choice.settings.prestop:
        return "prestop-off", ""
    if choice.settings.existing == "keep":
        return "prestop-kept", ""
    if choice.rung == "sleep" or choice.delivery == "http":
        return "prestop-kept-sleep", ""
    get = user.http_get
    if get is not None:
        port = port_number(get.port, choice.desired.container)
        if (get.scheme or "HTTP") != "HTTP":
            return "prestop-kept-http", "https"
        if get.host:
            return "prestop-kept-http", "it names a host, as the node sees it"
        if port is None:
            return "prestop-kept-http", "its port has no number here"
        headers = get.http_headers or ()
        odd = any(
            not h.name or ":" in h.name or set(h.name + h.value) & set("\r\n") for h in headers
        )
        if odd or len(headers) > helper.MAX_HEADERS or not _PLAIN.fullmatch(get.path or "/"):
            return "prestop-kept-http", "its path or headers are none that the helper can send"
        get.port = port
        return "", ""
    if user.sleep is None and (user.exec is None or not user.exec.command):
        return "prestop-kept-tcp", ""
    return "", ""


def _waits(choice: Choice, own: int | None, grace: int, drain_bound: int) -> Waits:
    settings, profile = choice.settings, choice.profile
    before = budget.patience(grace, own)
    # Where the kubelet sends the signal it also ends the patience: no margin of ours on top.
    by_kubelet = before - KILL_MARGIN if before > KILL_MARGIN else 0
    if choice.rung == "sleep":
        return Waits(settings.delay_max, 0, settings.delay_max, 0, by_kubelet)
    drain = (
        settings.drain_timeout or min(profile.drain_timeout, drain_bound) or settings.default_drain
    )
    patience = min(settings.patience or profile.patience or before, helper.LONGEST)
    if not choice.observe:
        drain, patience = 0, max(drain, patience)
    if not choice.stop:
        patience = by_kubelet
    low, high = settings.delay_min, settings.delay_max
    if own and choice.order == "before":
        # The user's plain sleep is a wait for deregistration too; ours is what it leaves.
        high = max(1, high - own)
        low = max(1, min(low - own, high))
    return Waits(low, min(settings.quiet, high), high, drain, patience)
