"""Who may wait for a model, on a clock of our own: turns of reading and deciding."""

import pytest

from paretune.serving.admission import Admission

BUDGET_S = 0.010


def turn(admission: Admission, at: float, arrivals: int, each_s: float, *, turned_away_s: float = 0.0) -> tuple[int, float]:
    """Read `arrivals` requests, decide the admitted ones, and return how many those were and when it was over."""
    now = at
    admission.reading(now)
    admitted = 0
    for _ in range(arrivals):
        if admission.arrives(now):
            admitted += 1
        else:
            now += turned_away_s
    admission.over(now)
    for _ in range(admitted):
        now += each_s
        admission.done(now)
    return admitted, now


def test_no_admitted_request_waits_longer_than_the_budget_at_three_times_the_capacity() -> None:
    each_s, away_s = 0.0006, 0.00005
    admission, began, now = Admission(BUDGET_S), 0.0, 1.0
    longest, policy, asked, owed = 0.0, 0, 0, 1.0
    for _ in range(400):
        arrivals, owed = int(owed), owed - int(owed)
        before, began = began, now
        admitted, now = turn(admission, now, arrivals, each_s, turned_away_s=away_s)
        now += 2e-5
        owed += (now - began) * 3 / each_s
        asked, policy = asked + arrivals, policy + admitted
        longest = max(longest, now - before if before else 0.0)  # arrived just after the turn before began to read
    assert longest < 1.2 * BUDGET_S
    assert asked > 2.5 * policy
    most = (1 - 3 * away_s / each_s) / (1 - away_s / each_s)  # the rest of the time goes to those who are turned away
    assert policy / ((now - 1.0) / each_s) > 0.93 * most


def test_a_burst_on_an_idle_service_is_admitted_for_half_a_budget() -> None:
    admission = Admission(BUDGET_S, expected_s=0.0005)
    assert turn(admission, 1.0, 32, 0.0005)[0] == 10
    assert turn(admission, 5.0, 3, 0.0005)[0] == 3


def test_a_model_that_has_become_too_slow_is_still_asked_once_a_turn_and_recovers() -> None:
    admission, now = Admission(BUDGET_S), 1.0
    for _ in range(50):
        admitted, now = turn(admission, now + 0.01, 8, 0.03)
        assert admitted >= 1
    assert admission.expected_s == pytest.approx(0.03, rel=0.01)
    for _ in range(60):
        _, now = turn(admission, now + 0.01, 8, 0.0002)
    assert turn(admission, now + 0.01, 8, 0.0002)[0] == 8


def test_one_stall_turns_nobody_away_for_long() -> None:
    admission, now = Admission(BUDGET_S, expected_s=0.0005), 1.0
    _, now = turn(admission, now, 1, 5.0)
    turn(admission, now + 0.01, 1, 0.0005)
    assert admission.expected_s < 0.0007


def test_after_half_a_budget_unseen_nobody_is_admitted_and_the_next_turn_is() -> None:
    admission = Admission(BUDGET_S, expected_s=0.0005)
    _, now = turn(admission, 1.0, 1, 0.009)
    admitted, now = turn(admission, now + 1e-5, 5, 0.0005, turned_away_s=3e-5)
    assert admitted == 0
    assert turn(admission, now + 1e-5, 5, 0.0005)[0] == 5


def test_without_a_budget_everybody_is_admitted() -> None:
    assert turn(Admission(0.0, expected_s=9.0), 1.0, 100, 9.0)[0] == 100


def test_a_request_that_a_stall_made_late_is_not_in_time() -> None:
    admission = Admission(BUDGET_S)
    assert admission.in_time(received=1.0, now=1.007)
    assert not admission.in_time(received=1.0, now=1.008)
