"""Sequences hold at every look at once; the widths are those of their sources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.experiment.sequences import FEWEST_USERS, critical, planned_error, tells, tightest


@given(alpha=st.floats(1e-6, 0.3), n=st.integers(10, 10**6), planned=st.integers(10, 10**6), sd=st.floats(0.01, 100))
def test_the_width_is_the_formula_of_the_source_in_users(alpha: float, n: int, planned: int, sd: float) -> None:
    rho2 = tightest(alpha) / planned
    word = sd * np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha))
    error = sd / np.sqrt(n)
    assert error * critical(np.array(error), planned=sd / np.sqrt(planned), alpha=alpha) == pytest.approx(word, rel=1e-9)


@given(alpha=st.floats(1e-6, 0.3), factor=st.floats(0.05, 20))
def test_it_is_narrowest_at_the_planned_information(alpha: float, factor: float) -> None:
    best = critical(np.array(1.0), planned=1.0, alpha=alpha)
    assert best == pytest.approx(np.sqrt(1 + tightest(alpha)), rel=1e-9)
    assert critical(np.array(factor), planned=1.0, alpha=alpha) >= best - 1e-9


def test_watching_costs_half_as_much_width_again() -> None:
    assert critical(np.array(1.0), planned=1.0, alpha=0.05) / 1.96 == pytest.approx(1.55, abs=0.01)


def test_without_an_error_the_interval_has_no_end_and_a_level_must_be_one() -> None:
    assert np.isinf(critical(np.array([np.nan, 1.0]), planned=np.nan, alpha=0.05)).all()
    with pytest.raises(DataError, match="level"):
        critical(np.array(1.0), planned=1.0, alpha=0.0)


def test_nothing_is_said_of_few_users_or_few_events() -> None:
    error = np.array([[0.1, 0.5], [0.1, 0.2], [0.08, np.nan]])
    users = np.array([FEWEST_USERS - 1, FEWEST_USERS, 500])
    np.testing.assert_array_equal(tells(error, users), [[False, False], [True, True], [True, False]])
    found = planned_error(error, users, np.array([1, 2, 3]), planned=8)
    np.testing.assert_allclose(found, [0.1 * 0.5, 0.2 * 0.5])


def test_later_looks_do_not_change_how_narrow_it_is_to_be() -> None:
    error, users, days = np.array([[0.2], [0.1], [0.05]]), np.array([200, 400, 800]), np.arange(1, 4)
    whole = planned_error(error, users, days, planned=14)
    np.testing.assert_array_equal(whole, planned_error(error[:1], users[:1], days[:1], planned=14))


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_a_random_walk_that_is_watched_at_every_step_leaves_it_no_more_often_than_it_says(alpha: float) -> None:
    rng = np.random.default_rng(1)
    walks = 2_000
    total, left = np.zeros(walks), np.zeros(walks, dtype=bool)
    for n in range(1, 3_001):
        total += rng.standard_normal(walks)
        error = 1 / np.sqrt(n)
        left |= np.abs(total / n) > error * critical(np.array(error), planned=1 / np.sqrt(500), alpha=alpha)
    assert 0.2 * alpha < left.mean() <= alpha  # some leave it: the sequence is no wider than it must be by far
