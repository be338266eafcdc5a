"""Sums over users add up, and say what the users themselves say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.experiment.moments import Moments, user_moments
from paretune.records import Floats, Ints


def table(n: int, *, arms: int, columns: int, seed: int, sticky: bool = True) -> tuple[Ints, Ints, Floats]:
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n), 1 if sticky else arms)
    arm = rng.integers(0, arms, n) if sticky else np.tile(np.arange(arms), n)
    return user, arm, rng.poisson(2.0, (len(user), columns)).astype(float)


def same(a: Moments, b: Moments) -> None:
    for name in ("users", "crossed", "total", "product"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), cut=st.integers(0, 60), arms=st.integers(1, 4), seed=st.integers(0, 10**6), sticky=st.booleans())
def test_moments_of_users_split_in_any_way_add_up(n: int, cut: int, arms: int, seed: int, sticky: bool) -> None:
    user, arm, columns = table(n, arms=arms, columns=3, seed=seed, sticky=sticky)
    first = user < min(cut, n)
    whole = user_moments(user, arm, columns, arms=arms)
    parts = [user_moments(user[rows], arm[rows], columns[rows], arms=arms) for rows in (first, ~first)]
    same(parts[0] + parts[1], whole)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_users_does_not_matter(seed: int) -> None:
    user, arm, columns = table(40, arms=3, columns=2, seed=seed, sticky=False)
    order = np.random.default_rng(seed).permutation(len(user))
    same(user_moments(user[order], arm[order], columns[order], arms=3), user_moments(user, arm, columns, arms=3))


def test_moments_are_the_sums_they_are_named_for() -> None:
    user, arm, columns = table(50, arms=2, columns=3, seed=1, sticky=False)
    found = user_moments(user, arm, columns, arms=2)
    wide = np.stack([columns[arm == a] for a in range(2)], axis=1)  # (n, A, K)
    np.testing.assert_array_equal(found.users, [50, 50])
    assert found.crossed == 50
    np.testing.assert_allclose(found.total, wide.sum(axis=0))
    for a in range(2):
        for b in range(2):
            np.testing.assert_allclose(found.product[a, :, b], wide[:, a].T @ wide[:, b])


def test_arms_share_nothing_where_each_user_is_in_one() -> None:
    user, arm, columns = table(50, arms=3, columns=2, seed=2)
    found = user_moments(user, arm, columns, arms=3)
    assert found.crossed == 0
    assert not found.product[0, :, 1].any()


def test_moments_of_some_arms_are_those_of_their_users_alone() -> None:
    user, arm, columns = table(60, arms=3, columns=2, seed=3)
    whole = user_moments(user, arm, columns, arms=3)
    kept = arm != 1
    alone = user_moments(user[kept], np.where(arm[kept] == 2, 0, 1), columns[kept], arms=2)
    same(whole.of_arms(np.array([2, 0])), alone)


def test_a_table_that_means_nothing_is_refused() -> None:
    user, arm, columns = table(5, arms=2, columns=2, seed=4)
    with pytest.raises(DataError, match="two rows in one arm"):
        user_moments(np.zeros(5), np.zeros(5, int), columns, arms=2)
    with pytest.raises(DataError, match="NaN"):
        user_moments(user, arm, np.full((5, 2), np.nan), arms=2)
    with pytest.raises(DataError, match="one row per user and arm"):
        user_moments(user[:4], arm, columns, arms=2)
    with pytest.raises(DataError, match="do not add up"):
        user_moments(user, arm, columns, arms=2) + user_moments(user, arm, columns, arms=3)
