"""Off-policy estimators of many policies at once: bags of sums with `+`; Reward@HIT (Eq. 9, 10 of the paper), SNIPS and IPS.

The rule: an estimator only ever sees sums per cluster of users, so any split of a log gives the same estimate; a policy without a hit is
"no overlap": NaN among others, an error where no policy has any, never 0.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paretune.errors import DataError, NoOverlapError
from paretune.ope.clusters import BUCKETS, Bag, check_rows
from paretune.records import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class PolicySums(Bag):
    """What exploration rows say of P policies and M objectives, per cluster of users."""

    rows: Floats  # (C,) exploration rows
    hits: Floats  # (C, P) rows whose logged action is the policy's
    weight: Floats  # (C, P) sum of importance weights
    reward: Floats  # (C, P, M) sum of rewards over hits
    weighted: Floats  # (C, P, M) sum of weight x reward
    square: Floats  # (C, P) sum of squared importance weights

    def of_policies(self, policies: Ints) -> PolicySums:
        """Return the sums of some policies, in the order asked for."""
        p = policies
        return PolicySums(self.rows, self.hits[:, p], self.weight[:, p], self.reward[:, p], self.weighted[:, p], self.square[:, p])

    def effective(self) -> Floats:
        """Return (P,) how many equally weighted rows carry as much as the weighted ones, (sum w)^2 / sum w^2; zero without a hit."""
        weight, square = self.weight.sum(axis=0), self.square.sum(axis=0)
        return np.where(square > 0, weight**2 / np.where(square > 0, square, 1), 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Values of P policies on M objectives, with what each cluster of users contributed."""

    name: str
    value: Floats  # (P, M), NaN without overlap
    influence: Floats  # (C, P, M), sums to zero over clusters; value + sum of multiplier x influence is a bootstrap draw
    hits: Ints  # (P,) rows that speak: hits, or effective rows of a pooled estimator

    def of_policies(self, policies: Ints) -> Estimate:
        """Return the estimate of some policies, in the order asked for."""
        return replace(self, value=self.value[policies], influence=self.influence[:, policies], hits=self.hits[policies])

    def refuse_below(self, min_hits: int) -> Estimate:
        """Return the estimate with NaN for policies that fewer than `min_hits` logged rows speak for."""
        few = self.hits < min_hits
        return replace(self, value=np.where(few[:, None], np.nan, self.value), influence=np.where(few[:, None], np.nan, self.influence))


@dataclass(frozen=True, slots=True)
class Cells:
    """The few (row, policy) pairs in which the logged action is the policy's, and where their sums go."""

    row: Ints  # (h,)
    cell: Ints  # (h,) cluster x P + policy
    shape: tuple[int, int]  # (C, P)

    @staticmethod
    def of_hits(hits: Bools, cluster: Ints, *, clusters: int) -> Cells:
        """Find the pairs in a hit mask (n, P)."""
        row, policy = np.nonzero(hits)
        return Cells(row, cluster[row] * hits.shape[1] + policy, (clusters, hits.shape[1]))

    def total(self, per_hit: Floats | None = None) -> Floats:
        """Return (C, P) sums of a value per hit, or the number of hits."""
        return np.bincount(self.cell, weights=per_hit, minlength=self.shape[0] * self.shape[1]).reshape(self.shape).astype(np.float64)

    def totals(self, per_hit: Floats) -> Floats:
        """Return (C, P, M) sums of M values per hit (h, M)."""
        return np.stack([self.total(column) for column in per_hit.T], axis=2)


