"""Exact switch points and curves, against brute force on fine grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError, NoOverlapError
from paretune.frontier import hull
from paretune.frontier.curve import hit_intervals, lift_curve, reward_curve
from paretune.frontier.hull import optimal_interval, switch_points
from paretune.frontier.sweep import choose, scalarise
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, produced_sums

shapes = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))


def brute_force(values, alphas):
    return np.stack([(alpha * values[:, :, 0] + (1 - alpha) * values[:, :, 1]).argmax(axis=1) for alpha in alphas], axis=1)


def random_values(shape, *, integer=False):
    n, n_actions, seed = shape
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (n, n_actions, 2)).astype(float) if integer else rng.normal(size=(n, n_actions, 2))


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_switch_points_name_the_argmax_at_every_alpha(shape):
    values, alphas = random_values(shape), np.random.default_rng(1).random(60)
    segments = switch_points(values)
    np.testing.assert_array_equal(np.stack([segments.at(alpha) for alpha in alphas], axis=1), brute_force(values, alphas))


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_switch_points_are_minimal_and_in_order(shape):
    segments = switch_points(random_values(shape))
    for i in range(shape[0]):
        piece = slice(segments.offsets[i], segments.offsets[i + 1])
        assert segments.starts[piece][0] == 0
        assert (np.diff(segments.starts[piece]) > 0).all()
        assert (segments.starts[piece] < 1).all()
        assert len(set(segments.actions[piece])) == len(segments.actions[piece])


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_ties_of_small_integers_go_to_the_lowest_index_between_switch_points(shape):
    values = random_values(shape, integer=True)
    alphas = np.array([0.0101, 0.3137, 0.4871, 0.7103, 0.9917])  # no ratio of small integers
    segments = switch_points(values)
    brute = brute_force(values, alphas)
    np.testing.assert_array_equal(np.stack([segments.at(alpha) for alpha in alphas], axis=1), brute)
    for action in range(values.shape[1]):
        low, high = optimal_interval(values, np.full(len(values), action))
        np.testing.assert_array_equal((low[:, None] <= alphas) & (alphas < high[:, None]), brute == action)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_the_optimal_interval_agrees_with_choosing(shape):
    values, rng = random_values(shape), np.random.default_rng(2)
    alphas, action = rng.random(60), rng.integers(0, shape[1], shape[0])
    low, high = optimal_interval(values, action)
    chosen = choose(values, scalarise(alphas), allowed=np.arange(shape[1]))
    np.testing.assert_array_equal((low[:, None] <= alphas) & (alphas < high[:, None]), chosen == action[:, None])


@settings(max_examples=30, deadline=None)
@given(shapes)
def test_the_optimal_intervals_of_all_actions_tile_the_unit_interval(shape):
    values = random_values(shape, integer=True)
    total = sum(np.nan_to_num(np.subtract(*reversed(optimal_interval(values, np.full(len(values), a))))) for a in range(shape[1]))
    np.testing.assert_allclose(total, 1)


def test_an_action_outside_the_values_is_refused():
    with pytest.raises(DataError, match="one index"):
        optimal_interval(np.zeros((2, 3, 2)), np.array([0, 3]))


@pytest.mark.parametrize("values", [np.zeros((2, 3, 3)), np.full((2, 3, 2), np.nan)])
def test_values_that_have_no_hull_are_refused(values):
    with pytest.raises(DataError):
        switch_points(values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_exact_curves_equal_the_estimators_at_any_alpha(seed):
    rng = np.random.default_rng(seed)
    n, n_actions = 300, 5
    values, action = rng.normal(size=(n, n_actions, 2)), rng.integers(0, n_actions, n)
    rewards, expected, propensity = rng.random((n, 2)), rng.random((n, 2)), rng.uniform(0.1, 1, n)
    cluster = rng.integers(0, 32, n)
    produced = produced_sums(rewards + 1, cluster, clusters=32, expected=expected)
    alphas = np.concatenate([rng.random(20), [0.0, 1.0]])
    hits = choose(values, scalarise(alphas), allowed=np.arange(n_actions)) == action[:, None]
    sums = AnchoredSums(explored_sums(rewards, propensity, hits, cluster, clusters=32, expected=expected), produced)
    rows = hit_intervals(values, action, propensity=propensity, rewards=rewards, expected=expected)
    np.testing.assert_allclose(lift_curve(rows, produced).at(alphas), anchored_lift(sums).value, rtol=1e-8, atol=1e-10)
    curve = reward_curve(rows)
    np.testing.assert_allclose(curve.at(alphas), [rewards[hit].mean(axis=0) for hit in hits.T], rtol=1e-8)
    np.testing.assert_array_equal(curve.hits[np.searchsorted(curve.starts, alphas, side="right") - 1], hits.sum(axis=0))


def test_batches_of_hits_add_up():
    rng = np.random.default_rng(4)
    values, action = rng.normal(size=(200, 4, 2)), rng.integers(0, 4, 200)
    rewards, propensity = rng.random((200, 2)), np.full(200, 0.25)

    def rows(part):
        return hit_intervals(values[part], action[part], propensity=propensity[part], rewards=rewards[part])

    merged, whole = reward_curve(rows(slice(0, 70)) + rows(slice(70, None))), reward_curve(rows(slice(None)))
    np.testing.assert_array_equal(merged.starts, whole.starts)
    np.testing.assert_allclose(merged.values, whole.values, rtol=1e-9)


def test_a_log_that_never_agrees_has_no_curve():
    values = np.stack([np.zeros((5, 2)), np.ones((5, 2))], axis=1)
    with pytest.raises(NoOverlapError):
        reward_curve(hit_intervals(values, np.zeros(5, int), propensity=np.ones(5), rewards=np.ones((5, 2))))


def interval_by_definition(values, action):
    low, high = 0.0, 1.0
    for other, (first, second) in enumerate(values):
        rise = (first - second) - (values[action, 0] - values[action, 1])
        lead = second - values[action, 1]  # at alpha = 0
        if rise == 0 and (lead > 0 or (lead == 0 and other < action)):
            return np.nan, np.nan
        low = max(low, -lead / rise) if rise < 0 else low
        high = min(high, -lead / rise) if rise > 0 else high
    return (low, high) if low < high else (np.nan, np.nan)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("integer", [False, True])
def test_compiled_intervals_equal_those_of_numpy_and_of_the_definition(monkeypatch, dtype, integer):
    pytest.importorskip("numba")
    values = random_values((3000, 30, 5), integer=integer).astype(dtype)
    action = np.random.default_rng(3).integers(0, 30, 3000)
    quick = optimal_interval(values, action)
    monkeypatch.setattr(hull, "compiled", None)
    plain = optimal_interval(values, action)
    np.testing.assert_array_equal(quick, plain)
    for row in range(200):
        wanted = interval_by_definition(values[row].astype(float), action[row])
        np.testing.assert_allclose((plain[0][row], plain[1][row]), wanted, rtol=1e-6, atol=1e-9)


def test_values_too_large_for_a_quick_sum_are_still_finite():
    values = np.full((4, 3, 2), 3e38, dtype=np.float32)
    low, high = optimal_interval(values, np.zeros(4, int))
    np.testing.assert_array_equal((low, high), (np.zeros(4), np.ones(4)))
