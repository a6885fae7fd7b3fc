"""What to do next, so that no handshake ever fails: trust first, use later, distrust last.

In: what the cluster holds, and the time. Out: one write, or none. Whoever makes the write then
looks and asks again. The only state is what is stored, so it does not matter if a replica crashes
between any two writes, or if another one goes on. (Only new keys do not depend on the arguments.)

    steady     one signer, trusted by every entry of the webhook configuration; leaves are renewed
               with a third of their life left
    trusting   the signer has a third of its life left: a next one is made, published beside it,
               read back, and given time, because every API server learns of a bundle through its
               own watch
    retiring   the next one is the signer now and the leaf is new; the old one stays trusted until
               its last leaf has expired, since a replica that can't reach the API server keeps
               using what it has

This is safe without a leader if each write is refused when its object has changed since it was
read, and if the CA Secret is read before the webhook configuration. A replica with an old CA Secret
then sees an authority that it does not know, and so it first writes the CA Secret (which is
refused).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from certs.authority import (
    BACKDATE,
    CA_LIFE,
    LEAF_LIFE,
    Authority,
    Certificate,
    dump_bundle,
    load_bundle,
)
from certs.records import Authorities, Retired, Serving

HURRY: Final = timedelta(seconds=15)
"""Replaces the whole wait if no usable leaf is stored, but others may still serve a leaf that
somebody else signed."""
RETIRED_LIMIT: Final = 16
"""Limits what strangers can make us keep: a Secret holds 1 MiB, and each API server parses the
bundle."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator chose."""

    names: tuple[str, ...]
    leaf_life: timedelta = LEAF_LIFE
    ca_life: timedelta = CA_LIFE
    trust_wait: timedelta = timedelta(minutes=5)
    """How long a new authority is published before it signs what is served."""
    margin: timedelta = timedelta(hours=1)
    """Added where clocks of different machines are compared."""
    foreign_grace: timedelta = timedelta(days=1)
    """How long somebody else's authority stays trusted: replicas of an earlier `tls.type` may still
    serve with it."""


@dataclass(frozen=True, slots=True)
class World:
    """What was read, in this order."""

    authorities: Authorities
    serving: Serving
    published: tuple[bytes, ...] | None
    """The bundle of each entry of the webhook configuration; None if that does not exist."""


@dataclass(frozen=True, slots=True)
class SaveAuthorities:
    """Write the CA Secret."""

    authorities: Authorities
    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Write the bundle into every entry of the webhook configuration."""

    bundle: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class SaveServing:
    """Write the serving Secret."""

    serving: Serving
    reason: str


Action = SaveAuthorities | Publish | SaveServing


def decide(
    world: World, policy: Policy, now: datetime, *, blocked: frozenset[type] = frozenset()
) -> Action | None:
    """Choose the next write. Kinds in *blocked* just failed; what does not need them goes on."""
    return next(
        (action for action in _candidates(world, policy, now) if type(action) not in blocked), None
    )


def phase(authorities: Authorities) -> str:
    """Name the phase of the authority's life."""
    if authorities.next is not None:
        return "trusting"
    if authorities.signer is None:
        return "missing"
    return "retiring" if authorities.retired else "steady"


@dataclass(frozen=True, slots=True)
class _Situation:
    """What follows from what was read, at one moment."""

    world: World
    policy: Policy
    now: datetime
    signer: Authority | None
    following: Authority | None
    """The next authority. Like `signer`, None once it has expired."""
    served: Certificate | None
    """The stored leaf, unless it has expired."""
    bundles: tuple[tuple[Certificate, ...], ...]
    foreign: tuple[Certificate, ...]
    """What is published and unknown to us."""
    due: tuple[Retired, ...]
    """Retired authorities of which no leaf is left."""
    bundle: bytes
    """What every entry of the webhook configuration should hold."""

    @property
    def stored(self) -> Authorities:
        """The content of the CA Secret."""
        return self.world.authorities

    @property
    def protect(self) -> bool:
        """Whether a trusted certificate is being served."""
        served = self.served
        return served is not None and any(
            served.signed_by(item) for bundle in self.bundles for item in bundle
        )

    @property
    def outlived(self) -> datetime:
        """When the last leaf has expired, even one that another replica signs at this moment."""
        end = self.served.not_after if self.served else self.now
        return max(self.now + self.policy.leaf_life, end) + self.policy.margin

    def everywhere(self, authority: Authority) -> bool:
        """Whether every entry of the webhook configuration trusts an authority."""
        return self.world.published is not None and all(
            authority.certificate in bundle for bundle in self.bundles
        )


