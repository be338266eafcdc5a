"""Two objectives, all alphas at once: where pi_alpha(s) = argmax_a [alpha v_1 + (1 - alpha) v_2] (Eq. 5) switches, and what it earns.

As a function of alpha each action is a line v_2 + alpha (v_1 - v_2), so a request's best action is the upper envelope of K lines: piecewise
constant, with few pieces. Estimating needs less still: the interval of alpha in which the *logged* action is the best one.

The rule: equal lines belong to the lowest index, as argmax has it; at a switch point itself the later piece counts (pieces are half-open,
the last one closed at 1). Values come in relative-lift units, with production already left out where it may not be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError, NoOverlapError
from paretune.ope.lift import ProducedSums
from paretune.records import Floats, Ints

ROWS_PER_CHUNK = 16_384


@dataclass(frozen=True, slots=True)
class Segments:
    """Per request, the pieces of [0, 1] and the action of each (ragged)."""

    offsets: Ints  # (n + 1,) row i has pieces offsets[i]:offsets[i + 1]
    starts: Floats  # (T,) alpha where the piece begins; 0 for the first of a row
    actions: Ints  # (T,) int16

    def at(self, alpha: float) -> Ints:
        """Return (n,) the action of every request at one alpha in [0, 1]."""
        passed = np.concatenate([[0], np.cumsum(self.starts <= alpha)])
        count = passed[self.offsets[1:]] - passed[self.offsets[:-1]]
        return self.actions[self.offsets[:-1] + count - 1]


def switch_points(values: Floats) -> Segments:
    """Return every alpha at which the best action of a request changes.

    Args:
        values: (n, K, 2) finite, relative-lift units.

    Raises:
        DataError: values are not (n, K, 2), or hold NaN or infinity.
    """
    _check(values)
    parts = [_walk(values[start : start + ROWS_PER_CHUNK]) for start in range(0, len(values), ROWS_PER_CHUNK)] or [_walk(values)]
    counts = np.concatenate([part[0] for part in parts])
    return Segments(
        np.concatenate([[0], np.cumsum(counts)]), np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])
    )


def _walk(values: Floats) -> tuple[Ints, Floats, Ints]:
    """Walk the upper envelopes of all rows together, from alpha 0 to 1, one switch per step."""
    n = len(values)
    level, slope = _lines(values)
    row = np.arange(n)
    best = level.max(axis=1, initial=-np.inf)
    action = np.where(level == best[:, None], slope, -np.inf).argmax(axis=1)
    steps = [(row, np.zeros(n), action)]
    while len(row):
        here_slope, here_level = slope[row, action], level[row, action]
        rise = slope[row] - here_slope[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where(rise > 0, (here_level[:, None] - level[row]) / rise, np.inf)
        alpha = crossing.min(axis=1)
        steeper = np.where(crossing == alpha[:, None], rise, -np.inf).argmax(axis=1)
        on = alpha < 1
        row, action = row[on], steeper[on]
        steps.append((row, alpha[on], action))
    rows, starts, actions = (np.concatenate(column) for column in zip(*steps, strict=True))
    order = np.argsort(rows, kind="stable")
    return np.bincount(rows, minlength=n), starts[order], actions[order].astype(np.int16)


def optimal_interval(values: Floats, action: Ints) -> tuple[Floats, Floats]:
    """Return the alphas at which an action is the best one of its request.

    Args:
        values: (n, K, 2) finite, relative-lift units.
        action: (n,) index in [0, K).

    Returns:
        low, high (n,) float64: the action is best on [low, high), and at 1 where high = 1; both NaN where it never is.

    Raises:
        DataError: values are not (n, K, 2) or not finite, or an action is outside [0, K).
    """
    _check(values)
    if len(action) != len(values) or (len(action) and not (action.min() >= 0 and action.max() < values.shape[1])):
        raise DataError("actions are not one index in [0, K) per request", hint="leave rows out that are off the grid")
    low, high = np.empty(len(values)), np.empty(len(values))
    for start in range(0, len(values), ROWS_PER_CHUNK):
        part = slice(start, start + ROWS_PER_CHUNK)
        low[part], high[part] = _interval(values[part], action[part])
    return low, high


def _interval(values: Floats, action: Ints) -> tuple[Floats, Floats]:
    level, slope = _lines(values)
    row = np.arange(len(values))
    rise = slope - slope[row, action][:, None]  # of the others above the action's line
    ahead = level - level[row, action][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -ahead / rise
    low = np.where(rise < 0, crossing, -np.inf).max(axis=1, initial=0.0)
    high = np.where(rise > 0, crossing, np.inf).min(axis=1, initial=1.0)
    earlier = np.arange(values.shape[1]) < action[:, None]
    beaten = ((rise == 0) & ((ahead > 0) | ((ahead == 0) & earlier))).any(axis=1)
    never = beaten | (low >= high)
    return np.where(never, np.nan, low), np.where(never, np.nan, high)


def _lines(values: Floats) -> tuple[Floats, Floats]:
    level = values[:, :, 1].astype(np.float64)
    return level, values[:, :, 0] - level


def _check(values: Floats) -> None:
    if values.ndim != 3 or values.shape[2] != 2 or values.shape[1] == 0:
        raise DataError(f"values have shape {values.shape}, not (n, K, 2)", hint="switch points exist for two objectives")
    if not np.isfinite(values).all():
        raise DataError("values hold NaN or infinity", hint="check the model's inputs")


@dataclass(frozen=True, slots=True)
class HitIntervals:
    """The exploration rows that are a hit for some alpha: all that the exact curve needs of a log; batches merge by `+`."""

    low: Floats  # (h,) the row is a hit for alpha in [low, high)
    high: Floats  # (h,)
    weight: Floats  # (h,) 1 / propensity
    reward: Floats  # (h, M)
    residual: Floats  # (h, M) r - m

    def __add__(self, other: HitIntervals) -> HitIntervals:
        """Return the rows of both batches."""
        return HitIntervals.concat([self, other])

    @staticmethod
    def concat(parts: list[HitIntervals]) -> HitIntervals:
        """Return the rows of all batches, at least one."""
        names = ("low", "high", "weight", "reward", "residual")
        return HitIntervals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


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


def reward_curve(hits: HitIntervals) -> Curve:
    """Return Reward@HIT (Eq. 9) of pi_alpha for every alpha.

    Raises:
        NoOverlapError: no row is a hit for any alpha.
    """
    return _curve(hits, hits.reward, np.ones_like(hits.weight))


def lift_curve(hits: HitIntervals, produced: ProducedSums) -> Curve:
    """Return the production-anchored relative lift of pi_alpha for every alpha.

    Raises:
        NoOverlapError: no row is a hit for any alpha.
    """
    curve = _curve(hits, hits.residual, hits.weight)
    rows = produced.rows.sum()
    return Curve(curve.starts, (curve.values + produced.correction.sum(axis=0) / rows) / (produced.reward.sum(axis=0) / rows), curve.hits)


def _curve(hits: HitIntervals, outcome: Floats, weight: Floats) -> Curve:
    if len(hits.low) == 0:
        raise NoOverlapError("no logged action is the best one at any alpha", hint="widen the exploration slice")
    position = np.concatenate([hits.low, hits.high])
    sign = np.repeat([1.0, -1.0], len(hits.low))
    change = np.column_stack([np.ones(len(position)), np.tile(weight, 2), np.tile(weight[:, None] * outcome, (2, 1))]) * sign[:, None]
    leaves = position < 1  # a row that is a hit up to 1 is one at 1 too
    starts, at = np.unique(np.concatenate([[0.0], position[leaves]]), return_inverse=True)
    jumps = np.stack([np.bincount(at[1:], weights=column, minlength=len(starts)) for column in change[leaves].T], axis=1)
    total = np.cumsum(jumps, axis=0)
    count = np.rint(total[:, 0]).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(count[:, None] > 0, total[:, 2:] / total[:, 1:2], np.nan)
    return Curve(starts, values, count)
