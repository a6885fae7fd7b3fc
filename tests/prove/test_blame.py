"""A loss made on purpose lands in its class; if classes can't be told apart, that is said."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.prove.servers import ANSWER, Server, reset, serve
from tests.prove.stage import Stage, settle
from webhook.cli import main
from webhook.cli.prove.blame import KINDS, blame
from webhook.cli.prove.ledger import Loss, PodSeen, Seen
from webhook.cli.prove.lives import lives
from webhook.cli.watching.slices import Endpoint, SliceSeen

# -- the whole of it: real requests, lost on purpose beside what the API tells


class Faulty:
    """A Service that answers well, or resets every new connection while `broken` is set."""

    def __init__(self) -> None:
        self.broken = threading.Event()
        self.cut = threading.Event()

    def fast(self, server: Server, connection: Any) -> None:
        if self.broken.is_set():
            reset(connection)
        elif server.request(connection):
            connection.sendall(ANSWER)

    def slow(self, server: Server, connection: Any) -> None:
        if server.request(connection):
            self.cut.wait(20)

    def lose_some(self) -> None:
        self.broken.set()
        time.sleep(0.4)
        self.broken.clear()


def start(stage: Stage, service: Faulty) -> None:
    stage.pod("new", ready=True)
    stage.endpoints("old", "new")
    settle()
    service.lose_some()


def deregistration(stage: Stage, service: Faulty) -> None:
    stage.pod("old", ready=True, told=True)
    settle()
    service.lose_some()
    stage.endpoints(leaving=("old",))


def in_flight(stage: Stage, service: Faulty) -> None:
    stage.pod("old", ready=True, told=True)
    settle()
    service.cut.set()


def after_end(stage: Stage, service: Faulty) -> None:
    stage.pod("old", told=True)
    stage.endpoints(leaving=("old",))
    stage.pod("old", told=True, ended="")
    settle()
    service.lose_some()


def crash(stage: Stage, service: Faulty) -> None:
    service.lose_some()
    stage.pod("old", ready=True, restarts=1)


def no_pod(_: Stage, service: Faulty) -> None:
    service.lose_some()


@pytest.mark.parametrize(
    ("kind", "act"),
    {
        "start": start,
        "deregistration": deregistration,
        "in-flight": in_flight,
        "after-end": after_end,
        "crash": crash,
        "no-pod": no_pod,
    }.items(),
)
def test_a_loss_on_purpose_lands_in_its_class(
    kind: str,
    act: Callable[[Stage, Faulty], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stage, service = Stage(tmp_path, monkeypatch), Faulty()
    stage.pod("old", ready=True)
    stage.endpoints("old")
    with serve(service.fast) as fast, serve(service.slow) as slow:

        def play() -> None:
            while not slow.count or fast.count < 20:  # the load runs
                time.sleep(0.02)
            act(stage, service)

        actor = threading.Thread(target=play)
        actor.start()
        words = ["prove", fast.url, "--connections", "0", "--rate", "40", "--duration", "4"]
        words += ["--pods", "app=shop", "-o", "json"]
        # A slow request is in flight all the time; but where it is meant to be cut, it is answered.
        words += ["--slow-url", slow.url, "--slow-rate", "0.1", "--slow-timeout", "6"]
        words += ["--expect", "200"]
        code = main(words)
        actor.join()
    report = json.loads(capfd.readouterr().out)
    fast_losses = [loss for loss in report["losses"] if loss["client"] == "new"]
    cut = [loss for loss in report["losses"] if loss["outcome"] == "eof-before"]
    mine = cut if kind == "in-flight" else fast_losses
    assert code == 3
    assert mine
    assert {loss["kind"] for loss in mine} == {kind}, report["losses"]
    assert all(not loss["others"] for loss in mine)
    if kind == "no-pod":
        assert "to 127.0.0.1 (not a Pod's)" in mine[0]["evidence"]
        assert "EndpointSlice: 1 ready, 0 terminating" in mine[0]["evidence"]
    else:
        assert {loss["pod"] for loss in mine} == {"new" if kind == "start" else "old"}


# -- the rules, on ledgers written by hand


def pod(name: str, *stages: dict[str, Any], old: bool = True) -> list[Seen]:
    """Write a Pod's stages. What one stage says holds for those that follow."""
    state: dict[str, Any] = {"scheduled": True, "started": True, "ready": True} if old else {}
    entries: list[Seen] = [PodSeen(0.0, name, name, **state)] if old else []
    for stage in stages:
        state |= stage
        entries.append(PodSeen(name=name, uid=name, **state))
    return entries


def listing(at: float, *ready: str) -> SliceSeen:
    names = [Endpoint(name, ready=True, serving=True, terminating=False) for name in ready]
    return SliceSeen(at, "shop-1", "shop", tuple(names))


def lost(at: float, *, dialled: float, opened: bool = True, **more: Any) -> Loss:
    """Write a loss on a connection that was begun then; sent at once, unless `sent` says later."""
    sent = more.pop("sent", dialled)
    outcome = more.pop("outcome", "reset" if opened else "refused")
    return Loss(
        at, at - sent, "new", outcome, outcome, dialled, dialled if opened else None, **more
    )


TOLD = {"at": 10.0, "told": True}
ENDED = {"at": 30.0, "ended": True}

