"""Whether a Pod's containers are WebAssembly modules: no Linux program runs inside of them.

In: a Pod. Out: yes or no, by the name of its runtimeClass: one of the shims of runwasi, or a name
with wasm in it. There the helper can be neither a hook nor PID 1. What is left belongs to `ladder`.
"""

from typing import Final

from webhook.core.pod import Pod

_SHIMS: Final = frozenset({"spin", "slight", "wws", "lunatic", "wasmcloud"})


def is_wasm(pod: Pod) -> bool:
    """Whether the runtimeClass says so."""
    name = pod.spec.runtime_class_name or ""
    return "wasm" in name or not _SHIMS.isdisjoint(name.split("-"))
