"""The loop against an API server over sockets.

Replicas start, die, conflict, disagree about the time, and meet people's edits.
"""

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certs import Authority, manager, records, rotation, store
from certs.authority import load_bundle
from certs.manager import SKEW_LIMIT, SLOWEST
from certs.records import read_authorities
from tests.certs.apiserver import CA, CONFIG, LEASE, TLS, ApiServer, Clock
from tests.certs.judges import accepts, is_valid
from tests.certs.replicas import (
    POLICY,
    START,
    Replica,
    judge_past,
    served,
    signers,
    trusts,
    until,
    wish,
)

SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def api(clock: Clock) -> Iterator[ApiServer]:
    server = ApiServer(clock)
    yield server
    server.close()


@pytest.fixture
def started(api: ApiServer, clock: Clock) -> list[Replica]:
    """Three replicas that agree; the first one leads."""
    replicas = [Replica(api, name) for name in "abc"]
    for _ in range(2):
        for replica in replicas:
            replica.turn()
    clock.now += 10 * SECOND
    assert replicas[0].leader
    assert all(replica.files == api.data(TLS) for replica in replicas)
    return replicas


def passing(clock: Clock, step: timedelta = 10 * SECOND) -> Callable[[], None]:
    def advance() -> None:
        clock.now += step

    return advance


def let(
    replicas: list[Replica], clock: Clock, time: timedelta, step: timedelta = 10 * SECOND
) -> None:
    end = clock.now + time
    until(lambda: clock.now >= end, replicas, passing(clock, step), turns=100_000)


def phase(api: ApiServer) -> str:
    return rotation.phase(read_authorities(api.data(CA)))


# The start.


def test_the_first_turn_of_the_first_replica_makes_everything(api: ApiServer) -> None:
    replica = Replica(api, "a")
    pause = replica.turn()
    assert replica.leader and 9 < pause < 11
    assert replica.files == api.data(TLS)
    for bundle in api.bundles():
        assert accepts(replica.leaf, bundle, START, "podgrace.system.svc")
    assert [name for name, _ in replica.events] == [
        "lease_taken",
        "authorities_written",
        "bundle_written",
        "serving_written",
    ]
    assert api.data(CA)["signer.key"] not in api.data(TLS).values()


def test_a_second_look_writes_nothing(api: ApiServer) -> None:
    replica = Replica(api, "a")
    replica.turn()
    before = len(api.history)
    replica.turn()
    assert len(api.history) == before


def test_who_does_not_lead_reads_two_objects_a_turn(api: ApiServer, started: list[Replica]) -> None:
    api.requests.clear()
    started[1].turn()
    assert api.requests == [f"GET {TLS}", f"GET {LEASE}"]


@pytest.mark.parametrize("led", [True, False], ids=["with a Lease", "without one"])
def test_three_replicas_started_together_fifty_times_agree(led: bool) -> None:
    """Threads race over real connections.

    Without a Lease (all think that they hold it) the resource versions alone must protect.
    """
    conflicts = 0
    for number in range(50):
        api = ApiServer()
        stop = threading.Event()
        gate = threading.Barrier(3)
        replicas = [
            Replica(api, f"{number}{name}", identity="" if led else "everybody", poll=0.05)
            for name in "abc"
        ]

        def run(
            replica: Replica, gate: threading.Barrier = gate, stop: threading.Event = stop
        ) -> None:
            gate.wait()
            replica.manager.run(stop)

        threads = [threading.Thread(target=run, args=(replica,)) for replica in replicas]
        for thread in threads:
            thread.start()
        try:
            end = time.monotonic() + 60
            while not all(replica.served for replica in replicas):
                assert time.monotonic() < end, [replica.events for replica in replicas]
                time.sleep(0.005)
            looks = len(api.requests)
            while len(api.requests) < looks + 12:
                assert time.monotonic() < end
                time.sleep(0.005)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            api.close()
        assert len(signers(api)) == len(served(api)) == 1, (
            f"round {number}: {[r.events for r in replicas]}"
        )
        assert all(replica.files == api.data(TLS) for replica in replicas)
        (bundle,) = set(api.bundles())
        assert len(load_bundle(bundle)) == 1 and trusts(bundle, replicas[0].leaf)
        writes = [path for _, path, _ in api.history if path != LEASE]
        assert len(writes) == 3 + 3, f"three at the set-up, three by the replicas: {writes}"
        assert not [
            event for replica in replicas for event in replica.events if "failed" in event[0]
        ]
        judge_past(api)
        conflicts += api.conflicts
    assert conflicts, "they did race"


