"""What the decision needs besides the Pod, already valid.

In: values that `policy` has parsed and bounded. Out: frozen structs. No text of an annotation gets
past this module, and nothing here says where a value came from. Times are whole seconds, as
Kubernetes counts the grace period.
"""

from typing import Final, Literal

import msgspec

from webhook.core.balancer import Balancer
from webhook.core.profile import Index

Mode = Literal["auto", "off", "sleep", "hook", "wrap"]
Existing = Literal["auto", "keep", "before", "after"]
Delivery = Literal["sidecar", "image"]
"""How the helper gets into a Pod: copied by the sidecar, or as an image volume (KEP-4639)."""
Readiness = Literal["auto", "off", "http", "tcp", "grpc"]

KILL_MARGIN: Final = 5
"""Seconds kept for TERM, KILL, and the sidecar's own end.

The kubelet needs 2 (its minimum after the grace period); 5 is advised.
"""

BEHIND: Final = 10
"""Seconds that a server drains longer when another one of its Pod stands in front of it.

nginx and the like get as long after their signal.
"""


class Settings(msgspec.Struct, frozen=True):
    """How to treat one container."""

    mode: Mode = "auto"
    profile: str | None = None
    delay_min: int = 5
    quiet: int = 2
    delay_max: int = 15
    drain_timeout: int | None = None
    default_drain: int = 30
    patience: int | None = None
    existing: Existing = "auto"
    prestop: bool = True
    readiness: Readiness = "auto"
    readiness_port: int | str | None = None
    readiness_path: str = "/"
    entrypoint: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None
    delay_set: bool = False
    """The author set the delay, or one end of it."""


class PodSettings(msgspec.Struct, frozen=True):
    """How to treat the Pod; `containers` holds only those that differ from `default`."""

    default: Settings
    containers: dict[str, Settings]
    grace: bool = True
    sidecar: bool = True
    notes: tuple[tuple[str, str, str], ...] = ()
    """(code, container or "", detail) for every annotation that could not be used as written."""


class ImageEntry(msgspec.Struct, frozen=True):
    """What an image runs when the Pod does not say. `match` is a glob over the whole image name."""

    match: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


class Operator(msgspec.Struct, frozen=True):
    """What the operator decided for all Pods."""

    profiles: Index
    modes: frozenset[str]
    native_sleep: bool
    native_sidecar: bool
    grace_bound: int
    drain_bound: int
    delay_bound: int
    excluded_namespaces: frozenset[str]
    images: tuple[ImageEntry, ...]
    delivery: Delivery
    sidecar: dict[str, object]
    """The sidecar container, without what the Pod decides (command, resources, user)."""
    pull_secrets: tuple[str, ...]
    """Names of the Secrets with which the helper's image is pulled."""
    sidecar_resources: dict[str, dict[str, str]]
    """Its requests, and the limits for Pods where it needs them; see `resources`."""
    sidecar_metrics: bool
    """Whether its metrics can be reached from outside the Pod."""
    port: int
    volume: dict[str, object]
    """The volume that holds the helper."""
    version: str
    balancers: tuple[Balancer, ...] = ()
    """Load balancers that deregister a Pod late: the built-in ones and the operator's own."""
