"""numba twins of the response kernels; importing this module without numba raises ImportError, and `response` falls back to numpy."""

from __future__ import annotations

import numba
import numpy as np

from paretune.records import Floats, Ints

LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
TAYLOR = tuple(np.float32(1 / factorial) for factorial in (2, 6, 24, 120, 720))


@numba.njit(cache=True, parallel=True, fastmath=True, error_model="numpy")
def scores(theta: Floats, items: Floats, pool: Ints) -> Floats:
    """Twin of `response.ranker_scores`.

    exp(-logit) is 2^k e^f with |f| <= ln(2) / 2, 2^k written as bits and e^f as six Taylor terms (relative error 1e-7 before rounding):
    unlike the library's exp, this runs in vector registers.
    """
    n, heads, d = theta.shape
    width = items.shape[1]
    c2, c3, c4, c5, c6 = TAYLOR
    result = np.empty((n, width, heads), dtype=np.float32)
    for row in numba.prange(n):
        phi = items[pool[row]].T.copy()
        series = np.empty(width, dtype=np.float32)
        bits = np.empty(width, dtype=np.int32)
        power = bits.view(np.float32)
        for head in range(heads):
            series[:] = 0
            for i in range(d):
                slope = -LOG2_E * theta[row, head, i]
                for item in range(width):
                    series[item] += slope * phi[i, item]
            for item in range(width):
                exponent = min(max(series[item], np.float32(-120)), np.float32(120))
                whole = np.floor(exponent + np.float32(0.5))
                bits[item] = (np.int32(whole) + np.int32(127)) << np.int32(23)
                f = (exponent - whole) * LN_2
                series[item] = np.float32(1) + f * (np.float32(1) + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
            for item in range(width):
                result[row, item, head] = np.float32(1) / (np.float32(1) + series[item] * power[item])
    return result


@numba.njit(cache=True, parallel=True, error_model="numpy")
def served_lists(values_by_head: Floats, weights: Floats, k: int) -> Ints:
    """Twin of the numpy branch of `response.served_lists`."""
    n, width, heads = values_by_head.shape
    lists = np.empty((n, k), dtype=np.int16)
    for row in numba.prange(n):
        kept_value = np.empty(k, dtype=np.float32)
        size = 0
        for item in range(width):
            value = np.float32(0)
            for head in range(heads):
                value += weights[row, head] * values_by_head[row, item, head]
            if size == k:
                if value <= kept_value[k - 1]:
                    continue
                slot = k - 1
            else:
                slot = size
                size += 1
            while slot > 0 and kept_value[slot - 1] < value:
                kept_value[slot] = kept_value[slot - 1]
                lists[row, slot] = lists[row, slot - 1]
                slot -= 1
            kept_value[slot] = value
            lists[row, slot] = item
    return lists


@numba.njit(cache=True, parallel=True, fastmath=True, error_model="numpy")
def exact_values(
    theta: Floats, items: Floats, pool: Ints, lists: Ints, objective_heads: Ints, continuation: Floats, long_view: int, hide: int
) -> Floats:
    """Twin of `response._exact_values`; true probabilities are computed once per item that enters any list."""
    n, n_actions, k = lists.shape
    heads, d = theta.shape[1], theta.shape[2]
    width, n_objectives = items.shape[1], len(objective_heads)
    result = np.zeros((n, n_actions, n_objectives), dtype=np.float32)
    for row in numba.prange(n):
        phi = items[pool[row]]
        known = np.zeros(width, dtype=np.bool_)
        p = np.empty((width, heads), dtype=np.float32)
        goes_on = np.empty(width, dtype=np.float32)
        for action in range(n_actions):
            alive = np.ones(n_objectives, dtype=np.float32)
            for position in range(k):
                item = lists[row, action, position]
                if not known[item]:
                    known[item] = True
                    for head in range(heads):
                        logit = np.float32(0)
                        for i in range(d):
                            logit += theta[row, head, i] * phi[item, i]
                        p[item, head] = np.float32(1) / (np.float32(1) + np.exp(-logit))
                    drive = continuation[0] + continuation[1] * p[item, long_view] - continuation[2] * p[item, hide]
                    goes_on[item] = np.float32(1) / (np.float32(1) + np.exp(-drive))
                for j in range(n_objectives):
                    chance = p[item, objective_heads[j]]
                    result[row, action, j] += alive[j] * chance
                    alive[j] *= (1 - chance) * goes_on[item]
    return result
