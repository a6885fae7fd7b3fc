"""The sidecar's resources: what it asks for in this Pod, and whether that fits.

In: a Pod, and what the operator grants the sidecar (`config`, helper.resources). Out: the sidecar's
`resources`, and whether the Pod's own total (`spec.resources`, KEP-2837) leaves room for them. The
API server refuses a Pod if its containers request more than its total. So where the total is too
tight, the Pod goes without the helper. Amounts are read as the API server reads them (apimachinery,
resource.Quantity).
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import msgspec

from webhook.core.names import SIDECAR
from webhook.core.pod import Container, Pod, Raw, every_container, present

_QUANTITY = re.compile(
    r"([+-]?)([0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24})"
    r"(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?"
)
_SUFFIX: Final[Mapping[str, Fraction]] = {
    **{letter: Fraction(10) ** power for letter, power in zip("num", (-9, -6, -3), strict=True)},
    **{letter: Fraction(10) ** (3 * i) for i, letter in enumerate("kMGTPE", 1)},
    **{letter + "i": Fraction(1024) ** i for i, letter in enumerate("KMGTPE", 1)},
}


class _Resources(msgspec.Struct):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


_decoder: Final = msgspec.json.Decoder(_Resources)
_NONE: Final = _Resources()


def quantity(text: str | float) -> Fraction:
    """Read an amount: `250m`, `1.5`, `16Mi`, `2e3`. Raises `ValueError`."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r}: accepted: an amount like 250m, 1.5 or 16Mi")
    sign, digits, suffix, exponent = found.groups()
    value = Fraction(digits if digits[-1] != "." else digits[:-1])
    value *= _SUFFIX[suffix] if suffix else Fraction(10) ** int(exponent or 0)
    return -value if sign == "-" else value


def sidecar_resources(
    pod: Pod, requests: dict[str, str], limits: dict[str, str]
) -> dict[str, dict[str, str]]:
    """Choose the sidecar's requests and limits in this Pod from what the operator grants.

    1. The requests are the operator's, whatever the other containers ask for.
    2. CPU is limited only where every other container limits it. There a quota may count limits,
       and refuse a container without one. Elsewhere a limit only does harm: a small one throttles
       the container runtime's own start-up code in the sidecar's cgroup. Memory is always limited.
    3. A Guaranteed Pod stays Guaranteed: the requests become the limits.
    """
    others = []
    for container in every_container(pod):
        if container.name == SIDECAR:
            continue
        own = _read(container.resources)
        if not own.limits or "cpu" not in own.limits:
            # Such a Pod is not Guaranteed either.
            limits = {name: limit for name, limit in limits.items() if name != "cpu"}
            return {"requests": requests, "limits": limits} if limits else {"requests": requests}
        others.append(own)
    if not limits:
        return {"requests": requests}
    total = _read(pod.spec.resources)
    # An empty total counts as none (component-helpers, IsPodLevelResourcesSet).
    if not (total.requests or total.limits) and all(map(_is_guaranteed, others)):
        requests = requests | limits
    return {"requests": requests, "limits": limits}


def _is_guaranteed(own: _Resources) -> bool:
    """Whether a container's requests equal its limits (core/v1, GetPodQOSClass)."""
    limits = own.limits or {}
    requests = limits | (own.requests or {})
    try:
        return all(quantity(requests[name]) == quantity(limits[name]) for name in ("cpu", "memory"))
    except (KeyError, ValueError):
        return False


def fits(pod: Pod, sidecar: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the Pod's own total, if any, leaves room for the sidecar's requests and limits."""
    raw = present(pod.spec.resources)
    if raw is None:
        return True
    total = _decoder.decode(raw)
    limits = total.limits or {}
    requests = limits | (total.requests or {})
    try:
        for name, limit in sidecar.get("limits", {}).items():
            if name in limits and quantity(limit) > quantity(limits[name]):
                return False
        for name, wanted in sidecar.get("requests", {}).items():
            if name in requests and quantity(wanted) + _requested(pod, name) > quantity(
                requests[name]
            ):
                return False
    except ValueError:
        return False
    return True


def _requested(pod: Pod, name: str) -> Fraction:
    """Sum up what runs beside our sidecar: containers and native sidecars."""
    running: list[Container] = [
        *pod.spec.containers,
        *(c for c in pod.spec.init_containers or () if c.restart_policy == "Always"),
    ]
    return sum((_request(c.resources, name) for c in running if c.name != SIDECAR), Fraction(0))


def _request(raw: Raw, name: str) -> Fraction:
    own = _read(raw)
    # Where only a limit is given, it is the request too (core/v1 defaulting).
    return quantity((own.requests or {}).get(name, (own.limits or {}).get(name, 0)))


def _read(raw: Raw) -> _Resources:
    own = present(raw)
    return _NONE if own is None else _decoder.decode(own)
