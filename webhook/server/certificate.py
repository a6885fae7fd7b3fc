"""The serving certificate, renewed while serving.

In: the paths of tls.crt, tls.key and perhaps ca.crt, and the options of TLS. Out: the context for
the next connection, with the newest pair that passed its check. It does not matter who makes and
renews the files: the certificate container, cert-manager, or a person.

No context is loaded twice: in OpenSSL, a pair that does not match breaks a live context, and a key
of another type leaves the old leaf in use. Each pair gets a new context, and must pass a whole
handshake in memory before a client sees it.
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
"""Seconds between two looks at the files. By content: the kubelet swaps a symbolic link two levels
up, which file events miss."""
FIRST: Final = 0.5
"""Seconds between two looks while there is no pair to serve."""

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


class TLSOptions(msgspec.Struct, frozen=True):
    """Options for both ends."""

    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    client_ca: str | None = None
    """A file: a client must show a certificate that chains to it."""
    client_names: tuple[str, ...] = ()
    """One of which must be in it (common name, DNS or URI); empty: any."""
    name: str = ""
    """Name by which API servers call us: a certificate for another is useless. Empty: any."""


class CertificateSource:
    """Holds the pair in use, and looks for a newer one."""

    def __init__(
        self,
        cert: str,
        key: str,
        ca: str | None,
        options: TLSOptions = TLSOptions(),  # noqa: B008 - frozen
    ) -> None:
        self.cert, self.key, self.ca = Path(cert), Path(key), Path(ca) if ca else None
        self.options = options
        self.pair: Pair | None = None
        self.problem = f"{cert} is not loaded yet"
        self.succeeded = self.failed = 0

    def context(self) -> ssl.SSLContext | None:
        """Give the context for the next connection, if there is a pair to show."""
        return self.pair.context if self.pair is not None else None

    def poll(self, report: Callable[..., None]) -> bool:
        """Look at the files; returns True if a new pair is in use now. Never raises.

        A working pair stays until a better one is there.
        """
        try:
            digest = self._digest()
            if self.pair is not None and digest == self.pair.digest:
                self.problem = ""
                return False
            pair = self._load(digest)
        except (OSError, ValueError) as error:
            problem = _message(error)
            if problem != self.problem:
                report(
                    "certificate_refused",
                    error=problem,
                    serving="the one before" if self.pair else "none",
                )
            self.problem = problem
            self.failed += 1
            return False
        self.pair, self.problem = pair, ""
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
        return (
            f"{self.cert} expired at {_iso(self.pair.not_after)}"
            if now >= self.pair.not_after
            else ""
        )

    def expiries(self) -> dict[str, float]:
        """Give the ends of validity, in seconds since the epoch."""
        found = {}
        if self.pair is not None:
            found["leaf"] = self.pair.not_after
            if self.pair.ca_not_after is not None:
                found["ca"] = self.pair.ca_not_after
        return found

    def stranger(self, certificate: dict[str, Any] | None) -> str:
        """Say why a client with this verified certificate is not served, or ""."""
        accepted = self.options.client_names
        if not accepted:
            return ""
        subject = (certificate or {}).get("subject", ())
        names = [value for part in subject for key, value in part if key == "commonName"]
        names += [
            value
            for kind, value in (certificate or {}).get("subjectAltName", ())
            if kind in ("DNS", "URI")
        ]
        if set(names) & set(accepted):
            return ""
        return (
            f"client certificate for {', '.join(names)[:200] or 'nobody'}: accepted: "
            f"{', '.join(accepted)}"
        )

    def _files(self) -> tuple[bytes, bytes, bytes, bytes]:
        ca = b""
        if self.ca is not None:
            with contextlib.suppress(FileNotFoundError):
                ca = self.ca.read_bytes()
        clients = Path(self.options.client_ca).read_bytes() if self.options.client_ca else b""
        return self.cert.read_bytes(), self.key.read_bytes(), ca, clients

    def _digest(self) -> bytes:
        return hashlib.sha256(b"\0".join(self._files())).digest()

    def _load(self, digest: bytes) -> Pair:
        """Build and check a pair.

        OpenSSL reads the files by name: they are read once more afterwards, and must be the same.
        """
        try:
            _, _, ca, clients = self._files()
            pair = load(
                self.cert,
                self.key,
                ca,
                digest,
                minimum=self.options.minimum,
                name=self.options.name,
            )
            if self.options.client_ca:
                _ask(pair.context, clients, self.options.client_ca)
        except (OSError, ValueError):
            if self._digest() != digest:
                raise BadPair("the files changed while they were read") from None
            raise
        if self._digest() != digest:
            raise BadPair("the files changed while they were read")
        return pair


def server_context(minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """Make the context for a connection: HTTP/1.1, no resumption (it would outlive a rotation)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(_ALPN)
    return context


def load(
    cert: Path,
    key: Path,
    ca: bytes,
    digest: bytes = b"",
    *,
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    name: str = "",
) -> Pair:
    """Load a pair and try it: a handshake in memory, verified as the API server would.

    Raises `BadPair` or OSError.
    """
    context = server_context(minimum)
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
    names = tuple(
        name for kind, name in facts.get("subjectAltName", ()) if kind in ("DNS", "IP Address")
    )
    if not names:
        raise BadPair(f"{cert}: no subject alternative name; the API server verifies only those")
    if name:
        client.check_hostname = True
        try:
            _checked(context, client, name, f"{cert}")
        except BadPair:
            raise BadPair(
                f"{cert}: is for {', '.join(names)[:200]}; API servers call {name}"
            ) from None
    expiries: list[float] = []
    if ca.strip():
        client = _client(ssl.CERT_REQUIRED)
        try:
            client.load_verify_locations(cadata=ca.decode("ascii", "replace"))
        except ssl.SSLError as error:
            raise BadPair(f"ca.crt beside {cert}: {_reason(error)}") from error
        client.check_hostname = True
        _checked(context, client, name or names[0].replace("*", "any"), f"{cert} against ca.crt")
        expiries = [
            ssl.cert_time_to_seconds(str(found["notAfter"])) for found in client.get_ca_certs()
        ]
    return Pair(
        digest,
        context,
        float(ssl.cert_time_to_seconds(facts["notAfter"])),
        float(max(expiries)) if expiries else None,
        names,
        facts["serialNumber"].lower(),  # as `podgrace certs` writes it
        leaf,
    )


def _ask(context: ssl.SSLContext, clients: bytes, where: str) -> None:
    """Ask for client certificates of this CA. Only after the trial handshakes, which show none."""
    try:
        context.load_verify_locations(cadata=clients.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise BadPair(f"{where}: {_reason(error)}") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED


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
