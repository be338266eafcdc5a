"""Sessions: who follows whom, what is earned until the end, rankings by two rewards, and planted carry-over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.ope.sessions import NOBODY, carry_over, clustered_wald, rank_agreement, reward_to_go, session_order
from paretune.records import Floats, Ints


def to_go_by_definition(rewards: Floats, session: Ints, time: Ints, discount: float) -> Floats:
    """Word for word: the own reward, then each later one of the session, discounted once per request."""
    result = np.zeros(rewards.shape)
    for i in range(len(rewards)):
        later = sorted((time[k], k) for k in range(len(rewards)) if session[k] == session[i] and (time[k], k) >= (time[i], i))
        for step, (_, k) in enumerate(later):
            result[i] += discount**step * rewards[k]
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_reward_to_go_is_what_its_definition_says(seed: int, discount: float) -> None:
    rng = np.random.default_rng(seed)
    session, time = np.append(rng.integers(0, 5, 15), [0, 0]), rng.integers(0, 6, 17)
    rewards = rng.normal(size=(17, 2))
    found = reward_to_go(rewards, session_order(session, time), discount=discount)
    np.testing.assert_allclose(found, to_go_by_definition(rewards, session, time, discount), atol=1e-5)


def test_the_order_of_a_session_is_that_of_its_times_and_then_of_the_log() -> None:
    order = session_order(np.array([7, 9, 7, 7, 9]), np.array([30, 10, 10, 10, 20]))
    np.testing.assert_array_equal(order.following, [NOBODY, 4, 3, 0, NOBODY])
    np.testing.assert_array_equal(order.left, [0, 1, 2, 1, 0])
    assert order.sessions == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    session, time, rewards = np.append(rng.integers(0, 4, 12), 0), rng.permutation(13), rng.normal(size=(13, 1))
    session[0] = 0
    shuffle = rng.permutation(13)
    plain = reward_to_go(rewards, session_order(session, time))
    again = reward_to_go(rewards[shuffle], session_order(session[shuffle], time[shuffle]))
    np.testing.assert_allclose(again, plain[shuffle], atol=1e-6)


def test_what_is_no_session_or_no_discount_is_refused() -> None:
    with pytest.raises(DataError, match="second request"):
        session_order(np.arange(4), np.arange(4))
    with pytest.raises(DataError, match="discount"):
        reward_to_go(np.ones((2, 1)), session_order(np.zeros(2), np.arange(2)), discount=1.5)


def small_log(n: int, *, seed: int, effect: float = 0.0, stays: float = 0.0) -> dict[str, np.ndarray]:
    """Sessions of two or three requests; the previous action moves the next reward, or whether there is one, where planted."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 5, (n, 3))
    x = (action - 2) / 2.0
    level = 0.3 + 0.1 * rng.normal(size=(n, 1))
    moved = np.concatenate([np.zeros((n, 1)), effect * x[:, :-1]], axis=1)
    rewards = (rng.random((n, 3)) < level + moved).astype(float)
    kept = np.ones((n, 3), dtype=bool)
    kept[:, 1] = rng.random(n) < 0.7 + stays * x[:, 0]
    kept[:, 2] = kept[:, 1] & (rng.random(n) < 0.5)
    session = np.repeat(np.arange(n), 3)[kept.ravel()]
    flat = {"x": x, "rewards": rewards, "time": np.tile(np.arange(3), (n, 1)), "explored": rng.random((n, 3)) < 0.6}
    return {name: column.ravel()[kept.ravel()] for name, column in flat.items()} | {"session": session, "user": session // 3}


def p_values_of(log: dict[str, np.ndarray]) -> dict[str, float]:
    order = session_order(log["session"], log["time"])
    found = carry_over(
        log["rewards"][:, None],
        order,
        np.column_stack([log["x"], log["x"] ** 2]),
        explored=np.flatnonzero(log["explored"]),
        propensity=np.full(len(order.left), 0.2),
        user=log["user"],
        objectives=("save",),
    )
    return {test.outcome: test.p_value for test in found}


def test_planted_carry_over_is_found_where_it_was_planted() -> None:
    assert p_values_of(small_log(6000, seed=1, effect=0.1))["next save"] < 1e-4
    assert p_values_of(small_log(6000, seed=1, effect=0.1))["another request"] > 0.01
    assert p_values_of(small_log(6000, seed=2, stays=0.1))["another request"] < 1e-4


def test_without_carry_over_the_test_rejects_as_often_as_it_should() -> None:
    p_values = np.array([list(p_values_of(small_log(800, seed=seed)).values()) for seed in range(150)])
    assert ((p_values < 0.1).mean(axis=0) < 0.18).all()
    assert ((p_values < 0.1).mean(axis=0) > 0.04).all()


def test_the_statistic_of_one_regressor_is_the_squared_t_of_a_sandwich() -> None:
    rng = np.random.default_rng(5)
    user, x = np.repeat(np.arange(300), 4).astype(np.uint64), rng.normal(size=1200)
    y = 0.1 * x + np.repeat(rng.normal(size=300), 4)
    found = clustered_wald(y, x[:, None], np.ones(1200), user, name="y")
    design = np.column_stack([np.ones(1200), x])
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ y
    from paretune.ope.clusters import user_buckets

    bucket, meat = user_buckets(user), np.zeros((2, 2))
    for one in np.unique(bucket):
        score = design[bucket == one].T @ (y - design @ beta)[bucket == one]
        meat += np.outer(score, score)
    clusters = len(np.unique(bucket))
    covariance = bread @ meat @ bread * clusters / (clusters - 1)
    assert found.statistic == pytest.approx(beta[1] ** 2 / covariance[1, 1])


def test_too_few_rows_and_actions_that_do_not_vary_are_refused() -> None:
    user = np.arange(100).astype(np.uint64)
    with pytest.raises(DataError, match="10 explored requests"):
        clustered_wald(np.ones(10), np.ones((10, 2)), np.ones(10), user[:10], name="y")
    with pytest.raises(DataError, match="span the grid"):
        clustered_wald(np.arange(100.0), np.ones((100, 1)), np.ones(100), user, name="y")


def test_agreement_is_one_for_the_same_ranking_and_minus_one_for_its_reverse() -> None:
    estimate = np.array([0.1, np.nan, 0.3, 0.2])
    draws = np.tile(estimate, (20, 1))
    same = rank_agreement(estimate, 2 * estimate, draws, 2 * draws, confidence=0.95)
    assert (same.tau, same.low, same.high, same.best, same.same_best) == (1, 1, 1, (2, 2), 1)
    turned = rank_agreement(estimate, -estimate, draws, -draws, confidence=0.95)
    assert turned.tau == -1
    assert turned.best == (2, 0)
    with pytest.raises(DataError, match="two policies"):
        rank_agreement(estimate[:2], estimate[:2], draws[:, :2], draws[:, :2], confidence=0.95)


def test_noise_widens_the_interval_of_tau() -> None:
    rng = np.random.default_rng(0)
    estimate = np.linspace(0, 1, 10)
    narrow, wide = (
        rank_agreement(estimate, estimate, *(estimate + sd * rng.normal(size=(2, 200, 10))), confidence=0.95) for sd in (0.01, 1.0)
    )
    assert narrow.low > 0.9
    assert wide.high - wide.low > 0.5
