"""Coordinates of weight vectors: what the value models and the kernels see of an action.

Linear coordinates are the paper's min-max scaling over each head's levels (Eq. 6). Log coordinates are log weight ratios to production;
a list depends on weights only up to scale when no untuned head matters, which is why the log ratio carries most of the effect.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from paretune.records import Floats
from paretune.surface.heads import Surface


def spaced(low: float, high: float, levels: int, *, log: bool = False) -> tuple[float, ...]:
    """Return `levels` weights from low to high, linearly (the paper) or geometrically spaced."""
    return tuple(np.geomspace(low, high, levels).tolist() if log else np.linspace(low, high, levels).tolist())


def linear_coordinates(surface: Surface, actions: Floats) -> Floats:
    """Return (K, t) tuned weights, min-max scaled over their levels to [0, 1] (Eq. 6)."""
    tuned = list(surface.tuned)
    low = np.array([surface.heads[i].levels[0] for i in tuned])
    high = np.array([surface.heads[i].levels[-1] for i in tuned])
    return (actions[:, tuned] - low) / (high - low)


def log_coordinates(surface: Surface, actions: Floats) -> Floats:
    """Return (K, t) log ratios of the tuned weights to production, in units of half the log range, production = 0."""
    tuned = list(surface.tuned)
    low = np.array([surface.heads[i].levels[0] for i in tuned])
    high = np.array([surface.heads[i].levels[-1] for i in tuned])
    return np.log(actions[:, tuned] / surface.static[tuned]) / (np.log(high / low) / 2)


def polynomial_basis(coordinates: Floats, degree: int) -> Floats:
    """Return (K, B) all monomials of total degree 1..degree; zero where the coordinates are zero (production)."""
    t = coordinates.shape[1]
    columns = [
        np.prod(coordinates[:, list(powers)], axis=1)
        for order in range(1, degree + 1)
        for powers in combinations_with_replacement(range(t), order)
    ]
    return np.stack(columns, axis=1)
