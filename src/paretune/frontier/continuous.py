"""Weights between the levels of the grid: each request's own best point of the explored box, on the value model's surface.

From the best grid action, a small cross-section of finer and finer steps in log weights is scored, and the best point kept.

The rule: a point is never left for a worse one, so the predicted value is at least the best grid action's, and no weight leaves the range
that was explored. What such weights are truly worth is for an estimator that pools over similar weights to say, never for the model.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from paretune.ports import ValueModel
from paretune.records import PRODUCTION, Floats, State
from paretune.surface.heads import Surface

OFFSETS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # in steps; a round's steps are a quarter of the last one's
ROUNDS = 3


def continuous_weights(
    model: ValueModel, state: State, surface: Surface, *, scalarisation: Floats, scale: Floats, rounds: int = ROUNDS
) -> Floats:
    """Return the full weight vector (n, m) that each request should get under one trade-off.

    Args:
        model: smooth in the weights, e.g. `smooth`.
        state: n requests.
        surface: whose tuned heads span the box.
        scalarisation: (M,) weight of each objective, in relative-lift units.
        scale: (M,) direction / production's value.
        rounds: refinements; 0 gives the best grid action.
    """
    blend = np.asarray(scalarisation, dtype=np.float64) * scale
    grid = surface.actions[PRODUCTION + 1 :]
    weights = grid[(model.values(state, grid) @ blend).argmax(axis=1)]
    tuned = list(surface.tuned)
    low, high = (np.array([surface.heads[i].levels[end] for i in tuned]) for end in (0, -1))
    step = np.array([np.diff(np.log(surface.heads[i].levels)).max() for i in tuned])
    shifts = np.array(list(product(OFFSETS, repeat=len(tuned))))
    for _ in range(rounds):
        starts, of_start = np.unique(weights, axis=0, return_inverse=True)
        of_start = of_start.ravel()
        for index, start in enumerate(starts):
            rows = np.flatnonzero(of_start == index)
            near = np.tile(start, (1 + len(shifts), 1))  # the start itself first: it stays unless something is better
            near[1:, tuned] = np.clip(start[tuned] * np.exp(shifts * step), low, high)
            weights[rows] = near[(model.values(state.take(rows), near) @ blend).argmax(axis=1)]
        step = step / 4
    return weights
