"""One suite that every estimator keeps: split logs add up, order does not matter, definitions hold, no overlap is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from inspect import signature
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import pytest

from paretune.errors import DataError, NoOverlapError
from paretune.ope.doubly import (
    Shrinkage,
    direct_method,
    doubly_robust,
    model_sums,
    mrdr_weights,
    optimistic_doubly_robust,
    self_normalised_doubly_robust,
    switch_doubly_robust,
)
from paretune.ope.estimators import ips, policy_sums, reward_at_hit, snips
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, pooled_lift, produced_sums
from paretune.ope.pooled import pooled_sums
from paretune.ope.pooling import ACTION, OVERLAP, action_likeness, kernel_coordinates, overlap_likeness
from paretune.records import Candidates
from paretune.surface.heads import Head, Surface
from paretune.surface.lists import list_values, top_lists

CLUSTERS = 16
SURFACE = Surface((Head("save", 5.0, (1.0, 4.0)), Head("p2p", 2.0, (1.0, 5.0))), 2)
K = len(SURFACE)
SHRINKAGE = Shrinkage(3.0, 20.0)


@dataclass(frozen=True)
class Rows:
    """Exploration rows of two policies, with everything that any estimator asks for."""

    rewards: Any  # (n, M)
    propensity: Any  # (n,)
    action: Any  # (n,)
    chosen: Any  # (n, P)
    cluster: Any  # (n,)
    expected: Any  # (n, M)
    q: Any  # (n, K, M)
    lists: Any  # (n, K, k)
    listed: Any  # (n, K, M)

    def take(self, rows):
        return Rows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def hits(self):
        return self.chosen == self.action[:, None]


def some_rows(n=60, seed=0, *, uniform=False):
    rng = np.random.default_rng(seed)
    mu = np.full((n, K - 1), 1 / (K - 1)) if uniform else rng.dirichlet(np.ones(K - 1), n).clip(0.05)
    mu = mu / mu.sum(axis=1, keepdims=True)
    action = 1 + (rng.random((n, 1)) > mu.cumsum(axis=1)).sum(axis=1).clip(0, K - 2)
    candidates = Candidates(np.arange(n + 1) * 4, np.arange(4 * n), rng.random((4 * n, 2)).astype(np.float32))
    lists = top_lists(candidates, SURFACE.actions, SURFACE.k)
    return Rows(
        rng.random((n, 2)).astype(np.float32),
        mu[np.arange(n), action - 1],
        action,
        rng.integers(1, K, (n, 2)),
        rng.integers(0, CLUSTERS, n),
        rng.random((n, 2)),
        rng.random((n, K, 2)),
        lists,
        list_values(candidates, lists, (0, 1)).astype(np.float64),
    )


def plain(rows):
    return policy_sums(rows.rewards, rows.propensity, rows.hits, rows.cluster, clusters=CLUSTERS)


def modelled(rows):
    at = np.arange(len(rows.action))
    return model_sums(
        rows.rewards,
        rows.propensity,
        rows.hits,
        rows.cluster,
        logged=rows.q[at, rows.action],
        target=rows.q[at[:, None], rows.chosen],
        shrinkage=SHRINKAGE,
        clusters=CLUSTERS,
    )


def anchored(rows, kernel=None, *, replay=False):
    """Production rows are the same requests with half of their rewards."""
    gain = rows.listed - rows.listed[:, :1] if replay else None
    likeness = None
    if kernel is ACTION:
        likeness = action_likeness(kernel_coordinates(SURFACE), rows.action, rows.propensity)
    elif kernel is OVERLAP:
        likeness = overlap_likeness(rows.lists, rows.action, rows.propensity)
    pooled = None
    if likeness is not None:
        pooled = pooled_sums(
            rows.rewards,
            likeness,
            rows.chosen,
            rows.cluster,
            kernel=kernel,
            action=rows.action,
            clusters=CLUSTERS,
            expected=rows.expected,
            advantages=gain,
        )
    explored = explored_sums(rows.rewards, rows.propensity, rows.hits, rows.cluster, clusters=CLUSTERS, expected=rows.expected)
    return AnchoredSums(explored, produced_sums(rows.rewards / 2, rows.cluster, clusters=CLUSTERS, expected=rows.expected), pooled)


@dataclass(frozen=True)
class Case:
    name: str
    sums: Callable[[Rows], Any]
    estimate: Callable[[Any], Any]
    definition: Callable[[Rows, int, int], float]  # of a policy and an objective, word for word


def weights_of(rows, p):
    return [1 / rows.propensity[i] if rows.chosen[i, p] == rows.action[i] else 0.0 for i in range(len(rows.action))]


def likeness_of(rows, p, kernel):
    """w of every row towards its policy's action, from the definition of the kernels."""
    found = []
    phi = kernel_coordinates(SURFACE)
    look = np.array([1.0, 0.85])
    for i, (own, target) in enumerate(zip(rows.action, rows.chosen[:, p], strict=True)):
        near = []
        for other in range(K):
            if kernel is ACTION:
                near.append(np.exp(-np.square(phi[other] - phi[target]).sum() / 2))
            else:
                rank = [dict(zip(rows.lists[i, a].tolist(), look, strict=True)) for a in (other, target)]
                shared = sum(min(rank[0][x], rank[1][x]) for x in rank[0] if x in rank[1]) / look.sum()
                near.append(shared**16)
        found.append(near[own] / (rows.propensity[i] * sum(near[1:])))
    return found


