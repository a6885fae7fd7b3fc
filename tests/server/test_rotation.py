"""Certificates change under load: every call is answered, new connections get the newest pair."""

import datetime as dt
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.server.apiserver import ApiServer
from tests.server.serving import REVIEW, Authority, Served, served, until

REVIEW_BYTES = REVIEW.read_bytes()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def load(server: Served) -> Iterator[ApiServer]:
    """Load that must not lose a call. Some connections are kept, others are always new."""
    context = {"now": server.context}
    caller = ApiServer([server.port], lambda: context["now"], REVIEW_BYTES, workers=3)
    caller.context = context
    caller.reach(20)
    yield caller
    caller.stop()
    assert caller.failures == []


def shown(server: Served, context: ssl.SSLContext | None = None) -> bytes:
    connection = server.connect(context)
    connection.connect()
    try:
        return connection.sock.getpeercert(binary_form=True)
    finally:
        connection.close()


def leaf_of(authority: Authority) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.leaf.cert_chain_pems[0].bytes().decode())


def settle(server: Served, load: ApiServer, loaded: int) -> None:
    """Wait until the server has loaded this many pairs, while new connections are made."""

    def look() -> bool:
        shown(server, load.context["now"])
        return len(server.events("certificate_loaded")) >= loaded

    until(look, f"{loaded} pairs loaded")
    load.reach(30)


