"""The certificate that a Pod of the webhook serves, from a TLS handshake like an API server's.

In: where to connect, the caBundle, the name that an API server asks for. Out: a `Served`. The way
to the Pod (`cluster.Cluster.tunnel`) and the verdict do not belong here.
"""

import socket
import ssl
from datetime import datetime
from typing import Final, NamedTuple

from certs.authority import load_bundle

SECONDS: Final = 10


class Served(NamedTuple):
    """What one Pod serves.

    `refusal`: why an API server does not trust it, in OpenSSL's words; "" if it does. `expires` is
    None where no certificate came; `trouble` then says why.
    """

    pod: str
    refusal: str = ""
    expires: datetime | None = None
    trouble: str = ""


def look(pod: str, address: tuple[str, int], bundle: bytes, name: str) -> Served:
    """Shake hands twice: as an API server that trusts `bundle`, and trusting every certificate."""
    try:
        leaf = _leaf(address, name)
    except OSError as error:
        return Served(pod, trouble=f"no TLS: {error.strerror or error}")
    found = load_bundle(ssl.DER_cert_to_PEM_cert(leaf).encode()) if leaf else ()
    if not found:
        return Served(pod, trouble="it shows no certificate")
    return Served(pod, _refusal(address, bundle, name), found[0].not_after)


def _leaf(address: tuple[str, int], name: str) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(address, SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return connection.getpeercert(binary_form=True)


def _refusal(address: tuple[str, int], bundle: bytes, name: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Go's verification does not ask for what X509_STRICT asks for, and takes any trusted
    # certificate as the end of the chain.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=bundle.decode("ascii", "replace"))
        with (
            socket.create_connection(address, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ValueError:
        return "caBundle holds no certificate"
    except OSError as error:
        return str(getattr(error, "reason", None) or error.strerror or error)
