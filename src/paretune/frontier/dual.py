"""The constrained optimum by its dual: maximise one objective's total while the others' stay above floors.

Over traffic totals, "maximise A subject to B >= b, C >= c" is solved by one multiplier per floor, the same for every request:

    min over l >= 0 of  mean_s max_a [ v_A(s, a) + sum_j l_j v_j(s, a) ] - sum_j l_j (mean_s v_j(s, pi0) + floor_j)

convex and piecewise linear in l, so a few cutting planes find it (Kelley, 1960). The optimal policy is a scalarisation with weights
(1, l), hence a member of the swept family like any other.

The rule: predicted values only propose. They are taken on training days, at floors and at floors tightened by margins, because a policy
that meets a floor by its own model's word tends to miss it; which proposal is put forward is for the estimator to say, on held-out rows.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from paretune.errors import DataError
from paretune.records import PRODUCTION, Floats

MARGINS = (0.0, 0.005, 0.01, 0.02, 0.04)  # relative lift by which the floors are tightened
LARGEST = 50.0  # multiplier, in relative lift of the target per relative lift: beyond, the floor is out of reach
STEPS = 40
ENOUGH = 1e-5  # of the target's relative lift


def floor_multipliers(values: Floats, *, floors: Floats, target: int = 0) -> Floats:
    """Return the multiplier of each objective (M,): 1 for the target, >= 0 for the others, 0 where a floor does not bind.

    Args:
        values: (n, K, M) predicted values in relative-lift units, larger is better, production first.
        floors: (M,) lowest acceptable relative lifts over production; the target's own is not used.
        target: objective to maximise.

    Raises:
        DataError: there is no row, or a number is not finite.
    """
    if len(values) == 0 or not (np.isfinite(values).all() and np.isfinite(floors).all()):
        raise DataError("values or floors are missing or not finite", hint="give predicted values of training-day requests")
    others = np.flatnonzero(np.arange(values.shape[2]) != target)
    weights = np.zeros(values.shape[2])
    weights[target] = 1.0
    if len(others) == 0:
        return weights
    base = values[:, PRODUCTION].mean(axis=0, dtype=np.float64)[others] + floors[others]
    grid = values[:, PRODUCTION + 1 :]
    planes: list[Floats] = []  # dual >= planes . (1, l)
    at, best, best_at = np.zeros(len(others)), np.inf, np.zeros(len(others))
    for _ in range(STEPS):
        weights[others] = at
        chosen = (grid @ weights.astype(values.dtype)).argmax(axis=1)
        earned = grid[np.arange(len(grid)), chosen].mean(axis=0, dtype=np.float64)
        plane = np.concatenate([[earned[target]], earned[others] - base])
        planes.append(plane)
        dual = float(plane @ np.concatenate([[1.0], at]))
        if dual < best:
            best, best_at = dual, at
        cuts = np.array(planes)
        found = linprog(
            np.concatenate([[1.0], np.zeros(len(others))]),
            A_ub=np.column_stack([-np.ones(len(cuts)), cuts[:, 1:]]),
            b_ub=-cuts[:, 0],
            bounds=[(None, None), *[(0.0, LARGEST)] * len(others)],
        )
        if best - found.fun < ENOUGH:
            break
        at = found.x[1:]
    weights[others] = best_at
    return weights


def dual_scalarisations(values: Floats, *, floors: Floats, target: int = 0, margins: tuple[float, ...] = MARGINS) -> Floats:
    """Return the scalarisations (P, M) that are optimal under the floors and under tightened ones, each once.

    Args:
        values: see `floor_multipliers`.
        floors: (M,) lowest acceptable relative lifts.
        target: objective to maximise.
        margins: by which the floors are tightened.

    Raises:
        DataError: see `floor_multipliers`.
    """
    found = np.array([floor_multipliers(values, floors=floors + margin, target=target) for margin in margins])
    simplex = found / found.sum(axis=1, keepdims=True)
    return simplex[np.sort(np.unique(np.round(simplex, 6), axis=0, return_index=True)[1])]
