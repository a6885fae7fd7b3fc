"""Certificates as others see them.

OpenSSL in handshakes and on the command line, and the library's own path validation.
"""

import base64
import subprocess
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs import Authority, Certificate, Leaf, checks, store
from certs.authority import BACKDATE, CA_LIFE, LEAF_LIFE, dump_bundle, load_bundle, service_names
from certs.errors import BadMaterial, BadName
from tests import needs
from tests.certs.judges import HOST, accepts, shakes_hands, validates

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
T = TypeVar("T", bound=x509.ExtensionType)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(now=NOW)


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    return authority.issue(*service_names("podgrace", "system"), now=NOW)


def extension(certificate: Certificate, kind: type[T]) -> x509.Extension[T]:
    return certificate.raw.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("host", service_names("podgrace", "system", "corp.example"))
def test_every_name_of_the_service_is_accepted(authority: Authority, host: str) -> None:
    leaf = authority.issue(*service_names("podgrace", "system", "corp.example"), now=NOW)
    assert accepts(leaf, authority.cert_pem, NOW, host)


@pytest.mark.parametrize("host", ["podgrace.other.svc", "evil.podgrace.system.svc", "example.com"])
def test_other_names_are_not_accepted(authority: Authority, leaf: Leaf, host: str) -> None:
    assert not shakes_hands(leaf, authority.cert_pem, host)
    assert not validates(leaf, authority.cert_pem, NOW, host)


def test_another_authority_does_not_vouch_for_it(leaf: Leaf) -> None:
    other = Authority.create(now=NOW)
    assert not shakes_hands(leaf, other.cert_pem)
    assert not validates(leaf, other.cert_pem, NOW)


def test_a_clock_half_an_hour_behind_accepts_what_was_made_now(
    authority: Authority, leaf: Leaf
) -> None:
    assert validates(leaf, authority.cert_pem, NOW - timedelta(minutes=59))
    assert not validates(leaf, authority.cert_pem, NOW - timedelta(minutes=61))


def test_the_whole_handshake_with_the_machines_own_clock() -> None:
    now = datetime.now(UTC)
    authority = Authority.create(now=now)
    assert shakes_hands(authority.issue(HOST, now=now), authority.cert_pem, check_time=True)
    old = authority.issue(HOST, now=now - timedelta(minutes=30), life=timedelta(minutes=29))
    assert not shakes_hands(old, authority.cert_pem, check_time=True), "expired a minute ago"


def test_lives_are_what_was_asked_and_backdated_an_hour(authority: Authority, leaf: Leaf) -> None:
    assert (
        authority.certificate.not_before
        == leaf.certificate.not_before
        == NOW - BACKDATE
        == NOW - HOUR
    )
    assert authority.certificate.not_after == NOW + CA_LIFE
    assert leaf.certificate.not_after == NOW + LEAF_LIFE


def test_a_leaf_never_outlives_its_authority(authority: Authority) -> None:
    leaf = authority.issue("localhost", now=NOW + CA_LIFE - DAY)
    assert leaf.certificate.not_after == authority.certificate.not_after


def test_keys_are_p256_and_signatures_sha256(authority: Authority, leaf: Leaf) -> None:
    """The curve that every TLS stack supports, FIPS or not, and the fastest for signing."""
    for certificate in (authority.certificate.raw, leaf.certificate.raw):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert leaf.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----"), "PKCS#8"


