"""The serving certificate, renewed while serving.

In: the paths of tls.crt, tls.key and perhaps ca.crt. Out: a listening context that hands every new connection to the newest pair that
passed its check. Who makes and renews the files is none of its business: the certificate container, cert-manager, or a person.

The listening context itself is never loaded again: with OpenSSL, a pair that does not match leaves a live context broken, and replacing
a key by one of another type leaves the old leaf in use. Each pair gets a context of its own, is tried in a whole handshake in memory,
and is then swapped in by the SNI callback, which OpenSSL calls for every handshake, with or without a server name.
"""

import contextlib
import hashlib
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

POLL: Final = 5.0
"""Seconds between two looks at the files. By content: the kubelet swaps a symbolic link two levels up, which file events miss."""

_ALPN: Final = ["http/1.1"]
"""What the API server speaks to webhooks behind a Service (kubernetes/kubernetes issue 75791)."""


class BadPair(ValueError):
    """Files that cannot be served; the message says which and why."""


class Pair(msgspec.Struct, frozen=True):
    """A checked certificate and key: ready to serve."""

    digest: bytes
    context: ssl.SSLContext
    not_after: float
    """Seconds since the epoch."""
    ca_not_after: float | None
    names: tuple[str, ...]
    serial: str
    leaf: bytes
    """The certificate in DER: what a client must see."""


class Keeper:
    """Holds the pair in use, and looks for a newer one."""

    def __init__(self, cert: str, key: str, ca: str | None) -> None:
        self.cert, self.key, self.ca = Path(cert), Path(key), Path(ca) if ca else None
        self.pair: Pair | None = None
        self.problem = f"{cert} is not loaded yet"
        self.succeeded = self.failed = 0
        self._refused = b""
        self.context = server_context()
        self.context.sni_callback = self._choose

    def poll(self, report: Callable[..., None]) -> bool:
        """Look at the files; returns True if a new pair is in use from now on. Never raises, never lets go of a working pair."""
        try:
            digest = self._digest()
            if self.pair is not None and digest == self.pair.digest:
                self.problem = ""
                return False
            if digest == self._refused:
                return False
            pair = self._load(digest)
        except (OSError, ValueError) as error:
            problem = _message(error)
            if problem != self.problem:
                report("certificate_refused", error=problem, serving="the one before" if self.pair else "none")
            self.problem = problem
            self.failed += 1
            return False
        self.pair, self.problem, self._refused = pair, "", b""
        self.succeeded += 1
        report(
            "certificate_loaded",
            serial=pair.serial,
            names=pair.names,
            notAfter=_iso(pair.not_after),
            chainChecked=pair.ca_not_after is not None,
        )
        return True

    def missing(self, now: float) -> str:
        """Say what keeps us from serving, or ""."""
        if self.pair is None:
            return self.problem
        return f"{self.cert} expired at {_iso(self.pair.not_after)}" if now >= self.pair.not_after else ""

    def expiries(self) -> dict[str, float]:
        """Give the ends of validity, in seconds since the epoch."""
        found = {}
        if self.pair is not None:
            found["leaf"] = self.pair.not_after
            if self.pair.ca_not_after is not None:
                found["ca"] = self.pair.ca_not_after
        return found

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> int | None:
        if self.pair is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self.pair.context
        return None

    def _files(self) -> tuple[bytes, bytes, bytes]:
        ca = b""
        if self.ca is not None:
            with contextlib.suppress(FileNotFoundError):
                ca = self.ca.read_bytes()
        return self.cert.read_bytes(), self.key.read_bytes(), ca

    def _digest(self) -> bytes:
        return hashlib.sha256(b"\0".join(self._files())).digest()

    def _load(self, digest: bytes) -> Pair:
        """Build and check a pair. OpenSSL reads the files by name: they are read once more afterwards, and must be the same."""
        try:
            pair = load(self.cert, self.key, self._files()[2], digest)
        except (OSError, ValueError):
            if self._digest() != digest:
                raise BadPair("the files changed while they were read") from None
            self._refused = digest
            raise
        if self._digest() != digest:
            raise BadPair("the files changed while they were read")
        return pair


def server_context() -> ssl.SSLContext:
    """Make a context as every connection gets it: TLS 1.2 or newer, HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(_ALPN)
    return context


def load(cert: Path, key: Path, ca: bytes, digest: bytes = b"") -> Pair:
    """Load a pair and try it: a handshake in memory, verified as the API server would. Raises `BadPair` or OSError."""
    context = server_context()
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise BadPair(f"{cert} and {key}: {_reason(error)}") from error
    seen = _handshake(context, _client(ssl.CERT_NONE), "")
    leaf = seen.getpeercert(binary_form=True) or b""
    # The leaf as its own anchor: OpenSSL then says what is in it, and whether it is valid now.
    client = _client(ssl.CERT_REQUIRED)
    client.load_verify_locations(cadata=leaf)
    facts: Any = _checked(context, client, "", f"{cert}").getpeercert()
    names = tuple(name for kind, name in facts.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    if not names:
        raise BadPair(f"{cert}: no subject alternative name; the API server verifies only those")
    expiries: list[float] = []
    if ca.strip():
        client = _client(ssl.CERT_REQUIRED)
        try:
            client.load_verify_locations(cadata=ca.decode("ascii", "replace"))
        except ssl.SSLError as error:
            raise BadPair(f"ca.crt beside {cert}: {_reason(error)}") from error
        client.check_hostname = True
        _checked(context, client, names[0].replace("*", "any"), f"{cert} against ca.crt")
        expiries = [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in client.get_ca_certs()]
    return Pair(
        digest,
        context,
        float(ssl.cert_time_to_seconds(facts["notAfter"])),
        float(max(expiries)) if expiries else None,
        names,
        facts["serialNumber"],
        leaf,
    )


def _client(verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = verify
    # As in Go: whatever is in the bundle is trusted, be it a root or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _checked(server: ssl.SSLContext, client: ssl.SSLContext, name: str, what: str) -> ssl.SSLObject:
    try:
        return _handshake(server, client, name)
    except ssl.SSLCertVerificationError as error:
        raise BadPair(f"{what}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise BadPair(f"{what}: {_reason(error)}") from error


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Let two ends shake hands in memory; returns the client's."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=name or None),
        server.wrap_bio(up, down, server_side=True),
    ]
    done: Sequence[bool] = (False, False)
    for _ in range(8):
        done = [_step(end) for end in ends]
        if all(done):
            return ends[0]
    raise BadPair("the handshake does not end")


def _step(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _no_password() -> str:
    """Answer OpenSSL, which would ask the terminal: a key with a password is refused."""
    return ""


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
