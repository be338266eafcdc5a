"""numba twins of the list kernels; importing this module without numba raises ImportError, and `lists` falls back to numpy."""

from __future__ import annotations

import numba
import numpy as np

from paretune.records import Floats, Ints


@numba.njit(cache=True, parallel=True, error_model="numpy")
def top_lists(offsets: Ints, scores: Floats, weights: Floats, k: int) -> Ints:  # pragma: no cover (compiled)
    """Twin of `lists._top_lists`; the k-th value of the last list seeds the threshold of the next, most items fall below it."""
    n, n_actions, m = len(offsets) - 1, weights.shape[0], weights.shape[1]
    lists = np.full((n, n_actions, k), -1, dtype=np.int16)
    for row in numba.prange(n):
        first, width = offsets[row], offsets[row + 1] - offsets[row]
        by_head = np.empty((m, width), dtype=np.float32)
        for item in range(width):
            for head in range(m):
                by_head[head, item] = scores[first + item, head]
        values = np.empty(width, dtype=np.float32)
        kept_value = np.empty(k, dtype=np.float32)
        kept_item = np.empty(k, dtype=np.int16)
        for action in range(n_actions):
            values[:] = 0
            for head in range(m):
                weight = weights[action, head]
                for item in range(width):
                    values[item] += weight * by_head[head, item]
            floor = -np.inf
            if action > 0 and width >= k:
                floor = np.inf
                for slot in range(k):
                    floor = min(floor, values[lists[row, action - 1, slot]])
            size = 0
            for item in range(width):
                value = values[item]
                if value < floor:
                    continue
                if size == k:
                    if value <= kept_value[k - 1]:
                        continue
                    slot = k - 1
                else:
                    slot = size
                    size += 1
                while slot > 0 and kept_value[slot - 1] < value:
                    kept_value[slot] = kept_value[slot - 1]
                    kept_item[slot] = kept_item[slot - 1]
                    slot -= 1
                kept_value[slot] = value
                kept_item[slot] = item
            for slot in range(size):
                lists[row, action, slot] = kept_item[slot]
    return lists


@numba.njit(cache=True, parallel=True, error_model="numpy")
def list_values(offsets: Ints, scores: Floats, lists: Ints, examined: Floats) -> Floats:  # pragma: no cover (compiled)
    """Twin of the numpy branch of `lists.list_values`."""
    n, n_actions, k = lists.shape
    m = scores.shape[1]
    result = np.empty((n, n_actions, m), dtype=np.float32)
    for row in numba.prange(n):
        first = offsets[row]
        for action in range(n_actions):
            for head in range(m):
                miss = np.float32(1)
                for slot in range(k):
                    item = lists[row, action, slot]
                    if item < 0:
                        break
                    miss *= 1 - examined[slot] * scores[first + item, head]
                result[row, action, head] = 1 - miss
    return result
