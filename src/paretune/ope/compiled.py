"""numba twin of the overlap kernel; importing this module without numba raises ImportError, and `pooling` falls back to numpy."""

from __future__ import annotations

import numba
import numpy as np

from paretune.records import Floats, Ints


@numba.njit(cache=True, parallel=True, error_model="numpy")
def overlap_likeness(
    lists: Ints,
    examined: Floats,
    action: Ints,
    own: Floats,
    others: Floats,
    width: int,
    squarings: int,
    rungs: int,
    speaks: int,
    least: float,
) -> tuple[Floats, Floats, Floats]:  # pragma: no cover (compiled)
    """Twin of `pooling._overlap_likeness`; every inner loop runs over targets, so that it is vectorised."""
    n, n_actions, k = lists.shape
    weight = np.zeros((n, n_actions, rungs), dtype=np.float32)
    deviation = np.zeros((n, n_actions), dtype=np.float32)
    distance = np.zeros((n, n_actions), dtype=np.float32)
    for row in numba.prange(n):
        seen = np.zeros((width, n_actions), dtype=np.float32)  # how much each action lets each item be looked at
        for target in range(n_actions):
            for slot in range(k):
                item = lists[row, target, slot]
                if item < 0:
                    break
                seen[item, target] = examined[slot]
        most = np.float32(0)
        for slot in range(k):
            if lists[row, 0, slot] >= 0:
                most += examined[slot]
        share = others[row] if others.shape[0] > 1 else others[0]
        shared = np.empty(n_actions, dtype=np.float32)
        power = np.empty(n_actions, dtype=np.float32)
        total = np.zeros((rungs, n_actions), dtype=np.float32)
        mean = np.zeros(n_actions, dtype=np.float32)
        logged = action[row]
        for other in range(n_actions):
            if share[other] == 0 and other != logged:
                continue
            shared[:] = 0
            for slot in range(k):
                item = lists[row, other, slot]
                if item < 0:
                    break
                look = examined[slot]
                for target in range(n_actions):
                    there = seen[item, target]
                    shared[target] += there if there < look else look
            if most > 0:
                for target in range(n_actions):
                    overlap = shared[target] / most
                    shared[target] = overlap if overlap >= least else np.float32(0)
            else:
                shared[other] = 1
            for target in range(n_actions):
                power[target] = shared[target]
            for _ in range(squarings):
                for target in range(n_actions):
                    power[target] *= power[target]
            for rung in range(rungs):
                if rung > 0:
                    for target in range(n_actions):
                        power[target] *= power[target]
                for target in range(n_actions):
                    total[rung, target] += share[other] * power[target]
                if rung == speaks:
                    for target in range(n_actions):
                        mean[target] += share[other] * power[target] * (1 - shared[target])
                if other == logged:
                    for target in range(n_actions):
                        weight[row, target, rung] = power[target]
            if other == logged:
                for target in range(n_actions):
                    deviation[row, target] = 1 - shared[target]
        for target in range(n_actions):
            for rung in range(rungs):
                if total[rung, target] > 0:
                    weight[row, target, rung] *= own[row] / total[rung, target]
            if total[speaks, target] > 0:
                distance[row, target] = mean[target] / total[speaks, target]
                deviation[row, target] -= distance[row, target]
            else:
                deviation[row, target] = 0
    return weight, deviation, distance


@numba.njit(cache=True, parallel=True, error_model="numpy")
def pooled_sums(
    order: Ints,
    start: Ints,
    chosen: Ints,
    weight: Floats,
    deviation: Floats,
    distance: Floats,
    residual: Floats,
    advantages: Floats,
    speaks: int,
    totals: tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats],
) -> None:  # pragma: no cover (compiled)
    """Twin of `pooled._plain_sums`: adds the rows of each cluster, start[c]:start[c + 1] of `order`, to its sums."""
    of_weight, of_square, of_residual, of_advantage, of_tilt, of_tilt_square, of_distance = totals
    policies, rungs, objectives = chosen.shape[1], weight.shape[2], residual.shape[1]
    for cluster in numba.prange(len(start) - 1):
        for place in range(start[cluster], start[cluster + 1]):
            row = order[place]
            for policy in range(policies):
                target = chosen[row, policy]
                for rung in range(rungs):
                    w = np.float64(weight[row, target, rung])
                    of_weight[cluster, rung, policy] += w
                    of_square[cluster, rung, policy] += w * w
                    for j in range(objectives):
                        of_residual[cluster, rung, policy, j] += w * residual[row, j]
                tilted = np.float64(weight[row, target, speaks]) * deviation[row, target]
                of_tilt_square[cluster, policy] += tilted * deviation[row, target]
                of_distance[cluster, policy] += distance[row, target]
                for j in range(objectives):
                    of_tilt[cluster, policy, j] += tilted * residual[row, j]
                    if len(advantages) > 0:
                        of_advantage[cluster, policy, j] += advantages[row, target, j]
