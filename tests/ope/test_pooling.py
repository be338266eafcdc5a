"""Kernels over actions and lists: equal to their definitions, mean one, and pooled sums that merge."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError, NoOverlapError
from paretune.ope import pooled, pooling
from paretune.ope.clusters import user_buckets
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, join_policies, pooled_lift, produced_sums
from paretune.ope.pooled import PooledSums, pooled_sums
from paretune.ope.pooling import (
    ACTION,
    OVERLAP,
    Kernel,
    action_likeness,
    kernel_coordinates,
    overlap_likeness,
    overlaps,
    weight_coordinates,
    weights_likeness,
)
from paretune.records import Candidates
from paretune.surface.heads import Head, Surface
from paretune.surface.lists import examination, top_lists

CLUSTERS = 64
SURFACE = Surface((Head("save", 5.0, (1.0, 4.0, 9.0)), Head("p2p", 2.0, (1.0, 5.0, 9.0)), Head("hide", -1.0)), 4)
EXACT = Kernel("action kernel", (1e-3,), 0)  # so narrow that only a hit counts
WIDE = Kernel("action kernel", (4.0, 3.0), 1)


def some_lists(n=40, seed=0, *, items=9):
    """Lists of every action over ragged candidates, with logged actions and propensities."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, items + 1, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    scores = rng.random((offsets[-1], 3)).astype(np.float32)
    lists = top_lists(Candidates(offsets, np.arange(offsets[-1]), scores), SURFACE.actions, SURFACE.k)
    return lists, rng.integers(1, len(SURFACE), n), np.full(n, 1 / (len(SURFACE) - 1))


def overlap_of(one, other):
    """The definition, word for word."""
    look = examination(len(one))
    rank = {item: e for item, e in zip(one, look, strict=True) if item >= 0}
    there = {item: e for item, e in zip(other, look, strict=True) if item >= 0}
    shared = sum(min(rank[item], there[item]) for item in rank if item in there) / sum(rank.values())
    return shared if shared >= pooling.LEAST_OVERLAP else 0.0


def test_overlap_weights_equal_the_definition():
    lists, action, propensity = some_lists()
    found = overlap_likeness(lists, action, propensity)
    for row, target in [(0, 3), (1, 0), (5, 9), (17, 2), (30, 6)]:
        grid = [overlap_of(lists[row, a], lists[row, target]) for a in range(1, len(SURFACE))]
        own = overlap_of(lists[row, action[row]], lists[row, target])
        for rung, power in enumerate(OVERLAP.rungs):
            weight = own**power / np.mean(np.power(grid, power)) if max(grid) > 0 else 0
            assert found.weight[row, target, rung] == pytest.approx(weight, rel=1e-4, abs=1e-6)
        likeness = np.power(grid, 16)
        if max(grid) > 0:
            distance = likeness @ (1 - np.array(grid)) / likeness.sum()
            assert found.distance[row, target] == pytest.approx(distance, abs=1e-5)
            assert found.deviation[row, target] == pytest.approx(1 - own - distance, abs=1e-5)


def test_compiled_and_plain_overlaps_agree(monkeypatch):
    lists, action, propensity = some_lists(300, 1)
    design = np.random.default_rng(0).dirichlet(np.ones(len(SURFACE)), 300)
    for given_design in (None, design, design[0]):
        fast = overlap_likeness(lists, action, propensity, design=given_design)
        with monkeypatch.context() as patch:
            patch.setattr(pooling, "compiled", None)
            plain = overlap_likeness(lists, action, propensity, design=given_design)
        for name in ("weight", "deviation", "distance"):
            np.testing.assert_allclose(getattr(fast, name), getattr(plain, name), rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), uniform=st.booleans())
