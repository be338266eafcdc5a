"""Designs of exploration: exact propensities, balance of blocks, and the best mixture for a family."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from paretune.errors import ConfigError, DataError
from paretune.explore.assign import uniforms
from paretune.explore.design import block_actions, draw_actions, mixture, numbered, strata, variance_factors
from paretune.logs.hashing import hash_integers
from paretune.records import Categorical

ACTIONS = 6
CHOICES = arrays(np.int16, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=st.integers(0, ACTIONS))
STRATUM = hash_integers(np.array([7]))
GOLDEN_BLOCKS = [2, 3, 5, 4, 1, 3, 2, 4, 1, 5, 2, 5, 4, 1, 3, 5, 2, 4, 3, 1, 3, 2, 1, 4, 5, 5, 4, 2, 3, 1]


def test_every_block_of_a_stratum_shows_every_action_once_in_an_order_of_its_own() -> None:
    number = np.arange(49 * 40)
    shown = block_actions(np.repeat(STRATUM, len(number)), number, actions=49, salt="a").reshape(40, 49)
    assert (np.sort(shown, axis=1) == np.arange(1, 50)).all()
    assert len({tuple(order) for order in shown.tolist()}) == 40


def test_the_order_depends_on_salt_stratum_and_block_alone() -> None:
    number = np.arange(30)
    first = block_actions(np.repeat(STRATUM, 30), number, actions=5, salt="a")
    assert first.tolist() == GOLDEN_BLOCKS
    again = block_actions(np.repeat(STRATUM, 30), number[::-1], actions=5, salt="a")[::-1]
    np.testing.assert_array_equal(first, again)
    assert (first != block_actions(np.repeat(STRATUM, 30), number, actions=5, salt="b")).any()
    assert (first != block_actions(np.repeat(STRATUM + np.uint64(1), 30), number, actions=5, salt="a")).any()


def test_over_salts_every_action_is_equally_likely_at_every_place_and_in_every_order() -> None:
    orders = np.stack([block_actions(np.repeat(STRATUM, 3), np.arange(3), actions=3, salt=f"salt {i}") for i in range(1500)])
    for place in range(3):
        assert stats.chisquare(np.bincount(orders[:, place], minlength=4)[1:]).pvalue > 1e-3
    counts = np.unique(orders @ [9, 3, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_numbers_count_on_from_call_to_call() -> None:
    stratum = np.array([5, 9, 5, 5, 9], dtype=np.uint64)
    number, seen = numbered(stratum, {})
    assert number.tolist() == [0, 0, 1, 2, 1]
    assert seen == {5: 3, 9: 2}
    number, later = numbered(np.array([9, 4, 9, 5], dtype=np.uint64), seen)
    assert number.tolist() == [2, 0, 3, 3]
    assert later == {5: 4, 9: 4, 4: 1}
    assert seen == {5: 3, 9: 2}
    assert numbered(stratum[:0], seen)[1] == seen


def test_strata_are_cohort_and_hour_whatever_the_vocabulary() -> None:
    one = strata(Categorical(np.array([0, 1, -1, 0]), ("CORE", "NEW")), np.array([1, 1, 1, 2]))
    other = strata(Categorical(np.array([1, 0, -1, 1]), ("NEW", "CORE")), np.array([1, 1, 1, 2]))
    np.testing.assert_array_equal(one, other)
    assert len(set(one.tolist())) == 4


def slow_mixture(chosen: list[int], floor: float) -> list[float]:
    """The definition of stage 2 for one request, word for word."""
    votes = [sum(1 for choice in chosen if choice == a) for a in range(1, ACTIONS + 1)]
    roots = [v**0.5 for v in votes] if sum(votes) else [1.0] * ACTIONS
    return [0.0, *((1 - floor) * root / sum(roots) + floor / ACTIONS for root in roots)]


@given(choices=CHOICES, floor=st.floats(0, 1))
def test_the_mixture_is_the_root_of_the_votes_with_a_uniform_floor(choices: np.ndarray, floor: float) -> None:
    mu = mixture(choices, actions=ACTIONS, floor=floor)
    np.testing.assert_allclose(mu, [slow_mixture(row, floor) for row in choices.tolist()], atol=1e-12)
    np.testing.assert_allclose(mu.sum(axis=1), 1)
    assert (mu[:, 1:] >= floor / ACTIONS - 1e-12).all()
    np.testing.assert_array_equal(mu, mixture(choices[:, ::-1], actions=ACTIONS, floor=floor))  # the order of policies does not matter


@given(
    choices=arrays(np.int16, (3, 5), elements=st.integers(1, ACTIONS)),
    other=arrays(np.float64, (3, ACTIONS), elements=st.floats(0.01, 1)),
)
def test_no_other_design_leaves_the_family_less_variance_than_the_mixture_without_floor(choices: np.ndarray, other: np.ndarray) -> None:
    best = variance_factors(mixture(choices, actions=ACTIONS, floor=0), choices).mean.sum()
    rival = np.concatenate([np.zeros((3, 1)), other / other.sum(axis=1, keepdims=True)], axis=1)
    assert best <= variance_factors(rival, choices).mean.sum() * (1 + 1e-12)


@given(choices=CHOICES, floor=st.floats(0.05, 1))
def test_factors_are_the_mean_inverse_propensity_and_batches_add_up(choices: np.ndarray, floor: float) -> None:
    mu = mixture(choices, actions=ACTIONS, floor=floor)
    whole = variance_factors(mu, choices)
    parts = variance_factors(mu[:1], choices[:1]) + variance_factors(mu[1:], choices[1:])
    np.testing.assert_allclose(parts.mean, whole.mean)
    for p, column in enumerate(choices.T):
        inverse = [1 / mu[i, a] for i, a in enumerate(column.tolist()) if a > 0]
        assert (np.isnan(whole.mean[p]) and not inverse) or whole.mean[p] == pytest.approx(np.mean(inverse))


def test_closed_forms_of_factors() -> None:
    choices = np.tile(np.arange(1, 5), (10, 1))  # four policies, each an action of its own, of 16
    assert variance_factors(mixture(choices, actions=16, floor=1), choices).mean == pytest.approx(16)
    assert variance_factors(mixture(choices, actions=16, floor=0), choices).mean == pytest.approx(4)
    together = np.full((10, 25), 3)  # 25 policies that agree
    assert variance_factors(mixture(together, actions=49), together).mean == pytest.approx(1 / (0.8 + 0.2 / 49))


def test_where_every_policy_keeps_production_the_request_is_explored_uniformly() -> None:
    mu = mixture(np.array([[0, 0], [0, 2]]), actions=4)
    np.testing.assert_allclose(mu[0], [0, 0.25, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(mu[1], [0, 0.05, 0.85, 0.05, 0.05])
    assert np.isnan(variance_factors(mu[:1], np.array([[0, 0]])).mean).all()


def test_draws_follow_the_propensities_and_name_their_own() -> None:
    mu = np.tile(mixture(np.array([[1, 1, 2, 5]]), actions=ACTIONS), (40_000, 1))
    action, propensity = draw_actions(mu, uniforms(hash_integers(np.arange(40_000)), salt="draw"))
    np.testing.assert_array_equal(propensity, mu[0, action])
    assert (action > 0).all()
    assert stats.chisquare(np.bincount(action, minlength=ACTIONS + 1)[1:], mu[0, 1:] * len(action)).pvalue > 1e-3


def test_no_coin_draws_an_action_of_probability_zero() -> None:
    mu = np.array([[0.0, 0.3, 0.0, 0.7, 0.0]] * 4)
    action, _ = draw_actions(mu, np.array([0.0, 0.3, np.nextafter(1, 0), 0.29]))
    assert action.tolist() == [1, 3, 3, 1]


def test_what_is_no_design_is_refused() -> None:
    with pytest.raises(ConfigError, match="floor"):
        mixture(np.array([[1]]), actions=4, floor=1.5)
    with pytest.raises(DataError, match="choices"):
        mixture(np.array([[5]]), actions=4)
    with pytest.raises(DataError, match="choices"):
        mixture(np.array([1, 2]), actions=4)
    with pytest.raises(DataError, match="sum to one"):
        draw_actions(np.array([[0.0, 0.5, 0.4]]), np.array([0.5]))
    with pytest.raises(DataError, match="never shows"):
        variance_factors(np.array([[0.0, 1.0, 0.0]]), np.array([[2]]))
    with pytest.raises(ConfigError, match="0 actions"):
        block_actions(STRATUM, np.array([0]), actions=0, salt="a")
