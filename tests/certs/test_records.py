"""What the Secrets hold, and what happens if somebody else wrote it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from certs import Authority, records, store
from certs.errors import BadMaterial
from certs.records import Authorities, Retired, Serving

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE, TWO, THREE = (Authority.create(now=NOW) for _ in range(3))
FULL = Authorities(ONE, TWO, NOW, (Retired(THREE.certificate, NOW + timedelta(days=61)),), NOW, NOW)
LEAF = ONE.issue("localhost", now=NOW)


def test_everything_comes_back_as_it_was() -> None:
    assert records.read_authorities(records.write_authorities(FULL)) == FULL
    assert records.read_serving(records.write_serving(Serving(LEAF, ONE.cert_pem))) == Serving(
        LEAF, ONE.cert_pem
    )


def test_an_empty_secret_is_an_empty_record() -> None:
    assert records.read_authorities({}) == Authorities()
    assert records.read_serving({}) == Serving()
    assert records.write_serving(Serving()) == {}


def test_the_keys_are_the_documented_ones() -> None:
    assert set(records.write_authorities(FULL)) == {
        "signer.crt",
        "signer.key",
        "next.crt",
        "next.key",
        "state.json",
    }
    assert set(records.write_serving(Serving(LEAF, b""))) == {
        store.CERT_FILE,
        store.KEY_FILE,
        store.CA_FILE,
    }
    state = json.loads(records.write_authorities(FULL)["state.json"])
    assert set(state) == {
        "version",
        "nextTrustedSince",
        "renewLeafBefore",
        "renewAuthorityBefore",
        "retired",
    }


def test_the_serving_secret_never_holds_the_authoritys_key() -> None:
    written = records.write_serving(Serving(LEAF, ONE.cert_pem))
    assert all(ONE.key_pem not in content for content in written.values())


def test_keys_of_others_are_passed_over() -> None:
    data = {**records.write_authorities(FULL), "note": b"hands off", "signer.crt.bak": b"?"}
    assert records.read_authorities(data) == FULL


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"signer.key": b""}, "signer.crt and signer.key"),
        ({"signer.crt": b"\xff\xfe"}, "signer.crt and signer.key"),
        ({"signer.crt": TWO.cert_pem}, "does not belong"),
        ({"signer.crt": LEAF.cert_pem, "signer.key": LEAF.key_pem}, "not a CA certificate"),
    ],
    ids=["no key", "no certificate", "of another pair", "a leaf"],
)
def test_a_spoilt_signer_is_none_and_the_rest_stands(change: dict[str, bytes], told: str) -> None:
    found = records.read_authorities({**records.write_authorities(FULL), **change})
    assert found.signer is None
    assert (found.next, found.retired) == (FULL.next, FULL.retired)
    assert len(found.problems) == 1 and told in found.problems[0]


@pytest.mark.parametrize(
    "state",
    [
        b"\xff",
        b"null",
        b"7",
        b'{"version": 1, "retired": {"a": 1}}',
        b'{"version": "new", "retired": [[]]}',
        b'{"nextTrustedSince": 1, "renewLeafBefore": {}, "renewAuthorityBefore": ["x"]}',
        b"[" * 100_000,
    ],
    ids=lambda state: state[:20].decode(errors="replace"),
)
def test_a_garbled_state_never_raises(state: bytes) -> None:
    found = records.read_authorities({**records.write_authorities(FULL), "state.json": state})
    assert found.signer == ONE
    assert found.problems


def test_one_spoilt_entry_of_retired_does_not_take_the_others_with_it() -> None:
    data = records.write_authorities(FULL)
    state = json.loads(data["state.json"])
    state["retired"] = [
        None,
        {"certificate": "x", "until": "2026-01-01"},
        *state["retired"],
        {"certificate": ONE.cert_pem.decode()},
    ]
    found = records.read_authorities({**data, "state.json": json.dumps(state).encode()})
    assert found.retired == FULL.retired
    assert len(found.problems) == 3, found.problems


def test_a_time_without_zone_is_utc() -> None:
    found = records.read_authorities({"state.json": b'{"nextTrustedSince": "2026-03-01T12:00:00"}'})
    assert found.next_trusted_since == NOW


def test_a_newer_format_is_refused_rather_than_lost() -> None:
    with pytest.raises(BadMaterial, match="version 2; this program knows 1"):
        records.read_authorities(
            {**records.write_authorities(FULL), "state.json": b'{"version": 2}'}
        )


def test_a_spoilt_leaf_is_none_and_told() -> None:
    data = records.write_serving(Serving(LEAF, ONE.cert_pem))
    found = records.read_serving({**data, store.KEY_FILE: ONE.key_pem})
    assert found.leaf is None and found.bundle == ONE.cert_pem
    assert "does not belong" in found.problems[0]
