"""Which nodes can mount the helper's image as a volume. Pure: `status.nodeInfo` in, names out."""

import re
from collections.abc import Iterable
from typing import Any, Final


def unable(nodes: Iterable[dict[str, Any]]) -> list[str]:
    """Name the Linux nodes that cannot mount an image volume, each with its versions."""
    old = []
    for node in nodes:
        info = (node.get("status") or {}).get("nodeInfo") or {}
        runtime, kubelet = (
            str(info.get(f"{what}Version")) for what in ("containerRuntime", "kubelet")
        )
        if info.get("operatingSystem") != "windows" and not mounts_images(runtime, kubelet):
            name = (node.get("metadata") or {}).get("name")
            old.append(f"{name} ({runtime}, kubelet {kubelet})")
    return old


def mounts_images(runtime: str, kubelet: str) -> bool:
    """Whether a node mounts image volumes, by `status.nodeInfo`.

    `runtime` is like `containerd://2.1.0`, `kubelet` like `v1.36.3`. Source: KEP-4639, on by
    default from 1.35, and the release notes of the runtimes. Unknown runtimes count as able.
    """
    name, _, version = runtime.partition("://")
    if name == "docker" or _numbers(version) < _IMAGE_VOLUMES.get(name, ()):
        return False
    return _numbers(kubelet) >= (1, 35)


_IMAGE_VOLUMES: Final = {"containerd": (2, 1), "cri-o": (1, 33)}
"""The first version of each runtime that mounts image volumes; Docker's (cri-dockerd) never did."""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
