"""Whether a Pod runs on Windows: the helper is a Linux program.

In: a Pod. Out: yes or no. What a container can have on Windows belongs to `ladder`. The first row
that says anything decides:

| what the Pod says                                              | is Windows if               |
|----------------------------------------------------------------|-----------------------------|
| `os.name`                                                      | windows                     |
| `nodeSelector`: kubernetes.io/os, beta.kubernetes.io/os        | either is windows           |
| required `nodeAffinity`, In or NotIn of these labels in every  | no term lets Linux nodes in |
| term                                                           |                             |
| any of these, since nothing above says Linux:                  |                             |
| - `nodeSelector`: node.kubernetes.io/windows-build             | it is there                 |
| - `windowsOptions` in the securityContext of the Pod or a      | it has a member, such as    |
|   container                                                    | hostProcess                 |
| - `runtimeClassName`                                           | it holds the word windows   |
| - a toleration of `os`                                         | its value is windows        |
| - a container's image                                          | it is named after a base    |
|                                                                | image of Windows            |
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from webhook.core.pod import Container, Pod, Raw, Toleration, every_container, present

_WINDOWS: Final = "windows"
_LINUX: Final = "linux"
_LABELS: Final = ("kubernetes.io/os", "beta.kubernetes.io/os")
_BUILD: Final = "node.kubernetes.io/windows-build"
"""The kubelet sets this label on Windows nodes alone."""
_IMAGES: Final = re.compile(
    r"nanoserver|servercore|mcr\.microsoft\.com/(?:windows|dotnet/framework)/"
)


class _Requirement(msgspec.Struct, frozen=True, gc=False):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class _Term(msgspec.Struct, rename="camel", frozen=True, gc=False):
    match_expressions: list[_Requirement] | None = None
    match_fields: Raw = Raw()


class _Required(msgspec.Struct, rename="camel", frozen=True, gc=False):
    node_selector_terms: list[_Term] | None = None


class _NodeAffinity(msgspec.Struct, frozen=True, gc=False):
    required: _Required | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class _Affinity(msgspec.Struct, rename="camel", frozen=True, gc=False):
    node_affinity: _NodeAffinity | None = None


class _Context(msgspec.Struct, rename="camel", frozen=True, gc=False):
    windows_options: dict[str, Raw] | None = None


_affinity: Final = msgspec.json.Decoder(_Affinity)
_context: Final = msgspec.json.Decoder(_Context)


def is_windows(pod: Pod) -> bool:
    """Apply the first row of the table that says anything."""
    spec = pod.spec
    if spec.os is not None and spec.os.name:
        return spec.os.name == _WINDOWS
    selector = spec.node_selector
    if selector and (named := [selector[label] for label in _LABELS if label in selector]):
        return _WINDOWS in named
    if terms := _terms(spec.affinity):
        systems = {_system(term) for term in terms}
        if "" not in systems:
            return systems == {_WINDOWS}
    if selector and _BUILD in selector:
        return True
    if spec.security_context is not None and spec.security_context.windows_options:
        return True
    if _WINDOWS in (spec.runtime_class_name or ""):
        return True
    if spec.tolerations and any(map(_tolerates, spec.tolerations)):
        return True
    return any(map(_is_for_windows, every_container(pod)))


def _tolerates(found: Toleration) -> bool:
    return found.value == _WINDOWS and found.key.rpartition("/")[2] == "os"


def _is_for_windows(container: Container) -> bool:
    if container.security_context and _has_options(container.security_context):
        return True
    return _IMAGES.search(container.image or "") is not None


def _terms(raw: Raw) -> Sequence[_Term]:
    """Give the required terms that can match: an empty one matches no node."""
    if not raw or b"kubernetes.io/os" not in bytes(raw):
        return ()
    affinity = _affinity.decode(raw).node_affinity
    required = affinity.required if affinity is not None else None
    terms = (required.node_selector_terms if required is not None else None) or ()
    return [term for term in terms if term.match_expressions or present(term.match_fields)]


def _system(term: _Term) -> str:
    """Give the one operating system that a term lets in, or ""."""
    for wanted in term.match_expressions or ():
        if wanted.key in _LABELS:
            values = wanted.values or []
            if wanted.operator == "In" and len(set(values)) == 1:
                return values[0]
            # Nodes are of one system or the other.
            if wanted.operator == "NotIn" and _LINUX in values and _WINDOWS not in values:
                return _WINDOWS
            if wanted.operator == "NotIn" and _WINDOWS in values and _LINUX not in values:
                return _LINUX
    return ""


def _has_options(raw: Raw) -> bool:
    return b"windowsOptions" in bytes(raw) and bool(_context.decode(raw).windows_options)
