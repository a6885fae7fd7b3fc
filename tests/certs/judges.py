"""Independent judges of whether a client would accept a certificate.

OpenSSL in a whole handshake, and cryptography's own path validation.
"""

import ssl
import tempfile
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certs import Certificate, Leaf

HOST = "podgrace.system.svc"
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: OpenSSL knows only the machine's clock; the other is given the
time."""


def is_valid(certificate: Certificate, now: datetime) -> bool:
    """Tell whether a moment is within its validity."""
    return certificate.not_before <= now < certificate.not_after


def accepts(leaf: Leaf, bundle: bytes, now: datetime, host: str = HOST) -> bool:
    return shakes_hands(leaf, bundle, host) and validates(leaf, bundle, now, host)


def shakes_hands(leaf: Leaf, bundle: bytes, host: str = HOST, *, check_time: bool = False) -> bool:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "pair.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
        server.load_cert_chain(Path(directory) / "pair.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not check_time:
        client.verify_flags = ssl.VerifyFlags(client.verify_flags | NO_CHECK_TIME)
    if bundle:
        client.load_verify_locations(cadata=bundle.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return ends[0].version() is not None


def validates(leaf: Leaf, bundle: bytes, now: datetime, host: str = HOST) -> bool:
    if not bundle:
        return False
    verifier = (
        PolicyBuilder()
        .store(Store(x509.load_pem_x509_certificates(bundle)))
        .time(now)
        .build_server_verifier(x509.DNSName(host))
    )
    try:
        verifier.verify(leaf.certificate.raw, [])
    except VerificationError:
        return False
    return True
