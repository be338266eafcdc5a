"""Laws and oracles of Reward@HIT, SNIPS and IPS."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError, NoOverlapError
from paretune.ope.clusters import bucket_sums, user_buckets
from paretune.ope.estimators import ips, policy_sums, relative_lift, reward_at_hit, snips

CLUSTERS = 16
logs = st.tuples(st.integers(1, 80), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))


def make(n, n_actions, n_policies, objectives, seed, *, uniform=False):
    rng = np.random.default_rng(seed)
    action = rng.integers(0, n_actions, n)
    chosen = rng.integers(0, n_actions, (n, n_policies))
    chosen[0, 0] = action[0]  # at least one hit
    propensity = np.full(n, 1 / n_actions) if uniform else rng.uniform(0.05, 1, n)
    rewards = rng.gamma(1.0, 1.0, (n, objectives)).astype(np.float32)
    user = rng.integers(0, 20, n)
    return rewards, propensity, chosen == action[:, None], user_buckets(user, buckets=CLUSTERS)


def sums_of(rows):
    return policy_sums(*rows, clusters=CLUSTERS)


@settings(max_examples=40, deadline=None)
@given(logs)
def test_reward_at_hit_is_the_mean_reward_of_requests_whose_logged_action_is_the_policys(shape):
    rows = make(*shape)
    rewards, _, hits, _ = rows
    estimate = reward_at_hit(sums_of(rows))
    for p in range(hits.shape[1]):
        for j in range(rewards.shape[1]):
            total, count = 0.0, 0
            for i in range(len(rewards)):
                if hits[i, p]:
                    total += float(rewards[i, j])
                    count += 1
            assert estimate.hits[p] == count
            if count:
                assert estimate.value[p, j] == pytest.approx(total / count, rel=1e-9)
            else:
                assert np.isnan(estimate.value[p, j])


@settings(max_examples=40, deadline=None)
@given(logs)
def test_under_uniform_logging_snips_is_reward_at_hit(shape):
    sums = sums_of(make(*shape, uniform=True))
    np.testing.assert_allclose(snips(sums).value, reward_at_hit(sums).value, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(logs)
def test_snips_and_ips_follow_their_definitions(shape):
    rows = make(*shape)
    rewards, propensity, hits, _ = rows
    weight = hits / propensity[:, None]
    total = np.einsum("np,nm->pm", weight, rewards)
    hit = hits.any(axis=0)
    np.testing.assert_allclose(snips(sums_of(rows)).value[hit], total[hit] / weight.sum(axis=0)[hit, None], rtol=1e-9)
    np.testing.assert_allclose(ips(sums_of(rows)).value[hit], total[hit] / len(rewards), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(logs, st.floats(0, 1))
def test_any_split_of_a_log_adds_up(shape, share):
    rows = make(*shape)
    cut = int(share * len(rows[0]))
    whole = sums_of(rows)
    parts = sums_of([column[:cut] for column in rows]) + sums_of([column[cut:] for column in rows])
    for estimator in (reward_at_hit, snips, ips):
        np.testing.assert_allclose(estimator(parts).value, estimator(whole).value, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(estimator(parts).influence, estimator(whole).influence, rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(logs, st.floats(0.01, 100))
def test_row_order_and_reward_units_do_not_matter(shape, unit):
    rows = make(*shape)
    order = np.random.default_rng(1).permutation(len(rows[0]))
    shuffled = [column[order] for column in rows]
    scaled = [rows[0].astype(np.float64) * unit, *rows[1:]]
    for estimator in (reward_at_hit, snips, ips):
        value = estimator(sums_of(rows)).value
        np.testing.assert_allclose(estimator(sums_of(shuffled)).value, value, rtol=1e-9)
        np.testing.assert_allclose(estimator(sums_of(scaled)).value, value * unit, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(logs)
def test_influence_sums_to_zero_and_is_nan_only_without_hits(shape):
    rows = make(*shape)
    estimate = reward_at_hit(sums_of(rows))
    np.testing.assert_allclose(np.nan_to_num(estimate.influence).sum(axis=0), 0, atol=1e-9)
    assert (np.isnan(estimate.influence).any(axis=(0, 2)) == (estimate.hits == 0)).all()


def test_no_hit_at_all_is_an_error_and_never_zero():
    rewards, propensity, hits, cluster = make(50, 3, 2, 2, 0)
    sums = sums_of((rewards, propensity, np.zeros_like(hits), cluster))
    for estimator in (reward_at_hit, snips, ips):
        with pytest.raises(NoOverlapError, match="none of 50 logged requests"):
            estimator(sums)


def test_one_policy_without_a_hit_is_nan_beside_the_others():
    rewards, propensity, hits, cluster = make(50, 3, 2, 2, 0)
    hits = np.column_stack([hits, np.zeros(50, bool)])
    for estimator in (reward_at_hit, snips, ips):
        value = estimator(sums_of((rewards, propensity, hits, cluster))).value
        assert np.isnan(value[2]).all()
        assert np.isfinite(value[:2]).all()


def test_too_few_hits_are_no_estimate():
    estimate = reward_at_hit(sums_of(make(50, 3, 2, 2, 0)))
    refused = estimate.refuse_below(int(estimate.hits.max()))
    assert np.isfinite(refused.value).all(axis=1).sum() == 1


def test_the_lift_is_policy_over_production_minus_one():
    estimate = reward_at_hit(sums_of(make(200, 3, 3, 2, 5)))
    lift = relative_lift(estimate, 1)
    np.testing.assert_allclose(lift.value, estimate.value / estimate.value[1] - 1)
    np.testing.assert_allclose(lift.influence[:, 1], 0, atol=1e-15)


def test_pooled_weights_replace_hits():
    rewards, propensity, hits, cluster = make(60, 3, 2, 2, 3)
    weights = hits / propensity[:, None]
    pooled = policy_sums(rewards, propensity, weights, cluster, clusters=CLUSTERS, pooled=True)
    np.testing.assert_allclose(snips(pooled).value, snips(sums_of((rewards, propensity, hits, cluster))).value)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, np.nan])
def test_impossible_propensities_are_refused(bad):
    rewards, propensity, hits, cluster = make(50, 3, 2, 2, 0)
    propensity[7] = bad
    with pytest.raises(DataError, match="row 7"):
        sums_of((rewards, propensity, hits, cluster))


def test_rewards_that_are_not_finite_are_refused():
    rewards, propensity, hits, cluster = make(50, 3, 2, 2, 0)
    rewards[4, 1] = np.inf
    with pytest.raises(DataError, match="row 4"):
        sums_of((rewards, propensity, hits, cluster))


def test_buckets_spread_consecutive_users_evenly():
    counts = np.bincount(user_buckets(np.arange(64_000), buckets=64), minlength=64)
    assert ((counts - 1000) ** 2 / 1000).sum() < 110  # chi-square with 63 degrees of freedom, far tail


def test_bucket_sums_add_rows_of_a_cluster():
    columns = np.arange(12.0).reshape(3, 2, 2)
    total = bucket_sums(columns, np.array([1, 0, 1]), clusters=3)
    np.testing.assert_array_equal(total, [columns[1], columns[0] + columns[2], np.zeros((2, 2))])


def test_obp_replay_agrees_where_it_can_be_had():
    obp = pytest.importorskip("obp.ope")
    rows = make(200, 3, 1, 1, 11, uniform=True)
    rewards, _, hits, _ = rows
    action = np.zeros(200, dtype=int)
    distribution = np.zeros((200, 2, 1))
    distribution[np.arange(200), np.where(hits[:, 0], 0, 1), 0] = 1
    theirs = obp.ReplayMethod().estimate_policy_value(reward=rewards[:, 0], action=action, action_dist=distribution)
    assert reward_at_hit(sums_of(rows)).value[0, 0] == pytest.approx(theirs, rel=1e-8)