def test_the_mean_weight_of_a_request_is_one_under_its_own_design(seed, uniform):
    rng = np.random.default_rng(seed)
    n_actions = len(SURFACE)
    lists, _, _ = some_lists(1, seed)
    repeated, action = np.repeat(lists, n_actions - 1, axis=0), np.arange(1, n_actions)
    mu = np.full(n_actions - 1, 1 / (n_actions - 1)) if uniform else rng.dirichlet(np.ones(n_actions - 1)).clip(1e-3)
    mu = mu / mu.sum()
    design = np.concatenate([[0], mu])
    for found in (
        overlap_likeness(repeated, action, mu),
        overlap_likeness(repeated, action, mu, design=design),
        action_likeness(kernel_coordinates(SURFACE), action, mu),
        action_likeness(kernel_coordinates(SURFACE), action, mu, design=design),
    ):
        np.testing.assert_allclose(mu @ found.weight[:, 1:, 1], 1, rtol=1e-4)
        np.testing.assert_allclose(mu @ (found.weight[:, 1:, 1] * found.deviation[:, 1:]), 0, atol=1e-4)


def test_action_weights_equal_the_definition_and_fall_with_distance():
    action, propensity = np.arange(1, 10), np.full(9, 1 / 9)
    found = action_likeness(kernel_coordinates(SURFACE), action, propensity)
    logs = np.log(SURFACE.actions[:, :2])
    phi = np.column_stack([(logs[:, 0] - logs[:, 1]) / pooling.RATIO_BANDWIDTH, logs.mean(axis=1) / pooling.SCALE_BANDWIDTH])
    kappa = np.exp(-0.5 * np.square(phi[:, None] - phi).sum(axis=2))
    np.testing.assert_allclose(found.weight[:, :, ACTION.speaks], kappa[1:] / kappa[1:].mean(axis=0), rtol=1e-5, atol=1e-30)
    own = found.weight[action - 1, action, 1]
    assert (own >= found.weight[:, action, 1].max(axis=0) - 1e-6).all()


def test_rows_without_candidates_speak_for_their_own_action_only():
    lists, action, propensity = some_lists(20)
    lists[3] = -1
    found = overlap_likeness(lists, action, propensity)
    expected = np.zeros(len(SURFACE))
    expected[action[3]] = len(SURFACE) - 1
    np.testing.assert_allclose(found.weight[3], np.repeat(expected[:, None], 3, axis=1))
    np.testing.assert_allclose(found.deviation[3, action[3]], 0)


def test_equal_lists_pool_completely_and_foreign_ones_not_at_all():
    lists = np.tile(np.arange(4, dtype=np.int16), (9, 10, 1))
    lists[:, 7] = np.arange(4, 8)
    action, propensity = np.arange(1, 10), np.full(9, 1 / 9)
    found = overlap_likeness(lists, action, propensity)
    np.testing.assert_allclose(found.weight[:, 2, 0], np.where(action == 7, 0, 9 / 8), rtol=1e-6)
    np.testing.assert_allclose(found.weight[:, 7, 0], np.where(action == 7, 9, 0), rtol=1e-6)
    assert overlaps(lists, width=8)[0, 1, 2] == pytest.approx(1)


def test_a_wider_power_never_pools_less():
    lists, action, propensity = some_lists(400, 3)
    weight = overlap_likeness(lists, action, propensity).weight.astype(np.float64)
    effective = weight.sum(axis=0) ** 2 / np.square(weight).sum(axis=0)
    assert (np.diff(effective, axis=1) < 0).all()


def test_what_is_no_design_no_ladder_and_no_grid_action_is_refused():
    lists, action, propensity = some_lists(5)
    with pytest.raises(DataError, match="doubling"):
        overlap_likeness(lists, action, propensity, kernel=Kernel("list-overlap", (8, 12), 0))
    with pytest.raises(DataError, match="not on the grid"):
        overlap_likeness(lists, action * 0, propensity)
    with pytest.raises(DataError, match="design"):
        action_likeness(kernel_coordinates(SURFACE), action, propensity, design=np.ones(3))
    with pytest.raises(DataError, match="propensity"):
        action_likeness(kernel_coordinates(SURFACE), action, propensity * 0)


