"""Sums of residuals under a kernel's weights: the pooled lift, its ladder of bandwidths, and a test for what bias is left.

With w from `pooling`, g(s, a) a centred advantage that is zero for production, e = r - m - g(s, a), and d the distance of logged and
target action:

    Delta = mean_E g(s, pi) + sum_E w e / sum_E w + mean_P (m - r)
    bias test: sum_E w (d - E[w d | s]) e, which has mean zero when similar actions are worth what g says they are, whatever m is

The rule: the ladder's narrow end is the exact hit, which pools nothing; that and the test let anyone audit the pooled number. Sums are kept
per cluster of users, so all of it merges by `+`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paretune.errors import DataError
from paretune.ope.clusters import BUCKETS, Bag, Clustering, check_rows
from paretune.ope.pooling import Kernel, Likeness
from paretune.records import Floats, Ints

try:
    from paretune.ope import compiled
except ImportError:  # numba is optional: numpy alone gives the same sums, slower
    compiled = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class PooledSums(Bag):
    """What exploration rows say of P policies through the R rungs of a kernel."""

    weight: Floats  # (C, R, P) sum of w
    square: Floats  # (C, R, P) sum of w^2
    residual: Floats  # (C, R, P, M) sum of w e
    advantage: Floats  # (C, P, M) sum of g(s, pi(s)) over all rows
    tilt: Floats  # (C, P, M) sum of w (d - E[w d | s]) e under the rung that speaks
    tilt_square: Floats  # (C, P) sum of w (d - E[w d | s])^2
    distance: Floats  # (C, P) sum of E[w d | s] over all rows
    kernel: Kernel
    replayed: bool  # whether g is the list-replay variate; else it is zero

    @property
    def name(self) -> str:
        """What the estimator is called."""
        return f"production-anchored, {self.kernel.describe()}{' with list-replay' if self.replayed else ''}"

    def of_policies(self, policies: Ints) -> PooledSums:
        """Return the sums of some policies, in the order asked for."""
        p = policies
        return PooledSums(
            self.weight[:, :, p],
            self.square[:, :, p],
            self.residual[:, :, p],
            self.advantage[:, p],
            self.tilt[:, p],
            self.tilt_square[:, p],
            self.distance[:, p],
            self.kernel,
            self.replayed,
        )

    def effective(self, rung: int | None = None) -> Floats:
        """Return (P,) how many equally weighted rows carry as much as the weighted ones, (sum w)^2 / sum w^2; zero without overlap."""
        r = self.kernel.speaks if rung is None else rung
        weight, square = self.weight[:, r].sum(axis=0), self.square[:, r].sum(axis=0)
        return np.where(square > 0, weight**2 / np.where(square > 0, square, 1), 0.0)


def no_pooled_sums(kernel: Kernel, *, policies: int, objectives: int, clusters: int = BUCKETS, replayed: bool = False) -> PooledSums:
    """Return the sums of no rows: P policies, M objectives, C clusters."""
    c, r, p, m = clusters, len(kernel.rungs), policies, objectives
    return PooledSums(
        weight=np.zeros((c, r, p)),
        square=np.zeros((c, r, p)),
        residual=np.zeros((c, r, p, m)),
        advantage=np.zeros((c, p, m)),
        tilt=np.zeros((c, p, m)),
        tilt_square=np.zeros((c, p)),
        distance=np.zeros((c, p)),
        kernel=kernel,
        replayed=replayed,
    )


def pooled_sums(
    rewards: Floats,
    likeness: Likeness,
    chosen: Ints,
    cluster: Ints,
    *,
    kernel: Kernel,
    action: Ints,
    clusters: int = BUCKETS,
    expected: Floats | None = None,
    advantages: Floats | None = None,
) -> PooledSums:
    """Return the sums of one batch of exploration rows.

    Args:
        rewards: (n, M) finite.
        likeness: of the n rows towards K targets.
        chosen: (n, P) the action of each policy, into the K targets.
        cluster: (n,) from `user_buckets`.
        kernel: that made the likeness.
        action: (n,) logged actions.
        clusters: C.
        expected: m(s) (n, M), fitted on other rows; zero where not given.
        advantages: g(s, a) (n, K, M) of every action, zero for production; zero where not given.

    Raises:
        DataError: shapes disagree, or a number is not finite.
    """
    check_rows(rewards, likeness.weight, chosen, cluster, action)
    residual = rewards.astype(np.float64)
    if expected is not None:
        check_rows(expected, rewards)
        residual = residual - expected
    if advantages is not None:
        if advantages.shape != (*likeness.deviation.shape, rewards.shape[1]) or not np.isfinite(advantages).all():
            raise DataError(
                f"advantages have shape {advantages.shape}, or are not finite", hint="give g(s, a) of every action and objective"
            )
        advantages = np.asarray(advantages, dtype=np.float32)  # compiled and plain sums then see the same numbers
        residual = residual - advantages[np.arange(len(action)), action]
    total = no_pooled_sums(
        kernel, policies=chosen.shape[1], objectives=rewards.shape[1], clusters=clusters, replayed=advantages is not None
    )
    if compiled is None:
        _plain_sums(total, likeness, chosen.astype(np.int64), Clustering(cluster, clusters=clusters), residual, advantages)
        return total
    gathered = Clustering(cluster, clusters=clusters)
    compiled.pooled_sums(  # always of the same types, so that it is compiled once
        gathered.order,
        gathered.start,
        np.ascontiguousarray(chosen, dtype=np.int16),
        np.ascontiguousarray(likeness.weight),
        np.ascontiguousarray(likeness.deviation),
        np.ascontiguousarray(likeness.distance),
        residual,
        np.empty((0, 0, 0), np.float32) if advantages is None else np.ascontiguousarray(advantages, dtype=np.float32),
        kernel.speaks,
        (total.weight, total.square, total.residual, total.advantage, total.tilt, total.tilt_square, total.distance),
    )
    return total


def _plain_sums(
    total: PooledSums, likeness: Likeness, chosen: Ints, gathered: Clustering, residual: Floats, advantages: Floats | None
) -> None:
    """Add a batch to sums of nothing, in place."""
    deviation = np.take_along_axis(likeness.deviation, chosen, axis=1)
    for rung in range(len(total.kernel.rungs)):
        weight = np.take_along_axis(likeness.weight[:, :, rung], chosen, axis=1).astype(np.float64)
        total.weight[:, rung] = gathered.sums(weight)
        total.square[:, rung] = gathered.sums(np.square(weight))
        tilted = weight * deviation if rung == total.kernel.speaks else None
        for j in range(residual.shape[1]):
            total.residual[:, rung, :, j] = gathered.sums(weight, times=residual[:, j])
            if tilted is not None:
                total.tilt[:, :, j] = gathered.sums(tilted, times=residual[:, j])
        if tilted is not None:
            total.tilt_square[:] = gathered.sums(tilted * deviation)
    total.distance[:] = gathered.sums(np.take_along_axis(likeness.distance, chosen, axis=1))
    if advantages is not None:
        for j in range(residual.shape[1]):
            total.advantage[:, :, j] = gathered.sums(np.take_along_axis(advantages[:, :, j], chosen, axis=1))


def join_pooled(parts: list[PooledSums]) -> PooledSums:
    """Return the sums of several sets of policies over the same rows, side by side."""

    def side_by_side(name: str, axis: int) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts], axis=axis)

    return replace(
        parts[0],
        **{name: side_by_side(name, 2) for name in ("weight", "square", "residual")},  # type: ignore[arg-type]
        **{name: side_by_side(name, 1) for name in ("advantage", "tilt", "tilt_square", "distance")},  # type: ignore[arg-type]
    )
