"""Certificates for a laptop: an authority that signs one leaf and is forgotten.

The authority's key is never written, so nobody can sign with it afterwards: trusting its `ca.crt`
on a machine risks only that one leaf.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from certs import store
from certs.authority import Authority


def ephemeral(directory: Path, names: Sequence[str], *, now: datetime | None = None) -> None:
    """Write `ca.crt`, `tls.crt` and `tls.key` for *names* into *directory*.

    Each file that is there is replaced in one step.
    """
    now = now or datetime.now(UTC)
    authority = Authority.create(now=now)
    leaf = authority.issue(*names, now=now)
    store.write(
        directory,
        {
            store.CA_FILE: authority.cert_pem,
            store.CERT_FILE: leaf.cert_pem,
            store.KEY_FILE: leaf.key_pem,
        },
    )