def _situation(world: World, policy: Policy, now: datetime) -> _Situation:
    stored, leaf = world.authorities, world.serving.leaf
    signer, following = _alive(stored.signer, now), _alive(stored.next, now)
    served = leaf.certificate if leaf is not None and now < leaf.certificate.not_after else None
    bundles = tuple(load_bundle(entry) for entry in world.published or ())
    known = {item.fingerprint for item in _everything(stored)}
    foreign = [
        item for item in _merge(bundles) if item.fingerprint not in known and now < item.not_after
    ]
    due = tuple(item for item in stored.retired if _gone(item, served, now))
    trusted = [a.certificate for a in (signer, following) if a] + [
        item.certificate for item in stored.retired if item not in due
    ]
    return _Situation(
        world,
        policy,
        now,
        signer,
        following,
        served,
        bundles,
        tuple(foreign[: max(RETIRED_LIMIT - len(stored.retired), 0)]),
        due,
        dump_bundle(_merge([trusted])),
    )


def _candidates(world: World, policy: Policy, now: datetime) -> Iterator[Action]:
    """Give every write that is right by itself, the most urgent first."""
    it = _situation(world, policy, now)
    yield from _keep_foreign(it)
    yield from _make_signer(it)
    yield from _trust(it)
    yield from _use(it)
    yield from _distrust(it)


def _keep_foreign(it: _Situation) -> Iterator[Action]:
    """Remember strangers' authorities: our first bundle must not drop what others trusted."""
    if not it.foreign:
        return
    served, grace = it.served, it.now + it.policy.foreign_grace
    kept = (
        Retired(item, it.outlived if served and served.signed_by(item) else grace)
        for item in it.foreign
    )
    yield SaveAuthorities(
        replace(it.stored, retired=(*it.stored.retired, *kept)),
        "a stranger's authority is kept for a while",
    )


def _make_signer(it: _Situation) -> Iterator[Action]:
    """Make an authority if there is none, or the next one when it is due."""
    others = bool(it.foreign) or len(it.due) < len(it.stored.retired)
    if it.signer is None and not it.protect and not others:
        # No trusted certificate is being served: nothing can break, so nothing needs to wait.
        fresh = it.following or Authority.create(now=it.now, life=it.policy.ca_life)
        yield SaveAuthorities(
            replace(it.stored, signer=fresh, next=None, next_trusted_since=None),
            "there is no authority",
        )
    elif it.following is None and (reason := _signer_due(it.signer, it.stored, it.now)):
        fresh = Authority.create(now=it.now, life=it.policy.ca_life)
        yield SaveAuthorities(
            replace(it.stored, signer=it.signer, next=fresh, next_trusted_since=None), reason
        )


def _trust(it: _Situation) -> Iterator[Action]:
    """Trust first: publish the bundle, and note when all of it is published."""
    following, since = it.following, it.stored.next_trusted_since
    if following and since and not it.everywhere(following):
        yield SaveAuthorities(
            replace(it.stored, next_trusted_since=None),
            "the next authority is not published any more",
        )
    if (
        (it.signer or following)
        and not it.foreign
        and any(entry != it.bundle for entry in it.world.published or ())
    ):
        yield Publish(
            it.bundle, "entries of the webhook configuration do not trust what they should, or more"
        )
    if following and it.everywhere(following) and not since:
        yield SaveAuthorities(
            replace(it.stored, next_trusted_since=it.now), "the next authority is published"
        )


