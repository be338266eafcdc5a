"""The ledger: the paper's three releases, laws of signs and units, small numbers said aloud, and shrinkage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, pearsonr
from scipy.stats import t as student

from paretune.errors import DataError
from paretune.experiment.ledger import (
    HOLDS,
    NOT_COVERED,
    OVERSTATED,
    TOGETHER,
    TOO_FEW,
    UNDERSTATED,
    Entry,
    Lift,
    kept_ledger,
    shrunk,
)

PAPER = (("repin-leaning", 2.77, 2.26, -0.30, -0.21), ("balanced", 1.46, 1.35, 0.41, -0.04), ("p2p-leaning", 0.31, 0.66, 1.18, 0.30))


def entry(x: float, y: float, *, objective: str = "save", error: float = 0.002, seen_error: float = 0.003, **more: object) -> Entry:
    return Entry(f"at {x:.4f}", objective, Lift(x, error), Lift(y, seen_error), **more)  # type: ignore[arg-type]


def releases(slope: float, n: int = 8, *, seed: int = 1, error: float = 0.002, level: float = 0.0, objective: str = "save") -> list[Entry]:
    rng = np.random.default_rng(seed)
    true = np.linspace(-0.01, 0.03, n)
    x, y = true + error * rng.normal(size=n), level + slope * true + error * rng.normal(size=n)
    return [entry(a, b, objective=objective, error=error, seen_error=error) for a, b in zip(x, y, strict=True)]


def test_the_paper_s_three_releases_have_its_correlations_and_slopes_below_one() -> None:
    repin = [Entry(name, "repin", Lift(off / 100), Lift(on / 100)) for name, off, on, _, _ in PAPER]
    p2p = [Entry(name, "p2p", Lift(off / 100), Lift(on / 100)) for name, _, _, off, on in PAPER]
    found = kept_ledger([*repin, *p2p])
    assert [round(account.correlation.value, 3) for account in found.accounts] == [0.999, 0.986]
    assert [round(account.line.slope, 2) for account in found.accounts] == [0.65, 0.35]
    assert all(np.isnan(account.coverage.value) for account in (*found.accounts, found.together))
    assert found.together.outcomes == 6


def test_numbers_are_those_of_their_definitions() -> None:
    entries = [*releases(0.9, 7)]
    account = kept_ledger(entries).accounts[0]
    x, y = (np.array([getattr(e, side).estimate for e in entries]) for side in ("predicted", "seen"))
    known = pearsonr(x, y)
    assert account.correlation.value == pytest.approx(known.statistic)
    assert (account.correlation.low, account.correlation.high) == pytest.approx(tuple(known.confidence_interval(0.95)))
    half = max(norm.ppf(0.975) * 0.002 * np.sqrt(2 / 7), student.ppf(0.975, 6) * np.std(y - x, ddof=1) / np.sqrt(7))
    assert account.level.value == pytest.approx((y - x).mean())
    assert account.level.high - account.level.value == pytest.approx(half)
    inside = int((np.abs(y - x) <= norm.ppf(0.975) * 0.002 * np.sqrt(2)).sum())
    exact = binomtest(inside, 7).proportion_ci(0.95, method="exact")
    assert account.coverage.value == inside / 7
    assert (account.coverage.low, account.coverage.high) == pytest.approx((exact.low, exact.high))


def test_good_promises_have_nothing_against_them() -> None:
    found = kept_ledger(releases(1.0, 12))
    assert found.trusted
    assert found.together.answer == HOLDS
    assert found.together.slope.low < 1 < found.together.slope.high


@pytest.mark.parametrize(("slope", "answer"), [(0.4, OVERSTATED), (1.15, UNDERSTATED), (2.5, NOT_COVERED)])
def test_promises_of_the_wrong_size_are_told(slope: float, answer: str) -> None:
    found = kept_ledger(releases(slope, 40))
    assert found.together.answer == answer
    assert found.trusted is (answer == UNDERSTATED)


def test_promises_that_are_all_off_by_a_point_correlate_and_are_told_by_level_and_coverage() -> None:
    account = kept_ledger(releases(1.0, 10, level=-0.01)).together
    assert account.correlation.low > 0.9
    assert account.level.high < -0.005
    assert account.coverage.high < 0.95
    assert account.answer in {OVERSTATED, NOT_COVERED}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_outcomes_say_nothing_and_say_so(n: int) -> None:
    found = kept_ledger(releases(0.2, 12)[:n])
    account = found.together
    assert (account.answer, account.outcomes, found.trusted) == (TOO_FEW, n, True)
    assert np.isnan([account.correlation.value, account.slope.slope, account.line.slope]).all()
    assert np.isnan(account.level.value) == (n == 0)
    assert shrunk(Lift(0.02, 0.002), found, objective="save") == (Lift(0.02, 0.002), None)


@given(st.floats(0.1, 10), st.booleans())
def test_units_and_directions_do_not_change_what_is_said(factor: float, turned: bool) -> None:
    plain = kept_ledger(releases(0.6, 9))
    sign = -1 if turned else 1

    def changed(lift: Lift) -> Lift:
        return Lift(sign * factor * lift.estimate, factor * lift.std_error)

    entries = [replace(e, predicted=changed(e.predicted), seen=changed(e.seen), minimised=turned) for e in plain.entries]
    found = kept_ledger(entries)
    one, other = plain.together, found.together
    assert (other.slope.slope, other.slope.low, other.slope.high) == pytest.approx(
        (one.slope.slope, one.slope.low, one.slope.high), rel=1e-5
    )
    assert other.correlation.value == pytest.approx(one.correlation.value)
    assert (other.coverage, other.answer) == (one.coverage, one.answer)
    assert other.level.value == pytest.approx(factor * one.level.value)
    assert found.accounts[0].level.value == pytest.approx(sign * factor * one.level.value)


def test_an_objective_of_which_less_is_better_is_turned_where_all_are_told_together() -> None:
    more = releases(1.0, 5, level=-0.01)
    less = [replace(entry(-e.predicted.estimate, -e.seen.estimate, objective="hide"), minimised=True) for e in more]
    found = kept_ledger([*more, *less])
    save, hide = found.accounts
    assert hide.level.value == pytest.approx(-save.level.value)
    assert found.together.level.value == pytest.approx(save.level.value)


def test_many_outcomes_of_few_tests_are_told_with_the_wider_interval() -> None:
    rng = np.random.default_rng(5)
    true = np.linspace(-0.01, 0.03, 6)
    apart = [
        entry(x, x + shift + 1e-4 * rng.normal(), error=1e-3, seen_error=1e-3, test=f"test {t}")
        for t, shift in enumerate((0.003, -0.004, 0.001, -0.003))  # what one control did to all of its arms
        for x in true
    ]
    alone = [replace(e, test="") for e in apart]
    told, plain = kept_ledger(apart).together, kept_ledger(alone).together
    assert (told.tests, plain.tests) == (4, 24)
    assert told.level.value == plain.level.value
    assert told.level.high - told.level.low > 2 * (plain.level.high - plain.level.low)
    means = np.array([0.003, -0.004, 0.001, -0.003])
    half = student.ppf(0.975, 3) * means.std(ddof=1) / 2
    assert told.level.high - told.level.value == pytest.approx(half, rel=0.05)
    assert told.slope.low <= plain.slope.low < plain.slope.high <= told.slope.high


def test_a_promise_is_multiplied_by_the_slope_where_its_upper_end_is_below_one() -> None:
    ledger = kept_ledger(releases(0.5, 12))
    slope = ledger.accounts[0].slope
    spread = (slope.high - slope.low) / (2 * norm.ppf(0.975))
    found, why = shrunk(Lift(0.02, 0.004), ledger, objective="save")
    assert why is ledger.accounts[0]
    assert found.estimate == pytest.approx(0.02 * slope.slope)
    assert found.std_error**2 == pytest.approx((slope.slope * 0.004) ** 2 + (0.02 * spread) ** 2 + (0.004 * spread) ** 2)
    assert (found.low, found.high) == pytest.approx(tuple(found.estimate + z * found.std_error for z in norm.ppf([0.025, 0.975])))
    for untold in (kept_ledger(releases(1.0, 12)), kept_ledger(releases(2.0, 12)), kept_ledger(())):
        assert shrunk(Lift(0.02, 0.004), untold, objective="save") == (Lift(0.02, 0.004), None)


def test_all_objectives_together_speak_for_one_that_does_not_contradict_them() -> None:
    poor = releases(0.5, 12)
    sure = kept_ledger([*poor, *releases(1.0, 12, objective="p2p", seed=2)])
    unsure = kept_ledger([*poor, *releases(0.5, 3, objective="p2p", error=0.02, seed=3)])
    assert sure.together.slope.high < 1
    promise = Lift(0.02, 0.004)
    assert shrunk(promise, sure, objective="p2p")[1] is None
    assert shrunk(promise, unsure, objective="p2p")[1] is unsure.together
    assert shrunk(promise, sure, objective="never tested")[1] is sure.together
    assert unsure.together.name == TOGETHER


def test_a_slope_below_zero_leaves_nothing_of_a_promise() -> None:
    found, why = shrunk(Lift(0.02, 0.004), kept_ledger(releases(-0.5, 12)), objective="save")
    assert why is not None
    assert found.estimate == 0
    assert found.low < 0 < found.high


def test_what_has_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="has no number"):
        kept_ledger([entry(np.nan, 0.1)])


def _alarms(slope: float, rounds: int, objectives: Sequence[str]) -> float:
    found = [
        kept_ledger(
            [e for place, name in enumerate(objectives) for e in releases(slope, 6, seed=10 * r + place, error=0.006, objective=name)]
        )
        for r in range(rounds)
    ]
    return float(np.mean([not ledger.trusted for ledger in found]))


@pytest.mark.slow
def test_true_promises_are_seldom_doubted_and_doubled_ones_mostly_are() -> None:
    assert _alarms(1.0, 500, ("save", "p2p", "hide")) < 0.05
    assert _alarms(0.5, 200, ("save", "p2p", "hide")) > 0.8


@pytest.mark.slow
def test_intervals_hold_where_all_arms_of_a_test_share_what_its_control_did() -> None:
    rng, rounds, true = np.random.default_rng(8), 300, np.linspace(-0.05, 0.10, 8)
    held = np.zeros(3)
    for _ in range(rounds):
        entries = []
        for t in range(5):
            control, sweep = 0.007 * rng.normal(), 0.004 * rng.normal()
            for x in true:
                promised, seen = x + sweep + 0.002 * rng.normal(), x + control + 0.004 * rng.normal()
                entries.append(entry(promised, seen, error=np.hypot(0.004, 0.002), seen_error=np.hypot(0.007, 0.004), test=f"test {t}"))
        told = kept_ledger(entries).together
        held += [told.slope.low <= 1 <= told.slope.high, told.line.low <= 1 <= told.line.high, told.level.low <= 0 <= told.level.high]
    assert (held / rounds > 0.92).all()
