"""The Poisson bootstrap: the same draws everywhere, sums that merge, and the clustered standard error."""

import numpy as np
import pytest

from paretune.errors import NoOverlapError
from paretune.ope.bootstrap import poisson_bootstrap, poisson_weights, replicate_sums
from paretune.ope.clusters import user_buckets
from paretune.ope.estimators import policy_sums, reward_at_hit
from paretune.ope.intervals import clustered_std_error

CLUSTERS = 256


def log(rows: slice = slice(None)):
    rng = np.random.default_rng(0)
    n = 6000
    user = rng.integers(0, 900, n)
    taste = rng.uniform(0.05, 0.6, 900)[user]
    rewards, hits = (rng.random((n, 2)) < taste[:, None]).astype(float), rng.random((n, 3)) < 0.4
    bucket = user_buckets(user, buckets=CLUSTERS)
    return policy_sums(rewards[rows], np.full(n, 0.4)[rows], hits[rows], bucket[rows], clusters=CLUSTERS)


def test_weights_are_poisson_of_mean_one_and_depend_on_bucket_replicate_and_salt_alone():
    weights = poisson_weights(512, np.arange(400))
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    assert np.abs(np.corrcoef(weights[:20])[np.triu_indices(20, 1)]).max() < 0.25
    np.testing.assert_array_equal(poisson_weights(512, np.array([7])), weights[[7]])
    assert not np.array_equal(poisson_weights(512, np.array([7]), salt=1), weights[[7]])


def test_replicates_of_two_machines_add_up_to_those_of_one_pass():
    weights = poisson_weights(CLUSTERS, np.arange(20))
    whole = replicate_sums(log(), weights)
    merged = replicate_sums(log(slice(0, 2500)), weights) + replicate_sums(log(slice(2500, None)), weights)
    np.testing.assert_allclose(poisson_bootstrap(merged, reward_at_hit), poisson_bootstrap(whole, reward_at_hit), rtol=1e-12)


def test_the_spread_is_the_clustered_standard_error():
    totals = replicate_sums(log(), poisson_weights(CLUSTERS, np.arange(1500)))
    spread = poisson_bootstrap(totals, reward_at_hit).std(axis=0)
    np.testing.assert_allclose(spread, clustered_std_error(reward_at_hit(log()).influence), rtol=0.08)


def test_replicates_without_overlap_are_missing_and_none_at_all_is_refused():
    user = np.array([0, 1])
    sums = policy_sums(np.ones((2, 1)), np.ones(2), np.array([[True], [False]]), user, clusters=2)
    values = poisson_bootstrap(replicate_sums(sums, np.array([[1.0, 1.0], [0.0, 1.0]])), reward_at_hit)
    assert values[0, 0, 0] == 1
    assert np.isnan(values[1, 0, 0])
    with pytest.raises(NoOverlapError):
        poisson_bootstrap(replicate_sums(sums, np.array([[0.0, 1.0]])), reward_at_hit)
