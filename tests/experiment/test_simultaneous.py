"""Bands that hold together are wider than one alone and no wider than Bonferroni's; the level is the one that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paretune.experiment.lifts import Lifts
from paretune.experiment.simultaneous import tail_of_largest, together


@settings(max_examples=25, deadline=None)
@given(d=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_the_tail_of_each_lies_between_bonferroni_and_a_number_alone(d: int, seed: int) -> None:
    factors = np.random.default_rng(seed).normal(size=(d, 3))
    covariance = factors @ factors.T + 0.1 * np.eye(d)
    assert 0.05 / d - 1e-12 <= tail_of_largest(covariance, confidence=0.95) <= 0.05 + 1e-12


def test_independent_numbers_need_sidak_s_tail_and_equal_ones_nothing_more() -> None:
    sidak = 1 - 0.95 ** (1 / 6)
    assert tail_of_largest(np.eye(6), confidence=0.95) == pytest.approx(sidak, rel=0.1)
    assert tail_of_largest(np.ones((6, 6)), confidence=0.95) == pytest.approx(0.05, rel=0.1)


def test_all_correlated_numbers_are_inside_as_often_as_asked() -> None:
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(5, 2))
    covariance = factors @ factors.T + 0.5 * np.eye(5)
    quantile = stats.norm.isf(tail_of_largest(covariance, confidence=0.9) / 2)
    drawn = rng.multivariate_normal(np.zeros(5), covariance, 40_000) / np.sqrt(np.diag(covariance))
    assert 0.9 <= (np.abs(drawn).max(axis=1) < quantile).mean() <= 0.915


def test_few_users_widen_what_they_carry_and_what_is_unknown_stays_unknown() -> None:
    error = np.array([[1.0, 1.0, np.nan]])
    covariance = np.zeros((1, 3, 1, 3))
    covariance[0, [0, 1], 0, [0, 1]] = 1
    wide = together(Lifts(np.array([[0.0, 0.0, np.nan]]), error, np.array([[5.0, 1e6, np.nan]]), covariance), confidence=0.95)
    assert wide[0, 0] > wide[0, 1] > 1.96
    assert np.isnan(wide[0, 2])
    assert np.isnan(together(Lifts(error, error * np.nan, error, covariance), confidence=0.95)).all()
