"""Lifts over periods of one test: users who return count once."""

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.experiment.lifts import Ratio, arm_values, lifts_over
from paretune.experiment.moments import user_moments
from paretune.experiment.periods import Side, pooled_lifts


def played(rng: np.random.Generator, users: int, periods: int, *, alike: float, returning: bool = True) -> list[tuple[Side, Side]]:
    """Periods of users who differ from each other by `alike` (sd of the log of their rate), the same ones in each or others."""
    taste, found = rng.normal(0, alike, users), []
    for period in range(periods):
        if not returning:
            taste = rng.normal(0, alike, users)
        requests = 1.0 + rng.poisson(3, users)
        saves = rng.poisson(requests * 0.2 * np.exp(taste)).astype(np.float64)
        number = np.arange(users) + (0 if returning else users * period)
        sides = [Side(number[arm::2], saves[arm::2, None], requests[arm::2, None]) for arm in (0, 1)]
        found.append((sides[0], sides[1]))
    return found


def test_one_period_is_what_the_delta_method_says() -> None:
    control, arm = played(np.random.default_rng(1), 900, 1, alike=0.8)[0]
    found = pooled_lifts([(control, arm)])
    user, side = np.concatenate([control.user, arm.user]), np.repeat([0, 1], [len(control.user), len(arm.user)])
    columns = np.concatenate([np.hstack([each.below, each.above]) for each in (control, arm)])
    expected = lifts_over(arm_values(user_moments(user, side, columns, arms=2), [Ratio("save", 1, 0)]), 0)
    np.testing.assert_allclose(found.log_ratio, expected.log_ratio[0], rtol=1e-12)
    np.testing.assert_allclose(found.std_error, expected.std_error[0], rtol=1e-12)
    assert (found.users, found.periods) == (900, 1)


def test_the_same_period_twice_is_no_more_evidence_than_once() -> None:
    part = played(np.random.default_rng(2), 600, 1, alike=0.8)[0]
    once, twice = pooled_lifts([part]), pooled_lifts([part, part])
    np.testing.assert_allclose([twice.log_ratio, twice.std_error], [once.log_ratio, once.std_error], rtol=1e-12)
    assert twice.users == once.users


def test_periods_of_other_users_are_independent_evidence() -> None:
    parts = played(np.random.default_rng(3), 600, 4, alike=0.8, returning=False)
    found, alone = pooled_lifts(parts), [pooled_lifts([part]) for part in parts]
    weight = np.array([1 / each.std_error[0] ** 2 for each in alone])
    assert found.std_error[0] == pytest.approx(weight.sum() ** -0.5, rel=1e-12)
    assert found.log_ratio[0] == pytest.approx((weight * [each.log_ratio[0] for each in alone]).sum() / weight.sum(), rel=1e-12)
    assert found.users == 2_400


def test_intervals_hold_the_truth_as_often_as_they_say_where_users_return() -> None:
    """400 A/A tests of users who are alike in all of eight periods; with periods taken for independent 61 % would."""
    scores = []
    for seed in range(400):
        found = pooled_lifts(played(np.random.default_rng([seed, 4]), 400, 8, alike=1.0))
        scores.append(found.log_ratio[0] / found.std_error[0])
    assert np.mean(np.abs(scores) < 1.96) == pytest.approx(0.95, abs=0.03)
    assert np.std(scores) == pytest.approx(1.0, abs=0.12)


def test_a_period_in_which_an_arm_earned_nothing_says_nothing() -> None:
    good, other = played(np.random.default_rng(5), 600, 2, alike=0.5)
    empty = Side(other[1].user, np.zeros_like(other[1].above), other[1].below)
    nobody = Side(other[1].user[:0], other[1].above[:0], other[1].below[:0])
    found = pooled_lifts([good, (other[0], empty), (other[0], nobody), (nobody, other[1])])
    assert (found.periods, found.log_ratio) == (1, pooled_lifts([good]).log_ratio)
    with pytest.raises(DataError, match="never seen to earn"):
        pooled_lifts([(other[0], empty)])
