"""The rotation as a pure decision: years of simulated time, every crash, every repair."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from certs import Authority, Leaf, records, rotation
from certs.authority import dump_bundle, load_bundle, service_names
from certs.errors import BadMaterial
from certs.records import Authorities, Serving
from certs.rotation import (
    Action,
    Policy,
    Publish,
    SaveAuthorities,
    SaveServing,
    World,
    decide,
    phase,
)
from tests.certs.judges import accepts, is_valid

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
POLICY = Policy(names=service_names("podgrace", "system"))


@dataclass
class Cluster:
    """What is stored; applies one write at a time, and remembers everything served or trusted."""

    policy: Policy = POLICY
    now: datetime = START
    world: World = field(default_factory=lambda: World(Authorities(), Serving(), (b"", b"")))
    leaves: list[Leaf] = field(default_factory=list)
    published: list[tuple[datetime, tuple[bytes, ...]]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def step(self) -> Action | None:
        action = decide(self.world, self.policy, self.now)
        if isinstance(action, SaveAuthorities):
            # Through the bytes of the Secret, as in reality.
            stored = records.read_authorities(records.write_authorities(action.authorities))
            assert stored.problems == ()
            self.world = replace(self.world, authorities=stored)
        elif isinstance(action, Publish):
            assert self.world.published is not None
            self.world = replace(self.world, published=(action.bundle,) * len(self.world.published))
            self.published.append((self.now, (action.bundle,)))
        elif isinstance(action, SaveServing):
            before, serving = (
                self.world.serving.leaf,
                records.read_serving(records.write_serving(action.serving)),
            )
            assert serving.leaf
            if before and before.certificate.not_after > self.now:
                self.lagging_api_server_accepts(serving.leaf)
            self.world = replace(self.world, serving=serving)
            if before != serving.leaf:
                self.leaves.append(serving.leaf)
        if action:
            self.log.append(f"{type(action).__name__}: {action.reason}")
        if len(set(self.world.published or ())) == 1:  # else a person has just spoilt an entry
            self.everybody_is_accepted()
        return action

    def settle(self) -> None:
        for _ in range(12):
            if self.step() is None:
                self.everybody_is_accepted()
                return
        pytest.fail(f"it never rests: {self.log[-12:]}")

    def wait(self, time: timedelta) -> None:
        self.now += time
        self.settle()

    def everybody_is_accepted(self) -> None:
        """Check that every valid leaf is trusted.

        A replica that was cut off at any time serves its own leaf to the end.
        """
        self.leaves = [leaf for leaf in self.leaves if leaf.certificate.not_after > self.now]
        for leaf in (leaf for leaf in self.leaves if is_valid(leaf.certificate, self.now)):
            issuers = [
                item
                for item in load_bundle(self.bundle)
                if leaf.certificate.signed_by(item) and is_valid(item, self.now)
            ]
            assert issuers, (
                f"at {self.now} nobody trusts a leaf that is valid to"
                f" {leaf.certificate.not_after}: {self.log}"
            )

    def lagging_api_server_accepts(self, leaf: Leaf) -> None:
        seen = [
            bundles for at, bundles in self.published if at <= self.now - self.policy.trust_wait
        ]
        late = [bundles for at, bundles in self.published if at > self.now - self.policy.trust_wait]
        for bundles in [*seen[-1:], *late]:
            assert all(accepts(leaf, bundle, self.now) for bundle in bundles)

    @property
    def bundle(self) -> bytes:
        assert self.world.published is not None
        assert len(set(self.world.published)) == 1
        return self.world.published[0]

    @property
    def leaf(self) -> Leaf:
        assert self.world.serving.leaf
        return self.world.serving.leaf

    @property
    def phase(self) -> str:
        return phase(self.world.authorities)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.settle()
    made.now += MINUTE  # so that what is asked for now is newer than what there is
    return made


def rotating(cluster: Cluster) -> Iterator[str]:
    """Walk through a requested rotation of the authority, with a stop before every write."""
    wish = replace(cluster.world.authorities, renew_authority_before=cluster.now)
    cluster.world = replace(cluster.world, authorities=wish)
    for _ in range(200):
        if cluster.step() is None:
            cluster.now += MINUTE if cluster.phase == "trusting" else 10 * DAY
            if cluster.phase == "steady":
                return
        else:
            yield cluster.log[-1]
    pytest.fail(f"the rotation never ends: {cluster.log[-5:]}")


def test_first_start_trusts_before_it_serves() -> None:
    cluster = Cluster()
    cluster.settle()
    assert [line.partition(":")[0] for line in cluster.log] == [
        "SaveAuthorities",
        "Publish",
        "SaveServing",
    ]
    assert accepts(cluster.leaf, cluster.bundle, cluster.now)
    assert cluster.leaf.certificate.names == {
        "podgrace",
        "podgrace.system",
        "podgrace.system.svc",
        "podgrace.system.svc.cluster.local",
    }
    assert cluster.step() is None


def test_without_the_configuration_the_first_leaf_waits() -> None:
    """Ready means trusted: Helm makes the configuration after the Deployment."""
    cluster = Cluster(world=World(Authorities(), Serving(), None))
    action = decide(cluster.world, POLICY, START)
    assert isinstance(action, SaveAuthorities)
    assert decide(replace(cluster.world, authorities=action.authorities), POLICY, START) is None


def test_twelve_years_pass_and_no_handshake_fails() -> None:
    cluster = Cluster()
    cluster.settle()
    signers, phases = {cluster.world.authorities.signer}, set[str]()
    ends = cluster.now + 12 * 365 * DAY
    verified = cluster.leaf
    while cluster.now < ends:
        # Around a rotation look often, as the manager does; otherwise once in two days.
        cluster.wait(MINUTE if cluster.phase == "trusting" else 2 * DAY)
        phases.add(cluster.phase)
        signers.add(cluster.world.authorities.signer)
        if cluster.leaf != verified:
            verified = cluster.leaf
            assert accepts(verified, cluster.bundle, cluster.now)
        assert cluster.leaf.certificate.not_after - cluster.now > 15 * DAY
    assert len({s.certificate.fingerprint for s in signers if s}) == 4, (
        "rotated after 40 months, three times in 12 years"
    )
    assert phases == {"steady", "trusting", "retiring"}
    assert sum("third of its life" in line for line in cluster.log) > 90


def test_leaves_of_both_authorities_are_accepted_throughout(cluster: Cluster) -> None:
    old_leaf, old_bundle = cluster.leaf, cluster.bundle
    both = [cluster.bundle for line in rotating(cluster) if line.startswith("Publish")]
    new_leaf = cluster.leaf
    assert not accepts(new_leaf, old_bundle, START), "the authority did change"
    assert [len(load_bundle(bundle)) for bundle in both] == [2, 2, 1], (
        "next beside signer; signer beside retired; alone"
    )
    for bundle in both[:2]:
        assert accepts(old_leaf, bundle, START)
    later = new_leaf.certificate.not_before + DAY
    assert accepts(new_leaf, both[0], later), "the bundle of before the change"
    assert accepts(new_leaf, both[1], later)
    assert not accepts(old_leaf, cluster.bundle, START), "and the old one is distrusted at last"


def test_the_next_authority_signs_only_after_the_wait(cluster: Cluster) -> None:
    cluster.world = replace(
        cluster.world,
        authorities=replace(cluster.world.authorities, renew_authority_before=cluster.now),
    )
    cluster.settle()
    before = cluster.leaf
    cluster.wait(POLICY.trust_wait - timedelta(seconds=1))
    assert cluster.phase == "trusting" and cluster.leaf == before
    cluster.wait(timedelta(seconds=1))
    assert cluster.phase == "retiring" and cluster.leaf != before


def test_a_reverted_bundle_starts_the_wait_again(cluster: Cluster) -> None:
    old = cluster.bundle
    cluster.world = replace(
        cluster.world,
        authorities=replace(cluster.world.authorities, renew_authority_before=cluster.now),
    )
    cluster.settle()
    cluster.now += POLICY.trust_wait
    cluster.world = replace(cluster.world, published=(cluster.bundle, old))
    cluster.settle()
    assert cluster.phase == "trusting"
    assert cluster.world.authorities.next_trusted_since == cluster.now
    assert cluster.bundle != old


def test_a_wish_for_a_new_leaf_is_met_once(cluster: Cluster) -> None:
    before, bundle = cluster.leaf, cluster.bundle
    cluster.now += MINUTE
    cluster.world = replace(
        cluster.world, authorities=replace(cluster.world.authorities, renew_leaf_before=cluster.now)
    )
    cluster.settle()
    assert cluster.leaf != before and cluster.bundle == bundle
    after = cluster.leaf
    cluster.wait(DAY)
    assert cluster.leaf == after


def test_new_names_make_a_new_leaf(cluster: Cluster) -> None:
    cluster.policy = replace(POLICY, names=(*POLICY.names, "podgrace.example"))
    cluster.settle()
    assert "podgrace.example" in cluster.leaf.certificate.names


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_crash_before_any_write_is_recovered(cluster: Cluster, stop: int) -> None:
    """A crash leaves only what is stored between two writes: go on from there, a day later."""
    for number, _ in enumerate(rotating(cluster), start=1):
        if number == stop:
            break
    cluster.now += DAY
    cluster.settle()
    for _ in range(100):
        cluster.wait(MINUTE if cluster.phase == "trusting" else 10 * DAY)
    assert cluster.phase == "steady"
    assert accepts(cluster.leaf, cluster.bundle, cluster.now)


def test_a_lost_ca_secret_costs_no_handshake(cluster: Cluster) -> None:
    old_leaf, old_bundle = cluster.leaf, cluster.bundle
    cluster.world = replace(cluster.world, authorities=Authorities())
    cluster.settle()
    assert cluster.phase == "trusting"
    assert old_bundle in cluster.bundle, "what signed the leaf that is served stays trusted"
    assert cluster.leaf.certificate == old_leaf.certificate
    cluster.wait(POLICY.trust_wait)
    assert cluster.leaf.certificate != old_leaf.certificate
    cluster.wait(POLICY.leaf_life + 2 * DAY)
    assert old_bundle not in cluster.bundle


def test_a_damaged_key_is_as_good_as_lost(cluster: Cluster) -> None:
    data = records.write_authorities(cluster.world.authorities)
    cluster.world = replace(
        cluster.world, authorities=records.read_authorities({**data, "signer.key": b"?"})
    )
    assert cluster.world.authorities.problems
    cluster.settle()
    cluster.wait(POLICY.trust_wait)
    assert cluster.phase == "retiring"


def test_everything_lost_but_the_configuration_starts_anew(cluster: Cluster) -> None:
    old = cluster.bundle
    cluster.world = World(Authorities(), Serving(), cluster.world.published)
    cluster.settle()
    assert cluster.phase == "trusting" and cluster.world.serving.leaf is None, (
        "those others are not cut off: trust first"
    )
    cluster.wait(rotation.HURRY)
    assert accepts(cluster.leaf, cluster.bundle, cluster.now)
    assert old in cluster.bundle, "other replicas may still serve with it"


def test_a_strangers_authority_is_kept_for_a_day(cluster: Cluster) -> None:
    stranger = Authority.create(now=START)
    cluster.world = replace(
        cluster.world, published=(cluster.bundle + stranger.cert_pem, cluster.bundle)
    )
    cluster.settle()
    assert stranger.cert_pem in cluster.bundle
    cluster.wait(timedelta(hours=23))
    assert stranger.cert_pem in cluster.bundle
    cluster.wait(timedelta(hours=2))
    assert stranger.cert_pem not in cluster.bundle
    assert cluster.phase == "steady"


def test_strangers_can_not_fill_the_secret(cluster: Cluster) -> None:
    crowd = [Authority.create(now=START).certificate for _ in range(40)]
    cluster.world = replace(
        cluster.world, published=(cluster.bundle + dump_bundle(crowd), cluster.bundle)
    )
    cluster.settle()
    assert len(load_bundle(cluster.bundle)) == 1 + rotation.RETIRED_LIMIT


def test_garbage_and_an_emptied_entry_are_repaired(cluster: Cluster) -> None:
    bundle = cluster.bundle
    cluster.world = replace(cluster.world, published=(b"", b"garbage"))
    cluster.settle()
    assert cluster.bundle == bundle


def test_a_cluster_that_slept_for_years_wakes_up(cluster: Cluster) -> None:
    cluster.wait(6 * 365 * DAY)
    assert accepts(cluster.leaf, cluster.bundle, cluster.now)
    assert cluster.phase == "steady"


def test_a_clock_that_went_back_makes_no_new_keys(cluster: Cluster) -> None:
    world = cluster.world
    cluster.now -= 30 * DAY
    assert cluster.step() is None
    assert cluster.world == world


def test_a_leaf_is_renewed_though_the_configuration_can_not_be_read_or_written(
    cluster: Cluster,
) -> None:
    before = cluster.leaf
    now = cluster.now + 45 * DAY
    unreadable = replace(cluster.world, published=None)
    action = decide(unreadable, POLICY, now)
    assert isinstance(action, SaveServing) and action.serving.leaf != before
    wrong = replace(cluster.world, published=(b"", b""))
    assert isinstance(decide(wrong, POLICY, now), Publish)
    assert isinstance(decide(wrong, POLICY, now, blocked=frozenset({Publish})), SaveServing)


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(BadMaterial, match="version 9"):
        records.read_authorities({records.STATE: b'{"version": 9}'})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"retired": [1, {}, {"certificate": "x", "until": 3}], "nextTrustedSince": "noon"}',
    ],
)
def test_a_damaged_state_is_named_and_passed_over(text: bytes) -> None:
    found = records.read_authorities({records.STATE: text})
    assert found.problems
    assert found == Authorities()
