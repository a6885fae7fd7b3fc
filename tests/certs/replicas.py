"""Replicas of `certs.manager` against the tests' API server, and a check of all they stored."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from certs import Leaf, store
from certs.authority import load_bundle, service_names
from certs.kubernetes import Client, Server
from certs.manager import Manager, Settings
from certs.records import read_authorities, read_serving, write_authorities, write_serving
from certs.rotation import Policy
from tests.certs.apiserver import CA, CONFIG, NAMESPACE, TLS, ApiServer, bundles, decoded
from tests.certs.judges import is_valid

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(names=service_names("podgrace", NAMESPACE))


class Dead(BaseException):
    """The process is gone: not an error that anything could catch."""


class Mortal(Client):
    """Dies around its n-th write: before it is sent, or once it is done but nobody knows."""

    dies_at = 0
    too_late = False
    writes = 0

    def _call(self, method: str, prefix: str, name: str, body: Any = None, query: str = "") -> Any:
        self.writes += body is not None
        dies = body is not None and self.writes == self.dies_at
        if dies and not self.too_late:
            raise Dead
        answer = super()._call(method, prefix, name, body, query)
        if dies:
            raise Dead
        return answer


class Replica:
    """One replica, driven turn by turn."""

    def __init__(
        self,
        api: ApiServer,
        name: str,
        *,
        offset: timedelta = timedelta(),
        policy: Policy = POLICY,
        identity: str = "",
        poll: float = 10,
    ) -> None:
        self._api = api
        self._files: dict[str, bytes] = {}
        self.events: list[tuple[str, dict[str, object]]] = []
        self.offset = offset
        self.alive = True

        def clock() -> datetime:
            return api.clock() + self.offset

        self.client = Mortal(Server.of(api.url, None, None), NAMESPACE, clock=clock)
        settings = Settings("ca", "tls", "turn", "podgrace", identity or name, policy, poll)
        self.manager = Manager(settings, self.client, self._report, clock=clock, chance=lambda: 0.5)

    def _report(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))

    def turn(self) -> float:
        if not self.alive:
            return 0.0
        try:
            return self.manager.turn()
        except Dead:
            self.alive = False
            return 0.0

    def told(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.events if name == event]

    @property
    def leader(self) -> bool:
        return self.manager.figures.leader

    @property
    def served(self) -> bool:
        """What the startup probe checks."""
        return self.manager.figures.served

    @property
    def files(self) -> dict[str, bytes]:
        """Give what the serving container beside it would serve.

        The kubelet shows it the Secret, and it takes over only what can be served.
        """
        found = read_serving(self._api.data(TLS) if TLS in self._api.objects else {})
        leaf, now = found.leaf, self._api.clock()
        if leaf and is_valid(leaf.certificate, now) and trusts(found.bundle, leaf):
            self._files = write_serving(found)
        return self._files

    @property
    def leaf(self) -> Leaf:
        return Leaf.load(self.files[store.CERT_FILE], self.files[store.KEY_FILE])


def judge_past(api: ApiServer, *, trust_wait: timedelta = POLICY.trust_wait) -> None:
    """Check the promises over the whole history.

    Every bundle trusts each leaf ever handed out as long as it is valid (a replica that was cut off
    keeps using it). The bundle that the slowest API server has seen, which may be `trust_wait` old,
    trusts a leaf that replaces another.
    """
    leaves: list[Leaf] = []
    published: list[tuple[datetime, list[bytes]]] = []
    for at, path, stored in api.history:
        if path == CONFIG:
            published.append((at, bundles(stored)))
            spoilt = len(set(published[-1][1])) > 1  # by a person, a moment ago
            for leaf in leaves:
                if not spoilt and is_valid(leaf.certificate, at):
                    assert all(trusts(bundle, leaf) for bundle in published[-1][1]), (
                        f"{at}: a leaf that lives is not trusted any more"
                    )
        elif path == TLS:
            leaf = read_serving(decoded(stored)).leaf
            if leaf is None or leaf in leaves:
                continue
            # The first one breaks nothing; the next one of the same authority needs no new trust.
            easy = not leaves or leaf.certificate.raw.issuer in {
                other.certificate.raw.issuer for other in leaves
            }
            leaves.append(leaf)
            seen = [found for then, found in published if then <= at - trust_wait]
            late = [found for then, found in published if at - trust_wait < then <= at]
            for found in published[-1:] and [published[-1][1]] if easy else [*seen[-1:], *late]:
                assert all(trusts(bundle, leaf) for bundle in found), (
                    f"{at}: a leaf is served before everybody trusts it"
                )


def trusts(bundle: bytes, leaf: Leaf) -> bool:
    return any(leaf.certificate.signed_by(item) for item in load_bundle(bundle))


def signers(api: ApiServer) -> list[str]:
    """Give the authorities that ever signed, in order."""
    found = (
        read_authorities(decoded(stored)).signer for _, path, stored in api.history if path == CA
    )
    return list(dict.fromkeys(signer.certificate.fingerprint for signer in found if signer))


def served(api: ApiServer) -> list[str]:
    """Give the leaves that were ever stored, in order."""
    found = (read_serving(decoded(stored)).leaf for _, path, stored in api.history if path == TLS)
    return list(dict.fromkeys(leaf.certificate.fingerprint for leaf in found if leaf))


def wish(api: ApiServer, **what: datetime) -> None:
    """Ask as `podgrace certs renew` does."""
    api.edit(CA, write_authorities(replace(read_authorities(api.data(CA)), **what)))


def until(
    condition: Callable[[], bool],
    replicas: list[Replica],
    advance: Callable[[], None],
    turns: int = 400,
) -> None:
    """Let time pass, a turn of each replica at a time."""
    for _ in range(turns):
        if condition():
            return
        for replica in replicas:
            replica.turn()
        advance()
    raise AssertionError([replica.events[-5:] for replica in replicas])
