"""A restart after a failed probe takes no longer than it did.

In: a container or a native sidecar of the user's, the grace period as it was, and what a status
says. Out: the grace periods that its liveness and startup probes should have. The Pod's grace
period limits such a restart too: once raised for the drain, it would keep a hung server for longer.
A probe's own `terminationGracePeriodSeconds` (KEP-2238; 1.28) keeps the restart as short as it was;
readiness probes have no such field. A value that the user set is never touched.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from webhook.core.pod import Container, Raw, present

Graces = Mapping[str, int | None]
"""Probe -> seconds, None where it has none of its own."""


class _Graced(msgspec.Struct, rename="camel", frozen=True, gc=False):
    termination_grace_period_seconds: int | None = None


_decoder: Final = msgspec.json.Decoder(_Graced)
_NONE: Final[Graces] = {}


def graces(container: Container) -> Graces:
    """Read what a container's liveness and startup probes have now."""
    liveness, startup = container.liveness_probe, container.startup_probe
    if not liveness and not startup:
        return _NONE
    found: dict[str, int | None] = {}
    if present(liveness) is not None:
        found["livenessProbe"] = _grace(liveness)
    if present(startup) is not None:
        found["startupProbe"] = _grace(startup)
    return found


def before(container: Container, ours: Mapping[str, int]) -> Graces:
    """Read the same, without what the status names as ours and is still unchanged."""
    now = graces(container)
    if not now or not ours:
        return now
    return {name: None if ours.get(name) == value else value for name, value in now.items()}


def kept(was: Graces, grace: int) -> Mapping[str, int]:
    """Give the old grace period, at least 1, to each probe that has none of its own."""
    return {name: grace for name, value in was.items() if value is None}


def _grace(raw: Raw) -> int | None:
    return _decoder.decode(raw).termination_grace_period_seconds
