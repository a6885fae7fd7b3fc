"""What is wrong with the certificates in a directory, whoever made them.

In: the files and the time. Out: findings. Certificates of cert-manager or of a company's own
authority are fine, too: with keys of any type, and intermediates after the leaf.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from certs import store
from certs.authority import Certificate, load_bundle


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `fatal`: no client can connect now."""

    fatal: bool
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate in the directory, as `show` lists it."""

    file: str
    role: str
    certificate: Certificate


def entries(files: Mapping[str, bytes]) -> list[Entry]:
    """List the certificates: the leaf, the intermediates after it, the trusted ones."""
    chain = load_bundle(files.get(store.CERT_FILE, b""))
    found = [
        Entry(store.CERT_FILE, "intermediate" if number else "serving", item)
        for number, item in enumerate(chain)
    ]
    return found + [
        Entry(store.CA_FILE, "trusted", item) for item in load_bundle(files.get(store.CA_FILE, b""))
    ]


def findings(
    files: Mapping[str, bytes], *, now: datetime, within: timedelta, names: Iterable[str] = ()
) -> list[Finding]:
    """List everything that is wrong, or will be within that time."""
    missing = [name for name in (store.CERT_FILE, store.KEY_FILE) if name not in files]
    if missing:
        return [Finding(True, f"{name} is not there") for name in missing]
    chain = load_bundle(files[store.CERT_FILE])
    if not chain:
        return [
            Finding(
                True,
                f"{store.CERT_FILE} ({len(files[store.CERT_FILE])} bytes) holds no PEM certificate",
            )
        ]
    leaf = chain[0]
    found = [*_key(leaf, files[store.KEY_FILE]), *_validity(store.CERT_FILE, leaf, now, within)]
    if uncovered := leaf.uncovered(names):
        found.append(
            Finding(
                True,
                f"{store.CERT_FILE} does not cover {', '.join(uncovered)};"
                f" it covers {', '.join(sorted(leaf.names)) or 'nothing'}",
            )
        )
    if store.CA_FILE in files:
        trusted = load_bundle(files[store.CA_FILE])
        nearest = anchor(leaf, chain[1:], trusted)
        if nearest is None:
            found.append(
                Finding(
                    True,
                    f"{store.CERT_FILE} was signed by none of the {len(trusted)} certificates"
                    f" in {store.CA_FILE}",
                )
            )
        else:
            found += _validity(store.CA_FILE, nearest, now, within)
    return found


def _key(leaf: Certificate, pem: bytes) -> list[Finding]:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return [
            Finding(
                True,
                f"{store.KEY_FILE} ({len(pem)} bytes) is not a PEM private key without password",
            )
        ]
    try:
        fits = key.public_key() == leaf.raw.public_key()
    except (ValueError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        return [Finding(True, f"{store.KEY_FILE} does not belong to {store.CERT_FILE}")]
    return []


def _validity(
    file: str, certificate: Certificate, now: datetime, within: timedelta
) -> list[Finding]:
    subject = f"{file}: {certificate.raw.subject.rfc4514_string() or 'the certificate'}"
    if now >= certificate.not_after:
        return [
            Finding(True, f"{subject} expired at {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC")
        ]
    if now < certificate.not_before:
        return [
            Finding(
                True, f"{subject} is valid only from {certificate.not_before:%Y-%m-%d %H:%M:%S} UTC"
            )
        ]
    if now + within >= certificate.not_after:
        return [
            Finding(False, f"{subject} expires at {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC")
        ]
    return []


def anchor(
    leaf: Certificate, intermediates: Iterable[Certificate], trusted: Iterable[Certificate]
) -> Certificate | None:
    """Walk from the leaf to a trusted certificate.

    Each intermediate is used at most once, so a loop among them ends.
    """
    below, left, anchors = leaf, list(intermediates), list(trusted)
    while True:
        for candidate in anchors:
            if below.signed_by(candidate) or below.fingerprint == candidate.fingerprint:
                return candidate
        step = next((item for item in left if below.signed_by(item)), None)
        if step is None:
            return None
        left.remove(step)
        below = step
