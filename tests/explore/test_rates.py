"""Rates and cost of exploring, from a log: closed forms, merging, and what is unknown."""

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.explore.rates import traffic_sums
from paretune.records import Categorical, Log, State

NAMES = ("save", "p2p")


def small_log(n: int = 20_000, *, explored: float = 0.5, uniform: bool = True, seed: int = 0) -> Log:
    """Four actions whose rewards fall with their number; a design that prefers action 1 unless uniform."""
    rng = np.random.default_rng(seed)
    is_explored = rng.random(n) < explored
    chance = np.full(4, 0.25) if uniform else np.array([0.7, 0.1, 0.1, 0.1])
    action = np.where(is_explored, 1 + rng.choice(4, n, p=chance), 0).astype(np.int32)
    rate = np.array([0.4, 0.4, 0.35, 0.3, 0.25])[action]
    rewards = (rng.random((n, 2)) < np.stack([rate, rate / 2], axis=1)).astype(np.float32)
    user, ids = rng.integers(0, n // 4, n).astype(np.uint64), np.arange(n, dtype=np.uint64)
    propensity = np.where(is_explored, chance[action - 1], 1.0)
    state, cohort = State({"x": np.zeros(n, np.float32)}, {}, {}, {}), Categorical(np.zeros(n, np.int32), ("ALL",))
    return Log(ids, user, ids, np.zeros(n, np.int32), cohort, action, propensity, is_explored, rewards, state)


def test_rates_are_means_and_relative_variances_of_production_rows() -> None:
    log = small_log()
    rows = log.rewards[log.action == 0].astype(np.float64)
    for rate, column in zip(traffic_sums(log).rates(NAMES), rows.T, strict=True):
        assert rate.mean == pytest.approx(column.mean())
        assert rate.relative_variance == pytest.approx((1 - column.mean()) / column.mean())


def test_a_design_that_prefers_an_action_says_the_same_cost_of_uniform_exploration() -> None:
    expected = np.mean([0.4, 0.35, 0.3, 0.25]) / 0.4 - 1
    for uniform in (True, False):
        cost = traffic_sums(small_log(60_000, uniform=uniform)).cost()
        assert cost is not None
        assert (np.abs(cost.relative - expected) < 4 * cost.std_error).all()
        assert (cost.std_error < 0.05).all()


def test_batches_add_up_to_the_whole_log() -> None:
    log = small_log(3_000)
    parts = [traffic_sums(log.take(rows)) for rows in (slice(0, 700), slice(700, 701), slice(701, None))]
    merged, whole = parts[0] + parts[1] + parts[2], traffic_sums(log)
    assert merged.share == pytest.approx(whole.share)
    assert [rate.mean for rate in merged.rates(NAMES)] == pytest.approx([rate.mean for rate in whole.rates(NAMES)])
    np.testing.assert_allclose(merged.cost().relative, whole.cost().relative, rtol=1e-12)


def test_without_production_rows_uniform_exploration_stands_in_and_the_cost_is_unknown() -> None:
    sums = traffic_sums(small_log(explored=1.0))
    assert sums.cost() is None
    assert sums.rates(NAMES)[0].mean == pytest.approx(0.325, abs=0.02)
    assert traffic_sums(small_log(explored=0.0)).cost() is None


def test_logs_that_say_nothing_are_refused() -> None:
    log = small_log(100)
    with pytest.raises(DataError, match="neither"):
        traffic_sums(log.take(slice(0, 0))).rates(NAMES)
    log.rewards[:, 1] = 0
    with pytest.raises(DataError, match="p2p"):
        traffic_sums(log).rates(NAMES)