def policy_sums(
    rewards: Floats, propensity: Floats, hits: Floats | Bools, cluster: Ints, *, clusters: int = BUCKETS, pooled: bool = False
) -> PolicySums:
    """Return the sums of one batch of exploration rows.

    Args:
        rewards: (n, M) finite.
        propensity: (n,) in (0, 1], of the logged action.
        hits: (n, P) mask of rows whose logged action is the policy's; with `pooled`, importance weights >= 0 instead (propensity is then
            taken to be inside them).
        cluster: (n,) from `user_buckets`.
        clusters: C.
        pooled: read `hits` as weights.

    Raises:
        DataError: shapes disagree, rewards are not finite, a propensity is outside (0, 1] or a weight negative or not finite.
    """
    check_rows(rewards, propensity, hits, cluster)
    check_propensity(propensity)
    if pooled and not (np.isfinite(hits).all() and (hits >= 0).all()):
        raise DataError("importance weights are negative or not finite", hint="give weights >= 0")
    cells = Cells.of_hits(hits, cluster, clusters=clusters)
    weight = hits[hits > 0] if pooled else 1.0 / propensity[cells.row]
    reward = rewards[cells.row].astype(np.float64)
    rows = np.bincount(cluster, minlength=clusters).astype(np.float64)
    weighted = cells.totals(weight[:, None] * reward)
    return PolicySums(rows, cells.total(), cells.total(weight), cells.totals(reward), weighted, cells.total(np.square(weight)))


def check_propensity(propensity: Floats) -> None:
    """Refuse propensities that cannot be.

    Raises:
        DataError: naming the first row outside (0, 1].
    """
    bad = ~((propensity > 0) & (propensity <= 1))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"propensity {propensity[row]} in row {row}", hint="log the probability, in (0, 1], of the action really served")


def reward_at_hit(sums: PolicySums) -> Estimate:
    """Return the paper's estimate (Eq. 9): the mean reward of the requests whose logged action equals the policy's.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _ratio("Reward@HIT", sums.reward, sums.hits[:, :, None], sums)


def snips(sums: PolicySums) -> Estimate:
    """Return self-normalised inverse propensity scores: sum(w r) / sum(w); equals Reward@HIT under uniform logging.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _ratio("SNIPS", sums.weighted, sums.weight[:, :, None], sums)


def weights_differ(sums: PolicySums) -> bool:
    """Say whether some policy's hits carry different weights: the design was not uniform, and Reward@HIT would be wrong."""
    hits, weight, square = (column.sum(axis=0) for column in (sums.hits, sums.weight, sums.square))
    return bool((hits * square > (1 + 1e-9) * np.square(weight)).any())


def ips(sums: PolicySums) -> Estimate:
    """Return inverse propensity scores: sum(w r) / n.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return _ratio("IPS", sums.weighted, sums.rows[:, None, None], sums)


def relative_lift(estimate: Estimate, baseline: int) -> Estimate:
    """Return the lift over one of the policies (Eq. 10), relative to it: V / V_0 - 1, as the paper's tables print it.

    Args:
        estimate: of P policies.
        baseline: index of the policy that stands for production.
    """
    base = estimate.value[baseline]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(base == 0, np.nan, estimate.value / base)
        influence = (estimate.influence - ratio * estimate.influence[:, baseline, None]) / np.where(base == 0, np.nan, base)
    return replace(estimate, name=f"{estimate.name} lift", value=ratio - 1, influence=influence)


def refuse_no_overlap(sums: PolicySums) -> Ints:
    """Return the hits of each policy (P,).

    Raises:
        NoOverlapError: no policy has a hit.
    """
    hits = sums.hits.sum(axis=0)
    if not (hits > 0).any():
        raise NoOverlapError(
            f"none of {int(sums.rows.sum())} logged requests took the action of any of {len(hits)} target policies",
            hint="widen the exploration slice, or evaluate a policy closer to the logged one",
        )
    return hits.astype(np.int64)


def _ratio(name: str, numerator: Floats, denominator: Floats, sums: PolicySums) -> Estimate:
    hits = refuse_no_overlap(sums)
    value, influence = ratio_of_sums(numerator, denominator)
    return Estimate(name, value, influence, hits).refuse_below(1)


def ratio_of_sums(numerator: Floats, denominator: Floats) -> tuple[Floats, Floats]:
    """Return a ratio of totals and its influence per cluster, the denominator's randomness included.

    Args:
        numerator: (C, ...) sums per cluster.
        denominator: (C, ...) sums per cluster, broadcasts.

    Returns:
        value (...), NaN where the total denominator is zero; influence (C, ...).
    """
    total = denominator.sum(axis=0)
    total = np.where(total == 0, np.nan, total)
    value = numerator.sum(axis=0) / total
    return value, (numerator - value * denominator) / total