def value_of(rows, p, j, *, correction=None, direct=True):
    q = [rows.q[i, rows.chosen[i, p], j] for i in range(len(rows.action))]
    residual = [rows.rewards[i, j] - rows.q[i, rows.action[i], j] for i in range(len(rows.action))]
    return float(np.mean(q) * direct + (0 if correction is None else correction(weights_of(rows, p), residual)))


def lift_by(rows, j, weight, *, gain=None, chosen=None):
    n = len(rows.action)
    g = np.zeros((n, K)) if gain is None else gain[:, :, j]
    residual = [weight[i] * (rows.rewards[i, j] - rows.expected[i, j] - g[i, rows.action[i]]) for i in range(n)]
    moved = np.mean([g[i, chosen[i]] for i in range(n)]) if gain is not None else 0.0
    delta = moved + sum(residual) / sum(weight) + np.mean(rows.expected[:, j] - rows.rewards[:, j] / 2)
    return float(delta / np.mean(rows.rewards[:, j] / 2))


def replayed_lift(rows, p, j):
    return lift_by(rows, j, likeness_of(rows, p, OVERLAP), gain=rows.listed - rows.listed[:, :1], chosen=rows.chosen[:, p])


def shrunk(weight):
    return [SHRINKAGE.optimism * w / (w * w + SHRINKAGE.optimism) for w in weight]


CASES = (
    Case("Reward@HIT", plain, reward_at_hit, lambda r, p, j: float(np.mean(r.rewards[r.hits[:, p], j]))),
    Case("IPS", plain, ips, lambda r, p, j: float(np.mean(weights_of(r, p) * r.rewards[:, j]))),
    Case("SNIPS", plain, snips, lambda r, p, j: float(np.sum(weights_of(r, p) * r.rewards[:, j]) / np.sum(weights_of(r, p)))),
    Case("DM", modelled, direct_method, value_of),
    Case("DR", modelled, doubly_robust, lambda r, p, j: value_of(r, p, j, correction=lambda w, e: np.mean(np.multiply(w, e)))),
    Case("SNDR", modelled, self_normalised_doubly_robust, lambda r, p, j: value_of(r, p, j, correction=lambda w, e: np.dot(w, e) / sum(w))),
    Case(
        "Switch-DR",
        modelled,
        switch_doubly_robust,
        lambda r, p, j: value_of(
            r, p, j, correction=lambda w, e: np.mean([x * y if x <= SHRINKAGE.switch else 0 for x, y in zip(w, e, strict=True)])
        ),
    ),
    Case(
        "DR-os",
        modelled,
        optimistic_doubly_robust,
        lambda r, p, j: value_of(r, p, j, correction=lambda w, e: np.dot(shrunk(w), e) / len(w)),
    ),
    Case("anchored hits", anchored, anchored_lift, lambda r, p, j: lift_by(r, j, weights_of(r, p))),
    Case("action kernel", lambda r: anchored(r, ACTION), pooled_lift, lambda r, p, j: lift_by(r, j, likeness_of(r, p, ACTION))),
    Case("overlap", lambda r: anchored(r, OVERLAP), pooled_lift, lambda r, p, j: lift_by(r, j, likeness_of(r, p, OVERLAP))),
    Case("overlap with list-replay", lambda r: anchored(r, OVERLAP, replay=True), pooled_lift, replayed_lift),
)
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
LIFTS = {"anchored hits", "action kernel", "overlap", "overlap with list-replay"}


