"""Who may stay: the order of `limits`, for any sequence of what connections do."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from webhook.server.limits import Budget, Limits

LIMITS = Limits(memory=1000, connections=8)


class Guest:
    """A connection that only knows whether it was cut."""

    def __init__(self, *, trusted: bool = False) -> None:
        self.held, self.trusted, self.inside, self.gone = 0, trusted, False, False

    def cut(self) -> None:
        self.gone = True


def test_the_oldest_that_owes_something_goes_before_the_one_that_rests():
    budget = Budget(LIMITS)
    resting, old, young = Guest(), Guest(), Guest()
    for guest in (resting, old, young):
        assert budget.enter(guest, 300)
    budget.asks(resting)
    budget.answers(resting)
    budget.rests(resting)
    order = []
    for _ in range(3):
        new = Guest()
        assert budget.enter(new, 300)
        order.append([guest.gone for guest in (resting, old, young)])
        budget.answers(new)  # busy: it never goes
    assert order == [[False, True, False], [False, True, True], [True, True, True]]


def test_a_request_that_begins_on_a_kept_connection_is_young():
    budget = Budget(LIMITS)
    kept, silent = Guest(), Guest()
    for guest in (kept, silent):
        budget.enter(guest, 400)
    budget.answers(kept)
    budget.rests(kept)
    budget.asks(kept)
    assert budget.enter(Guest(), 400)
    assert (silent.gone, kept.gone) == (True, False)


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
