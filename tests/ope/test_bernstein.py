"""Empirical-Bernstein bounds: the closed form, the laws that any bound keeps, and how often they hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from paretune.errors import DataError
from paretune.ope.bernstein import bernstein_half_width
from paretune.ope.intervals import clustered_std_error
from paretune.records import Floats

CONFIDENCE = 0.95


def influence_of_mean(terms: Floats) -> Floats:
    """(n, ...) each term's influence on the mean over the first axis."""
    return (terms - terms.mean(axis=0)) / len(terms)


def test_the_bound_is_the_one_of_the_paper_word_for_word() -> None:
    x = np.random.default_rng(0).random(50)
    log = np.log(2 / 0.05)
    wanted = np.sqrt(2 * x.var(ddof=1) * log / 50) + 7 * log / (3 * 49)  # theorem 4, X in [0, 1]
    assert bernstein_half_width(influence_of_mean(x), confidence=CONFIDENCE, span=1 / 50) == pytest.approx(wanted, rel=1e-12)


@given(seed=st.integers(0, 1000), n=st.integers(2, 400), unit=st.floats(1e-3, 1e3))
def test_it_is_wider_than_the_normal_one_and_follows_the_units(seed: int, n: int, unit: float) -> None:
    psi = influence_of_mean(np.random.default_rng(seed).exponential(size=(n, 3)))
    half = bernstein_half_width(psi, confidence=CONFIDENCE)
    assert (half > -ndtri(1 - CONFIDENCE) * clustered_std_error(psi)).all()
    assert bernstein_half_width(unit * psi, confidence=CONFIDENCE) == pytest.approx(unit * half)
    assert bernstein_half_width(psi[::-1], confidence=CONFIDENCE) == pytest.approx(half)


@given(seed=st.integers(0, 1000), n=st.integers(5, 200), times=st.integers(2, 5))
def test_it_shrinks_as_users_are_added_and_grows_with_what_is_claimed(seed: int, n: int, times: int) -> None:
    x = np.random.default_rng(seed).random((n, 2))
    half = bernstein_half_width(influence_of_mean(x), confidence=CONFIDENCE)
    assert (bernstein_half_width(influence_of_mean(np.tile(x, (times, 1))), confidence=CONFIDENCE) < half).all()
    assert (bernstein_half_width(influence_of_mean(x), confidence=CONFIDENCE, statements=25) > half).all()
    assert (bernstein_half_width(influence_of_mean(x), confidence=0.99) > half).all()


def test_it_holds_where_the_normal_one_does_not() -> None:
    """Few users, and rare large losses that most logs miss: what a guardrail is for."""
    rng, n, logs = np.random.default_rng(1), 200, 4000
    x = np.where(rng.random((n, logs)) < 0.005, -10.0, 0.05)  # lies in [-10, 0.05], and its mean is about zero
    mean = 0.005 * -10 + 0.995 * 0.05
    psi = influence_of_mean(x) + 1e-300  # a log without a single loss still has its users
    normal = x.mean(axis=0) + ndtri(1 - CONFIDENCE) * clustered_std_error(psi)
    safe = x.mean(axis=0) - bernstein_half_width(psi, confidence=CONFIDENCE, span=10.05 / n)
    assert (normal <= mean).mean() < 0.8
    assert (safe <= mean).mean() >= CONFIDENCE


def test_with_the_range_that_was_seen_it_still_covers_skewed_clusters() -> None:
    rng = np.random.default_rng(2)
    held, logs = 0, 500
    for _ in range(logs):
        x = -rng.exponential(size=40)  # a lower bound is hardest where losses have the long tail
        held += x.mean() - bernstein_half_width(influence_of_mean(x), confidence=CONFIDENCE) <= -1
    assert held / logs >= CONFIDENCE


def test_what_has_no_estimate_has_no_bound_and_one_user_is_refused() -> None:
    psi = influence_of_mean(np.random.default_rng(3).random((20, 2)))
    psi[:, 1] = np.nan
    half = bernstein_half_width(psi, confidence=CONFIDENCE)
    assert np.isfinite(half[0])
    assert np.isnan(half[1])
    with pytest.raises(DataError, match="1 user"):
        bernstein_half_width(np.array([[0.3], [0.0]]), confidence=CONFIDENCE)
    with pytest.raises(DataError, match="confidence"):
        bernstein_half_width(psi, confidence=1.0)
