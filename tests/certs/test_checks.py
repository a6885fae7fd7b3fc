"""What `podgrace certs check` says about a directory, whoever made its certificates."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from certs import Authority, checks, store
from certs.checks import Finding

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
AUTHORITY = Authority.create(now=NOW)
LEAF = AUTHORITY.issue("localhost", now=NOW)
FILES = {
    store.CA_FILE: AUTHORITY.cert_pem,
    store.CERT_FILE: LEAF.cert_pem,
    store.KEY_FILE: LEAF.key_pem,
}


def found(
    files: dict[str, bytes], *names: str, now: datetime = NOW, within: timedelta = 7 * DAY
) -> list[Finding]:
    return checks.findings(files, now=now, within=within, names=names)


def company(depth: int = 0, key: trustme.KeyType = trustme.KeyType.RSA) -> dict[str, bytes]:
    """Certificates of a company's own authority: other keys, intermediates."""
    authority = root = trustme.CA(key_type=key)
    for _ in range(depth):
        authority = authority.create_child_ca(key_type=key)
    made = authority.issue_cert("localhost", key_type=key)
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    return {
        store.CA_FILE: root.cert_pem.bytes(),
        store.CERT_FILE: chain,
        store.KEY_FILE: made.private_key_pem.bytes(),
    }


def test_ours_is_fine() -> None:
    assert found(FILES, "localhost", "LocalHost") == []


@pytest.mark.parametrize("depth", range(3))
@pytest.mark.parametrize("key", list(trustme.KeyType))
def test_a_companys_own_is_fine(depth: int, key: trustme.KeyType) -> None:
    files = company(depth, key)
    assert found(files, "localhost") == []
    assert [entry.role for entry in checks.entries(files)] == [
        "serving",
        *["intermediate"] * depth,
        "trusted",
    ]


def test_without_the_authority_only_the_pair_is_looked_at() -> None:
    assert found({name: FILES[name] for name in (store.CERT_FILE, store.KEY_FILE)}) == []


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({store.KEY_FILE: None}, "tls.key is not there"),
        ({store.CERT_FILE: None}, "tls.crt is not there"),
        ({store.CERT_FILE: b"hello"}, "tls.crt (5 bytes) holds no PEM certificate"),
        ({store.KEY_FILE: b"hello"}, "tls.key (5 bytes) is not a PEM private key without password"),
        ({store.KEY_FILE: AUTHORITY.key_pem}, "tls.key does not belong to tls.crt"),
        (
            {store.CA_FILE: Authority.create(now=NOW).cert_pem},
            "tls.crt was signed by none of the 1 certificates in ca.crt",
        ),
        ({store.CA_FILE: b""}, "tls.crt was signed by none of the 0 certificates in ca.crt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_nobody_could_connect_to_is_fatal(files: dict[str, bytes | None], text: str) -> None:
    changed = {name: content for name, content in {**FILES, **files}.items() if content is not None}
    assert found(changed) == [Finding(True, text)]


def test_names_that_are_not_covered_are_named() -> None:
    assert found(FILES, "localhost", "b.example", "A.example") == [
        Finding(True, "tls.crt does not cover a.example, b.example; it covers localhost")
    ]


def test_soon_is_a_warning_and_over_is_fatal() -> None:
    end = LEAF.certificate.not_after
    assert found(FILES, now=end - 8 * DAY) == []
    (soon,) = found(FILES, now=end - 7 * DAY)
    assert not soon.fatal and "expires at" in soon.text
    (over,) = found(FILES, now=end)
    assert over.fatal and "expired at" in over.text
    early = found(FILES, now=NOW - DAY)
    assert [item.fatal for item in early] == [True, True] and "valid only from" in early[0].text


def test_an_authority_that_ends_first_is_told() -> None:
    short = Authority.create(now=NOW, life=5 * DAY)
    leaf = short.issue("localhost", now=NOW)
    files = {
        store.CA_FILE: short.cert_pem,
        store.CERT_FILE: leaf.cert_pem,
        store.KEY_FILE: leaf.key_pem,
    }
    assert [item.text.partition(":")[0] for item in found(files)] == ["tls.crt", "ca.crt"]


def test_intermediates_in_a_circle_end() -> None:
    files = company(2)
    chain = files[store.CERT_FILE] * 3
    assert found({**files, store.CERT_FILE: chain}) == []
    assert len(found({**files, store.CERT_FILE: chain, store.CA_FILE: AUTHORITY.cert_pem})) == 1


def test_a_missing_intermediate_is_found() -> None:
    files = company(1)
    (leaf, *_) = checks.load_bundle(files[store.CERT_FILE])
    assert found({**files, store.CERT_FILE: leaf.pem})[0].fatal
