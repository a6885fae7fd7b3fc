"""What `podgrace certs check` says about a cluster, for everything that can be wrong."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from certs import Authority, store, survey
from certs.kubernetes import Client, Server
from tests.certs.apiserver import CA, CONFIG, LEASE, NAMESPACE, TLS, ApiServer, Clock
from tests.certs.replicas import START, Replica, wish

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
NAMES = survey.Names("podgrace", "tls", "podgrace", "ca", "turn")


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def api(clock: Clock) -> Iterator[ApiServer]:
    """Make a cluster in which everything is right."""
    server = ApiServer(clock)
    Replica(server, "a").turn()
    yield server
    server.close()


def lines(
    api: ApiServer, names: survey.Names = NAMES, *, ours: Callable[[], datetime] | None = None
) -> list[survey.Line]:
    seen = survey.look(
        Client(Server.of(api.url, None, None), NAMESPACE, clock=ours or api.clock),
        names,
        ours or api.clock,
    )
    return survey.judge(seen, within=7 * DAY, covered=["podgrace.system.svc"])


def wrong(api: ApiServer, names: survey.Names = NAMES) -> list[tuple[str, str, str]]:
    return [(line.level, line.about, line.text) for line in lines(api, names) if line.level != "ok"]


def test_all_is_well(api: ApiServer) -> None:
    assert wrong(api) == []
    assert [line.about for line in lines(api)] == [
        "clock",
        "Secret ca",
        "Secret ca",
        "Secret tls",
        *["MutatingWebhookConfiguration podgrace"] * 2,
        "Lease turn",
    ]


def test_a_cluster_that_waits_for_its_first_replica(clock: Clock) -> None:
    api = ApiServer(clock)
    try:
        found = wrong(api)
    finally:
        api.close()
    assert [about for _, about, _ in found] == [
        "Secret ca",
        "Secret ca",
        "Secret tls",
        "Secret tls",
        *["MutatingWebhookConfiguration podgrace"] * 2,
        "Lease turn",
    ]
    assert "does `podgrace certs run` run" in found[0][2]


@pytest.mark.parametrize("path", [CA, TLS, CONFIG, LEASE])
@pytest.mark.parametrize("status", [403, 404, 500])
def test_one_object_that_can_not_be_read_hides_no_other(
    api: ApiServer, path: str, status: int
) -> None:
    api.refused[f"GET {path}"] = status
    found = wrong(api)
    assert len(found) == 1 and found[0][0] == "error" and f"{path}: {status}" in found[0][2]
    assert ("`helm upgrade`" in found[0][2]) == (status == 404)


def test_a_release_that_is_elsewhere_is_said_before_what_is_missing(api: ApiServer) -> None:
    for path in (TLS, CONFIG):
        api.refused[f"GET {path}"] = 404
    level, about, text = wrong(api)[0]
    assert (level, about) == ("error", "release") and "are -n NAMESPACE and --release" in text


@pytest.mark.parametrize(
    ("bundle", "told"),
    [
        (b"", "b.podgrace.io: caBundle holds no certificate (0 bytes)"),
        (b"x", "b.podgrace.io: caBundle holds no certificate (1 bytes)"),
        (
            Authority.create(now=START).cert_pem,
            "b.podgrace.io: caBundle (1 certificates) does not trust the serving certificate",
        ),
    ],
    ids=["blank", "garbage", "a stranger's"],
)
def test_the_entry_that_does_not_trust_is_named(api: ApiServer, bundle: bytes, told: str) -> None:
    api.edit_bundle(1, bundle)
    assert wrong(api) == [("error", "MutatingWebhookConfiguration podgrace", told)]


def test_no_entry_at_all(api: ApiServer) -> None:
    api.put(CONFIG, {**api.objects[CONFIG], "webhooks": []})
    assert "has no entry" in wrong(api)[0][2]


def test_the_leaf_and_then_the_authority_run_out_because_nobody_renews(
    api: ApiServer, clock: Clock
) -> None:
    clock.now += 41 * DAY
    found = wrong(api)
    assert [(level, about) for level, about, _ in found] == [
        ("warning", "Secret tls"),
        ("warning", "Lease turn"),
    ]
    assert (
        "should have been renewed at 2026-04-10" in found[0][2] and "nobody renews" in found[1][2]
    )
    clock.now += 14 * DAY
    assert "expires at 2026-04-30" in wrong(api)[0][2]
    clock.now += 6 * DAY
    assert wrong(api)[0][0] == "error" and "expired at 2026-04-30" in wrong(api)[0][2]
    clock.now += 5 * 365 * DAY
    assert any("the authority expired" in text for _, _, text in wrong(api))
    assert any("by an authority that has expired" in text for _, _, text in wrong(api))


def test_a_spoilt_authority_is_told(api: ApiServer) -> None:
    api.edit(CA, {**api.data(CA), "signer.key": b"x"})
    assert [text.partition(":")[0] for _, about, text in wrong(api) if about == "Secret ca"] == [
        "signer.crt and signer.key",
        "holds no authority",
        "phase",
    ]


def test_a_rotation_on_its_way_is_told_and_is_nothing_wrong(api: ApiServer, clock: Clock) -> None:
    replica = Replica(api, "a")
    clock.now += MINUTE
    wish(api, renew_authority_before=clock.now)
    replica.turn()
    assert wrong(api) == []
    assert any(
        "the next authority is made, and published since" in line.text for line in lines(api)
    )
    clock.now += timedelta(hours=2)
    assert any("has been waiting since" in text for _, _, text in wrong(api))
    replica.turn()
    assert wrong(api) == []
    assert any("1 former authorities stay trusted" in line.text for line in lines(api))


def test_clocks_that_differ_are_told(api: ApiServer) -> None:
    found = lines(api, ours=lambda: START - timedelta(hours=3))
    assert (found[0].level, found[0].about) == ("warning", "clock") and "10800 s apart" in found[
        0
    ].text
    assert [line.level for line in found[1:]] == ["ok"] * 6, (
        "the rest is judged by the API server's"
    )


def test_a_lease_with_nonsense_in_it(api: ApiServer) -> None:
    api.objects[LEASE]["spec"] = {"holderIdentity": "a", "renewTime": "noon"}
    assert wrong(api) == [
        ("warning", "Lease turn", "nobody holds it: no replica renews certificates")
    ]


def test_no_api_at_all(api: ApiServer) -> None:
    client = Client(Server.of(api.url, None, None), NAMESPACE)
    api.close()
    found = survey.judge(survey.look(client, NAMES), within=DAY, covered=[])
    assert [line.level for line in found] == ["error"] * 4
    assert all("refused" in line.text for line in found)
    assert survey.certificates(survey.look(client, NAMES)) == []
    assert len(survey.problems(survey.look(client, NAMES))) == 4
    api.start()


def test_a_public_authority_needs_no_bundle(api: ApiServer) -> None:
    """With provided certificates, the API server may trust what its own machine trusts."""
    for number in (0, 1):
        api.edit_bundle(number, b"")
    names = survey.Names("podgrace", "tls", "podgrace")
    assert {level for level, _, _ in wrong(api, names)} == {"warning"}


def test_an_intermediate_between_leaf_and_bundle(api: ApiServer) -> None:
    api.clock = lambda: datetime.now(UTC)
    root = trustme.CA()
    made = root.create_child_ca().issue_cert("podgrace.system.svc")
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    api.edit(TLS, {store.CERT_FILE: chain, store.KEY_FILE: made.private_key_pem.bytes()})
    for number in (0, 1):
        api.edit_bundle(number, root.cert_pem.bytes())
    assert wrong(api, survey.Names("podgrace", "tls", "podgrace")) == []
