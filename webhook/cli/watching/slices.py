"""What one watch event says about an EndpointSlice: JSON in, a frozen value out. Pure.

Only endpoints that are Pods count.
"""

from typing import Any, NamedTuple

import msgspec


class Endpoint(NamedTuple):
    """One Pod in an EndpointSlice, with its three conditions."""

    pod: str
    ready: bool
    serving: bool
    terminating: bool


class SliceSeen(NamedTuple):
    """An EndpointSlice as the API showed it at one moment; without endpoints once it is gone."""

    at: float
    name: str
    service: str
    endpoints: tuple[Endpoint, ...]


class _Meta(msgspec.Struct):
    name: str = ""
    labels: dict[str, str] | None = None


class _Ref(msgspec.Struct):
    kind: str = ""
    name: str = ""


class _Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Endpoint(msgspec.Struct, rename="camel"):
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    target_ref: _Ref | None = None


class _Slice(msgspec.Struct):
    metadata: _Meta
    endpoints: list[_Endpoint] | None = None


def read(kind: str, tree: Any, at: float) -> SliceSeen:
    """Read an event of an EndpointSlice. Raises msgspec.ValidationError if it isn't one.

    A condition that is not set means yes for ready and serving, no for terminating (the API's
    rule).
    """
    found = msgspec.convert(tree, _Slice)
    labels = found.metadata.labels or {}
    endpoints = [
        Endpoint(
            e.target_ref.name,
            ready=e.conditions.ready is not False,
            serving=e.conditions.serving is not False,
            terminating=bool(e.conditions.terminating),
        )
        for e in found.endpoints or ()
        if e.target_ref and e.target_ref.kind == "Pod"
    ]
    return SliceSeen(
        at,
        found.metadata.name,
        labels.get("kubernetes.io/service-name", ""),
        tuple(endpoints) if kind != "DELETED" else (),
    )