# Taking turns.


def test_another_takes_over_half_a_minute_after_the_leader_fell_silent(
    started: list[Replica], clock: Clock
) -> None:
    first, second, third = started
    let(started, clock, MINUTE)
    assert first.leader
    first.alive = False
    silent = clock.now
    until(lambda: second.leader or third.leader, started, passing(clock))
    assert 20 * SECOND <= clock.now - silent <= 50 * SECOND
    assert [second.leader, third.leader].count(True) == 1


def test_a_leader_that_is_asked_to_stop_gives_the_turn_back(api: ApiServer, clock: Clock) -> None:
    first, second = Replica(api, "a", poll=0.01), Replica(api, "b")
    stop = threading.Event()
    thread = threading.Thread(target=first.manager.run, args=(stop,))
    thread.start()
    end = time.monotonic() + 30
    while not first.files and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert api.objects[LEASE]["spec"]["holderIdentity"] == ""
    second.turn()
    assert second.leader and clock.now == START
    assert len(served(api)) == 1


def test_the_lease_is_held_through_a_long_quiet_time(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    let(started, clock, HOUR)
    assert [replica.leader for replica in started] == [True, False, False]
    assert [len(replica.told("lease_taken")) for replica in started] == [1, 0, 0]
    assert len(served(api)) == 1


@pytest.mark.parametrize("too_late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(1, 13))
def test_a_leader_killed_at_any_write_harms_nobody(
    api: ApiServer, clock: Clock, dies_at: int, too_late: bool
) -> None:
    """First start, then a whole rotation; the first leader dies around its n-th write."""
    policy = replace(POLICY, leaf_life=10 * DAY)
    replicas = [Replica(api, name, policy=policy) for name in "abc"]
    replicas[0].client.dies_at, replicas[0].client.too_late = dies_at, too_late
    until(
        lambda: all(replica.files or not replica.alive for replica in replicas),
        replicas,
        passing(clock),
    )
    clock.now += MINUTE
    wish(api, renew_authority_before=clock.now)
    until(lambda: phase(api) == "retiring", replicas, passing(clock))
    until(lambda: phase(api) == "steady", replicas, passing(clock, 6 * HOUR))
    if dies_at < 11:
        assert not replicas[0].alive, "it did come to that write"
    judge_past(api)
    assert len(signers(api)) == 2 and len(served(api)) >= 2
    (bundle,) = set(api.bundles())
    assert len(load_bundle(bundle)) == 1
    for replica in replicas[1:]:
        replica.turn()
        assert accepts(replica.leaf, bundle, clock.now, "podgrace.system.svc")


def test_somebody_writes_between_our_look_and_our_write(api: ApiServer) -> None:
    """Each of our writes conflicts once; all is done in the same turn, and nothing twice."""
    spoilt: set[str] = set()

    def interfere(_method: str, path: str) -> None:
        if path not in spoilt:
            spoilt.add(path)
            api.put(path, {**api.objects[path]})

    api.before_write = interfere
    replica = Replica(api, "a")
    replica.turn()
    assert not replica.files, "the Lease was the first to conflict"
    replica.turn()
    assert replica.files == api.data(TLS)
    assert len(replica.told("conflict")) == 3 and spoilt == {LEASE, CA, CONFIG, TLS}
    assert len(signers(api)) == len(served(api)) == 1


def test_a_conflict_for_ever_ends_the_turn_and_is_told(api: ApiServer) -> None:
    def interfere(_method: str, path: str) -> None:
        if path == CA:
            api.put(path, {**api.objects[path]})

    api.before_write = interfere
    replica = Replica(api, "a")
    replica.turn()
    assert len(replica.told("rotation_unsettled")) == 1
    assert not replica.files


def test_who_loses_the_turn_in_the_middle_stops_writing(api: ApiServer) -> None:
    """It slept, and another holds the Lease now. Its write conflicts, and it does not retry."""

    def overtake(_method: str, path: str) -> None:
        if path == CA:
            api.put(path, {**api.objects[path]})
            api.put(
                LEASE,
                {
                    **api.objects[LEASE],
                    "spec": {**api.objects[LEASE]["spec"], "holderIdentity": "another"},
                },
            )

    api.before_write = overtake
    replica = Replica(api, "a")
    replica.turn()
    assert not replica.leader and len(replica.told("conflict")) == 1
    assert api.requests.count(f"PUT {CA}") == 1


def test_a_lease_that_can_not_be_given_back_is_told_and_ends_by_itself(api: ApiServer) -> None:
    replica = Replica(api, "a", poll=0.01)
    stop = threading.Event()
    thread = threading.Thread(target=replica.manager.run, args=(stop,))
    thread.start()
    end = time.monotonic() + 30
    while not replica.files and time.monotonic() < end:
        time.sleep(0.01)
    api.refused[f"PUT {LEASE}"] = 403
    stop.set()
    thread.join(30)
    assert len(replica.told("lease_not_released")) == 1


# The time.


@pytest.mark.parametrize("sign", [1, -1])
def test_a_replica_whose_clock_is_wrong_follows_and_does_not_lead(
    api: ApiServer, started: list[Replica], clock: Clock, sign: int
) -> None:
    first, second, _ = started
    for replica in (first, second):
        replica.offset = sign * (SKEW_LIMIT + MINUTE)
    let(started, clock, 2 * MINUTE)
    assert [replica.leader for replica in started] == [False, False, True]
    assert "clock is" in str(first.told("rotation_failed")[0]["error"])
    assert len(first.told("rotation_failed")) == 1, "told once"
    wish(api, renew_leaf_before=clock.now)
    let(started, clock, 5 * MINUTE)
    assert len(served(api)) == 2 and first.files == second.files == api.data(TLS)


@pytest.mark.parametrize("behind", [0, 1])
def test_a_new_authority_waits_its_time_though_the_clocks_differ_by_twenty_minutes(
    api: ApiServer, clock: Clock, behind: int
) -> None:
    """One replica begins the wait and another ends it: by their own clocks it would be wrong."""
    offsets = [-SKEW_LIMIT + SECOND, SKEW_LIMIT - SECOND]
    replicas = [
        Replica(api, name, offset=offsets[(number + behind) % 2])
        for number, name in enumerate("ab")
    ]
    until(lambda: all(replica.files for replica in replicas), replicas, passing(clock))
    clock.now += MINUTE
    wish(api, renew_authority_before=clock.now)
    until(
        lambda: read_authorities(api.data(CA)).next_trusted_since is not None,
        replicas,
        passing(clock),
    )
    published = clock.now
    assert replicas[0].leader
    replicas[0].alive = False
    until(lambda: phase(api) == "retiring", replicas, passing(clock))
    assert POLICY.trust_wait <= clock.now - published <= POLICY.trust_wait + MINUTE
    judge_past(api)


def test_certificates_are_valid_by_the_api_servers_clock(api: ApiServer) -> None:
    replica = Replica(api, "a", offset=9 * MINUTE)
    replica.turn()
    assert replica.leaf.certificate.not_before == START - HOUR


def test_a_wish_from_a_laptop_that_is_ahead_is_met_once(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    wish(api, renew_leaf_before=clock.now + 5 * MINUTE)
    let(started, clock, 20 * MINUTE)
    assert len(served(api)) == 2


# What people and accidents do.


def test_the_serving_secret_is_deleted(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """We may not create it. Nobody stops serving; once it exists again, it is filled."""
    before = started[0].files
    del api.objects[TLS]
    let(started, clock, 10 * MINUTE)
    for replica in started:
        assert replica.files == before
        assert len(replica.told("serving_failed")) == 1
        assert f"{TLS}: 404" in str(replica.told("serving_failed")[0]["error"])
    api.edit(TLS, {})
    let(started, clock, 5 * MINUTE)
    assert all(replica.files == api.data(TLS) for replica in started)
    assert len(signers(api)) == 1, "it was the leaf only"
    judge_past(api)


@pytest.mark.parametrize("path", [TLS, CA])
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"tls.crt": b"", "signer.crt": b""},
        {"tls.crt": b"x", "tls.key": b"y", "signer.crt": b"x", "state.json": b"["},
    ],
)
def test_a_secret_is_emptied_or_spoilt(
    api: ApiServer, started: list[Replica], clock: Clock, path: str, content: dict[str, bytes]
) -> None:
    before = started[0].files
    api.edit(path, content)
    for replica in started[1:]:
        replica.turn()
        assert replica.files == before, "what works is not replaced by what does not"
    let(started, clock, 15 * MINUTE)
    assert all(replica.files == api.data(TLS) for replica in started)
    judge_past(api)
    bundle = api.bundles()[0]
    assert accepts(started[0].leaf, bundle, clock.now, "podgrace.system.svc")


def test_both_secrets_are_emptied_at_once(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """Replicas keep serving; a new authority is trusted first, even if none is seen to serve."""
    before = started[0].files
    api.edit(CA, {})
    api.edit(TLS, {})
    let(started, clock, 10 * SECOND)
    assert all(
        replica.files == before and trusts(bundle, replica.leaf)
        for replica in started
        for bundle in api.bundles()
    )
    assert all(len(load_bundle(bundle)) == 2 for bundle in api.bundles())
    let(started, clock, MINUTE)
    assert all(replica.files == api.data(TLS) != before for replica in started)
    assert len(signers(api)) == 2
    judge_past(api, trust_wait=10 * SECOND)


def test_a_key_of_another_pair_in_the_serving_secret(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    stranger = Authority.create(now=START).issue("podgrace.system.svc", now=START)
    before = started[1].files
    api.edit(TLS, {**api.data(TLS), store.KEY_FILE: stranger.key_pem})
    started[1].turn()
    assert started[1].files == before
    assert "does not belong" in str(started[1].told("secret_unreadable"))
    let(started, clock, MINUTE)
    assert started[1].files == api.data(TLS) != before


def test_a_leaf_that_its_own_bundle_does_not_vouch_for_is_not_served(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """Two Secrets were mixed by hand: the pair fits, and no client would accept it."""
    stranger = Authority.create(now=START).issue("podgrace.system.svc", now=START)
    before = started[1].files
    api.edit(
        TLS, {**api.data(TLS), store.CERT_FILE: stranger.cert_pem, store.KEY_FILE: stranger.key_pem}
    )
    started[1].turn()
    assert started[1].files == before
    let(started, clock, MINUTE)
    assert all(trusts(api.bundles()[0], replica.leaf) for replica in started)


@pytest.mark.parametrize(
    "bundle", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_bundle_is_blanked_or_spoilt(
    api: ApiServer, started: list[Replica], clock: Clock, bundle: bytes
) -> None:
    right = api.bundles()[0]
    api.edit_bundle(1, bundle)
    started[0].turn()
    assert api.bundles() == [right, right]
    assert len(signers(api)) == len(served(api)) == 1
    assert clock.now < START + MINUTE


def test_a_person_publishes_a_bundle_of_their_own(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """Theirs is kept for a day beside ours: something may still serve with it."""
    ours, theirs = api.bundles()[0], Authority.create(now=START).cert_pem
    for number in (0, 1):
        api.edit_bundle(number, theirs)
    let(started, clock, MINUTE)
    assert set(api.bundles()) == {ours + theirs}
    let(started, clock, 23 * HOUR, HOUR)
    assert theirs in api.bundles()[0]
    let(started, clock, 2 * HOUR, HOUR)
    assert set(api.bundles()) == {ours}
    assert len(served(api)) == 1


def test_the_configuration_is_deleted_and_comes_back_empty(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    right, config = api.bundles()[0], api.objects.pop(CONFIG)
    let(started, clock, 5 * MINUTE)
    assert started[0].told("configuration_missing") and not started[0].told("rotation_failed")
    for entry in config["webhooks"]:
        del entry["clientConfig"]["caBundle"]
    api.put(CONFIG, config)
    let(started, clock, MINUTE)
    assert set(api.bundles()) == {right}
    del api.objects[CONFIG]
    let(started, clock, MINUTE)
    assert len(started[0].told("configuration_missing")) == 2, "told again when it happens again"


def test_a_stolen_key_is_distrusted_at_once(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """The procedure of docs/certificates.md, with the replicas looking between any two steps."""
    old = api.bundles()[0]
    for path in (CA, TLS):
        del api.objects[path]
        let(started, clock, MINUTE)
    for number in (0, 1):
        api.edit_bundle(number, b"")
        let(started, clock, MINUTE)
    assert api.bundles() == [b"", b""], "nobody decides anything while the Secrets are missing"
    for path in (CA, TLS):
        api.edit(path, {})
        let(started, clock, 5 * MINUTE)
    (bundle,) = set(api.bundles())
    assert len(load_bundle(bundle)) == 1 and bundle != old
    assert all(
        accepts(replica.leaf, bundle, clock.now, "podgrace.system.svc") for replica in started
    )


def test_an_entry_is_added_by_an_upgrade(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    config = {**api.objects[CONFIG]}
    config["webhooks"] = [
        *config["webhooks"],
        {"name": "c.podgrace.io", "clientConfig": {"service": {"name": "podgrace"}}},
    ]
    api.put(CONFIG, config)
    let(started, clock, MINUTE)
    assert len(api.bundles()) == 3 and len(set(api.bundles())) == 1


# The API is broken.


def test_the_api_is_down_for_fifty_days(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """A valid leaf stays in use. Looks become rare; once the API is back, all is repaired."""
    before = started[0].files
    api.close()
    pauses = [started[0].turn() for _ in range(12)]
    assert pauses == sorted(pauses) and SLOWEST * 0.8 <= pauses[-1] <= SLOWEST * 1.2
    let(started, clock, 50 * DAY, DAY)
    for replica in started:
        assert replica.files == before and is_valid(replica.leaf.certificate, clock.now)
        assert len(replica.told("serving_failed")) == 1
        assert replica.manager.figures.failures > 40
    api.start()
    let(started, clock, 2 * MINUTE)
    assert all(replica.files == api.data(TLS) != before for replica in started)
    assert started[0].turn() < 13, "and looks are frequent again"


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (f"PUT {TLS}", 403),
        (f"PUT {TLS}", 500),
        (f"PUT {CA}", 403),
        (f"PATCH {CONFIG}", 403),
        (f"GET {CONFIG}", 403),
        (f"GET {CA}", 403),
        (f"PUT {LEASE}", 403),
    ],
)
def test_a_renewal_that_fails_harms_no_leaf_that_is_valid(
    api: ApiServer, started: list[Replica], clock: Clock, refused: str, status: int
) -> None:
    before = started[0].files
    api.refused[refused] = status
    clock.now += 41 * DAY
    let(started, clock, 10 * MINUTE)
    renewed = started[0].files != before
    # Only failures in what the leaf itself needs delay its renewal.
    assert renewed == (refused in (f"PUT {CA}", f"PATCH {CONFIG}"))
    assert all(is_valid(replica.leaf.certificate, clock.now) for replica in started)
    failed = [replica for replica in started if replica.told("rotation_failed")]
    if not renewed:
        assert failed and refused.split()[1] in str(failed[0].told("rotation_failed")[0]["error"])
        assert len(failed[0].told("rotation_failed")) == 1, "told once, not at every look"
        assert failed[0].manager.figures.failures > 3
    api.refused.clear()
    let(started, clock, 10 * MINUTE)
    assert all(replica.files == api.data(TLS) != before for replica in started)
    judge_past(api)


def test_a_bundle_that_can_not_be_published_does_not_stop_the_leaf(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    api.refused[f"PATCH {CONFIG}"] = 403
    wish(api, renew_authority_before=clock.now)
    clock.now += 41 * DAY
    let(started, clock, 10 * MINUTE)
    assert phase(api) == "trusting" and len(signers(api)) == 1, (
        "the next authority signs nothing before it is trusted"
    )
    assert len(served(api)) == 2, "and the leaf was renewed by the present one"
    judge_past(api)


def test_while_nobody_serves_looks_are_frequent_and_then_rarer(api: ApiServer) -> None:
    for path in (CA, TLS, LEASE, CONFIG):
        api.refused[f"GET {path}"] = 503
    replica = Replica(api, "a")
    pauses = [replica.turn() for _ in range(14)]
    assert pauses[:5] == [1.0] * 5 and pauses[-1] == SLOWEST


def test_our_own_mistake_is_told_and_the_loop_goes_on(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(api, "a")
    monkeypatch.setattr(records, "read_authorities", lambda _: 1 / 0)
    replica.turn()
    assert replica.told("rotation_failed") == [
        {"error": "ZeroDivisionError: division by zero", "bug": True}
    ]
    monkeypatch.undo()
    replica.turn()
    assert replica.files == api.data(TLS)


def test_a_newer_format_is_left_alone(api: ApiServer, started: list[Replica], clock: Clock) -> None:
    """During an upgrade, an older replica must not destroy what the newer one wrote."""
    api.edit(CA, {**api.data(CA), records.STATE: b'{"version": 2}'})
    before = api.data(CA)
    clock.now += 41 * DAY
    let(started, clock, 5 * MINUTE)
    assert api.data(CA) == before
    assert "version 2" in str(started[0].told("rotation_failed"))


# The figures.


def test_who_stops_leading_stops_showing_authorities(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    """Otherwise a former leader would alert for ever about an authority that was replaced."""
    first = started[0]
    assert set(first.manager.figures.expiries) == {"leaf", "authority"}
    api.objects[LEASE]["spec"]["holderIdentity"] = "somebody"
    clock.now += SECOND
    first.turn()
    assert (
        set(first.manager.figures.expiries) == {"leaf"} and first.manager.figures.phase == "unknown"
    )


def test_an_expired_leaf_is_shown_and_does_not_count_as_served(
    api: ApiServer, started: list[Replica], clock: Clock
) -> None:
    end = started[0].leaf.certificate.not_after
    clock.now = end + DAY
    api.refused[f"PUT {TLS}"] = 403
    late = Replica(api, "late")
    late.turn()
    assert late.manager.figures.expiries["leaf"] == end and not late.served


def test_no_key_is_ever_told(api: ApiServer, started: list[Replica], clock: Clock) -> None:
    wish(api, renew_authority_before=clock.now)
    let(started, clock, 10 * MINUTE)
    told = repr([replica.events for replica in started])
    assert "PRIVATE" not in told
    for data in (api.data(CA), api.data(TLS)):
        for name, content in data.items():
            if name.endswith(".key"):
                assert base64.b64encode(content).decode() not in told


def test_every_event_is_in_the_document() -> None:
    source = "".join(
        (Path(manager.__file__).parent / name).read_text() for name in ("manager.py", "cli.py")
    )
    told = set(re.findall(r'_report\(\s*"([a-z_]+)"', source)) | set(
        re.findall(r'_tell\(\s*[^,\n]+,\s*"([a-z_]+)"', source)
    )
    told |= {
        "authorities_written",
        "bundle_written",
        "serving_written",
        "serving_failed",
        "rotation_failed",
    }
    document = (Path(__file__).parents[2] / "docs" / "certificates.md").read_text()
    assert len(told) > 12
    assert [name for name in sorted(told) if f"`{name}`" not in document] == []


def test_the_clients_writes_are_counted(started: list[Replica]) -> None:
    assert started[0].manager.figures.writes == {
        "authorities": 1,
        "bundle": 1,
        "serving": 1,
    }
    assert started[1].manager.figures.writes == {
        "authorities": 0,
        "bundle": 0,
        "serving": 0,
    }
