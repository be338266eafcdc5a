"""Lifts over the control arm agree with a peer library, with their own definition, and with what users truly do."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.experiment.lifts import Lifts, Ratio, arm_values, lifts_over
from paretune.experiment.moments import Moments, user_moments
from paretune.records import Floats, Ints

CLICKS, HIDES = Ratio("click", 1, 0), Ratio("hide", 2, 0)
ADJUSTED = Ratio("click", 1, 0, before=(4, 3))


def users(n: int, *, seed: int, shares: tuple[float, ...] = (0.5, 0.5), lift: float = 0.1) -> tuple[Ints, Floats]:
    """Arms (n,) and columns (n, 6): requests, clicks and hides of the test, then of before; users differ, and stay who they are."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(len(shares), n, p=shares)
    taste = rng.beta(2, 5, n)
    requests, earlier = 1 + rng.poisson(3, n), rng.poisson(3, n)
    clicks = rng.binomial(requests, np.minimum(taste * (1 + lift * (arm > 0)), 1))
    hides = rng.binomial(requests, 0.1)
    return arm, np.stack([requests, clicks, hides, earlier, rng.binomial(earlier, taste), rng.binomial(earlier, 0.1)], axis=1).astype(float)


def moments_of(arm: Ints, columns: Floats, *, arms: int) -> Moments:
    return user_moments(np.arange(len(arm)), arm, columns, arms=arms)


def judged(arm: Ints, columns: Floats, *metrics: Ratio, arms: int = 2) -> Lifts:
    return lifts_over(arm_values(moments_of(arm, columns, arms=arms), metrics), 0)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_peer_library_finds_the_same_values_lifts_and_intervals(before: bool, seed: int) -> None:
    arm, columns = users(2_000, seed=seed, shares=(0.3, 0.7))
    names = ("requests", "clicks", "hides", "earlier", "earlier_clicks", "earlier_hides")
    frame = pl.DataFrame(dict(zip(names, columns.T, strict=True)) | {"variant": arm})
    covariates = {"numer_covariate": "earlier_clicks", "denom_covariate": "earlier"} if before else {}
    peer = tt.Experiment(click=tt.RatioOfMeans("clicks", "requests", **covariates)).analyze(frame, control=0)["click"]
    values = arm_values(moments_of(arm, columns, arms=2), (ADJUSTED if before else CLICKS,))
    found = lifts_over(values, 0)
    low, high = found.interval(0.95)
    ours = [values.value[0, 0], values.value[1, 0], found.lift[0, 0], low[0, 0], high[0, 0]]
    theirs = [peer.control, peer.treatment, peer.rel_effect_size, peer.rel_effect_size_ci_lower, peer.rel_effect_size_ci_upper]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_the_error_is_the_sum_over_users_of_what_the_delta_method_says_word_by_word() -> None:
    arm, columns = users(500, seed=4)
    found = judged(arm, columns, CLICKS, HIDES)
    for m, event in enumerate((1, 2)):
        total = 0.0
        for a in (0, 1):
            x, y = columns[arm == a, 0], columns[arm == a, event]
            influence = (y - y.sum() / x.sum() * x) / y.sum()
            total += len(x) / (len(x) - 1) * (influence**2).sum()
        assert found.std_error[0, m] == pytest.approx(np.sqrt(total), rel=1e-12)


def test_users_in_both_arms_are_compared_with_themselves() -> None:
    rng = np.random.default_rng(5)
    taste = rng.beta(0.5, 1, 3_000)  # users differ much, arms not at all
    columns = np.stack([np.full((2, 3_000), 10.0), rng.binomial(10, taste, (2, 3_000))], axis=2)  # (arm, user, column)
    user, arm = np.tile(np.arange(3_000), 2), np.repeat([0, 1], 3_000)
    paired = lifts_over(arm_values(user_moments(user, arm, columns.reshape(-1, 2), arms=2), [CLICKS]), 0)
    apart = lifts_over(arm_values(user_moments(np.arange(6_000), arm, columns.reshape(-1, 2), arms=2), [CLICKS]), 0)
    difference = columns[1, :, 1] / columns[1, :, 1].sum() - columns[0, :, 1] / columns[0, :, 1].sum()
    assert paired.lift == pytest.approx(apart.lift)
    assert paired.std_error[0, 0] == pytest.approx(np.sqrt(3_000 / 2_999 * (difference**2).sum()), rel=1e-9)
    assert paired.std_error[0, 0] < 0.6 * apart.std_error[0, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), unit=st.floats(0.01, 100), again=st.integers(2, 5))
