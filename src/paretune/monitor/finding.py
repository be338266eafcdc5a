"""One comparison of two windows: its record, the marks from which a difference matters, and what chance makes of it.

The rule: a p-value comes from cluster sums of both windows at once, so that users who come in both, and rows of one user, are no evidence
twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student

from paretune.records import Floats

SCALED = 1.2
SEGMENTS_SD = 0.1
SHARE_POINTS = 0.05
REWARD_CHANGE = 0.05
CALIBRATION = 1.1
AGREEMENT = 0.25
OFF_PROPENSITY = 0.05
SLOPE = 0.5
FEWEST_ROWS = 100.0  # of a policy's arm, of a segment, of production rows; fewer are not compared

Aspect = Literal[
    "state", "scale", "segments", "shape", "contribution", "reward", "calibration", "agreement", "actions", "exploration", "gain"
]


@dataclass(frozen=True, slots=True)
class Slope:
    """How measured gains follow predicted ones."""

    slope: float
    std_error: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: what was, what is, how large a difference that makes, and whether it counts."""

    aspect: Aspect
    name: str  # a feature, head, objective
    reference: float  # in the aspect's own unit; of PSI its noise
    current: float  # of PSI the index
    size: float  # of the difference, noise out where the aspect says so
    threshold: float  # from which it counts
    p_value: float
    std_error: float = float("nan")  # of the difference in its own unit (scale, calibration: of its logarithm); NaN of PSI
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two windows."""

    difference: float
    influence: Floats  # (C,) what each cluster of users adds to its error

    @property
    def std_error(self) -> float:
        """Clustered by user."""
        occupied = int((self.influence != 0).sum())
        return float(np.sqrt(np.square(self.influence).sum() * occupied / max(1, occupied - 1)))

    @property
    def p_value(self) -> float:
        """Two-sided, by Student's law, its freedom the occupied clusters less one."""
        error = self.std_error
        if error <= 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * student.sf(abs(self.difference) / error, max(1, int((self.influence != 0).sum()) - 1)))


def mean_influence(sums: Floats, count: Floats) -> Floats:
    """Return what each cluster adds to the error of sums over counts (C, d).

    Args:
        sums: (C, d).
        count: (C,) or (C, d).
    """
    count = count[:, None] if count.ndim < sums.ndim else count
    total = np.maximum(count.sum(axis=0), 1.0)
    return (sums - count * (sums.sum(axis=0) / total)) / total


def function_of_means(sums: Floats, function: Callable[[Floats], float]) -> tuple[float, Floats]:
    """Return a smooth function of means, and what each cluster adds to its error (C,), by the delta method.

    Args:
        sums: (C, d) sums; the first column counts.
        function: of the d means, the first of which is 1.
    """
    total = float(sums[:, 0].sum())
    mean = sums.sum(axis=0) / total
    gradient = np.zeros(len(mean))
    for place in range(1, len(mean)):
        step = 1e-4 * max(abs(float(mean[place])), 1e-9)
        up, down = mean.copy(), mean.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return function(mean), ((sums - sums[:, [0]] * mean) / total) @ gradient