class Feed:
    """Requests of two types whose rewards depend on the log ratio of the weights; users act more than once."""

    def __init__(self, seed=0, *, slope=0.1):
        self.rng = np.random.default_rng(seed)
        logs = np.log(SURFACE.actions[:, :2])
        ratio = logs[:, 0] - logs[:, 1]
        tilt = slope * (ratio - ratio[0])
        self.mean = 0.4 + np.stack([tilt, -tilt])[:, :, None] * np.array([1.0, -0.5])  # type, action, objective

    def log(self, n, policies, *, kernel, advantages=False):
        """Sums of one log; policies (P, 2) give the action of each type."""
        rng = self.rng
        kind, user = rng.integers(0, 2, n), rng.integers(0, n // 3, n)
        action = rng.integers(1, len(SURFACE), n)
        rewards = (rng.random((n, 2)) < self.mean[kind, action]).astype(np.float32)
        cluster, propensity = user_buckets(user, buckets=CLUSTERS), np.full(n, 1 / 9)
        chosen = policies[:, kind].T
        gain = (self.mean - self.mean[:, :1])[kind] if advantages else None
        likeness = action_likeness(kernel_coordinates(SURFACE), action, propensity, kernel=kernel)
        expected = np.full((n, 2), 0.3)
        by_kernel = pooled_sums(
            rewards, likeness, chosen, cluster, kernel=kernel, action=action, clusters=CLUSTERS, expected=expected, advantages=gain
        )
        hits = chosen == action[:, None]
        explored = explored_sums(rewards, propensity, hits, cluster, clusters=CLUSTERS, expected=expected)
        kind, user = rng.integers(0, 2, n), rng.integers(0, n // 3, n)
        rewards = (rng.random((n, 2)) < self.mean[kind, 0]).astype(np.float32)
        produced = produced_sums(rewards, user_buckets(user, buckets=CLUSTERS), clusters=CLUSTERS, expected=expected)
        return AnchoredSums(explored, produced, by_kernel)

    def lift(self, policies):
        """True relative lifts."""
        return self.mean[np.arange(2), policies].mean(axis=1) / self.mean[:, 0].mean(axis=0) - 1


POLICIES = np.array([[4, 2], [9, 1], [0, 0]])


def test_a_kernel_that_only_counts_hits_gives_the_anchored_lift():
    log = Feed().log(4000, POLICIES[:2], kernel=EXACT)
    np.testing.assert_allclose(pooled_lift(log).value, anchored_lift(log).value, rtol=1e-6)
    np.testing.assert_allclose(pooled_lift(log).influence, anchored_lift(log).influence, atol=1e-9)
    np.testing.assert_array_equal(pooled_lift(log).hits, anchored_lift(log).hits)


def test_pooling_with_the_right_advantage_is_unbiased_and_has_less_variance_than_hits():
    feed = Feed()
    logs = [feed.log(900, POLICIES, kernel=WIDE, advantages=True) for _ in range(150)]
    found = np.array([pooled_lift(log).value for log in logs])
    hits = np.array([anchored_lift(log).value for log in logs])
    error = found.std(axis=0) / np.sqrt(len(logs))
    assert (np.abs(found.mean(axis=0) - feed.lift(POLICIES)) < 3.5 * error).all()
    assert found[:, :2].var(axis=0).mean() < 0.7 * hits[:, :2].var(axis=0).mean()
    assert np.isnan(hits[:, 2]).all()  # production is never explored, but its list has neighbours


def test_compiled_and_plain_sums_agree(monkeypatch):
    fast = Feed().log(500, POLICIES, kernel=ACTION, advantages=True).pooled
    with monkeypatch.context() as patch:
        patch.setattr(pooled, "compiled", None)
        plain = Feed().log(500, POLICIES, kernel=ACTION, advantages=True).pooled
    for field in fields(PooledSums)[:7]:
        np.testing.assert_allclose(getattr(fast, field.name), getattr(plain, field.name), rtol=1e-9, atol=1e-9)


def test_merged_parts_equal_one_pass_and_other_kernels_do_not_add_up():
    feed = Feed()
    parts = [feed.log(300, POLICIES, kernel=ACTION, advantages=True) for _ in range(3)]
    left, right = (parts[0] + parts[1]) + parts[2], parts[0] + (parts[1] + parts[2])
    np.testing.assert_allclose(pooled_lift(left).value, pooled_lift(right).value, rtol=1e-12)
    assert parts[0].pooled is not None
    with pytest.raises(DataError, match="do not add up"):
        parts[0] + replace(parts[1], pooled=replace(parts[0].pooled, kernel=EXACT))
    with pytest.raises(DataError, match="pooled"):
        parts[0] + replace(parts[1], pooled=None)


def test_joined_policies_keep_their_pooled_estimates():
    log = Feed().log(900, POLICIES, kernel=ACTION, advantages=True)
    joined = join_policies([log.of_policies(np.array([2])), log.of_policies(np.array([0, 1]))])
    np.testing.assert_allclose(pooled_lift(joined).value, pooled_lift(log).value[[2, 0, 1]])
    assert pooled_lift(joined).name == "production-anchored, action kernel with list-replay"


def test_no_overlap_is_refused():
    lists = np.tile(np.arange(4, dtype=np.int16), (30, 10, 1))
    lists[:, 0] = np.arange(4, 8)
    action, propensity, cluster = np.tile(np.arange(1, 4), 10), np.full(30, 1 / 9), np.arange(30)
    found = overlap_likeness(lists, action, propensity)
    rewards = np.ones((30, 1), np.float32)
    nothing = pooled_sums(rewards, found, np.zeros((30, 1), int), cluster, kernel=OVERLAP, action=action, clusters=CLUSTERS)
    hits = np.zeros((30, 1), bool)
    sums = AnchoredSums(
        explored_sums(rewards, propensity, hits, cluster, clusters=CLUSTERS), produced_sums(rewards, cluster, clusters=CLUSTERS), nothing
    )
    with pytest.raises(NoOverlapError, match="list like"):
        pooled_lift(sums)
    with pytest.raises(DataError, match="not pooled"):
        pooled_lift(replace(sums, pooled=None))


def test_weights_on_the_grid_are_as_alike_as_the_actions_they_are():
    rng, phi = np.random.default_rng(7), kernel_coordinates(SURFACE)
    action, propensity = rng.integers(1, len(SURFACE), 30), rng.uniform(0.05, 0.3, 30)
    whole = action_likeness(phi, action, propensity, kernel=WIDE)
    targets = np.broadcast_to(phi[1:], (30, *phi[1:].shape))
    own = weights_likeness(phi, targets, action, propensity, kernel=WIDE)
    for name in ("weight", "deviation", "distance"):
        np.testing.assert_allclose(getattr(own, name), getattr(whole, name)[:, 1:], rtol=1e-5, atol=1e-6)


def test_weights_between_the_levels_have_mean_one_over_what_could_have_been_logged():
    phi, k = kernel_coordinates(SURFACE), len(SURFACE) - 1
    between = SURFACE.actions[[1]] * [1.7, 1.3, 1.0]
    action = np.arange(1, k + 1)
    targets = np.broadcast_to(weight_coordinates(SURFACE, between), (k, 1, phi.shape[1]))
    found = weights_likeness(phi, targets, action, np.full(k, 1 / k), kernel=WIDE)
    np.testing.assert_allclose(found.weight.mean(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose((found.weight[:, :, WIDE.speaks] * found.deviation).mean(axis=0), 0, atol=1e-5)
    far = np.full((k, 1, phi.shape[1]), 1e3)
    assert (weights_likeness(phi, far, action, np.full(k, 1 / k), kernel=WIDE).weight == 0).all()  # no overlap, never a guess
    with pytest.raises(DataError, match="not on the grid"):
        weights_likeness(phi, targets[:1], np.array([0]), np.ones(1))