@EVERY
@pytest.mark.parametrize("uniform", [False, True])
def test_an_estimate_is_its_definition(case, uniform):
    rows = some_rows(seed=1, uniform=uniform)
    found = case.estimate(case.sums(rows)).value
    expected = [[case.definition(rows, p, j) for j in range(2)] for p in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@EVERY
def test_any_split_of_a_log_adds_up(case):
    rows = some_rows(90, seed=2)
    whole = case.estimate(case.sums(rows))
    for cuts in ((30, 60), (1, 89), (45, 46)):
        bounds = [0, *cuts, 90]
        parts = [case.sums(rows.take(slice(a, b))) for a, b in pairwise(bounds)]
        for order in (parts, parts[::-1]):
            merged = case.estimate(reduce(add, order))
            np.testing.assert_allclose(merged.value, whole.value, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(merged.influence, whole.influence, rtol=1e-9, atol=1e-12)


@EVERY
def test_row_order_does_not_matter_and_influence_sums_to_zero(case):
    rows = some_rows(seed=3)
    found = case.estimate(case.sums(rows))
    shuffled = case.estimate(case.sums(rows.take(np.random.default_rng(0).permutation(60))))
    np.testing.assert_allclose(shuffled.value, found.value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.influence.sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in {"Reward@HIT", "SNIPS", "SNDR", *LIFTS}], ids=lambda case: case.name)
def test_self_normalised_estimators_give_a_constant_reward_back(case):
    rows = some_rows(seed=4)
    same = np.full_like(rows.rewards, 0.3)
    flat = Rows(
        same, rows.propensity, rows.action, rows.chosen, rows.cluster, rows.expected * 0, rows.q * 0 + 0.1, rows.lists, rows.listed * 0
    )
    expected = 1.0 if case.name in LIFTS else 0.3  # production earns half of it
    np.testing.assert_allclose(case.estimate(case.sums(flat)).value, expected, rtol=1e-6)


@EVERY
def test_a_wholly_enumerated_log_gives_the_true_value(case):
    """Every request once under every action, with its true mean as reward and weights that undo the propensities."""
    base = some_rows(12, seed=5, uniform=True)
    rows = base.take(np.repeat(np.arange(12), K - 1))
    action = np.tile(np.arange(1, K), 12)
    value = rows.listed[np.arange(len(action)), action]  # the ranker is right in this world: reward is the list's own value
    truth = np.stack([rows.listed[np.arange(len(action)), rows.chosen[:, p]].mean(axis=0) for p in range(2)])
    exact = Rows(value, rows.propensity, action, rows.chosen, rows.cluster, rows.listed[:, 0], rows.listed, rows.lists, rows.listed)
    found = case.estimate(case.sums(exact)).value
    if case.name not in LIFTS:
        np.testing.assert_allclose(found, truth, rtol=1e-6)
    elif case.name in {"anchored hits", "overlap with list-replay"}:  # a kernel alone mixes values of alike actions: it is biased here
        delta = truth - rows.listed[:, 0].mean(axis=0) + (rows.listed[:, 0] - value / 2).mean(axis=0)
        np.testing.assert_allclose(found, delta / (value / 2).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name not in {"DM", "action kernel", "overlap", "overlap with list-replay"}], ids=lambda c: c.name
)
def test_no_hit_is_refused_never_zero(case):
    rows = some_rows(seed=6)
    nowhere = Rows(*(getattr(rows, name) for name in ("rewards", "propensity", "action")), rows.chosen * 0, *(
        getattr(rows, name) for name in ("cluster", "expected", "q", "lists", "listed")
    ))  # fmt: skip
    with pytest.raises(NoOverlapError):
        case.estimate(case.sums(nowhere))
    half = rows.chosen.copy()
    half[:, 1] = 0
    one = Rows(rows.rewards, rows.propensity, rows.action, half, rows.cluster, rows.expected, rows.q, rows.lists, rows.listed)
    assert np.isnan(case.estimate(case.sums(one)).value[1]).all()


