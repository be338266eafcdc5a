"""The production-anchored lift: production rows are the baseline arm, exploration hits say only how a policy differs from them.

With m(s) the expected reward under production, g(s, a) a centred advantage (zero unless given), E exploration rows, P production rows and
w = 1[pi(s) = a] / mu:

    Delta = mean_E g(s, pi) + sum_E w (r - m - g) / sum_E w + mean_P (m - r),    L = Delta / V_0,    psi_L = (psi_Delta - L psi_V0) / V_0

The rule: m and g are fitted on other data than the rows evaluated here; influence is summed per cluster of users over E and P together,
because a user has rows in both. Source: doubly robust estimation with the logging policy's own arm as control variate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError, NoOverlapError
from paretune.ope.clusters import BUCKETS, Bag, bucket_sums, check_rows
from paretune.ope.estimators import Cells, Estimate, PolicySums, policy_sums, ratio_of_sums, refuse_no_overlap, relative_lift, reward_at_hit
from paretune.ope.pooled import PooledSums, join_pooled
from paretune.records import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class ExploredSums(Bag):
    """Exploration rows: the raw sums of the paper's estimator, and those of the residual r - m - g."""

    raw: PolicySums
    residual: Floats  # (C, P, M) sum of weight x (r - m - g)
    advantage: Floats  # (C, P, M) sum of g(s, pi(s)) over all rows; (C, 1, 1) zeros without g

    def of_policies(self, policies: Ints) -> ExploredSums:
        """Return the sums of some policies, in the order asked for."""
        advantage = self.advantage if self.advantage.shape[1:] == (1, 1) else self.advantage[:, policies]
        return ExploredSums(self.raw.of_policies(policies), self.residual[:, policies], advantage)


@dataclass(frozen=True, slots=True)
class ProducedSums(Bag):
    """Production rows."""

    rows: Floats  # (C,)
    reward: Floats  # (C, M) sum of r
    correction: Floats  # (C, M) sum of m - r

    def value(self) -> tuple[Floats, Floats]:
        """Return production's mean reward (M,) and its influence (C, M)."""
        return ratio_of_sums(self.reward, self.rows[:, None])


@dataclass(frozen=True, slots=True)
class AnchoredSums(Bag):
    """Everything the anchored lift and the paper's lift need of a log; batches, days and machines add up."""

    explored: ExploredSums
    produced: ProducedSums
    pooled: PooledSums | None = None  # of the same exploration rows and policies, where a kernel was asked for

    def of_policies(self, policies: Ints) -> AnchoredSums:
        """Return the sums of some policies, in the order asked for."""
        pooled = None if self.pooled is None else self.pooled.of_policies(policies)
        return AnchoredSums(self.explored.of_policies(policies), self.produced, pooled)

    @property
    def has_production(self) -> bool:
        """Whether any production row was seen."""
        return bool(self.produced.rows.sum() > 0)


def explored_sums(
    rewards: Floats,
    propensity: Floats,
    hits: Bools,
    cluster: Ints,
    *,
    clusters: int = BUCKETS,
    expected: Floats | None = None,
    advantage: Floats | None = None,
    policy_advantage: Floats | None = None,
) -> ExploredSums:
    """Return the sums of one batch of exploration rows.

    Args:
        rewards: (n, M) finite.
        propensity: (n,) in (0, 1], of the logged action.
        hits: (n, P) mask of rows whose logged action is the policy's.
        cluster: (n,) from `user_buckets`.
        clusters: C.
        expected: m(s) (n, M), fitted on other rows; zero where not given.
        advantage: g(s, a) (n, M) of the logged action; zero where not given.
        policy_advantage: g(s, pi(s)) (n, P, M); needed with `advantage`.

    Raises:
        DataError: shapes disagree, a number is not finite, or a propensity is outside (0, 1].
    """
    raw = policy_sums(rewards, propensity, hits, cluster, clusters=clusters)
    if (advantage is None) != (policy_advantage is None):
        raise DataError("only one of g(s, a) and g(s, pi(s)) was given", hint="give both or neither")
    residual = rewards.astype(np.float64)
    for prediction in (expected, advantage):
        if prediction is not None:
            check_rows(prediction, rewards)
            residual -= prediction
    cells = Cells.of_hits(hits, cluster, clusters=clusters)
    total = cells.totals(residual[cells.row] / propensity[cells.row, None])
    moved = np.zeros((clusters, 1, 1)) if policy_advantage is None else bucket_sums(policy_advantage, cluster, clusters=clusters)
    return ExploredSums(raw, total, moved)


