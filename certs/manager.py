"""The loop that keeps the cluster's certificates right, on one replica at a time.

Every few seconds: look at the serving Secret, which the kubelet gives to the webhook container as
files; then, if it is our turn, do what `certs.rotation` says, one write at a time, and look again
after each.

Nothing here can harm a certificate that works: only a matching pair that has not expired replaces
it. Whatever fails is reported, counted and retried, at intervals of up to two minutes. The process
ends only when asked to.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from certs import lease, records, rotation, store
from certs.authority import load_bundle
from certs.errors import ApiConflict, ApiMissing, BadClock, CertificateError
from certs.kubernetes import Client
from certs.rotation import Policy, Publish, SaveAuthorities, SaveServing

STEPS: Final = 16
"""The most writes in one turn. A complete first start needs three; a loop would be our mistake, and
must not become load."""
SKEW_LIMIT: Final = timedelta(minutes=10)
"""If our clock differs more from the API server's, we decide nothing: the backdated hour must cover
it and the rest."""
SLOWEST: Final = 120.0


class Report(Protocol):
    """Reports an event and its fields."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """Report it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Which objects are ours."""

    ca_secret: str
    secret: str
    lease: str
    webhook_configuration: str
    identity: str
    policy: Policy
    poll: float = 10.0


@dataclass(slots=True)
class Figures:
    """What `certs.metrics` shows."""

    leader: bool = False
    served: bool = False
    """The serving Secret has held a usable pair."""
    phase: str = "unknown"
    succeeded_at: datetime | None = None
    failures: int = 0
    writes: dict[str, int] = field(
        default_factory=lambda: {"authorities": 0, "bundle": 0, "serving": 0}
    )
    expiries: dict[str, datetime] = field(default_factory=dict)


class Manager:
    """Holds what outlives a turn: when the Lease last changed, and what was already reported."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        report: Report,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.figures = Figures()
        self._settings, self._client, self._report = settings, client, report
        self._clock, self._chance = clock, chance
        self._seen: lease.Seen | None = None
        self._told: dict[str, str] = {}
        self._failed_in_a_row = 0

    def run(self, stop: threading.Event) -> None:
        """Run until *stop* is set."""
        while not stop.is_set():
            stop.wait(self.turn())
        if self.figures.leader:
            self._release()

    def turn(self) -> float:
        """Do what is due now; returns the seconds until the next look."""
        fine = self._guarded("serving", self._look)
        fine &= self._guarded("rotation", self._rotate)
        if fine:
            self._failed_in_a_row = 0
            if self.figures.leader:
                # A follower did not try the things that may be broken.
                self.figures.succeeded_at = self._clock()
        else:
            self._failed_in_a_row += 1
            self.figures.failures += 1
        return self._pause()

    def _pause(self) -> float:
        # The webhook waits for its first pair: look often at first.
        waiting = not self.figures.served
        base = min(1.0, self._settings.poll) if waiting else self._settings.poll
        slowed: float = min(
            base * 2.0 ** min(max(self._failed_in_a_row - (5 if waiting else 0), 0), 10), SLOWEST
        )
        return slowed * (0.8 + 0.4 * self._chance())

    def _guarded(self, what: str, do: Callable[[], None]) -> bool:
        try:
            do()
        except CertificateError as error:
            self._tell(what, f"{what}_failed", error=str(error))
            return False
        # Our bug must not stop the renewal of a certificate that works.
        except Exception as error:  # noqa: BLE001
            self._tell(what, f"{what}_failed", error=f"{type(error).__name__}: {error}", bug=True)
            return False
        self._told.pop(what, None)
        return True

    def _tell(self, what: str, event: str, **fields: object) -> None:
        """Report a problem once, not every ten seconds."""
        text = f"{event} {fields}"
        if self._told.get(what) != text:
            self._told[what] = text
            self._report(event, **fields)

    def _tell_problems(self, secret: str, problems: Sequence[str]) -> None:
        """Report each set of problems once, and again when it comes back."""
        if problems:
            self._tell(
                f"secret {secret}", "secret_unreadable", secret=secret, problems=list(problems)
            )
        else:
            self._told.pop(f"secret {secret}", None)

    def _look(self) -> None:
        secret = self._client.secret(self._settings.secret)
        self._judge(records.read_serving(secret.data))

    def _judge(self, serving: records.Serving) -> None:
        """Note whether the stored pair can be served."""
        leaf = serving.leaf
        self._tell_problems(self._settings.secret, serving.problems)
        if leaf is None:
            return
        self.figures.expiries["leaf"] = leaf.certificate.not_after
        if self._now() >= leaf.certificate.not_after:
            return
        if not any(leaf.certificate.signed_by(item) for item in load_bundle(serving.bundle)):
            # Somebody mixed two Secrets: the server refuses them, too.
            self._tell_problems(
                self._settings.secret,
                [f"{store.CERT_FILE} was signed by nothing in {store.CA_FILE}"],
            )
            return
        self.figures.served = True

    def _rotate(self) -> None:
        led, self.figures.leader = self.figures.leader, False
        if abs(self._client.skew) > SKEW_LIMIT:
            minutes = self._client.skew / timedelta(minutes=1)
            if led:
                self._release()
            raise BadClock(
                f"the API server's clock is {minutes:.0f} minutes ahead of ours;"
                f" accepted: {SKEW_LIMIT.seconds // 60} either way. Nothing is decided by it"
            )
        if not self._my_turn():
            self._note(None)
            return
        self.figures.leader = True
        blocked: dict[type, CertificateError] = {}
        for _ in range(STEPS):
            try:
                if not self._step(blocked):
                    break
            except ApiConflict as error:
                # Somebody else wrote: read again. A replica that always conflicts lost the Lease
                # long ago.
                self._report("conflict", error=str(error))
                if not self._my_turn():
                    self.figures.leader = False
                    return
        else:
            self._tell("unsettled", "rotation_unsettled", writes=STEPS, bug=True)
        if blocked:
            raise next(iter(blocked.values()))

    def _step(self, blocked: dict[type, CertificateError]) -> bool:
        """Look, decide, write. False: there is nothing to do."""
        settings, client = self._settings, self._client
        # In this order; certs.rotation says why.
        ca_secret = client.secret(settings.ca_secret)
        secret = client.secret(settings.secret)
        try:
            webhooks = client.webhooks(settings.webhook_configuration)
        except ApiMissing:
            webhooks = None
            self._tell(
                "configuration", "configuration_missing", name=settings.webhook_configuration
            )
        else:
            self._told.pop("configuration", None)
        authorities = records.read_authorities(ca_secret.data)
        serving = records.read_serving(secret.data)
        self._tell_problems(settings.ca_secret, authorities.problems)
        world = rotation.World(
            authorities, serving, None if webhooks is None else tuple(webhooks.bundles.values())
        )
        self._note(authorities)
        action = rotation.decide(world, settings.policy, self._now(), blocked=frozenset(blocked))
        if action is None:
            return False
        try:
            if isinstance(action, SaveAuthorities):
                client.save_secret(ca_secret, records.write_authorities(action.authorities))
                self._note(action.authorities)
                self._done("authorities", action.reason, phase=self.figures.phase)
            elif isinstance(action, Publish) and webhooks is not None:
                client.publish(settings.webhook_configuration, webhooks, action.bundle)
                self._done(
                    "bundle",
                    action.reason,
                    entries=sorted(webhooks.bundles),
                    authorities=len(load_bundle(action.bundle)),
                )
            elif isinstance(action, SaveServing):
                client.save_secret(secret, records.write_serving(action.serving))
                self._done("serving", action.reason, **_facts(action.serving))
                self._judge(action.serving)
        except ApiConflict:
            raise
        except CertificateError as error:
            blocked[type(action)] = error
        return True

    def _now(self) -> datetime:
        """Tell the API server's time: it verifies what we make, and is the same for every replica.

        Otherwise a wait that one replica begins and another ends would be wrong by the difference
        of their clocks.
        """
        return self._clock() + self._client.skew

    def _note(self, authorities: records.Authorities | None) -> None:
        """Remember what `certs.metrics` shows about authorities. None: another replica shows it."""
        self.figures.phase = rotation.phase(authorities) if authorities else "unknown"
        known = {"authority": authorities.signer, "next": authorities.next} if authorities else {}
        leaf = {kind: end for kind, end in self.figures.expiries.items() if kind == "leaf"}
        self.figures.expiries = leaf | {
            kind: authority.certificate.not_after for kind, authority in known.items() if authority
        }

    def _done(self, what: str, reason: str, **fields: object) -> None:
        self.figures.writes[what] += 1
        self._report(f"{what}_written", reason=reason, **fields)

    def _my_turn(self) -> bool:
        """Hold the Lease, or take it if nobody does."""
        found = self._client.lease(self._settings.lease)
        now = self._clock()
        step = lease.turn(found.get("spec") or {}, self._settings.identity, now, self._seen)
        self._seen = step.seen
        if step.spec is None:
            return step.mine
        try:
            saved = self._client.save_lease(found, step.spec)
        except ApiConflict:
            return False
        taken = (found.get("spec") or {}).get("holderIdentity") != self._settings.identity
        self._seen = lease.turn(saved.get("spec") or {}, self._settings.identity, now, None).seen
        if taken:
            self._report(
                "lease_taken", lease=self._settings.lease, identity=self._settings.identity
            )
        return True

    def _release(self) -> None:
        """Give the Lease back. A try is enough: it ends by itself."""
        try:
            found = self._client.lease(self._settings.lease)
            if (found.get("spec") or {}).get("holderIdentity") == self._settings.identity:
                self._client.save_lease(found, lease.released(found["spec"], self._clock()))
        except CertificateError as error:
            self._report("lease_not_released", error=str(error))


def _facts(serving: records.Serving) -> dict[str, Any]:
    if serving.leaf is None:
        return {}
    certificate = serving.leaf.certificate
    return {
        "serial": f"{certificate.raw.serial_number:032x}",
        "notAfter": certificate.not_after.isoformat(),
        "names": sorted(certificate.names),
    }
