"""numba twins of the exact kernels; importing this module without numba raises ImportError, and `hull` and `regions` fall back to numpy."""

from __future__ import annotations

import numba
import numpy as np

from paretune.records import Floats, Ints


@numba.njit(cache=True, parallel=True, error_model="numpy")
def intervals(values: Floats, action: Ints, order: Ints) -> tuple[Floats, Floats]:  # pragma: no cover (compiled)
    """Twin of `hull._narrowed`, row by row: a row is done as soon as its interval is empty."""
    n = len(values)
    low, high = np.empty(n), np.empty(n)
    for row in numba.prange(n):
        own = action[row]
        own_level = np.float64(values[row, own, 1])
        own_slope = np.float64(values[row, own, 0]) - own_level
        start, end = 0.0, 1.0
        for other in order:
            level = np.float64(values[row, other, 1])
            rise = (np.float64(values[row, other, 0]) - level) - own_slope
            behind = own_level - level
            if rise < 0:
                start = max(start, behind / rise)
            elif rise > 0:
                end = min(end, behind / rise)
            elif behind < 0 or (behind == 0 and other < own):
                end = -1.0
            if start >= end:
                start, end = np.nan, np.nan
                break
        low[row], high[row] = start, end
    return low, high


@numba.njit(cache=True, error_model="numpy")
def _region(values: Floats, own: int, order: Ints, x: Floats, y: Floats, at: Floats) -> int:  # pragma: no cover (compiled)
    """Twin of `regions._cut` for one row (K, 3): write the corners into the first row of x and y (2, V), return how many there are."""
    x[0, 0], x[0, 1], x[0, 2] = 0.0, 1.0, 0.0
    y[0, 0], y[0, 1], y[0, 2] = 0.0, 0.0, 1.0
    count = 3
    a, b, c = np.float64(values[own, 0]), np.float64(values[own, 1]), np.float64(values[own, 2])
    for rival in order:
        lead = np.float64(values[rival, 2]) - c
        across, up = (np.float64(values[rival, 0]) - a) - lead, (np.float64(values[rival, 1]) - b) - lead
        if across == 0 and up == 0 and lead == 0:
            if rival < own:
                return 0
            continue
        ahead = 0
        for v in range(count):
            at[v] = x[0, v] * across + y[0, v] * up + lead
            ahead += at[v] > 0
        if ahead == count:
            return 0
        if ahead == 0:
            continue
        size = 0
        for v in range(count):
            w = v + 1 if v + 1 < count else 0
            if at[v] <= 0:
                x[1, size], y[1, size] = x[0, v], y[0, v]
                size += 1
            if (at[v] > 0) != (at[w] > 0):
                share = at[v] / (at[v] - at[w])
                x[1, size] = x[0, v] + share * (x[0, w] - x[0, v])
                y[1, size] = y[0, v] + share * (y[0, w] - y[0, v])
                size += 1
        count = size
        for v in range(count):
            x[0, v], y[0, v] = x[1, v], y[1, v]
    return count


@numba.njit(cache=True, parallel=True, error_model="numpy")
def lattice(
    values: Floats, action: Ints, order: Ints, columns: Floats, divisions: int, on_edge: float
) -> Floats:  # pragma: no cover (compiled)
    """Twin of the numpy branch of `regions.lattice_sums`: differences along the rows of the lattice (divisions + 1, divisions + 2, C)."""
    n, width, blocks = len(values), columns.shape[1], 16
    steps = np.zeros((blocks, divisions + 1, divisions + 2, width))
    edge = divisions * on_edge
    for block in numba.prange(blocks):
        x, y = np.empty((2, len(order) + 4)), np.empty((2, len(order) + 4))
        at = np.empty(len(order) + 4)
        for row in range(block * n // blocks, (block + 1) * n // blocks):
            count = _region(values[row], action[row], order, x, y, at)
            if count == 0:
                continue
            left, right = np.inf, -np.inf
            for v in range(count):
                x[0, v] *= divisions
                y[0, v] *= divisions
                left, right = min(left, x[0, v]), max(right, x[0, v])
            for i in range(max(0, int(np.ceil(left - edge))), min(divisions, int(np.floor(right + edge))) + 1):
                low, high = np.inf, -np.inf
                for v in range(count):
                    w = v + 1 if v + 1 < count else 0
                    here, there = x[0, v], x[0, w]
                    if min(here, there) > i + edge or max(here, there) < i - edge:
                        continue
                    if here == there:
                        low, high = min(low, y[0, v], y[0, w]), max(high, y[0, v], y[0, w])
                    else:
                        height = y[0, v] + min(max((i - here) / (there - here), 0.0), 1.0) * (y[0, w] - y[0, v])
                        low, high = min(low, height), max(high, height)
                if low > high:
                    continue
                first, last = max(0, int(np.ceil(low - edge))), min(divisions - i, int(np.floor(high + edge)))
                if first <= last:
                    for j in range(width):
                        steps[block, i, first, j] += columns[row, j]
                        steps[block, i, last + 1, j] -= columns[row, j]
    return steps.sum(axis=0)