def produced_sums(rewards: Floats, cluster: Ints, *, clusters: int = BUCKETS, expected: Floats | None = None) -> ProducedSums:
    """Return the sums of one batch of production rows.

    Args:
        rewards: (n, M) finite.
        cluster: (n,) from `user_buckets`.
        clusters: C.
        expected: m(s) (n, M), the same m as on the exploration rows.

    Raises:
        DataError: shapes disagree, or a number is not finite.
    """
    check_rows(rewards, cluster)
    reward = bucket_sums(rewards, cluster, clusters=clusters)
    rows = np.bincount(cluster, minlength=clusters).astype(np.float64)
    if expected is None:
        return ProducedSums(rows, reward, -reward)
    check_rows(expected, rewards)
    return ProducedSums(rows, reward, bucket_sums(expected, cluster, clusters=clusters) - reward)


def anchored_lift(sums: AnchoredSums) -> Estimate:
    """Return the relative lift over production of each policy by its hits; NaN without a hit, or where production's value is zero.

    Raises:
        NoOverlapError: no policy has a hit.
        DataError: there is no production row.
    """
    explored = sums.explored
    parts = [
        ratio_of_sums(explored.advantage, explored.raw.rows[:, None, None]),
        ratio_of_sums(explored.residual, explored.raw.weight[:, :, None]),
    ]
    return _over_production("production-anchored", sums, parts, refuse_no_overlap(explored.raw)).refuse_below(1)


def pooled_lift(sums: AnchoredSums, rung: int | None = None) -> Estimate:
    """Return the relative lift over production of each policy by pooled rows; NaN without overlap, or where production's value is zero.

    Args:
        sums: with pooled ones.
        rung: of the kernel's ladder; by default the one that speaks.

    Returns:
        The estimate; its hits are effective rows, rounded down.

    Raises:
        NoOverlapError: no row speaks for any policy.
        DataError: there is no production row, or the sums are not pooled.
    """
    pooled = sums.pooled
    if pooled is None:
        raise DataError("these sums were not pooled", hint="sweep with a kernel, or use `anchored_lift`")
    at = pooled.kernel.speaks if rung is None else rung
    effective = pooled.effective(at)
    if not (effective > 0).any():
        raise NoOverlapError(
            f"none of {int(sums.explored.raw.rows.sum())} logged requests served a list like any of {len(effective)} target policies'",
            hint="widen the exploration slice, or evaluate a policy closer to the logged one",
        )
    parts = [
        ratio_of_sums(pooled.advantage, sums.explored.raw.rows[:, None, None]),
        ratio_of_sums(pooled.residual[:, at], pooled.weight[:, at, :, None]),
    ]
    return _over_production(pooled.name, sums, parts, effective.astype(np.int64)).refuse_below(1)


def _over_production(name: str, sums: AnchoredSums, parts: list[tuple[Floats, Floats]], rows: Ints) -> Estimate:
    """Join parts of a difference to mean_P (m - r), and divide by the value of production."""
    if not sums.has_production:
        raise DataError("no production rows to anchor on", hint="log production traffic too, or use `paper_lift` with a grid action")
    production, psi_production = sums.produced.value()
    production = np.where(production == 0, np.nan, production)
    parts = [*parts, ratio_of_sums(sums.produced.correction[:, None], sums.produced.rows[:, None, None])]
    lift = sum((value for value, _ in parts), np.zeros(())) / production
    influence = (sum((psi for _, psi in parts), np.zeros(())) - lift * psi_production[:, None]) / production
    return Estimate(name, lift, influence, rows)


def paper_lift(sums: AnchoredSums, baseline: int) -> Estimate:
    """Return the paper's lift (Eq. 9, 10): Reward@HIT of each policy over Reward@HIT of a grid action that stands for production.

    Args:
        sums: of P policies.
        baseline: index of the static policy of the grid action nearest to production.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    return relative_lift(reward_at_hit(sums.explored.raw), baseline)


def join_policies(parts: list[AnchoredSums]) -> AnchoredSums:
    """Return the sums of several sets of policies over the same rows, side by side.

    Args:
        parts: at least one, all over the same clusters, exploration rows and production rows.
    """
    first = parts[0]
    raws = [part.explored.raw for part in parts]
    raw = PolicySums(
        raws[0].rows,
        *(np.concatenate([getattr(r, name) for r in raws], axis=1) for name in ("hits", "weight", "reward", "weighted", "square")),
    )
    advantages = [part.explored.advantage for part in parts]
    if any(advantage.any() for advantage in advantages):
        shapes = [part.explored.residual.shape for part in parts]
        advantages = [np.broadcast_to(advantage, shape) for advantage, shape in zip(advantages, shapes, strict=True)]
        moved = np.concatenate(advantages, axis=1)
    else:
        moved = np.zeros((first.n_clusters, 1, 1))
    explored = ExploredSums(raw, np.concatenate([part.explored.residual for part in parts], axis=1), moved)
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return AnchoredSums(explored, first.produced, join_pooled(pooled) if len(pooled) == len(parts) else None)
