"""Sums of a whole alpha family from intervals, against the sums of every policy's hits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.frontier.alphas import alpha_sums
from paretune.frontier.sweep import alpha_grid, choose, scalarise
from paretune.ope.lift import explored_sums


def batch(n, n_actions, seed):
    rng = np.random.default_rng(seed)
    rows = {"propensity": rng.uniform(0.1, 1, n), "rewards": rng.random((n, 2)), "cluster": rng.integers(0, 8, n), "clusters": 8}
    return rng.normal(size=(n, n_actions, 2)), rng.integers(0, n_actions, n), rows, rng.random((n, 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_sums_from_intervals_equal_sums_over_the_hits_of_each_policy(n, n_actions, points, anchored, seed):
    values, action, rows, expected = batch(n, n_actions, seed)
    alphas, expected = alpha_grid(points), expected if anchored else None
    hits = choose(values, scalarise(alphas), allowed=np.arange(n_actions)) == action[:, None]
    wanted = explored_sums(rows["rewards"], rows["propensity"], hits, rows["cluster"], clusters=8, expected=expected)
    found = alpha_sums(values, action, alphas=alphas, expected=expected, **rows)
    for name in ("rows", "hits", "weight", "reward", "weighted", "square"):
        np.testing.assert_allclose(getattr(found.raw, name), getattr(wanted.raw, name), atol=1e-9)
    np.testing.assert_allclose(found.residual, wanted.residual, atol=1e-9)


@pytest.mark.parametrize("alphas", [[0.5, 0.2], [], [0.0, 0.0], [-0.1, 0.5], [0.5, 1.5]])
def test_alphas_that_are_no_increasing_grid_are_refused(alphas):
    values, action, rows, _ = batch(5, 3, 0)
    with pytest.raises(DataError, match="do not increase"):
        alpha_sums(values, action, alphas=np.array(alphas), **rows)


def test_a_propensity_of_zero_is_refused():
    values, action, rows, _ = batch(5, 3, 0)
    with pytest.raises(DataError, match="propensity"):
        alpha_sums(values, action, alphas=alpha_grid(3), **{**rows, "propensity": np.zeros(5)})
