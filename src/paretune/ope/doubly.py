"""Estimators that use a model q(s, a) of the reward: DM, DR, SNDR, Switch-DR and DR with optimistic shrinkage, as bags of sums with `+`.

With w = 1[pi(s) = a] / mu(a|s), n rows, threshold tau and shrinkage lambda fixed beforehand:

    DM = mean q(s, pi)                             DR = DM + sum w (r - q(s, a)) / n              SNDR = DM + sum w (r - q(s, a)) / sum w
    Switch-DR = DM + sum 1[w <= tau] w (r - q) / n                  DR-os = DM + sum lambda w / (w^2 + lambda) (r - q) / n

The rule: q is fitted on other rows than those evaluated. Under uniform logging of K actions w is 0 or K, so Switch-DR is DR or DM and DR-os
only shrinks towards DM: they are for logs that are not uniform. Sources: Dudik et al. (2011); Wang, Agarwal and Dudik (2017); Su et al.
(2020); MRDR weights, Farajtabar et al. (2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.ope.clusters import BUCKETS, Bag, bucket_sums, check_rows
from paretune.ope.estimators import Cells, Estimate, PolicySums, policy_sums, ratio_of_sums, refuse_no_overlap
from paretune.records import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """What keeps large weights from ruling, fixed before any row is seen."""

    switch: float = 100.0  # tau: rows of a larger weight trust the model alone
    optimism: float = 10_000.0  # lambda: the weight at which DR-os has shrunk by half is its square root


@dataclass(frozen=True, slots=True)
class ModelSums(Bag):
    """What exploration rows and a reward model say of P policies and M objectives, per cluster of users."""

    raw: PolicySums
    direct: Floats  # (C, P, M) sum of q(s, pi(s)) over all rows
    residual: Floats  # (C, P, M) sum of w (r - q(s, a))
    switched: Floats  # (C, P, M) the same over rows of w <= tau
    shrunk: Floats  # (C, P, M) the same with shrunk weights
    shrinkage: Shrinkage


def model_sums(
    rewards: Floats,
    propensity: Floats,
    hits: Bools,
    cluster: Ints,
    *,
    logged: Floats,
    target: Floats,
    shrinkage: Shrinkage = Shrinkage(),
    clusters: int = BUCKETS,
) -> ModelSums:
    """Return the sums of one batch of exploration rows.

    Args:
        rewards: (n, M) finite.
        propensity: (n,) in (0, 1], of the logged action.
        hits: (n, P) mask of rows whose logged action is the policy's.
        cluster: (n,) from `user_buckets`.
        logged: q(s, a) (n, M) of the logged action, fitted on other rows.
        target: q(s, pi(s)) (n, P, M).
        shrinkage: threshold and shrinkage.
        clusters: C.

    Raises:
        DataError: shapes disagree, a number is not finite, a propensity is outside (0, 1], or the shrinkage is not positive.
    """
    check_rows(logged, rewards)
    if target.shape != (*hits.shape, rewards.shape[1]) or not np.isfinite(target).all():
        raise DataError(f"q(s, pi(s)) has shape {target.shape}, or is not finite", hint="predict every policy's action of every row")
    if not (shrinkage.switch > 0 and shrinkage.optimism > 0):
        raise DataError(f"{shrinkage} is not positive", hint="give a threshold and a shrinkage above zero")
    raw = policy_sums(rewards, propensity, hits, cluster, clusters=clusters)
    cells = Cells.of_hits(hits, cluster, clusters=clusters)
    weight = (1.0 / propensity[cells.row])[:, None]
    residual = (rewards.astype(np.float64) - logged)[cells.row]
    shrunk = shrinkage.optimism * weight / (np.square(weight) + shrinkage.optimism)
    return ModelSums(
        raw,
        bucket_sums(target, cluster, clusters=clusters),
        cells.totals(weight * residual),
        cells.totals(np.where(weight <= shrinkage.switch, weight, 0.0) * residual),
        cells.totals(shrunk * residual),
        shrinkage,
    )


def direct_method(sums: ModelSums) -> Estimate:
    """Return the model's own word, mean q(s, pi(s)); as biased as the model, whatever its interval says."""
    value, influence = ratio_of_sums(sums.direct, sums.raw.rows[:, None, None])
    return Estimate("DM", value, influence, sums.raw.hits.sum(axis=0).astype(np.int64))


def doubly_robust(sums: ModelSums) -> Estimate:
    """Return DR: unbiased where the propensities are right, whatever the model.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _corrected("DR", sums, sums.residual, sums.raw.rows[:, None, None])


def self_normalised_doubly_robust(sums: ModelSums) -> Estimate:
    """Return SNDR: DR with the correction divided by the sum of weights.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _corrected("SNDR", sums, sums.residual, sums.raw.weight[:, :, None])


def switch_doubly_robust(sums: ModelSums) -> Estimate:
    """Return Switch-DR: rows of a weight above the threshold trust the model alone.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _corrected("Switch-DR", sums, sums.switched, sums.raw.rows[:, None, None])


def optimistic_doubly_robust(sums: ModelSums) -> Estimate:
    """Return DR-os: DR with weights shrunk to lambda w / (w^2 + lambda).

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _corrected("DR-os", sums, sums.shrunk, sums.raw.rows[:, None, None])


def mrdr_weights(propensity: Floats, hits: Bools) -> Floats:
    """Return (n, P) weights under which fitting q minimises the variance of DR for each policy: 1[pi(s) = a] (1 - mu) / mu^2.

    Args:
        propensity: (n,) in (0, 1], of the logged action.
        hits: (n, P) mask of rows whose logged action is the policy's.
    """
    return hits * ((1 - propensity) / np.square(propensity))[:, None]


def _corrected(name: str, sums: ModelSums, residual: Floats, denominator: Floats) -> Estimate:
    hits = refuse_no_overlap(sums.raw)
    direct, psi = ratio_of_sums(sums.direct, sums.raw.rows[:, None, None])
    correction, psi_correction = ratio_of_sums(residual, denominator)
    return Estimate(name, direct + correction, psi + psi_correction, hits).refuse_below(1)
