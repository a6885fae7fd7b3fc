"""What the cluster holds for us, typed: two Secrets, and the webhook configuration's bundles.

In: the `data` of a Secret (base64 decoded). Out: a record; and back. Unreadable parts count as
absent, since `certs.rotation` makes new ones; `problems` names them for people. Only a newer format
is refused: an older replica must not destroy what a newer one wrote.

    CA Secret        signer.crt signer.key  next.crt next.key  state.json
    serving Secret   tls.crt tls.key  ca.crt
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from certs import store
from certs.authority import Authority, Certificate, Leaf
from certs.errors import BadMaterial

STATE: Final = "state.json"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Retired:
    """A certificate that no longer signs, and stays trusted until its last leaf has expired."""

    certificate: Certificate
    until: datetime


@dataclass(frozen=True, slots=True)
class Authorities:
    """The content of the CA Secret."""

    signer: Authority | None = None
    next: Authority | None = None
    """Made, but it signs nothing until everybody trusts it."""
    next_trusted_since: datetime | None = None
    """When every entry of the webhook configuration was first seen to hold `next`."""
    retired: tuple[Retired, ...] = ()
    renew_leaf_before: datetime | None = None
    """A person asked: replace any leaf made before this time."""
    renew_authority_before: datetime | None = None
    """The same for the signer."""
    problems: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Serving:
    """The content of the serving Secret."""

    leaf: Leaf | None = None
    bundle: bytes = b""
    problems: tuple[str, ...] = field(default=(), compare=False)


def read_authorities(data: Mapping[str, bytes]) -> Authorities:
    """Read the CA Secret."""
    problems: list[str] = []
    state = _state(data, problems)
    return Authorities(
        signer=_authority(data, "signer", problems),
        next=_authority(data, "next", problems),
        next_trusted_since=_time(state, "nextTrustedSince", problems),
        retired=_retired(state, problems),
        renew_leaf_before=_time(state, "renewLeafBefore", problems),
        renew_authority_before=_time(state, "renewAuthorityBefore", problems),
        problems=tuple(problems),
    )


def write_authorities(record: Authorities) -> dict[str, bytes]:
    """Write the CA Secret."""
    data: dict[str, bytes] = {}
    for name, authority in (("signer", record.signer), ("next", record.next)):
        if authority is not None:
            data |= {f"{name}.crt": authority.cert_pem, f"{name}.key": authority.key_pem}
    state = {
        "version": VERSION,
        "nextTrustedSince": _text(record.next_trusted_since),
        "renewLeafBefore": _text(record.renew_leaf_before),
        "renewAuthorityBefore": _text(record.renew_authority_before),
        "retired": [
            {"certificate": item.certificate.pem.decode(), "until": _text(item.until)}
            for item in record.retired
        ],
    }
    data[STATE] = json.dumps(
        {key: value for key, value in state.items() if value}, indent=1
    ).encode()
    return data


def read_serving(data: Mapping[str, bytes]) -> Serving:
    """Read the serving Secret."""
    bundle = data.get(store.CA_FILE, b"")
    cert, key = data.get(store.CERT_FILE, b""), data.get(store.KEY_FILE, b"")
    if not cert and not key:
        return Serving(None, bundle)
    try:
        return Serving(Leaf.load(cert, key), bundle)
    except BadMaterial as error:
        return Serving(None, bundle, (f"{store.CERT_FILE} and {store.KEY_FILE}: {error}",))


def write_serving(record: Serving) -> dict[str, bytes]:
    """Write the serving Secret; the same names are the files' names."""
    if record.leaf is None:
        return {}
    return {
        store.CERT_FILE: record.leaf.cert_pem,
        store.KEY_FILE: record.leaf.key_pem,
        store.CA_FILE: record.bundle,
    }


def _authority(data: Mapping[str, bytes], name: str, problems: list[str]) -> Authority | None:
    cert, key = data.get(f"{name}.crt", b""), data.get(f"{name}.key", b"")
    if not cert and not key:
        return None
    try:
        return Authority.load(cert, key)
    except BadMaterial as error:
        problems.append(f"{name}.crt and {name}.key: {error}")
        return None


def _state(data: Mapping[str, bytes], problems: list[str]) -> dict[str, Any]:
    if STATE not in data:
        return {}
    try:
        state = json.loads(data[STATE])
    except (ValueError, RecursionError) as error:
        problems.append(f"{STATE}: not JSON: {error}")
        return {}
    if not isinstance(state, dict):
        problems.append(f"{STATE}: not a JSON object")
        return {}
    version = state.get("version")
    if isinstance(version, int) and version > VERSION:
        raise BadMaterial(
            f"{STATE} has version {version}; this program knows {VERSION}: a newer podgrace wrote"
            " it, and must go on with it"
        )
    return state


def _time(state: Mapping[str, Any], key: str, problems: list[str]) -> datetime | None:
    value = state.get(key)
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        problems.append(f"{STATE}: {key} is {value!r}; accepted: an ISO 8601 time")
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _retired(state: Mapping[str, Any], problems: list[str]) -> tuple[Retired, ...]:
    found: list[Retired] = []
    items = state.get("retired", [])
    if not isinstance(items, list):
        problems.append(f"{STATE}: retired is not a list")
        return ()
    for item in items:
        until = _time(item, "until", problems) if isinstance(item, dict) else None
        try:
            certificate = Certificate.load(item["certificate"].encode())
        except (TypeError, KeyError, AttributeError, BadMaterial) as error:
            problems.append(f"{STATE}: an entry of retired can't be read: {error}")
            continue
        if until is None:
            # If it is still published, it counts as a stranger's, and is kept for a while.
            problems.append(f"{STATE}: an entry of retired does not say until when")
            continue
        found.append(Retired(certificate, until))
    return tuple(found)


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
