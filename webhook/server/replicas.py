"""The Pods of one ReplicaSet are alike: decide once.

In: requests, and a judge. Out: the same verdicts; one verdict serves all Pods that differ in
nothing that is read. A rollout or the restart of a node sends the same Pod many times, and that is
when speed counts. The decision belongs in `admission`.

The key is a SHA-256 over the bytes of `spec`, and over all decoded metadata except the names: no
part of a Pod stays in memory for it. One thing differs between replicas: the API server mounts the
token of the service account under a name with five random characters. The key masks it where it
names that volume or a mount of it, and nowhere else:

    {"name":"kube-api-access-x6tmp","projected":{...}}
    {"name":"kube-api-access-x6tmp","readOnly":true,"mountPath":"/var/run/secrets/..."}

No string looks like that, since an unescaped quote would end it: in an argument, a variable or an
annotation the name is text like any other. The mask holds bytes that no UTF-8 text does. A verdict
is not remembered if its patch contains the name, so a name never passes from one Pod to another.

A verdict is remembered when its Pod comes the second time. Pods that come once, such as those of
Jobs, push none out and cost less: keeping an answer and dropping an old one takes a fifth of the
time of a decision.
"""

import hashlib
import re
from base64 import b64decode
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from webhook.admission import Request, Verdict, judge, name_of
from webhook.config import Config
from webhook.core.names import TOKEN_PATH
from webhook.core.pod import ABSENT, EMPTY, Metadata, Raw

MOST: Final = 256
"""Verdicts: about 2 MiB with ordinary Pods, at worst 8 MiB.

The worst: specs of `LARGEST`, with patches of the order of their Pods.
"""
LARGEST: Final = 16 << 10
"""Bytes of a spec; larger ones are rare."""

_PLACES: Final = re.compile(
    rb'\{\s*"name"\s*:\s*"kube-api-access-([a-z0-9]{5})"\s*,\s*'
    rb'(?:"projected"\s*:\s*\{|(?:"readOnly"\s*:\s*true\s*,\s*)?"mountPath"\s*:\s*"%b")'
    % re.escape(TOKEN_PATH.encode())
)
_MASK: Final = b"\xff"
T = TypeVar("T")


SIGHTS: Final = 4096
"""Digests of Pods that were seen once; 0.5 MiB."""


class _Object(msgspec.Struct):
    """A Pod, its spec unread."""

    metadata: Metadata | None = None
    spec: Raw = ABSENT


_object = msgspec.json.Decoder(_Object)
_encode = msgspec.json.Encoder().encode


class Replicas:
    """Judges, and remembers."""

    def __init__(self, config: Config) -> None:
        self.counts = {"decided": 0, "remembered": 0}
        self.config = config
        self._known: dict[bytes, Verdict] = {}
        self._once: dict[bytes, None] = {}

    def judge(self, request: Request) -> tuple[Verdict, str]:
        """Judge the Pod of a request; gives its name too. Raises what `admission.judge` raises."""
        pod = _object.decode(request.object)
        spec = bytes(pod.spec)
        if not 0 < len(spec) <= LARGEST:
            self.counts["decided"] += 1
            return judge(request, self.config)
        named = replace(pod.metadata or EMPTY, name=None, generate_name=None)
        parts = (request.namespace, pod.metadata is None, named)
        token, masked = _masked(spec)
        # No JSON text holds a NUL: the two parts cannot run into each other.
        key = hashlib.sha256(b"\0".join((masked, _encode(parts)))).digest()
        verdict = self._known.get(key)
        if verdict is not None:
            self.counts["remembered"] += 1
            return verdict, name_of(pod.metadata)
        self.counts["decided"] += 1
        verdict, name = judge(request, self.config)
        if key not in self._once:
            _add(self._once, SIGHTS, key, None)
        elif not token or token not in b64decode(bytes(verdict.patch).strip(b'"')):
            _add(self._known, MOST, key, verdict)
        return verdict, name


def _add(known: dict[bytes, T], most: int, key: bytes, value: T) -> None:
    """Remember, and forget the oldest where there are too many."""
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value


def _masked(spec: bytes) -> tuple[bytes, bytes]:
    """Give the name of the token's volume, or nothing, and the spec with a mask in its places."""
    kept, end, names = [], 0, set()
    for place in _PLACES.finditer(spec):
        at, after = place.span(1)
        kept.append(spec[end:at])
        end = after
        names.add(place[1])
    if len(names) != 1:
        # An API server mounts one token; with two, the key could confuse them.
        return b"", spec
    return b"kube-api-access-" + names.pop(), _MASK.join((*kept, spec[end:]))
