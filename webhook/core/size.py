"""Which Pods are too big to decide: they would hold up the others.

In: the JSON of an object before it is decoded, or a Pod. Out: yes or no. Pods that are left alone
for other reasons belong to `alone`. A limit on bytes alone is not enough: three bytes of JSON may
become sixty of memory, and what one annotation says for all containers is written once for each.

| what                              | at most | why                                              |
|-----------------------------------|---------|--------------------------------------------------|
| bytes of the object               | 1.5 MiB | what etcd takes in one request by default        |
| strings (and empty objects) in it | 131 072 | about 60 bytes of memory each: 8 MiB             |
| containers, of all kinds          | 256     | a kubelet runs about 110 Pods                    |
| ports, of all containers          | 1 000   | a container has a handful                        |
| preStop hooks of the user         | 48      | each is read command by command                  |
| annotations                       | 256 KiB | the API server's own bound                       |
|                                   |         | (apimachinery, TotalAnnotationSizeLimitB)        |
"""

from collections.abc import Mapping
from typing import Final

from webhook.core.names import HELPER
from webhook.core.pod import ABSENT, Container, Pod, Raw, every_container

MOST_BYTES: Final = 3 << 19
MOST_STRINGS: Final = 128 << 10
MOST_CONTAINERS: Final = 256
MOST_PORTS: Final = 1000
MOST_HOOKS: Final = 48
ANNOTATIONS_LIMIT: Final = 256 * 1024
"""Bytes of all keys and values: the API server refuses a Pod with more."""

_OURS: Final = f'"{HELPER}","drain"'.encode()
_SHORTEST: Final = 3
"""The fewest bytes of JSON that a string takes, its comma included."""


def oversized(raw: Raw | bytes) -> bool:
    """Whether the JSON of an object is too big to be read at all."""
    if len(raw) <= MOST_STRINGS * _SHORTEST:
        return False
    return len(raw) > MOST_BYTES or strings(bytes(raw)) > MOST_STRINGS


def strings(text: bytes) -> int:
    """Count strings and empty objects in JSON, roughly; an escaped quote does not begin one."""
    return (text.count(b'"') - text.count(b'\\"')) // 2 + text.count(b"{}")


def crowded(pod: Pod) -> bool:
    """Whether a Pod holds more containers, ports or hooks than any real one."""
    every, containers = every_container(pod), pod.spec.containers
    if len(every) > MOST_CONTAINERS:
        return True
    if sum([len(found.ports) for found in every if found.ports]) > MOST_PORTS:
        return True
    # A container has one preStop at most.
    if len(containers) <= MOST_HOOKS:
        return False
    return sum([_has_hook(container) for container in containers]) > MOST_HOOKS


def _has_hook(container: Container) -> bool:
    """Whether the user has a preStop, alone or inside ours."""
    raw = (container.lifecycle or {}).get("preStop", ABSENT)
    text = bytes(raw)
    return bool(text) and (_OURS not in text[:128] or b'"--hook=' in text)


def annotated(annotations: Mapping[str, str]) -> int:
    """Count the bytes of annotations as the API server does."""
    whole = "".join([*annotations, *annotations.values()])
    return len(whole) if whole.isascii() else len(whole.encode("utf-8", "surrogatepass"))
