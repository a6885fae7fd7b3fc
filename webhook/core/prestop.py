"""preStop: how ours and the user's run together.

In: a container's `Look` and its `Rung`. Out: `Composed`: the rung that is left, what becomes of the
user's own hook, and how much of the grace period the container needs. A user's hook is never lost:
either the helper runs it, or it stays and ours steps back. How our own handler is spelled belongs
to `equip` and `helper`.
"""

import math
import re
from typing import Final

import msgspec
from msgspec.structs import replace

from webhook.core import budget, helper, stops
from webhook.core.decision import NO_HOOK, NONE, Hook, Look, Need, Note, Rung
from webhook.core.helper import Waits
from webhook.core.pod import Container, Handler, HttpGet, handler, port_number
from webhook.core.settings import KILL_MARGIN

_PLAIN: Final = re.compile(r"[!-~]*")
_ENDS_LINE: Final = re.compile(r"[\r\n]")

_LONGEST: Final = 128 << 10
"""Bytes of a preStop; Linux starts no program with a longer word (MAX_ARG_STRLEN)."""
_LONGEST_SLEEP: Final = 256
_OFFLINE: Final = Hook(seconds=3, timeout=3)
"""We wait no longer than this for a server to leave its registry: it also does so on its stop
signal."""
_WHERE: Final = r"(?:[^\s;&|()`'\"<>\\]*/)?"
_SLEEPS: Final = re.compile(
    rf"(?:{_WHERE}(?:sh|bash|ash|dash)\s+-c\s+)?"
    rf"{_WHERE}sleep\s+([0-9]{{1,6}}(?:\.[0-9]{{0,6}})?)s?\s*"
)
"""A sleep and nothing else: no other command before it."""


class Composed(msgspec.Struct, frozen=True, gc=False):
    """Both hooks together. `rung` is `NONE` if nothing of ours is left; then `need` is None."""

    rung: Rung
    hook: Hook
    need: Need | None
    notes: tuple[Note, ...]


def compose(
    look: Look, rung: Rung, grace: int, drain_bound: int, *, probed: bool = False
) -> Composed:
    """Settle what becomes of the user's own preStop.

    1. No preStop of its own: ours is added, unless preStop is switched off. If the profile knows
       how the server leaves its registry, ours begins with that; but only if a readiness probe
       (`probed`) makes a rollout wait for the new server. Without it, the new one might not be in
       the registry yet.
    2. One that the helper cannot run stays as it is; only PID 1 is left of ours, if any. If nothing
       is, its author is told.
    3. The helper runs any other: after the drain if it stops the server, or if its container is
       only held for the others; otherwise before the drain.
    """
    raw, settings = look.view.pre_stop, look.settings
    if raw is None:
        hook, kept = NO_HOOK, not settings.prestop
        note = ("prestop-off" if kept else "prestop-added", "")
        runs = rung.delivery == "exec" and not look.detect
        if not kept and runs and probed and look.profile.offline:
            hook = replace(_OFFLINE, offline=look.profile.offline)
            note = "prestop-offline", hook.offline
    else:
        # Only a short hook is read; how long another takes is unknown.
        user = Handler() if len(raw) > _LONGEST else handler(raw)
        seconds = literal_sleep(user)
        found = _why_kept(look, rung, user, long=len(raw) > _LONGEST)
        kept = found is not None
        hook, note = (Hook(seconds=seconds), found) if found else _run(look, user, seconds, grace)
        if kept and rung.name != "wrap":
            alone = (("not-drained", ""),) if note[0] == "prestop-kept-http" else ()
            return Composed(NONE, hook, None, (note, *alone))
    if kept:
        rung = replace(rung, delivery="none")
    notes = (note, ("hook-http" if rung.delivery == "http" else rung.name, ""))
    own = 0 if hook.offline else hook.seconds
    waits = _waits(look, rung, hook, budget.patience(grace, own), drain_bound)
    shared = hook.seconds is None and settings.patience is None
    return Composed(rung, hook, Need(waits, hook.seconds, shared), notes)


def literal_sleep(user: Handler) -> int | None:
    """Read how many seconds the user's hook takes: a native sleep or a plain `sleep N`."""
    if user.sleep is not None:
        return user.sleep.seconds
    if user.exec is None:
        return None
    words = user.exec.command or ()
    if not 1 <= len(words) <= 3:
        return None
    line = " ".join(words)
    found = _SLEEPS.fullmatch(line) if len(line) <= _LONGEST_SLEEP else None
    return None if found is None else math.ceil(float(found[1]))


