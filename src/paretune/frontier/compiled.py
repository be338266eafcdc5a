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