@pytest.mark.parametrize("kind", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
def test_a_new_leaf_is_taken_up(server: Served, load: ApiServer, kind: trustme.KeyType):
    """Also one with another key type: on a live context, OpenSSL would serve the old leaf."""
    authority = server.authority
    authority.renew(authority.ca, key_type=kind)
    settle(server, load, 2)
    assert shown(server) == leaf_of(authority)


def test_a_new_ca_is_taken_up_by_clients_that_trust_both(server: Served, load: ApiServer):
    """As rotation goes: the bundle first, then the leaf."""
    authority, old = server.authority, server.authority.ca
    new = trustme.CA()
    load.context["now"] = authority.trust(new)
    authority.renew(new)
    load.context["now"] = authority.trust(old)
    settle(server, load, 2)
    assert shown(server, load.context["now"]) == leaf_of(authority)


def test_a_key_without_its_certificate_keeps_the_old_pair(server: Served, load: ApiServer):
    authority, before = server.authority, leaf_of(server.authority)
    other = authority.ca.issue_cert("localhost")
    authority.put("tls.key", other.private_key_pem.bytes())
    refused = server.wait_for("certificate_refused", serving="the one before")
    assert "mismatch" in refused["error"]
    assert str(authority.directory / "tls.key") in refused["error"]
    load.reach(30)
    assert shown(server) == before
    assert server.plain("/readyz").status == 200, (
        "it serves: a pair that cannot be used is no reason to stop"
    )
    authority.put("tls.crt", other.cert_chain_pems[0].bytes())
    settle(server, load, 2)
    assert shown(server) != before


BROKEN = {
    "garbage": lambda _: b"\x00garbage",
    "empty": lambda _: b"",
    "half": lambda authority: authority.leaf.cert_chain_pems[0].bytes()[:300],
    "a-key": lambda authority: authority.leaf.private_key_pem.bytes(),
    "expired": lambda authority: _dated(authority, -2, -1),
    "not-yet-valid": lambda authority: _dated(authority, 1, 2),
}


def _dated(authority: Authority, first: int, last: int) -> bytes:
    now = dt.datetime.now(dt.UTC)
    leaf = authority.ca.issue_cert(
        "localhost",
        not_before=now + dt.timedelta(days=first),
        not_after=now + dt.timedelta(days=last),
    )
    authority.put("tls.key", leaf.private_key_pem.bytes())
    return leaf.cert_chain_pems[0].bytes()


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_served_keeps_the_old_pair(server: Served, load: ApiServer, name: str):
    authority, before = server.authority, leaf_of(server.authority)
    authority.put("tls.crt", BROKEN[name](authority))
    server.wait_for("certificate_refused", serving="the one before")
    load.reach(30)
    assert shown(server) == before
    assert server.metric("podgrace_certificate_reloads_total", result="refused") >= 1


def test_a_leaf_of_another_ca_than_the_one_beside_it_keeps_the_old_pair(
    server: Served, load: ApiServer
):
    authority, before = server.authority, leaf_of(server.authority)
    other = trustme.CA().issue_cert("localhost")
    authority.put("tls.key", other.private_key_pem.bytes())
    authority.put("tls.crt", other.cert_chain_pems[0].bytes())
    refused = server.wait_for("certificate_refused")
    until(
        lambda: any(
            "against ca.crt" in event["error"] for event in server.events("certificate_refused")
        ),
        str(refused),
    )
    load.reach(30)
    assert shown(server) == before


def test_files_that_vanish_keep_the_old_pair(server: Served, load: ApiServer):
    before = leaf_of(server.authority)
    (server.authority.directory / "tls.crt").unlink()
    assert "No such file" in server.wait_for("certificate_refused")["error"]
    load.reach(30)
    assert shown(server) == before


def test_a_directory_swapped_as_the_kubelet_does_it(tmp_path: Path):
    """..data is a symbolic link that is replaced: file events on tls.crt would never come."""
    first, second = Authority(tmp_path / "..1"), Authority(tmp_path / "..2")
    (tmp_path / "..data").symlink_to("..1")
    mount = tmp_path / "mount"
    mount.mkdir()
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (mount / name).symlink_to(Path("..") / "..data" / name)
    first.directory = mount
    server = Served(first, "--drain-seconds", "0")
    try:
        assert shown(server) == leaf_of(first)
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").replace(tmp_path / "..data")
        until(lambda: len(server.events("certificate_loaded")) == 2, "the second pair is loaded")
        assert shown(server, second.trust()) == leaf_of(second)
    finally:
        server.stop()


def test_a_leaf_that_lives_for_seconds_is_renewed_and_then_runs_out(tmp_path: Path):
    """The whole life: a short leaf, its successor under load, readiness when no successor comes."""
    with served(tmp_path) as server:
        authority, context = server.authority, server.context
        load = ApiServer([server.port], lambda: context, REVIEW_BYTES, workers=2)

        def renew(seconds: float) -> None:
            authority.renew(
                authority.ca, not_after=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
            )

        for number in range(2, 5):
            renew(25)
            until(
                lambda number=number: len(server.events("certificate_loaded")) == number,
                f"leaf {number} is loaded",
                20,
            )
            load.reach(20)
        end = server.metric("podgrace_certificate_not_after_seconds", kind="leaf")
        assert 0 < end - time.time() < 25
        load.stop()
        assert load.failures == []
        answer = until(
            lambda: (found := server.plain("/readyz")).status == 503 and found,
            "it says that it is not ready",
            40,
        )
        assert f"{authority.directory}/tls.crt expired at" in answer.body.decode()
        assert server.plain("/livez").status == 200, "a restart would not help"
        renew(3600)
        until(lambda: server.plain("/readyz").status == 200, "a new leaf is enough")


def test_a_server_without_certificates_waits_for_them(tmp_path: Path):
    authority = Authority(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    server = Served(authority, "--drain-seconds", "0")
    try:
        answer = server.plain("/readyz")
        assert (answer.status, answer.body.decode()) == (
            503,
            f"certificate: {tmp_path}/tls.crt: No such file or directory\n",
        )
        with pytest.raises(OSError, match=r"internal error|EOF|reset"):
            shown(server)
        authority.renew(authority.ca)
        until(lambda: server.plain("/readyz").status == 200, "it has found them")
        assert shown(server) == leaf_of(authority)
    finally:
        assert server.stop() == 0