def test_an_authority_may_sign_leaves_and_nothing_else(authority: Authority) -> None:
    constraints = extension(authority.certificate, x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0
    usage = extension(authority.certificate, x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign
    assert not usage.value.digital_signature and not usage.value.key_encipherment


def test_a_leaf_may_serve_and_nothing_else(leaf: Leaf) -> None:
    constraints = extension(leaf.certificate, x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    assert list(extension(leaf.certificate, x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    usage = extension(leaf.certificate, x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign


def test_a_leaf_can_not_act_as_an_authority(authority: Authority, leaf: Leaf) -> None:
    """Path length 0 and the constraints work: what a stolen serving key signs is worthless."""
    stolen = serialization.load_pem_private_key(leaf.key_pem, None)
    assert isinstance(stolen, ec.EllipticCurvePrivateKey)
    forged = Authority(leaf.cert_pem, leaf.key_pem, leaf.certificate, stolen).issue(HOST, now=NOW)
    chain = Leaf(forged.cert_pem + leaf.cert_pem, forged.key_pem, forged.certificate)
    assert forged.certificate.signed_by(leaf.certificate)
    assert not shakes_hands(chain, authority.cert_pem)


def test_key_identifiers_chain_up(authority: Authority, leaf: Leaf) -> None:
    own = extension(authority.certificate, x509.SubjectKeyIdentifier).value
    assert (
        extension(leaf.certificate, x509.AuthorityKeyIdentifier).value.key_identifier == own.digest
    )
    assert (
        extension(authority.certificate, x509.AuthorityKeyIdentifier).value.key_identifier
        == own.digest
    )
    assert extension(leaf.certificate, x509.SubjectKeyIdentifier).value != own


def test_two_authorities_share_neither_name_nor_key_nor_serial(authority: Authority) -> None:
    other = Authority.create(now=NOW)
    assert other.certificate.raw.subject != authority.certificate.raw.subject
    assert extension(other.certificate, x509.SubjectKeyIdentifier) != extension(
        authority.certificate, x509.SubjectKeyIdentifier
    )
    assert other.certificate.fingerprint != authority.certificate.fingerprint


def test_serials_are_128_random_bits(authority: Authority) -> None:
    serials = {
        authority.issue("localhost", now=NOW).certificate.raw.serial_number for _ in range(32)
    }
    assert len(serials) == 32
    assert {serial.bit_length() for serial in serials} == {128}


def test_addresses_are_addresses_and_names_are_names(authority: Authority) -> None:
    leaf = authority.issue("Localhost", "127.0.0.1", "::1", "localhost", now=NOW)
    names = extension(leaf.certificate, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert names.get_values_for_type(x509.DNSName)[0] == "localhost"
    assert leaf.certificate.names == {"localhost", "127.0.0.1", "::1"}
    assert leaf.certificate.uncovered(["LOCALHOST", "0:0:0:0:0:0:0:1"]) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "*.svc",
        "a_b",
        "-a",
        "a-",
        "a..b",
        "a.",
        "x" * 64,
        ".".join(["abcdefg"] * 40),
        "a b",
        "ä",
        "a\n",
    ],
)
def test_a_name_that_no_client_can_verify_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(BadName, match="neither an IP address nor a DNS name"):
        authority.issue(name, now=NOW)


def test_no_name_at_all_is_refused(authority: Authority) -> None:
    with pytest.raises(BadName, match="at least one name"):
        authority.issue(now=NOW)


def test_a_name_longer_than_a_common_name_may_be_is_fine(authority: Authority) -> None:
    host = ".".join(["a" * 60] * 3)
    assert accepts(authority.issue(host, now=NOW), authority.cert_pem, NOW, host)


def test_a_wildcard_of_somebody_elses_certificate_covers_one_label() -> None:
    made = Certificate.load(trustme.CA().issue_cert("*.system.svc").cert_chain_pems[0].bytes())
    assert made.uncovered(["podgrace.system.svc"]) == []
    assert made.uncovered(["a.podgrace.system.svc", "system.svc"]) == [
        "a.podgrace.system.svc",
        "system.svc",
    ]


def test_renewal_is_due_with_a_third_of_the_life_left(leaf: Leaf) -> None:
    names = service_names("podgrace", "system")
    assert leaf.certificate.needs_renewal(NOW, names) is None
    assert leaf.certificate.needs_renewal(NOW + 39 * DAY, names) is None
    assert "a third" in (leaf.certificate.needs_renewal(NOW + 40 * DAY, names) or "")
    assert "expired" in (leaf.certificate.needs_renewal(NOW + 60 * DAY, names) or "")
    assert "clock" in (leaf.certificate.needs_renewal(NOW - DAY, names) or "")
    assert "does not cover new.example" in (
        leaf.certificate.needs_renewal(NOW, [*names, "new.example"]) or ""
    )


def test_stored_pairs_come_back_and_mixed_ones_do_not(authority: Authority, leaf: Leaf) -> None:
    again = Authority.load(authority.cert_pem, authority.key_pem)
    assert accepts(again.issue(HOST, now=NOW), authority.cert_pem, NOW)
    assert Leaf.load(leaf.cert_pem, leaf.key_pem) == leaf
    for cert, key in (
        (leaf.cert_pem, authority.key_pem),
        (leaf.cert_pem, b""),
        (b"", leaf.key_pem),
        (leaf.key_pem, leaf.cert_pem),
    ):
        with pytest.raises(BadMaterial):
            Leaf.load(cert, key)
        with pytest.raises(BadMaterial):
            Authority.load(cert, key)


def test_a_leaf_is_no_authority(leaf: Leaf) -> None:
    with pytest.raises(BadMaterial, match="is not a CA certificate"):
        Authority.load(leaf.cert_pem, leaf.key_pem)


def test_other_kinds_of_keys_are_none_of_ours(authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(BadMaterial, match="only elliptic curve"):
        Authority.load(authority.cert_pem, pem)


def test_an_authority_without_a_key_identifier_is_told_not_tripped_over() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(BadMaterial, match="is not one of our authorities"):
        Authority.load(made.public_bytes(serialization.Encoding.PEM), pem)


def test_keys_are_in_no_representation(authority: Authority, leaf: Leaf) -> None:
    """A mistaken print reveals no secret."""
    for thing in (authority, leaf):
        assert "PRIVATE" not in repr(thing)


def test_a_bundle_keeps_order_and_drops_what_is_none(authority: Authority) -> None:
    other = Authority.create(now=NOW)
    text = (
        b"# ours\n"
        + authority.cert_pem
        + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        + other.cert_pem
    )
    found = load_bundle(text + authority.cert_pem + b"-----BEGIN CERTIFICATE-----")
    assert [item.pem for item in found] == [authority.cert_pem, other.cert_pem]
    assert dump_bundle(found) == authority.cert_pem + other.cert_pem


@pytest.mark.parametrize(
    "junk",
    [
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"# comment\n",
    ],
)
def test_a_bundle_of_a_megabyte_of_leftovers_is_read_at_once(
    authority: Authority, junk: bytes
) -> None:
    """It is in an object that others write, and is read at every look."""
    start = time.monotonic()
    found = load_bundle(authority.cert_pem + junk * ((1 << 20) // len(junk)) + authority.cert_pem)
    assert [item.pem for item in found] == [authority.cert_pem]
    assert time.monotonic() - start < 20, "minutes where time grows with the square"


def test_a_certificate_of_an_unknown_version_is_dropped(authority: Authority) -> None:
    der = bytearray(authority.certificate.raw.public_bytes(serialization.Encoding.DER))
    at = der.index(b"\xa0\x03\x02\x01\x02") + 4
    der[at] = 9
    pem = (
        b"-----BEGIN CERTIFICATE-----\n"
        + base64.encodebytes(bytes(der))
        + b"-----END CERTIFICATE-----\n"
    )
    assert load_bundle(pem) == ()


def test_the_openssl_command_verifies_it_strictly(tmp_path: Path) -> None:
    needs.programs("openssl")
    now = datetime.now(UTC)
    authority = Authority.create(now=now)
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem)
    (tmp_path / "tls.crt").write_bytes(authority.issue(HOST, now=now).cert_pem)
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        HOST,
        "-CAfile",
        "ca.crt",
        "tls.crt",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "tls.crt: OK\n", done.stdout + done.stderr
    command[command.index(HOST)] = "other.svc"
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_a_certificate_with_broken_extensions_covers_nothing_and_is_no_authority() -> None:
    """A person's file: it must be reported, not cause a crash."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    broken = [
        x509.UnrecognizedExtension(kind.oid, b"\x04\x01")
        for kind in (x509.SubjectAlternativeName, x509.BasicConstraints)
    ]
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + DAY)
    made = (
        builder.add_extension(broken[0], critical=False)
        .add_extension(broken[1], critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate = Certificate.of(made)
    assert certificate.names == frozenset()
    assert certificate.uncovered(["localhost"]) == ["localhost"]
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(BadMaterial, match="is not one of our authorities"):
        Authority.load(certificate.pem, pem)


def test_a_certificate_with_a_key_that_nobody_knows_fits_no_key(
    authority: Authority, leaf: Leaf
) -> None:
    der = leaf.certificate.raw.public_bytes(serialization.Encoding.DER)
    curve = bytes.fromhex("06082a8648ce3d030107")
    assert der.count(curve) == 1
    odd = (
        b"-----BEGIN CERTIFICATE-----\n"
        + base64.encodebytes(der.replace(curve, curve[:-1] + b"\x7f"))
        + b"-----END CERTIFICATE-----\n"
    )
    with pytest.raises(BadMaterial, match="does not belong"):
        Leaf.load(odd, leaf.key_pem)
    assert not Certificate.load(odd).signed_by(authority.certificate)
    files = {store.CERT_FILE: odd, store.KEY_FILE: leaf.key_pem}
    assert (
        checks.findings(files, now=NOW, within=DAY)[0].text == "tls.key does not belong to tls.crt"
    )
