"""The ladder: how much of our help a container can have.

    wrap    the helper is preStop exec and PID 1
    hook    the helper is preStop exec; or, if our volume cannot be mounted, an httpGet asks the
            sidecar (if there is one)
    sleep   native fields only

In: a `Look` and the Pod's `Facts`. Out: the highest possible `Rung`, not above the wanted one, with
the reason for each that is not possible. A container falls to the next rung; never to nothing
without a reason, and never into an error. What becomes of an existing preStop belongs to `prestop`.
"""

from collections.abc import Sequence
from typing import Final

from webhook.core.decision import NONE, Facts, Look, Note, Rung
from webhook.core.pidone import names_pid_1
from webhook.core.pod import handler
from webhook.core.settings import Operator

_LADDER: Final = ("wrap", "hook", "sleep")
_SHARED: Final = "shared-pid-namespace"


def climb(look: Look, facts: Facts, operator: Operator) -> Rung:
    """Walk down from the wanted rung to one that is possible.

    1. A mode that the operator does not allow is skipped; that is reported only if nothing is left.
    2. Every other reason is given once, with the rung, unless it holds for the whole Pod.
    3. If the process namespace is shared, the helper sends no signal: a reason, but no fall.
    """
    mode = look.settings.mode
    falls: list[Note] = []
    refused: list[str] = []
    for name in _LADDER[0 if mode == "auto" else _LADDER.index(mode) :]:
        if name not in operator.modes:
            refused.append(name)
            continue
        why = _why_not(name, look, facts, operator)
        if why:
            if why not in [code for code, _ in falls]:
                falls.append((why, "" if why == facts.no_helper else name))
            continue
        if name != "hook":
            return Rung(name, falls=falls)
        if not look.view.helper_possible:
            return Rung(name, "http", sends_signal=False, falls=falls)
        if facts.shared_pid and _SHARED not in [code for code, _ in falls]:
            falls.append((_SHARED, name))
        return Rung(name, sends_signal=not facts.shared_pid, falls=falls)
    if refused:
        falls.append(("mode-not-allowed", ", ".join(refused)))
    return Rung("", falls=falls)


def hold(look: Look, facts: Facts, operator: Operator) -> Rung:
    """Find the rung of a container that only stays up until the others have drained.

    1. The kubelet sends its signal: it serves no users.
    2. A mesh proxy's preStop is never touched; another container's runs when it may end.
    3. If it cannot be held, its author is told: the others lose it at once.
    """
    proxy = look.role == "proxy"
    if facts.grace == 0:
        return NONE
    if not look.settings.prestop:
        return NONE if proxy else Rung("", falls=(("prestop-off", ""),))
    if proxy and look.view.pre_stop is not None:
        return Rung("", falls=(("mesh-own-prestop", ""),))
    if not facts.no_helper and look.view.helper_possible and "hook" in operator.modes:
        return Rung("hook", sends_signal=False)
    if operator.native_sleep and "sleep" in operator.modes:
        return Rung("sleep", sends_signal=False)
    return NONE if proxy else Rung("", falls=(("not-held", "neither helper nor native sleep"),))


def _why_not(name: str, look: Look, facts: Facts, operator: Operator) -> str:
    """Return the code that says why a container cannot have a rung, or ""."""
    if name == "sleep":
        if not look.settings.prestop:
            return "prestop-off"
        return "" if operator.native_sleep else "unsupported-version"
    if facts.no_helper:
        return facts.no_helper
    return (_why_no_hook if name == "hook" else _why_no_wrap)(look, facts, operator)


def _why_no_hook(look: Look, facts: Facts, operator: Operator) -> str:
    if not look.settings.prestop:
        return "prestop-off"
    # A mesh redirects the kubelet's request to itself, and the hook would fail at once.
    by_http = (
        look.ports and operator.delivery == "sidecar" and not facts.host_network and not facts.mesh
    )
    return "" if look.view.helper_possible or by_http else "mount-collision"


def _why_no_wrap(look: Look, facts: Facts, operator: Operator) -> str:
    if not look.view.helper_possible:
        return "mount-collision"
    if facts.shared_pid:
        return _SHARED
    if not look.command:
        return "entrypoint-unknown"
    if operator.profiles.launchers.init(look.programs):
        return "already-init"
    main = [*look.command, *(look.view.args or ())]
    return "names-pid-1" if any(map(names_pid_1, (main, *_other_commands(look)))) else ""


def _other_commands(look: Look) -> list[Sequence[str]]:
    """Give every other command line of a container: its probes and hooks."""
    container, view = look.container, look.view
    post_start = container.lifecycle.get("postStart") if container.lifecycle else None
    probes = (view.readiness, container.liveness_probe, container.startup_probe)
    found: list[Sequence[str]] = []
    for raw in (view.pre_stop, post_start, *probes):
        # Most do not contain a 1, and need no reading.
        if raw and b"1" in (text := bytes(raw)) and b'"exec"' in text:
            own = handler(raw).exec
            if own is not None and own.command:
                found.append(own.command)
    return found
