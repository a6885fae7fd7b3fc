"""The values that a container gets on its rung, and its part of the status annotation.

In: a settled `Choice`. Out: `Desired`, with every field as it should be, and the container's part
of the status. Nothing is decided here. Spelling the helper's command lines belongs to `helper`,
writing a patch to `patch`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.core import helper, probe, restart
from webhook.core.decision import Choice, Desired
from webhook.core.pod import ABSENT, MESSAGE_PATH, Container, Raw, stop_signal
from webhook.core.profile import SIGNALS
from webhook.core.settings import Operator
from webhook.core.status import ContainerStatus


class _Parts(msgspec.Struct, frozen=True, gc=False):
    """What a rung changes; None or ABSENT leaves a field as it is."""

    pre_stop: dict[str, Any] | None = None
    command: list[str] | None = None
    mount: bool = False
    user_hook: Raw = ABSENT
    native_sleep: int | None = None
    answer: str = ""


_NOTHING = _Parts()


def equip(
    choice: Choice, operator: Operator, report: int, raised_from: int
) -> tuple[Desired, ContainerStatus]:
    """Write the values for one container.

    `report`: the sidecar's port, 0 if it opens none. `raised_from`: the Pod's old grace period, 0
    if it stays.
    """
    look, view = choice.look, choice.look.view
    parts = _parts(choice, operator, report)
    was = view.probe_graces
    kept = restart.kept(was, raised_from) if was and raised_from and look.role != "off" else {}
    made = choice.readiness
    desired = Desired(
        look.index,
        look.container,
        view,
        view.command if parts.command is None else parts.command,
        view.args,
        view.pre_stop if parts.pre_stop is None else parts.pre_stop,
        view.readiness if made is None else made,
        parts.mount,
        {**was, **kept} if kept else was,
        choice.ports if choice.rung.name not in ("", "sleep") and choice.observe else None,
        parts.answer,
        None if choice.need is None else choice.need.waits,
    )
    return desired, ContainerStatus(
        mode=choice.rung.name,
        profile=look.profile.name if look.role in ("server", "worker") else "",
        codes=[code for code, _ in choice.notes],
        pre_stop=parts.user_hook,
        native_sleep=parts.native_sleep,
        readiness="" if made is None else probe.name(made),
        readiness_times={} if made is None else probe.times(made),
        probe_graces=kept,
        entrypoint=list(look.command) if parts.command and view.command is None else None,
        empty=view.empty,
    )


def _parts(choice: Choice, operator: Operator, report: int) -> _Parts:
    rung, need, look = choice.rung, choice.need, choice.look
    if need is None:
        return _NOTHING
    waits, name = need.waits, look.container.name
    if rung.name == "sleep":
        # KEP-3960
        return _Parts({"sleep": {"seconds": waits.delay_max}}, native_sleep=waits.delay_max)
    if rung.delivery == "http":
        # The kubelet waits for the answer, whatever its status.
        answer = helper.answer(name, choice.ports, waits, choice.probe_period)
        return _Parts({"httpGet": helper.ask(name, operator.port)}, answer=answer)
    options = helper.common(
        name,
        choice.ports,
        waits,
        look.profile,
        generic=look.detect,
        observe=choice.observe,
        probe_period=choice.probe_period,
        report=report,
        message=_message(look.container),
    )
    command = _wrapped(choice, options) if rung.name == "wrap" else None
    if rung.delivery != "exec":
        return _Parts(command=command, mount=True)
    argv = helper.drain(
        options,
        stop=rung.sends_signal,
        order=choice.hook.order,
        user=choice.hook.user,
        timeout=0 if choice.capped and not choice.hook.offline else choice.hook.timeout,
        offline=choice.hook.offline,
    )
    return _Parts({"exec": {"command": argv}}, command, True, look.view.pre_stop or ABSENT)


def _message(container: Container) -> str | None:
    """Say where the drain's record goes: "" for nowhere, None for the default.

    The file is the container's termination message. If an empty one is filled with the last lines
    of the log (terminationMessagePolicy), those are worth more to the author than our record.
    """
    if container.termination_message_policy == "FallbackToLogsOnError":
        return ""
    path = container.termination_message_path
    return None if path in (None, "", MESSAGE_PATH) else path


def _wrapped(choice: Choice, options: Sequence[str]) -> list[str]:
    look = choice.look
    stop_on = look.profile.stop_on
    if (own := stop_signal(look.container)) in SIGNALS and own not in stop_on:
        stop_on = (*stop_on, own)
    return helper.run(options, stop_on, look.command)