def test_units_do_not_matter_and_more_users_of_the_same_kind_narrow_the_error(seed: int, unit: float, again: int) -> None:
    arm, columns = users(200, seed=seed)
    found = judged(arm, columns, ADJUSTED, HIDES)
    scaled = judged(arm, columns * unit, ADJUSTED, HIDES)
    np.testing.assert_allclose(scaled.log_ratio, found.log_ratio, atol=1e-9)
    np.testing.assert_allclose(scaled.std_error, found.std_error, rtol=1e-7)
    one = moments_of(arm, columns, arms=2)
    many = one
    for _ in range(again - 1):
        many = many + one
    repeated = lifts_over(arm_values(many, [ADJUSTED, HIDES]), 0)
    np.testing.assert_allclose(repeated.log_ratio, found.log_ratio, atol=1e-9)
    np.testing.assert_allclose(repeated.std_error * np.sqrt(again), found.std_error, rtol=0.02)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_other_arm_as_control_turns_the_lift_around(seed: int) -> None:
    values = arm_values(moments_of(*users(300, seed=seed), arms=2), [CLICKS])
    there, back = lifts_over(values, 0), lifts_over(values, 1)
    np.testing.assert_allclose(there.log_ratio, -back.log_ratio)
    np.testing.assert_allclose(there.std_error, back.std_error)
    np.testing.assert_allclose(1 / (1 + there.interval(0.9)[0]), 1 + back.interval(0.9)[1])


def test_arms_that_share_a_control_and_metrics_of_the_same_users_vary_together() -> None:
    arm, columns = users(900, seed=7, shares=(0.4, 0.3, 0.3))
    values = arm_values(moments_of(arm, columns, arms=3), [CLICKS, HIDES])
    found = lifts_over(values, 0)
    c = values.covariance
    for a in (1, 2):
        for b in (1, 2):
            for m in (0, 1):
                for n in (0, 1):
                    expected = c[a, m, b, n] - c[a, m, 0, n] - c[0, m, b, n] + c[0, m, 0, n]
                    assert found.covariance[a - 1, m, b - 1, n] == pytest.approx(expected, abs=1e-15)
    assert found.covariance[0, 0, 1, 0] == pytest.approx(c[0, 0, 0, 0])


def test_leading_axes_are_kept() -> None:
    tables = [users(300, seed=seed) for seed in (8, 9)]
    each = [moments_of(arm, columns, arms=2) for arm, columns in tables]
    parts = ("users", "crossed", "total", "product")
    stacked = Moments(*(np.stack([getattr(one, part) for one in each]) for part in parts))
    found = lifts_over(arm_values(stacked, [ADJUSTED, HIDES]), 0)
    for place, one in enumerate(each):
        alone = lifts_over(arm_values(one, [ADJUSTED, HIDES]), 0)
        np.testing.assert_allclose(found.log_ratio[place], alone.log_ratio)
        np.testing.assert_allclose(found.std_error[place], alone.std_error)
    together = lifts_over(arm_values(stacked.over(), [HIDES]), 0)
    np.testing.assert_allclose(together.log_ratio, lifts_over(arm_values(stacked[0] + stacked[1], [HIDES]), 0).log_ratio)


def test_what_users_did_before_narrows_the_error_as_much_as_it_explains() -> None:
    arm, columns = users(20_000, seed=10)
    values = arm_values(moments_of(arm, columns, arms=2), [ADJUSTED, CLICKS])
    found = lifts_over(values, 0)
    assert 0.1 < values.explained[0] < 0.9
    assert values.explained[1] == 0
    assert (found.std_error[0, 0] / found.std_error[0, 1]) ** 2 == pytest.approx(1 - values.explained[0], abs=0.02)


def test_users_of_whom_nothing_is_known_before_leave_the_lift_as_it_was() -> None:
    arm, columns = users(400, seed=11)
    columns[:, 3:] = 0
    found = judged(arm, columns, ADJUSTED, CLICKS)
    np.testing.assert_allclose(found.log_ratio[0, 0], found.log_ratio[0, 1])
    np.testing.assert_allclose(found.std_error[0, 0], found.std_error[0, 1])


def test_no_lift_is_told_of_arms_that_earned_nothing_or_hold_one_user() -> None:
    arm, columns = users(100, seed=12)
    columns[arm == 1, 1] = 0
    found = judged(arm, columns, CLICKS, HIDES)
    assert np.isnan(found.lift[0, 0])
    assert np.isfinite(found.lift[0, 1])
    alone = judged(np.array([0] * 99 + [1]), columns, HIDES)
    assert np.isnan(alone.std_error[0, 0])


def test_a_metric_of_columns_that_are_not_there_is_refused() -> None:
    arm, columns = users(50, seed=13)
    with pytest.raises(DataError, match="name columns"):
        judged(arm, columns, Ratio("x", 9, 0))


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_intervals_hold_the_true_lift_as_often_as_they_say(before: bool) -> None:
    inside = []
    for seed in range(2_000):
        arm, columns = users(400, seed=seed, lift=0.1)
        low, high = judged(arm, columns, ADJUSTED if before else CLICKS).interval(0.95)
        inside.append(low[0, 0] <= 0.1 * 0.9985 <= high[0, 0])  # tastes above 1 / 1.1 are cut: 0.15 % of the lift
    assert 0.935 <= np.mean(inside) <= 0.965
