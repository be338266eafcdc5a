"""Laws of dominance and hypervolume."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.frontier.pareto import confidently_dominated, hypervolume, non_dominated, probability_non_dominated

clouds = st.tuples(st.integers(1, 25), st.integers(1, 4), st.integers(0, 2**32 - 1), st.booleans())


def cloud(shape):
    n, m, seed, ties = shape
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (n, m)).astype(float) if ties else rng.normal(size=(n, m))


@settings(max_examples=60, deadline=None)
@given(clouds)
def test_a_point_is_kept_unless_another_is_as_good_everywhere_and_better_somewhere(shape):
    points = cloud(shape)
    for q, kept in zip(points, non_dominated(points), strict=True):
        dominated = False
        for p in points:
            if all(p[j] >= q[j] for j in range(len(q))) and any(p[j] > q[j] for j in range(len(q))):
                dominated = True
        assert kept == (not dominated)


@settings(max_examples=40, deadline=None)
@given(clouds, st.floats(0.1, 10))
def test_order_and_units_do_not_matter_to_the_front(shape, unit):
    points = cloud(shape)
    order = np.random.default_rng(0).permutation(len(points))
    np.testing.assert_array_equal(non_dominated(points[order] * unit + 3), non_dominated(points)[order])


@settings(max_examples=40, deadline=None)
@given(clouds)
def test_only_the_front_counts_for_the_hypervolume_and_more_points_never_lower_it(shape):
    points, reference = cloud(shape), np.full(shape[1], -0.5)
    volume = hypervolume(points, reference=reference)
    assert hypervolume(points[non_dominated(points)], reference=reference) == pytest.approx(volume)
    assert hypervolume(points[1:], reference=reference) <= volume + 1e-12


@settings(max_examples=40, deadline=None)
@given(clouds, st.floats(0.1, 10))
def test_hypervolume_scales_with_the_units_and_moves_with_the_reference(shape, unit):
    points, m = cloud(shape), shape[1]
    volume = hypervolume(points, reference=np.full(m, -0.5))
    assert hypervolume(points * unit, reference=np.full(m, -0.5) * unit) == pytest.approx(volume * unit**m)
    assert hypervolume(points + 7, reference=np.full(m, 6.5)) == pytest.approx(volume)


def test_hypervolume_of_two_boxes():
    assert hypervolume(np.array([[1.0, 2.0], [2.0, 1.0], [-5.0, 9.0]]), reference=np.zeros(2)) == pytest.approx(3.0)
    assert hypervolume(np.array([[-1.0, 2.0]]), reference=np.zeros(2)) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(bad):
    points = np.array([[0.0, 1.0], [bad, 0.0]])
    with pytest.raises(DataError, match="row 1"):
        non_dominated(points)
    with pytest.raises(DataError, match="row 1"):
        hypervolume(points, reference=np.zeros(2))
    with pytest.raises(DataError):
        hypervolume(points[:1], reference=np.array([0.0, bad]))
    with pytest.raises(DataError):
        probability_non_dominated(np.stack([points, points]))


def test_the_probability_of_being_non_dominated_counts_draws():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(200, 6, 2)) + np.array([[0, 0], [1, 0], [0, 1], [-3, -3], [1, 1], [0.5, 0.5]])
    counted = np.mean([non_dominated(draw) for draw in draws], axis=0)
    np.testing.assert_allclose(probability_non_dominated(draws), counted)


def test_a_point_is_dominated_only_where_another_is_better_in_every_objective_with_confidence():
    rng = np.random.default_rng(0)
    points = np.array([[0.02, 0.02], [0.019, 0.019], [-0.05, -0.05], [0.03, -0.02]])
    alone = points + rng.normal(size=(2000, 4, 2)) * 0.01
    np.testing.assert_array_equal(confidently_dominated(points, alone, confidence=0.95), [False, False, True, False])
    shared = points + rng.normal(size=(2000, 1, 2)) * 0.01 + rng.normal(size=(2000, 4, 2)) * 1e-5  # differences are known well
    np.testing.assert_array_equal(confidently_dominated(points, shared, confidence=0.95), [False, True, True, False])
    twins = np.zeros((3, 2))
    assert not confidently_dominated(twins, np.zeros((10, 3, 2)), confidence=0.95).any()
