"""Picks on fronts small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import GateError
from paretune.frontier.select import (
    NONE_CLEARS,
    NONE_SURE,
    NONE_UNDEGRADED,
    best_static,
    choose_points,
    chord_normal,
    constrained,
    knee,
    probability_degrading,
    surely_clearing,
)

FRONT = np.array([[5.0, -4.0], [4.0, 0.5], [3.0, 2.5], [1.0, 3.0], [-2.0, 3.5]]) / 100
ZERO = np.zeros(2)


def test_picks_lean_to_each_objective_without_degrading_the_other():
    picks = {pick.label: pick for pick in choose_points(FRONT, objectives=("save", "p2p"), floors=ZERO)}
    assert {label: pick.policy for label, pick in picks.items()} == {"save-leaning": 1, "p2p-leaning": 3, "knee": 2, "constrained": 1}
    assert all(pick.note == "" for pick in picks.values())


def test_floors_move_the_constrained_pick_only():
    picks = {pick.label: pick for pick in choose_points(FRONT, objectives=("save", "p2p"), floors=np.array([0.0, -0.05]))}
    assert picks["constrained"].policy == 0
    assert picks["save-leaning"].policy == 1


def test_when_every_policy_degrades_something_the_picks_say_so():
    picks = choose_points(FRONT[[0, 4]], objectives=("save", "p2p"), floors=ZERO)
    assert [pick.note for pick in picks[:3]] == [NONE_UNDEGRADED] * 3
    assert constrained(FRONT[[0]], floors=ZERO).note == NONE_CLEARS


def test_policies_without_an_estimate_are_never_picked():
    points = np.vstack([np.full((1, 2), np.nan), FRONT, [[np.nan, 9.0]]])
    assert {pick.policy for pick in choose_points(points, objectives=("save", "p2p"), floors=ZERO)} == {2, 3, 4}
    with pytest.raises(GateError, match="enough hits"):
        choose_points(np.full((3, 2), np.nan), objectives=("save", "p2p"), floors=ZERO)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_knee_is_the_point_farthest_from_the_chord(seed):
    angle = np.sort(np.random.default_rng(seed).uniform(0, np.pi / 2, 9))
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    start, end = points[0], points[-1]
    across = end - start
    distance = np.abs(across[0] * (points - start)[:, 1] - across[1] * (points - start)[:, 0]) / np.hypot(*across)
    assert distance[knee(points, among=np.ones(9, bool))] == pytest.approx(distance.max())


def test_the_chord_of_three_objectives_is_a_plane():
    np.testing.assert_allclose(chord_normal(np.diag([1.0, 1.0, 1.0])), np.full(3, 3**-0.5))
    np.testing.assert_allclose(chord_normal(np.array([[1.0, 1.0]])), np.full(2, 2**-0.5))


def test_the_best_static_is_production_unless_something_gains_without_losing():
    assert best_static(np.array([[0.1, -0.01], [-0.1, 0.2]])) == 0
    assert best_static(np.array([[0.1, -0.01], [0.02, 0.0], [np.nan, np.nan]])) == 2


def test_the_probability_of_degrading_counts_draws_below_a_floor():
    draws = np.array([[[0.1, 0.1], [0.1, -0.1]], [[0.2, 0.1], [-0.1, -0.2]], [[-0.3, 0.1], [0.1, 0.1]], [[0.2, 0.1], [0.2, 0.1]]])
    np.testing.assert_allclose(probability_degrading(draws, floors=ZERO), [0.25, 0.5])
    np.testing.assert_allclose(probability_degrading(draws, floors=np.array([-0.5, -0.15])), [0.0, 0.25])
    draws[0, 1] = np.nan
    assert np.isnan(probability_degrading(draws, floors=ZERO)[1])


def test_the_constrained_pick_comes_from_those_that_surely_clear_the_floors():
    points = np.array([[0.05, 0.01], [0.02, 0.0], [0.03, 0.01], [0.09, -0.01]])
    assert constrained(points, floors=ZERO).policy == 0
    assert constrained(points, floors=ZERO, sure=np.array([False, True, True, True])).policy == 2
    points[1:3, 0] = -0.07  # clears by giving up the target
    lost = constrained(points, floors=ZERO, sure=np.array([False, True, True, True]))
    assert (lost.policy, lost.note) == (0, NONE_SURE)
    nobody = constrained(points, floors=ZERO, sure=np.zeros(4, bool))
    assert (nobody.policy, nobody.note) == (0, NONE_SURE)


def test_a_floor_that_half_of_the_draws_miss_is_not_surely_cleared():
    rng = np.random.default_rng(5)
    draws = np.array([0.0, 0.001, 0.03]) + 0.01 * rng.standard_normal((4000, 3))
    both = np.stack([np.zeros((4000, 3)), draws], axis=2)
    np.testing.assert_array_equal(surely_clearing(both, floors=ZERO, tolerated=0.1), [False, False, True])
    np.testing.assert_array_equal(surely_clearing(both, floors=ZERO, tolerated=0.6), [True, True, True])
    np.testing.assert_array_equal(surely_clearing(both, floors=np.array([0.0, -0.03]), tolerated=0.1), [True, True, True])