CASES: dict[str, tuple[str, list[Seen], Loss]] = {
    "a connection refused just before the watch told of the stop": (
        "deregistration",
        pod("a", TOLD),
        lost(9.8, dialled=9.8, opened=False),
    ),
    "an answer cut at once": ("in-flight", pod("a", TOLD), lost(10.1, dialled=9.9)),
    "a request on a kept connection while the server stops": (
        "in-flight",
        pod("a", TOLD),
        lost(10.6, dialled=2.0, sent=10.5),
    ),
    "a request on a kept connection whose Pod has gone": (
        "after-end",
        pod("a", TOLD, ENDED),
        lost(41.0, dialled=2.0, sent=31.0, outcome="timeout"),
    ),
    "an ingress answers 502 to a request that was sent after the order to stop": (
        "deregistration",
        pod("a", TOLD),
        lost(10.5, dialled=2.0, sent=10.4, outcome="status"),
    ),
    "an ingress answers 502 to a request that was on its way": (
        "in-flight",
        pod("a", TOLD),
        lost(10.5, dialled=2.0, sent=9.0, outcome="status"),
    ),
    "a server that still sleeps in its hook has cut nothing": (
        "no-pod",
        pod("a", TOLD | {"hook": "sleep", "hook_sleep": 5.0}),
        lost(12.0, dialled=11.0),
    ),
    "a server whose drain is on record had not been stopped before its end": (
        "no-pod",
        pod("a", TOLD, ENDED | {"messages": ('{"podgrace":"drain","waited_ms":15000}',)}),
        lost(15.0, dialled=14.9),
    ),
    "the same, after the drain": (
        "deregistration",
        pod("a", TOLD, ENDED | {"messages": ('{"podgrace":"drain","waited_ms":15000}',)}),
        lost(25.3, dialled=25.2),
    ),
    "a Pod that left the endpoints long ago is not blamed for a new connection": (
        "no-pod",
        [*pod("a", TOLD), listing(0.0, "a"), listing(11.0)],
        lost(60.0, dialled=60.0, opened=False),
    ),
    "a Pod that is still in the endpoints long after is": (
        "deregistration",
        [*pod("a", TOLD), listing(0.0, "a")],
        lost(60.0, dialled=60.0, opened=False),
    ),
    "a Pod that has been ready for long is not blamed for its start": (
        "no-pod",
        pod("a", {"at": 1.0}, {"at": 2.0, "ready": True}, old=False),
        lost(40.0, dialled=40.0, opened=False),
    ),
    "a record that was written by somebody else moves nothing": (
        "in-flight",
        pod(
            "a", TOLD, ENDED | {"messages": ('{"podgrace":"drain","waited_ms":"1e9"}', "[[", "{}")}
        ),
        lost(10.1, dialled=9.9),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rule(case: str) -> None:
    kind, seen, loss = CASES[case]
    assert blame(loss, lives(seen), seen, watched=True).kind == kind


def test_a_client_that_dials_the_pod_itself_names_it() -> None:
    seen = [*pod("a", TOLD | {"address": "10.1.0.1"}), *pod("b", TOLD | {"address": "10.1.0.2"})]
    verdict = blame(lost(10.2, dialled=9.9, address="10.1.0.2"), lives(seen), seen, watched=True)
    assert (verdict.kind, verdict.pod) == ("in-flight", "b")
    assert "probably" not in verdict.evidence


def test_two_pods_that_explain_it_alike_are_told_as_unsure() -> None:
    """A Pod without a probe joins in the moment in which an old one is told to stop."""
    new = pod("new", {"at": 8.0}, {"at": 10.0, "ready": True}, old=False)
    seen = [*pod("old", TOLD), *new]
    verdict = blame(lost(10.2, dialled=10.2, opened=False), lives(seen), seen, watched=True)
    assert {verdict.kind, *verdict.others} == {"start", "deregistration"}
    assert verdict.evidence.startswith("probably ")


def test_what_the_watch_cannot_tell_apart_is_not_decided_by_chance() -> None:
    """A Pod without a probe joins, another ends: the new server, not yet listening, is likelier."""
    new = pod("new", {"at": 28.0}, {"at": 30.1, "ready": True}, old=False)
    seen = [*pod("old", TOLD, ENDED), *new, listing(0.0, "old"), listing(10.1)]
    for at in (30.2, 30.3, 30.4):
        verdict = blame(lost(at, dialled=at, opened=False), lives(seen), seen, watched=True)
        assert verdict.kind == "start"


def test_a_readiness_probe_makes_a_start_the_weaker_explanation() -> None:
    new = pod("new", {"at": 8.0, "probed": True}, {"at": 10.2, "ready": True}, old=False)
    seen = [*pod("old", TOLD), *new]
    verdict = blame(lost(10.2, dialled=10.2, opened=False), lives(seen), seen, watched=True)
    assert (verdict.kind, verdict.others) == ("deregistration", ())


def test_without_a_pod_the_endpoints_are_the_evidence() -> None:
    seen: list[Seen] = [
        SliceSeen(0.0, "s", "shop", (Endpoint("a", True, True, False),)),
        SliceSeen(5.0, "s", "shop", (Endpoint("a", False, True, True),)),
    ]
    verdict = blame(
        lost(40.0, dialled=40.0, opened=False, address="10.9.9.9"), (), seen, watched=True
    )
    assert verdict.kind == "no-pod"
    assert verdict.evidence == "to 10.9.9.9 (not a Pod's); EndpointSlice: 0 ready, 1 terminating"


def test_unwatched_pods_are_not_judged() -> None:
    assert blame(lost(1.0, dialled=1.0), (), (), watched=False).kind == "not-watched"


def test_every_class_says_what_to_do() -> None:
    assert all(kind.title and kind.means and kind.remedy.endswith(".") for kind in KINDS.values())