@pytest.mark.parametrize("uniform", [False, True])
def test_effective_rows_are_kish_and_the_hits_under_uniform_logging(uniform):
    rows = some_rows(seed=7, uniform=uniform)
    for p in range(2):
        weight = np.array(weights_of(rows, p))
        assert plain(rows).effective()[p] == pytest.approx(weight.sum() ** 2 / np.square(weight).sum())
        for kernel in (ACTION, OVERLAP):
            weight = np.array(likeness_of(rows, p, kernel))
            assert anchored(rows, kernel).pooled.effective()[p] == pytest.approx(weight.sum() ** 2 / np.square(weight).sum(), rel=1e-4)
    if uniform:
        np.testing.assert_allclose(plain(rows).effective(), rows.hits.sum(axis=0))


def test_mrdr_weights_are_their_definition():
    rows = some_rows(seed=8)
    found = mrdr_weights(rows.propensity, rows.hits)
    for i in range(60):
        mu = rows.propensity[i]
        np.testing.assert_allclose(found[i], [(1 - mu) / mu**2 if rows.chosen[i, p] == rows.action[i] else 0 for p in range(2)])


def test_a_model_of_another_shape_and_shrinkage_of_nothing_are_refused():
    rows = some_rows()
    good = {"logged": rows.expected, "target": np.zeros((60, 2, 2)), "clusters": CLUSTERS}
    with pytest.raises(DataError, match="q\\(s, pi"):
        model_sums(rows.rewards, rows.propensity, rows.hits, rows.cluster, **{**good, "target": np.zeros((60, 1, 2))})
    with pytest.raises(DataError, match="not positive"):
        model_sums(rows.rewards, rows.propensity, rows.hits, rows.cluster, shrinkage=Shrinkage(0.0), **good)


def test_point_estimates_equal_those_of_obp():
    ope = pytest.importorskip("obp.ope", reason="obp is not installed; the definitions above are its formulas")
    switch = "lambda_" if "lambda_" in signature(ope.SwitchDoublyRobust).parameters else "tau"  # its name before 0.5
    rows = some_rows(200, seed=9)
    at = np.arange(200)
    for p, j in np.ndindex(2, 2):
        action_dist = np.eye(K)[rows.chosen[:, p]][:, :, None]
        given = {"reward": rows.rewards[:, j], "action": rows.action, "pscore": rows.propensity, "action_dist": action_dist}
        model = given | {"estimated_rewards_by_reg_model": rows.q[at, :, j][:, :, None]}
        sums, modelling = plain(rows), modelled(rows)
        for mine, theirs in (
            (ips(sums), ope.InverseProbabilityWeighting().estimate_policy_value(**given)),
            (snips(sums), ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given)),
            (doubly_robust(modelling), ope.DoublyRobust().estimate_policy_value(**model)),
            (self_normalised_doubly_robust(modelling), ope.SelfNormalizedDoublyRobust().estimate_policy_value(**model)),
            (switch_doubly_robust(modelling), ope.SwitchDoublyRobust(**{switch: SHRINKAGE.switch}).estimate_policy_value(**model)),
            (
                optimistic_doubly_robust(modelling),
                ope.DoublyRobustWithShrinkage(lambda_=SHRINKAGE.optimism).estimate_policy_value(**model),
            ),
        ):
            assert mine.value[p, j] == pytest.approx(theirs, abs=1e-8)
