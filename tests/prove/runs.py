"""Ledgers of made-up runs: every class of loss, two generations of Pods, any number of requests."""

import random
from array import array
from collections import Counter

from webhook.cli.prove.ledger import (
    OK,
    RETRIED,
    CommandSeen,
    Ledger,
    Loss,
    PodSeen,
    Second,
    Seen,
    Tally,
)
from webhook.cli.prove.report import About, Report, make
from webhook.cli.watching.slices import Endpoint, SliceSeen

RECORD = '{"podgrace":"drain","waited_ms":6000,"delay_end":"quiet","drain_end":"idle"}'


def rollout(pods: int, begin: float) -> list[Seen]:
    """Replace this many Pods one after another, two seconds each."""
    seen: list[Seen] = [CommandSeen(begin, ("kubectl", "rollout", "restart", "deployment/shop"))]
    listed = [f"shop-old-{n}" for n in range(pods)]
    up = {"scheduled": True, "started": True}
    for number, name in enumerate(listed):
        seen.append(PodSeen(0.0, name, name, f"10.0.0.{number}", ready=True, **up))
    seen.append(_slice(0.0, listed, []))
    leaving: list[str] = []
    for number in range(pods):
        at = begin + 0.3 + number * 2
        new, old = f"shop-new-{number}", f"shop-old-{number}"
        seen.append(PodSeen(at, new, new))
        seen.append(PodSeen(at + 0.2, new, new, "10.0.1.1", **up))
        seen.append(PodSeen(at + 1.2, new, new, "10.0.1.1", ready=True, **up))
        listed, leaving = [*listed, new], [*leaving, old]
        seen.append(_slice(at + 1.3, listed, leaving[:-1]))
        listed = listed[1:]
        seen.append(PodSeen(at + 1.4, old, old, told=True, ready=True, **up))
        seen.append(_slice(at + 1.7, listed, leaving))
        ended = {"told": True, "ended": True, "messages": (RECORD,) if number % 2 else ()}
        seen.append(PodSeen(at + 8.0, old, old, **up, **ended))
        seen.append(PodSeen(at + 8.3, old, old, gone=True, **up, **ended))
    seen.append(CommandSeen(begin + pods * 2 + 0.5, ("kubectl",), 0))
    return sorted(seen, key=lambda entry: entry.at)


def _slice(at: float, ready: list[str], leaving: list[str]) -> SliceSeen:
    rows = [Endpoint(n, ready=True, serving=True, terminating=False) for n in ready]
    rows += [Endpoint(n, ready=False, serving=True, terminating=True) for n in leaving]
    return SliceSeen(at, "shop-1", "shop", tuple(rows))


def run(
    *, title: str = "bare", requests: int = 1000, seconds: int = 30, losses: int = 60, pods: int = 3
) -> Report:
    chance = random.Random(7)  # noqa: S311 - a picture, not a secret
    found = []
    for _ in range(losses):
        at = chance.uniform(2, seconds - 1)
        outcome = chance.choice(["refused", "reset", "eof-before", "timeout", "status"])
        opened = None if outcome == "refused" else at - 0.2
        client = chance.choice(["new", "slow"])
        found.append(
            Loss(at, 0.2, client, outcome, f"it was {outcome}", at - 0.2, opened, "10.9.0.1")
        )
    found.append(
        Loss(9.0, 0.1, "keep-alive", "reset", "it was reset", 1.0, 1.1, "10.9.0.1", retried=True)
    )
    rows = {n: Second(Counter(), Counter(), {}) for n in range(seconds)}
    for number in range(requests):
        row = rows[number * seconds // requests]
        row.sent["new"] += 1
        row.took.setdefault("new", array("d")).append(chance.lognormvariate(-5, 1))
    for loss in found:
        rows[int(loss.at)].marks[RETRIED if loss.retried else loss.outcome] += 1
    outcomes = Counter(loss.outcome for loss in found if not loss.retried)
    outcomes[OK] = requests - losses
    every = array("d", sorted(value for row in rows.values() for value in row.took["new"]))
    return make(
        About(title, "http://shop.example/", "GET", None, "2026-11-26T12:00:00+00:00"),
        Ledger(
            tuple(rollout(pods, 3.0)),
            tuple(found),
            rows,
            {"new": Tally(requests, outcomes, 1, 0, every)},
            float(seconds),
            0.01,
            watched=True,
        ),
    )
