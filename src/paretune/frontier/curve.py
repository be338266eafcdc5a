"""What pi_alpha earns for every alpha, of two objectives: a curve over the rows whose logged action is the best one for some alpha.

The rule: as long as those rows are few they are kept one by one, and the curve is exact at every alpha. Of more, all that is kept is by how
much their sums change at each alpha of a fixed grid: the curve is then exact at every alpha of the grid, and between two of them stays what
it was at the lower one. Which of both depends on the rows, not on how they came, so that parts of a log add up in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paretune.errors import DataError, NoOverlapError
from paretune.frontier.hull import optimal_interval
from paretune.ope.lift import ProducedSums
from paretune.records import Floats, Ints

MOST_ROWS = 2**18  # kept one by one, some 60 bytes each
GRID = 2**16  # even intervals of alpha beyond that: fifteen millionths


class Hits(Protocol):
    """Rows that are a hit for some alpha."""

    def changes(self, *, anchored: bool) -> tuple[Floats, Floats]:
        """Return alphas (T,) from 0 on, in any order, and by how much [hits, sum of weights, weighted sums (M)] change there (T, 2 + M).

        Args:
            anchored: weights 1 / propensity and residuals r - m, else weights 1 and rewards.
        """
        ...


@dataclass(frozen=True, slots=True)
class HitIntervals:
    """The exploration rows that are a hit for some alpha, one by one; batches merge by `+`."""

    low: Floats  # (h,) the row is a hit for alpha in [low, high)
    high: Floats  # (h,)
    weight: Floats  # (h,) 1 / propensity
    reward: Floats  # (h, M)
    residual: Floats  # (h, M) r - m

    def __len__(self) -> int:
        return len(self.low)

    def __add__(self, other: HitIntervals) -> HitIntervals:
        """Return the rows of both batches."""
        return HitIntervals.concat([self, other])

    @staticmethod
    def concat(parts: list[HitIntervals]) -> HitIntervals:
        """Return the rows of all batches, at least one."""
        names = ("low", "high", "weight", "reward", "residual")
        return HitIntervals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def changes(self, *, anchored: bool) -> tuple[Floats, Floats]:
        """Return the alphas at which the sums change, and by how much; see `Hits`."""
        weight, outcome = (self.weight, self.residual) if anchored else (np.ones_like(self.weight), self.reward)
        stays = self.high < 1  # a row that is a hit up to 1 is one at 1 too
        position = np.concatenate([[0.0], self.low, self.high[stays]])
        sums = np.column_stack([np.ones(len(weight)), weight, weight[:, None] * outcome])
        return position, np.concatenate([np.zeros((1, sums.shape[1])), sums, -sums[stays]])


@dataclass(frozen=True, slots=True)
class CurveSums:
    """What the curve needs of a log, in bounded memory: rows, or where they are many, sums at the alphas of a grid."""

    grid: Floats  # (G,) alphas, increasing from 0 to 1
    rows: HitIntervals  # at most MOST_ROWS; none once there were more
    steps: Floats | None = None  # (G, 2 + 2 M) changes of [hits, sum w, sums of r, sums of w (r - m)]; None while rows are kept

    def __add__(self, other: CurveSums) -> CurveSums:
        """Return the sums over both logs.

        Raises:
            DataError: the grids differ.
        """
        if not np.array_equal(self.grid, other.grid):
            raise DataError("the two curves are on different grids", hint="sweep every part of the log with one family")
        if self.steps is None and other.steps is None and len(self.rows) + len(other.rows) <= MOST_ROWS:
            return CurveSums(self.grid, self.rows + other.rows)
        return CurveSums(self.grid, no_hits(self.rows.reward.shape[1]), self._binned() + other._binned())

    @property
    def exact(self) -> bool:
        """Whether the curve is exact at every alpha; else at those of the grid."""
        return self.steps is None

    def changes(self, *, anchored: bool) -> tuple[Floats, Floats]:
        """Return the alphas at which the sums change, and by how much; see `Hits`."""
        if self.steps is None:
            return self.rows.changes(anchored=anchored)
        m = self.rows.reward.shape[1]
        used = [0, 1, *range(2 + m, 2 + 2 * m)] if anchored else [0, 0, *range(2, 2 + m)]
        some = np.union1d(0, np.flatnonzero(self.steps.any(axis=1)))
        return self.grid[some], self.steps[some][:, used]

    def _binned(self) -> Floats:
        """Return the changes at the alphas of the grid: what changes between two of them changes at the upper one."""
        if self.steps is not None:
            return self.steps
        rows, size = self.rows, len(self.grid)
        starts, ends = (np.searchsorted(self.grid, edge, side="left") for edge in (rows.low, rows.high))
        stays = rows.high < 1
        columns = [np.ones(len(rows)), rows.weight, *rows.reward.T, *(rows.weight * residual for residual in rows.residual.T)]
        return np.stack(
            [np.bincount(starts, c, minlength=size) - np.bincount(ends[stays], c[stays], minlength=size) for c in columns], axis=1
        )


def no_hits(objectives: int) -> HitIntervals:
    """Return no row of so many objectives."""
    return HitIntervals(np.empty(0), np.empty(0), np.empty(0), np.empty((0, objectives)), np.empty((0, objectives)))


def curve_grid(alphas: Floats) -> Floats:
    """Return (G,) the alphas at which the curve of a large log is exact: an even grid, and those that are swept (P,)."""
    return np.union1d(np.linspace(0.0, 1.0, GRID + 1), alphas)


def hit_intervals(values: Floats, action: Ints, *, propensity: Floats, rewards: Floats, expected: Floats | None = None) -> HitIntervals:
    """Return the rows whose logged action is the best one for some alpha.

    Args:
        values: (n, K, 2) finite, relative-lift units.
        action: (n,) logged action in [0, K).
        propensity: (n,) in (0, 1].
        rewards: (n, M).
        expected: m(s) (n, M); zero where not given.

    Raises:
        DataError: see `optimal_interval`.
    """
    low, high = optimal_interval(values, action)
    hit = np.isfinite(low)
    reward = rewards[hit].astype(np.float64)
    return HitIntervals(low[hit], high[hit], 1.0 / propensity[hit], reward, reward if expected is None else reward - expected[hit])


@dataclass(frozen=True, slots=True)
class Curve:
    """A piecewise constant function of alpha on [0, 1]."""

    starts: Floats  # (T,) increasing; the value holds on [starts[t], starts[t + 1])
    values: Floats  # (T, M) NaN where there is no hit
    hits: Ints  # (T,)

    def at(self, alpha: Floats) -> Floats:
        """Return (P, M) values at given alphas (P,) in [0, 1]."""
        return self.values[np.searchsorted(self.starts, alpha, side="right") - 1]


def reward_curve(hits: Hits) -> Curve:
    """Return Reward@HIT (Eq. 9) of pi_alpha for every alpha.

    Raises:
        NoOverlapError: no row is a hit for any alpha.
    """
    return _curve(*hits.changes(anchored=False))


def residual_curve(hits: Hits) -> Curve:
    """Return the self-normalised mean of r - m under pi_alpha for every alpha: what of the anchored lift depends on alpha.

    Raises:
        NoOverlapError: no row is a hit for any alpha.
    """
    return _curve(*hits.changes(anchored=True))


def lift_curve(hits: Hits, produced: ProducedSums) -> Curve:
    """Return the production-anchored relative lift of pi_alpha for every alpha.

    Raises:
        NoOverlapError: no row is a hit for any alpha.
    """
    curve = residual_curve(hits)
    rows = produced.rows.sum()
    return Curve(curve.starts, (curve.values + produced.correction.sum(axis=0) / rows) / (produced.reward.sum(axis=0) / rows), curve.hits)


def _curve(position: Floats, change: Floats) -> Curve:
    if not change.any():
        raise NoOverlapError("no logged action is the best one at any alpha", hint="widen the exploration slice")
    order = np.argsort(position)
    position = position[order]
    last = np.append(position[1:] != position[:-1], True)
    total = np.cumsum(change[order], axis=0)[last]
    count = np.rint(total[:, 0]).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(count[:, None] > 0, total[:, 2:] / total[:, 1:2], np.nan)
    return Curve(position[last], values, count)
