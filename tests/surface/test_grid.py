"""Coordinates of weight vectors: the laws the value models build on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.surface.grid import linear_coordinates, log_coordinates, polynomial_basis, spaced
from paretune.surface.heads import Head, Surface

SURFACE = Surface((Head("save", 91.6, spaced(10, 200, 7)), Head("click", 1.0), Head("p2p", 9.1, spaced(1, 30, 5, log=True))), k=10)


@given(st.floats(0.01, 100), st.floats(1.1, 100), st.integers(2, 12), st.booleans())
@settings(max_examples=40, deadline=None)
def test_levels_start_and_end_where_asked_and_step_evenly(low: float, factor: float, levels: int, log: bool) -> None:
    weights = np.array(spaced(low, low * factor, levels, log=log))
    np.testing.assert_allclose(weights[[0, -1]], [low, low * factor])
    steps = np.diff(np.log(weights) if log else weights)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_linear_coordinates_are_the_papers_min_max_scaling() -> None:
    scaled = linear_coordinates(SURFACE, SURFACE.actions)
    assert scaled.shape == (36, 2)
    assert (scaled[1:].min(axis=0) == 0).all()
    np.testing.assert_allclose(scaled[1:].max(axis=0), 1)
    np.testing.assert_allclose(scaled[0], [(91.6 - 10) / 190, (9.1 - 1) / 29])


def test_log_coordinates_are_zero_at_production_and_two_units_wide() -> None:
    coordinates = log_coordinates(SURFACE, SURFACE.actions)
    np.testing.assert_array_equal(coordinates[0], 0)
    np.testing.assert_allclose(np.ptp(coordinates[1:], axis=0), 2)


@given(st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_scaling_tuned_weights_shifts_log_coordinates_by_the_same_amount_for_every_action(scale: float) -> None:
    scaled = SURFACE.actions * scale
    shift = log_coordinates(SURFACE, scaled) - log_coordinates(SURFACE, SURFACE.actions)
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-9)


def test_the_basis_holds_every_monomial_and_is_zero_at_production() -> None:
    basis = polynomial_basis(np.array([[0.0, 0.0], [2.0, 3.0]]), degree=3)
    np.testing.assert_array_equal(basis[0], 0)
    assert sorted(basis[1]) == [2, 3, 4, 6, 8, 9, 12, 18, 27]


@pytest.mark.parametrize(("t", "degree", "columns"), [(1, 4, 4), (2, 4, 14), (3, 2, 9)])
def test_the_basis_has_as_many_columns_as_there_are_monomials(t: int, degree: int, columns: int) -> None:
    assert polynomial_basis(np.ones((3, t)), degree).shape == (3, columns)
