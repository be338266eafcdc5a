"""Two objectives, all alphas at once: where pi_alpha(s) = argmax_a [alpha v_1 + (1 - alpha) v_2] (Eq. 5) switches, and what it earns.

As a function of alpha each action is a line v_2 + alpha (v_1 - v_2), so a request's best action is the upper envelope of K lines: piecewise
constant, with few pieces. Estimating needs less still: the interval of alpha in which the *logged* action is the best one.

The rule: equal lines belong to the lowest index, as argmax has it; at a switch point itself the later piece counts (pieces are half-open,
the last one closed at 1). Values come in relative-lift units, with production already left out where it may not be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from paretune.errors import DataError
from paretune.records import Floats, Ints

try:
    from paretune.frontier import compiled
except ImportError:  # numba is optional: numpy alone gives the same intervals, slower
    compiled = None  # type: ignore[assignment]

ROWS_PER_CHUNK = 16_384
ROWS_PER_BLOCK = 512
PAIRS_PER_BLOCK = 24_576  # of rows and rivals; their numbers stay in the cache
FIRST_RIVALS = 12  # most rows are out after these
SAMPLE_ROWS = 256  # that say which actions win often
SLACK = 1e-4  # of a quick test that must never drop a row


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
    check_values(values, 2)
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
    check_values(values, 2)
    check_actions(values, action)
    order = contenders(values)
    if compiled is not None:
        return compiled.intervals(np.ascontiguousarray(values), np.ascontiguousarray(action, dtype=np.int64), order)
    low, high = np.full((2, len(values)), np.nan)
    row = np.arange(len(values))
    some, own = values, action
    for rivals in (order[:FIRST_RIVALS], order[FIRST_RIVALS:]):
        if len(row) and len(rivals):
            kept = _maybe_best(some, own, rivals)
            row, some, own = row[kept], some[kept], own[kept]
    for start in range(0, len(row), ROWS_PER_BLOCK):
        part = slice(start, start + ROWS_PER_BLOCK)
        low[row[part]], high[row[part]] = _interval(some[part], own[part])
    return low, high


def _maybe_best(values: Floats, action: Ints, rivals: Ints) -> Ints:
    """Return the rows whose action is best somewhere among some rivals, and perhaps a few more: `_interval` has the last word.

    With d the lead of a rival and t = alpha / (1 - alpha), t d_1 + d_2 <= 0 bounds t by d_2^- / d_1^+ and 1 / t by d_1^- / d_2^+, so the
    smallest such bounds must have a product above 1. Half the cost of dividing where it must be exact.
    """
    n = len(values)
    first = 2 * (np.arange(n) * values.shape[1] + action)
    flat = np.ascontiguousarray(values).reshape(-1)
    own = np.stack([flat[first], flat[first + 1]])
    size = max(1, PAIRS_PER_BLOCK // len(rivals))
    lead, up, down = np.empty((3, 2, len(rivals), size), dtype=values.dtype)
    kept = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for start in range(0, n, size):
            part = values[start : start + size]
            d, plus, minus = (buffer[:, :, : len(part)] for buffer in (lead, up, down))
            for place, rival in enumerate(rivals):
                d[:, place] = part[:, rival].T
            d -= own[:, None, start : start + size]
            np.abs(d, out=plus)
            np.subtract(plus, d, out=minus)  # 2 d^-
            plus += d  # 2 d^+
            np.divide(minus[1], plus[0], out=d[0])
            np.divide(minus[0], plus[1], out=d[1])
            bound = np.fmin.reduce(d, axis=1)
            kept.append(start + np.flatnonzero(~(bound[0] * bound[1] < 1 - SLACK)))
    return np.concatenate(kept)


def _interval(values: Floats, action: Ints) -> tuple[Floats, Floats]:
    row = np.arange(len(values))
    level, slope = _lines(np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float64).transpose(1, 2, 0))  # (K, n), rows side by side
    rise = slope - slope[action, row]
    behind = level[action, row] - level
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = behind / rise
    low = np.where(rise < 0, crossing, 0.0).max(axis=0, initial=0.0)
    high = np.where(rise > 0, crossing, 1.0).min(axis=0, initial=1.0)
    even = rise == 0
    if np.count_nonzero(even) > len(values):  # more than the actions themselves
        earlier = np.arange(values.shape[1])[:, None] < action
        high[(even & ((behind < 0) | ((behind == 0) & earlier))).any(axis=0)] = -1.0
    never = low >= high
    return np.where(never, np.nan, low), np.where(never, np.nan, high)


def contenders(values: Floats) -> Ints:
    """Return all K actions, those that win most often first: a hopeless action is then ruled out by the first few.

    Args:
        values: (n, K, M); judged on a few hundred rows under a few trade-offs. The order changes no result.
    """
    some, m = values[:: max(1, len(values) // SAMPLE_ROWS)], values.shape[2]
    weights = np.array(list(product((1.0, 3.0, 9.0), repeat=m)))
    weights /= weights.sum(axis=1, keepdims=True)
    best = (some @ weights.T.astype(values.dtype)).argmax(axis=1)
    return np.argsort(-np.bincount(best.ravel(), minlength=values.shape[1]), kind="stable")


def _lines(values: Floats) -> tuple[Floats, Floats]:
    level = values[..., 1].astype(np.float64, copy=False)
    return level, values[..., 0] - level


def check_values(values: Floats, objectives: int) -> None:
    """Refuse values that are not finite (n, K, M).

    Raises:
        DataError: saying what is wrong.
    """
    if values.ndim != 3 or values.shape[2] != objectives or values.shape[1] == 0:
        raise DataError(f"values have shape {values.shape}, not (n, K, {objectives})", hint=f"give values of {objectives} objectives")
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()  # one quick pass; a sum that is not finite may still be one of large finite numbers
    if not np.isfinite(total) and not np.isfinite(values).all():
        raise DataError("values hold NaN or infinity", hint="check the model's inputs")


def check_actions(values: Floats, action: Ints) -> None:
    """Refuse actions that are not one index in [0, K) per row of values.

    Raises:
        DataError: saying so.
    """
    if len(action) != len(values) or (len(action) and not (action.min() >= 0 and action.max() < values.shape[1])):
        raise DataError("actions are not one index in [0, K) per request", hint="leave rows out that are off the grid")
