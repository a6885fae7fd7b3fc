"""Who may stay: the order of `limits`, for any sequence of what connections do."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from webhook.server.limits import Budget, Limits

LIMITS = Limits(memory=1000, connections=8)


class Guest:
    """A connection that only knows whether it was cut."""

    def __init__(self, *, trusted: bool = False) -> None:
        self.held, self.trusted, self.place, self.gone = 0, trusted, None, False

    def cut(self) -> None:
        self.gone = True


def entered(budget: Budget, count: int, cost: int = 50) -> list[Guest]:
    guests = [Guest() for _ in range(count)]
    assert all(budget.enter(guest, cost) for guest in guests)
    return guests


def rest(budget: Budget, *guests: Guest) -> None:
    for guest in guests:
        budget.asks(guest)
        budget.answers(guest)
        budget.rests(guest)


def gone(guests: list[Guest]) -> list[bool]:
    return [guest.gone for guest in guests]


def test_silent_floods_cost_the_silent_only_the_oldest_first():
    budget = Budget(Limits(memory=1000))
    resting, handshake = entered(budget, 2), []
    rest(budget, *resting)
    silent = entered(budget, 60)
    handshake = entered(budget, 1)
    assert gone([*resting, *handshake]) == [False] * 3
    assert gone(silent) == [True] * 43 + [False] * 17


def test_stalled_bodies_cost_those_who_send_them():
    budget = Budget(Limits(memory=1000))
    resting, handshake, stalled = entered(budget, 2), entered(budget, 2), entered(budget, 4)
    rest(budget, *resting)
    assert all(budget.charge(guest, 150, body=True) for guest in stalled)
    assert gone([*resting, *handshake]) == [False] * 4
    assert gone(stalled) == [True, True, False, False]


def test_a_flood_that_asks_and_rests_costs_who_has_rested_longest():
    budget = Budget(Limits(memory=1000))
    resting = entered(budget, 20)
    rest(budget, *resting)
    rest(budget, resting[0])
    entered(budget, 2)
    assert gone(resting) == [False, True, True] + [False] * 17


def test_whoever_is_first_in_line_gets_no_more():
    budget = Budget(Limits(memory=1000))
    first, second = entered(budget, 2)
    assert budget.charge(first, 300, body=True)
    assert budget.charge(second, 300, body=True)
    assert not budget.charge(first, 300, body=True)
    assert (first.gone, second.gone, budget.refused) == (False, False, 1)


def test_none_goes_that_is_trusted_or_waits_for_its_answer():
    budget = Budget(LIMITS)
    trusted, proven, waiting = Guest(trusted=True), Guest(), Guest()
    for guest in (trusted, proven, waiting):
        budget.enter(guest, 300)
    budget.trust(proven)
    budget.answers(waiting)
    late = Guest()
    assert not budget.enter(late, 300)
    budget.leave(late)
    assert not any(guest.gone for guest in (trusted, proven, waiting))
    assert (budget.held, budget.refused, len(budget)) == (900, 1, 3)


class Anything(RuleBasedStateMachine):
    """Connections that come, ask, rest, grow and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.budget, self.guests = Budget(LIMITS), []

    def pick(self, number: int) -> Guest | None:
        here = [guest for guest in self.guests if not guest.gone]
        return here[number % len(here)] if here else None

    @rule(cost=st.integers(0, 400), trusted=st.booleans())
    def enter(self, cost: int, trusted: bool) -> None:
        guest = Guest(trusted=trusted)
        if self.budget.enter(guest, cost):
            self.guests.append(guest)
        else:
            self.budget.leave(guest)

    @rule(number=st.integers(0, 50), what=st.sampled_from(["asks", "answers", "rests", "trust"]))
    def move(self, number: int, what: str) -> None:
        if guest := self.pick(number):
            getattr(self.budget, what)(guest)

    @rule(number=st.integers(0, 50), count=st.integers(1, 600))
    def charge(self, number: int, count: int) -> None:
        guest = self.pick(number)
        if guest and not self.budget.charge(guest, count):
            self.budget.release(guest, count)

    @rule(number=st.integers(0, 50))
    def leave(self, number: int) -> None:
        if guest := self.pick(number):
            guest.gone = True
            self.budget.leave(guest)
            self.budget.leave(guest)
            self.budget.charge(guest, 10)
            self.budget.rests(guest)

    @invariant()
    def what_is_held_is_what_all_hold_and_within_the_limits(self) -> None:
        here = [guest for guest in self.guests if not guest.gone]
        assert set(self.budget) == set(here)
        assert self.budget.held == sum(guest.held for guest in here)
        assert self.budget.held <= LIMITS.memory
        assert len(self.budget) <= LIMITS.connections
        assert not any(guest.gone and guest.held for guest in self.guests)

    @invariant()
    def nobody_is_in_two_places(self) -> None:
        assert len(list(self.budget)) == len(set(self.budget)) == len(self.budget)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