def _use(it: _Situation) -> Iterator[Action]:
    """Use later: promote the next authority, renew the leaf."""
    following, since = it.following, it.stored.next_trusted_since
    wait = it.policy.trust_wait
    if not (it.signer or it.protect):
        wait = min(wait, HURRY)
    if following and since and it.everywhere(following) and it.now >= since + wait:
        old = (Retired(it.signer.certificate, it.outlived),) if it.signer else ()
        promoted = replace(
            it.stored,
            signer=following,
            next=None,
            next_trusted_since=None,
            retired=(*it.stored.retired, *old),
        )
        yield SaveAuthorities(promoted, "the next authority is trusted long enough")
    signer, serving = it.signer, it.world.serving
    if signer and (reason := _leaf_due(it.world, signer, it.policy, it.now)):
        # A renewal under the same authority needs no new trust; the first leaf of another one does.
        if it.everywhere(signer) or (it.served and it.served.signed_by(signer.certificate)):
            leaf = signer.issue(*it.policy.names, now=it.now, life=it.policy.leaf_life)
            yield SaveServing(Serving(leaf, it.bundle), reason)
    elif serving.leaf is not None and it.bundle and serving.bundle != it.bundle:
        yield SaveServing(replace(serving, bundle=it.bundle), "the bundle changed")


def _distrust(it: _Situation) -> Iterator[Action]:
    """Distrust last, and out of the bundle first.

    What is published but not in the Secret counts as a stranger's.
    """
    gone = [item for item in it.due if not any(item.certificate in found for found in it.bundles)]
    if gone:
        yield SaveAuthorities(
            replace(
                it.stored, retired=tuple(item for item in it.stored.retired if item not in gone)
            ),
            "no leaf of it is left",
        )


def _alive(authority: Authority | None, now: datetime) -> Authority | None:
    """Treat an expired authority as none.

    One from the future stays: a clock is wrong, and new keys would not help.
    """
    return authority if authority is not None and now < authority.certificate.not_after else None


def _signer_due(signer: Authority | None, stored: Authorities, now: datetime) -> str | None:
    if signer is None:
        return "the authority is lost or expired, and leaves of others are served"
    if now >= signer.certificate.renew_at:
        return "a third of the authority's life is left"
    if _asked(signer.certificate, stored.renew_authority_before, now):
        return "a new authority is asked for"
    return None


def _leaf_due(world: World, signer: Authority, policy: Policy, now: datetime) -> str | None:
    leaf = world.serving.leaf
    if leaf is None:
        return "there is no leaf"
    if not leaf.certificate.signed_by(signer.certificate):
        return "the leaf is of another authority"
    if _asked(leaf.certificate, world.authorities.renew_leaf_before, now):
        return "a new leaf is asked for"
    if now < leaf.certificate.not_before:
        return None  # as with an authority from the future
    return leaf.certificate.needs_renewal(now, policy.names)


def _gone(item: Retired, served: Certificate | None, now: datetime) -> bool:
    if now >= item.certificate.not_after:
        return True
    return now >= item.until and not (served and served.signed_by(item.certificate))


def _asked(certificate: Certificate, wish: datetime | None, now: datetime) -> bool:
    """Tell whether a person wants it replaced.

    A wish from the future waits: a new certificate made now would not meet it either.
    """
    return wish is not None and certificate.not_before + BACKDATE < wish <= now


def _everything(stored: Authorities) -> list[Certificate]:
    authorities = [a.certificate for a in (stored.signer, stored.next) if a is not None]
    return authorities + [item.certificate for item in stored.retired]


def _merge(bundles: Sequence[Sequence[Certificate]]) -> list[Certificate]:
    return list({item.fingerprint: item for bundle in bundles for item in bundle}.values())
