"""A certificate authority for one webhook.

In: names and the time. Out: PEM. Nothing here touches a file, a socket or the clock: `now` is
always an argument. When to rotate an authority, and what to trust meanwhile, belongs to
`certs.rotation`; where the bytes live, to `certs.store` and `certs.records`.

    authority = Authority.create(now=now)
    leaf = authority.issue("podgrace.podgrace.svc", now=now)
    leaf.cert_pem, leaf.key_pem, authority.cert_pem
"""

import ipaddress
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import BadMaterial, BadName

# Clocks of nodes and API servers differ. Backdated by an hour, a certificate is valid on all of
# them at once.
BACKDATE = timedelta(hours=1)
CA_LIFE = timedelta(days=5 * 365)
LEAF_LIFE = timedelta(days=60)
# Renew with a third of the life left: enough time for a person to act if renewing fails.
RENEW_SHARE = 3

_UNREADABLE = (
    ValueError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for missing or broken extensions; it finds broken ones only on reading
them."""

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate without its private key. `Authority` and `Leaf` hold one with its key."""

    pem: bytes
    raw: x509.Certificate = field(repr=False, compare=False)

    @classmethod
    def load(cls, pem: bytes) -> "Certificate":
        """Read the first certificate of a PEM text."""
        try:
            return cls.of(x509.load_pem_x509_certificate(pem))
        except (ValueError, x509.InvalidVersion) as error:
            raise BadMaterial(f"not a PEM certificate ({len(pem)} bytes): {error}") from None

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "Certificate":
        """Wrap a certificate of the library."""
        return cls(certificate.public_bytes(serialization.Encoding.PEM), certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the whole certificate, in hexadecimal."""
        return self.raw.fingerprint(hashes.SHA256()).hex()

    @property
    def not_before(self) -> datetime:
        """The start of its validity."""
        return self.raw.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """The end of its validity."""
        return self.raw.not_valid_after_utc

    @property
    def renew_at(self) -> datetime:
        """When a third of the life is left; the backdated hour does not count."""
        life = self.not_after - self.not_before - BACKDATE
        return self.not_after - max(life, timedelta()) / RENEW_SHARE

    @property
    def names(self) -> frozenset[str]:
        """The DNS names and IP addresses that it covers; none if its extensions can't be read."""
        try:
            san = self.raw.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except _UNREADABLE:
            return frozenset()
        hosts = (name.lower() for name in san.get_values_for_type(x509.DNSName))
        return frozenset([*hosts, *(str(ip) for ip in san.get_values_for_type(x509.IPAddress))])

    def uncovered(self, names: Iterable[str]) -> list[str]:
        """Give the *names* for which a client would not accept it. `*.x` matches one label."""
        covered = self.names
        asked = {_canonical(name) for name in names}
        return sorted(
            name
            for name in asked
            if name not in covered and f"*.{name.partition('.')[2]}" not in covered
        )

    def needs_renewal(self, now: datetime, names: Iterable[str] = ()) -> str | None:
        """Say why it should be replaced, as half a sentence; None if there is no reason."""
        if now >= self.not_after:
            return f"it expired at {self.not_after:%Y-%m-%d %H:%M:%S} UTC"
        if now < self.not_before:
            start = f"{self.not_before:%Y-%m-%d %H:%M:%S} UTC"
            return f"it is valid only from {start}: is the clock right?"
        if missing := self.uncovered(names):
            return f"it does not cover {', '.join(missing)}"
        if now >= self.renew_at:
            end = f"{self.not_after:%Y-%m-%d %H:%M:%S} UTC"
            return f"less than a third of its life is left: it expires at {end}"
        return None

    def signed_by(self, issuer: "Certificate") -> bool:
        """Tell whether *issuer*'s key signed it and it names *issuer*."""
        try:
            self.raw.verify_directly_issued_by(issuer.raw)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Leaf:
    """A serving certificate and its key.

    `Authority.issue` makes one; `load` reads one back and checks that the two belong together.
    """

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate: Certificate = field(repr=False, compare=False)

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes) -> "Leaf":
        """Read a stored pair. Raises BadMaterial if the two do not belong together."""
        certificate = Certificate.load(cert_pem)
        _check_pair(certificate, _load_key(key_pem))
        return cls(cert_pem, key_pem, certificate)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate and the key that makes it one."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    certificate: Certificate = field(repr=False, compare=False)
    _key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    @classmethod
    def create(cls, *, now: datetime, life: timedelta = CA_LIFE) -> "Authority":
        """Make a new authority.

        The subject contains part of the serial number: while two authorities are trusted at once, a
        chain must be unambiguous by name as well as by key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        serial = _serial()
        name = _name(f"podgrace CA {serial >> 96:08x}")
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + life)
            # Path length 0: it signs serving certificates, but no other authority.
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        loaded = Certificate.of(certificate)
        return cls(loaded.pem, _key_pem(key), loaded, key)

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes) -> "Authority":
        """Read a stored pair.

        Raises BadMaterial if the two do not belong together or the certificate may not sign.
        """
        certificate, key = Certificate.load(cert_pem), _load_key(key_pem)
        _check_pair(certificate, key)
        try:
            constraints = certificate.raw.extensions.get_extension_for_class(
                x509.BasicConstraints
            ).value
            certificate.raw.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except _UNREADABLE as error:
            raise BadMaterial(
                f"the certificate with serial {certificate.raw.serial_number:032x} is not one of "
                f"our authorities: {error}"
            ) from None
        if not constraints.ca:
            raise BadMaterial(
                f"the certificate with serial {certificate.raw.serial_number:032x} is not a CA "
                "certificate"
            )
        return cls(cert_pem, key_pem, certificate, key)

    def issue(self, *names: str, now: datetime, life: timedelta = LEAF_LIFE) -> Leaf:
        """Sign a serving certificate for DNS names and IP addresses.

        It never outlives its authority: no verifier would accept it after that.
        """
        san = x509.SubjectAlternativeName(general_names(names))
        key = ec.generate_private_key(ec.SECP256R1())
        issuer_id = self.certificate.raw.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value
        certificate = (
            x509.CertificateBuilder()
            # Verifiers read only the alternative names; a common name is for people, and limited to
            # 64 characters.
            .subject_name(_name("podgrace webhook"))
            .issuer_name(self.certificate.raw.subject)
            .public_key(key.public_key())
            .serial_number(_serial())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(min(now + life, self.certificate.not_after))
            .add_extension(san, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        loaded = Certificate.of(certificate)
        return Leaf(loaded.pem, _key_pem(key), loaded)


def service_names(
    service: str, namespace: str, cluster_domain: str = "cluster.local"
) -> tuple[str, ...]:
    """Return every name by which a Service can be called inside a cluster.

    The API server verifies `<service>.<namespace>.svc`; the others serve people and tests.
    """
    host = f"{service}.{namespace}"
    return (service, host, f"{host}.svc", f"{host}.svc.{cluster_domain}")


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Turn texts into a certificate's names: IP addresses, or else DNS names without a wildcard."""
    if not names:
        raise BadName(
            "a serving certificate needs at least one name, such as localhost or "
            "podgrace.podgrace.svc"
        )
    return [_general_name(name) for name in dict.fromkeys(names)]


def load_bundle(pem: bytes) -> tuple[Certificate, ...]:
    """Read a bundle, in time proportional to its length.

    Anything else in it is skipped, since people keep comments and leftovers there.
    """
    found: dict[str, Certificate] = {}
    for part in pem.split(_END)[:-1]:
        _, begin, body = part.rpartition(_BEGIN)
        try:
            certificate = Certificate.load(begin + body + _END)
        except BadMaterial:
            continue
        found.setdefault(certificate.fingerprint, certificate)
    return tuple(found.values())


def dump_bundle(certificates: Iterable[Certificate]) -> bytes:
    """Write certificates one after the other."""
    return b"".join(certificate.pem for certificate in certificates)


def _canonical(name: str) -> str:
    """Write a name as `Certificate.names` does."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    host = name.lower()
    if len(host) > 253 or not all(_LABEL.match(label) for label in host.split(".")):
        raise BadName(
            f"{name!r} is neither an IP address nor a DNS name (letters, digits and '-' in labels "
            "of at most 63, joined by dots)"
        )
    return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "podgrace"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _serial() -> int:
    """Draw 128 random bits.

    The highest one is set: so the length never varies, and it is never 0 (RFC 5280, 4.1.2.2).
    """
    return secrets.randbits(127) | 1 << 127


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,  # the leaf signs handshakes
        key_cert_sign=key_cert_sign,  # the authority signs leaves
        crl_sign=crl_sign,  # some verifiers want it in every authority
        content_commitment=False,
        key_encipherment=False,  # RSA only
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadMaterial(
            f"not a PEM private key without password ({len(pem)} bytes): {error}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadMaterial(
            f"a private key of type {type(key).__name__}: only elliptic curve keys are used here"
        )
    return key


def _check_pair(certificate: Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        fits = certificate.raw.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise BadMaterial(
            "the private key does not belong to the certificate with serial "
            f"{certificate.raw.serial_number:032x}"
        )