def _run(look: Look, user: Handler, seconds: int | None, grace: int) -> tuple[Hook, Note]:
    """Put the user's hook before or after ours; the helper will run it."""
    existing = look.settings.existing
    # A plain sleep stops nothing.
    found = stops.effect(user) if existing == "auto" and seconds is None else stops.NOTHING
    held = look.role != "server" and seconds is None
    after = existing == "after" or (existing == "auto" and (found.shown != "" or held))
    if user.http_get is not None:
        # The helper needs a number; `_why_kept` has checked that there is one.
        number = port_number(user.http_get.port, look.container) or 0
        user = replace(user, http_get=replace(user.http_get, port=number))
    # A hook of unknown length had the whole grace period, and keeps it.
    timeout = min(grace, helper.LONGEST) if seconds is None else 0
    if after:
        code = "prestop-after-guess" if found.guess else "prestop-after"
        said = found.shown
        if found.delay:
            said += f", its {found.delay} s of sleep count as delay"
        return Hook(user, "after", timeout, seconds, found.delay), (code, said)
    return Hook(user, "before", timeout, seconds), (
        "prestop-before",
        f"its {seconds} s count as delay" if seconds else "",
    )


def _why_kept(look: Look, rung: Rung, user: Handler, *, long: bool) -> Note | None:
    """Return why the user's preStop stays as it is, or None if it is composed with ours."""
    if not look.settings.prestop:
        return "prestop-off", ""
    if look.settings.existing == "keep":
        return "prestop-kept", ""
    if rung.name == "sleep" or rung.delivery == "http":
        return "prestop-kept-sleep", ""
    if long:
        return "prestop-kept-long", ""
    if user.http_get is not None:
        why = _why_not_sent(user.http_get, look.container)
        return ("prestop-kept-http", why) if why else None
    if user.sleep is None and (user.exec is None or not user.exec.command):
        return "prestop-kept-tcp", ""
    return None


def _why_not_sent(get: HttpGet, container: Container) -> str:
    """Return why the helper cannot make the request of an httpGet hook, or ""."""
    if (get.scheme or "HTTP") != "HTTP":
        return "https"
    if get.host:
        return "it names a host, which the node resolves"
    if port_number(get.port, container) is None:
        return "its port's name is not declared"
    headers = get.http_headers or ()
    if len(headers) > helper.MAX_HEADERS or not _PLAIN.fullmatch(get.path or "/"):
        return "the helper cannot send its path or headers"
    if any(not h.name or ":" in h.name or _ENDS_LINE.search(h.name + h.value) for h in headers):
        return "the helper cannot send its path or headers"
    return ""


def _waits(look: Look, rung: Rung, hook: Hook, before: int, drain_bound: int) -> Waits:
    """Settle the waits. `before`: seconds that the application had after its stop signal."""
    settings, profile = look.settings, look.profile
    # If the kubelet sends the signal, it also ends the patience: no margin of ours on top.
    by_kubelet = before - KILL_MARGIN if before > KILL_MARGIN else 0
    if rung.name == "sleep":
        return Waits(settings.delay_max, 0, settings.delay_max, 0, by_kubelet)
    if profile.worker:
        # No load balancer to wait for, no requests: only the task at hand.
        own = min(settings.patience or before, helper.LONGEST)
        return Waits(0, 0, 0, 0, own if rung.sends_signal else by_kubelet)
    drain = (
        settings.drain_timeout or min(profile.drain_timeout, drain_bound) or settings.default_drain
    )
    patience = min(settings.patience or profile.patience or before, helper.LONGEST)
    if not profile.observe:
        drain, patience = 0, max(drain, patience)
    if not rung.sends_signal:
        patience = by_kubelet
    low, high = settings.delay_min, settings.delay_max
    if hook.seconds and hook.order == "before":
        # The user's plain sleep also waits for deregistration; ours waits for the rest.
        high = max(1, high - hook.seconds)
        low = max(1, min(low - hook.seconds, high))
    elif hook.sleeps and not settings.delay_set:
        # The server still answers while the hook sleeps, after the drain: our delay may be shorter.
        high = max(low, high - hook.sleeps)
    return Waits(low, min(settings.quiet, high), high, drain, patience)
