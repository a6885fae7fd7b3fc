"""A question to a DNS server, and its answer: bytes in, bytes out. Pure.

Only what is needed here: the IPv4 or IPv6 addresses of a name, over UDP, and how long a client may
keep them (RFC 1035). A measurement must bypass a resolver's search path and caches, and the images
that ask hold no DNS library: hence these few lines.
"""

import ipaddress
import struct
from typing import Final, NamedTuple

_CODES: Final = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
_A: Final = 1
_AAAA: Final = 28
_SIZES: Final = {_A: 4, _AAAA: 16}
_POINTER: Final = 0xC0
_HEAD: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")


class Answer(NamedTuple):
    """What a server said. ttl: the shortest of its addresses', -1 if it gave none."""

    code: str
    addresses: tuple[str, ...]
    ttl: int


def question(number: int, name: str, *, six: bool = False) -> bytes:
    """Write a question. Raises ValueError where the name can't be one."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    if any(not 0 < len(label) < 64 for label in labels) or sum(map(len, labels)) > 240:
        raise ValueError(f"{name!r} is no DNS name")
    written = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    # Recursion desired, one question.
    head = _HEAD.pack(number, 0x0100, 1, 0, 0, 0)
    return head + written + struct.pack("!2H", _AAAA if six else _A, 1)


def answer(data: bytes, number: int) -> Answer | None:
    """Read an answer; None if it answers another question, or is garbled."""
    try:
        return _answer(data, number)
    except (struct.error, IndexError):
        return None


def _answer(data: bytes, number: int) -> Answer | None:
    got, flags, questions, records, _, _ = _HEAD.unpack_from(data)
    if got != number or not flags & 0x8000:
        return None
    at = _HEAD.size
    for _ in range(questions):
        at = _after_name(data, at) + 4
    addresses, ttls = [], []
    for _ in range(records):
        at = _after_name(data, at)
        kind, _, ttl, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        value = data[at : at + size]
        at += size
        if kind in _SIZES and len(value) == _SIZES[kind] == size:
            addresses.append(str(ipaddress.ip_address(value)))
            ttls.append(ttl)
    code = _CODES.get(flags & 15, f"RCODE {flags & 15}")
    return Answer(code, tuple(sorted(addresses)), min(ttls, default=-1))


def _after_name(data: bytes, at: int) -> int:
    """Skip a name, which ends with an empty label or a pointer to an earlier one."""
    while size := data[at]:
        if size & _POINTER == _POINTER:
            return at + 2
        at += 1 + size
    return at + 1
