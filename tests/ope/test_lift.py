"""The production-anchored lift: unbiased, invariant, and with honest standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.errors import DataError, NoOverlapError
from paretune.ope.baseline import baseline_sums, fit_baseline
from paretune.ope.clusters import user_buckets
from paretune.ope.estimators import reward_at_hit
from paretune.ope.intervals import clustered_std_error, intervals
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, join_policies, paper_lift, produced_sums

CLUSTERS = 256


class Table:
    """A world of a few user types and actions whose truth is a table; users differ in taste, so rows of a user are correlated."""

    def __init__(self, n_users=150, seed=0):
        rng = np.random.default_rng(seed)
        self.type = rng.integers(0, 3, n_users)
        self.taste = rng.uniform(-0.08, 0.08, (n_users, 1))
        self.mean = rng.uniform(0.2, 0.5, (3, 5, 2))  # type, action (0 = production), objective
        self.policies = np.array([[1, 2, 3], [4, 4, 4], [2, 1, 4]])  # policy, type -> action
        self.activity = rng.uniform(0.3, 1.7, n_users)
        self.n_users = n_users

    def value(self, actions):
        """Exact value when each type gets its action; users arrive by activity."""
        per_user = self.mean[self.type, actions[self.type]] + self.taste
        return (self.activity[:, None] * per_user).sum(axis=0) / self.activity.sum()

    def lifts(self):
        production = self.value(np.zeros(3, int))
        return np.array([self.value(actions) / production - 1 for actions in self.policies])

    def rows(self, n, rng):
        user = rng.choice(self.n_users, n, p=self.activity / self.activity.sum())
        return user, self.type[user]

    def log(self, n_explored, n_produced, rng, *, expected=False):
        """One simulated log as sums."""
        user, kind = self.rows(n_explored, rng)
        action = rng.integers(1, 5, n_explored)
        rewards = rng.random((n_explored, 2)) < self.mean[kind, action] + self.taste[user]
        hits = action[:, None] == self.policies[:, kind].T
        m = self.mean[:, 0] * 0.8 + 0.05 if expected else None  # wrong, and it must not matter
        explored = explored_sums(
            rewards.astype(np.float32),
            np.full(n_explored, 0.25),
            hits,
            user_buckets(user, buckets=CLUSTERS),
            clusters=CLUSTERS,
            expected=None if m is None else m[kind],
        )
        user, kind = self.rows(n_produced, rng)
        rewards = rng.random((n_produced, 2)) < self.mean[kind, 0] + self.taste[user]
        produced = produced_sums(
            rewards.astype(np.float32), user_buckets(user, buckets=CLUSTERS), clusters=CLUSTERS, expected=None if m is None else m[kind]
        )
        return AnchoredSums(explored, produced)


@pytest.mark.parametrize("expected", [False, True])
def test_the_lift_is_unbiased_whatever_the_expected_rewards_are(expected):
    world, rng = Table(), np.random.default_rng(1)
    estimates = np.array([anchored_lift(world.log(600, 1200, rng, expected=expected)).value for _ in range(300)])
    error = estimates.std(axis=0) / np.sqrt(300)
    assert (np.abs(estimates.mean(axis=0) - world.lifts()) < 3.5 * error).all()


def test_expected_rewards_and_production_rows_reduce_the_variance():
    world, rng = Table(), np.random.default_rng(2)
    logs = [(world.log(600, 1200, rng), world.log(600, 1200, rng, expected=True)) for _ in range(200)]
    plain = np.array([anchored_lift(log).value for log, _ in logs]).var(axis=0).mean()
    with_m = np.array([anchored_lift(log).value for _, log in logs]).var(axis=0).mean()
    paper = np.array([paper_lift(log, 1).value[[0, 2]] for log, _ in logs]).var(axis=0).mean()
    assert with_m < plain < paper


def test_standard_errors_match_the_spread_over_simulated_logs():
    rng = np.random.default_rng(3)
    values, errors = [], []
    for _ in range(300):
        world = Table(n_users=200, seed=int(rng.integers(2**31)))  # users are drawn anew: they are what is sampled
        world.mean = Table(seed=9).mean
        estimate = anchored_lift(world.log(1500, 3000, rng))
        values.append(estimate.value)
        errors.append(clustered_std_error(estimate.influence))
    ratio = np.mean(errors, axis=0) / np.std(values, axis=0)
    assert np.abs(ratio - 1).mean() < 0.1
    assert np.abs(ratio.mean() - 1) < 0.05


def test_rows_of_one_user_are_not_counted_as_independent():
    world, rng = Table(), np.random.default_rng(4)
    log = world.log(600, 1200, rng)
    ten_times = log
    for _ in range(9):
        ten_times = ten_times + log
    np.testing.assert_allclose(
        clustered_std_error(anchored_lift(ten_times).influence), clustered_std_error(anchored_lift(log).influence), rtol=1e-9
    )


def test_merged_days_equal_one_pass():
    rng = np.random.default_rng(5)
    n, user = 500, np.arange(500) % 90
    rewards, hits, m = rng.random((n, 2)), rng.random((n, 3)) < 0.3, rng.random((n, 2))
    bucket = user_buckets(user, buckets=CLUSTERS)

    def sums(rows):
        explored = explored_sums(rewards[rows], np.full(n, 0.25)[rows], hits[rows], bucket[rows], clusters=CLUSTERS, expected=m[rows])
        return AnchoredSums(explored, produced_sums(rewards[rows] * 0.9, bucket[rows], clusters=CLUSTERS, expected=m[rows]))

    whole, merged = sums(slice(None)), sums(slice(0, 123)) + (sums(slice(123, 400)) + sums(slice(400, None)))
    np.testing.assert_allclose(anchored_lift(merged).value, anchored_lift(whole).value, rtol=1e-12)
    np.testing.assert_allclose(anchored_lift(merged).influence, anchored_lift(whole).influence, atol=1e-14)


def test_reward_units_do_not_move_a_relative_lift():
    rng = np.random.default_rng(6)
    rewards, hits, bucket = rng.random((400, 2)), rng.random((400, 2)) < 0.4, rng.integers(0, CLUSTERS, 400)

    def lift(unit):
        explored = explored_sums(
            rewards * unit, np.full(400, 0.5), hits, bucket, clusters=CLUSTERS, expected=rewards.mean() * unit + 0 * rewards
        )
        produced = produced_sums(rewards[::-1] * unit, bucket, clusters=CLUSTERS, expected=rewards.mean() * unit + 0 * rewards)
        return anchored_lift(AnchoredSums(explored, produced)).value

    np.testing.assert_allclose(lift(1000.0), lift(1.0), rtol=1e-9, atol=1e-12)


def test_a_perfect_advantage_removes_the_noise_of_hits():
    rng = np.random.default_rng(7)
    n = 4000
    action, chosen = rng.integers(1, 5, n), rng.integers(1, 5, (n, 2))
    effect = np.array([0.0, 0.3, -0.2, 0.1, 0.4])
    state = rng.normal(1.0, 0.2, (n, 1))
    rewards = state + effect[action][:, None]
    bucket = rng.integers(0, CLUSTERS, n)
    explored = explored_sums(
        rewards,
        np.full(n, 0.25),
        chosen == action[:, None],
        bucket,
        clusters=CLUSTERS,
        expected=state,
        advantage=effect[action][:, None],
        policy_advantage=effect[chosen][:, :, None],
    )
    produced = produced_sums(state, bucket, clusters=CLUSTERS, expected=state)
    lift = anchored_lift(AnchoredSums(explored, produced)).value
    np.testing.assert_allclose(lift[:, 0], effect[chosen].mean(axis=0) / state.mean(), rtol=1e-9)


def test_half_an_advantage_is_refused():
    with pytest.raises(DataError, match="only one of"):
        explored_sums(np.ones((2, 1)), np.ones(2), np.ones((2, 1), bool), np.zeros(2, int), clusters=2, advantage=np.ones((2, 1)))


def test_without_production_rows_the_anchored_lift_is_refused_and_the_papers_is_not():
    world, rng = Table(), np.random.default_rng(8)
    log = world.log(600, 10, rng)
    alone = AnchoredSums(log.explored, produced_sums(np.empty((0, 2)), np.empty(0, int), clusters=CLUSTERS))
    with pytest.raises(DataError, match="no production rows"):
        anchored_lift(alone)
    values = reward_at_hit(alone.explored.raw).value
    np.testing.assert_allclose(paper_lift(alone, 1).value, values / values[1] - 1)


def test_no_overlap_is_refused_and_a_single_policy_without_hits_is_nan():
    world, rng = Table(), np.random.default_rng(8)
    world.policies = np.array([[1, 2, 3], [0, 0, 0]])  # exploration never draws production
    lift = anchored_lift(world.log(600, 600, rng)).value
    assert np.isfinite(lift[0]).all()
    assert np.isnan(lift[1]).all()
    world.policies = np.array([[0, 0, 0]])
    with pytest.raises(NoOverlapError):
        anchored_lift(world.log(600, 600, rng))


def test_joined_policies_keep_their_estimates():
    world, rng = Table(), np.random.default_rng(9)
    log = world.log(900, 600, rng, expected=True)
    joined = join_policies([log.of_policies(np.array([2])), log.of_policies(np.array([0, 1]))])
    np.testing.assert_allclose(anchored_lift(joined).value, anchored_lift(log).value[[2, 0, 1]])


def test_bands_hold_intervals_and_replicates_surround_the_estimate():
    world, rng = Table(), np.random.default_rng(10)
    estimate = anchored_lift(world.log(900, 900, rng))
    found = intervals(estimate, confidence=0.9, replicates=2000, rng=rng)
    assert (found.band_low < found.low).all()
    assert (found.band_high > found.high).all()
    np.testing.assert_allclose(found.replicates.mean(axis=0), estimate.value, atol=4 * found.std_error.max() / np.sqrt(2000))
    np.testing.assert_allclose(found.replicates.std(axis=0), found.std_error, rtol=0.08)


def test_bands_of_one_number_are_its_interval_and_equal_policies_share_it():
    world, rng = Table(), np.random.default_rng(11)
    estimate = anchored_lift(world.log(900, 900, rng))
    one = estimate.of_policies(np.array([0, 0, 0]))
    found = intervals(one, confidence=0.95, replicates=4000, rng=rng)
    wide = (found.band_high - found.band_low) / (found.high - found.low)
    assert wide.max() < 1.2  # two objectives, not six numbers


def test_the_uncertainty_of_one_user_is_refused():
    bucket = np.zeros(10, int)
    sums = AnchoredSums(
        explored_sums(np.eye(10)[:, :1], np.ones(10), np.ones((10, 1), bool), bucket, clusters=4),
        produced_sums(np.ones((10, 1)), bucket, clusters=4),
    )
    with pytest.raises(DataError, match="uncertainty"):
        intervals(anchored_lift(sums), confidence=0.95, replicates=10, rng=np.random.default_rng(0))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(12)
    inside, all_inside = [], []
    mean = Table(seed=9).mean
    for _ in range(2000):
        world = Table(n_users=400, seed=int(rng.integers(2**31)))
        world.mean = mean
        estimate = anchored_lift(world.log(1500, 3000, rng))
        found = intervals(estimate, confidence=0.95, replicates=500, rng=rng)
        production = mean[:, 0].mean(axis=0)  # types are equally likely and tastes average zero
        truth = np.array([mean[np.arange(3), actions].mean(axis=0) for actions in world.policies]) / production - 1
        inside.append((found.low < truth) & (truth < found.high))
        all_inside.append(((found.band_low < truth) & (truth < found.band_high)).all())
    assert 0.935 < np.mean(inside) < 0.965
    assert 0.92 < np.mean(all_inside) < 0.97


def test_the_baseline_is_ridge_regression_and_its_sums_add_up():
    rng = np.random.default_rng(13)
    wide = rng.normal(size=(500, 4)).astype(np.float32) * np.array([1, 10, 0.1, 0], np.float32) + 3
    rewards = (wide @ rng.normal(size=(4, 2)) + 0.5 + rng.normal(size=(500, 2))).astype(np.float32)
    fitted = fit_baseline(wide, rewards, l2=0.0)
    design = np.column_stack([np.ones(500), wide[:, :3]])
    oracle = design @ np.linalg.lstsq(design, rewards, rcond=None)[0]
    np.testing.assert_allclose(fitted.predict(wide), oracle, atol=2e-3)
    merged = (baseline_sums(wide[:200], rewards[:200]) + baseline_sums(wide[200:], rewards[200:])).solve(l2=0.0)
    np.testing.assert_allclose(merged.slope, fitted.slope, rtol=1e-6, atol=1e-9)
    assert np.abs(fit_baseline(wide, rewards, l2=1e6).slope).max() < 1e-3


def test_a_baseline_needs_rows_without_nan():
    with pytest.raises(DataError, match="no production rows"):
        fit_baseline(np.empty((0, 2), np.float32), np.empty((0, 1), np.float32))
    with pytest.raises(DataError, match="NaN"):
        fit_baseline(np.array([[np.nan, 1.0]]), np.ones((1, 1)))
