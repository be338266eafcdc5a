"""A cheap m(s) = E[r | s, production]: ridge regression of rewards on a design matrix, kept as sums with `+`.

The rule: it is fitted on production rows of earlier days than those evaluated. The anchored lift is unbiased for any m, so m only has to be
cheap and roughly right; columns are scaled to unit variance, the intercept is not penalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.ope.clusters import check_rows
from paretune.records import Floats

ROWS_PER_CHUNK = 16_384


@dataclass(frozen=True, slots=True)
class BaselineSums:
    """Second moments of the design matrix and the rewards."""

    rows: int
    gram: Floats  # (D + 1, D + 1) of [1, x]
    cross: Floats  # (D + 1, M) of [1, x] and r

    def __add__(self, other: BaselineSums) -> BaselineSums:
        """Return the moments of both batches."""
        return BaselineSums(self.rows + other.rows, self.gram + other.gram, self.cross + other.cross)

    def solve(self, *, l2: float) -> Baseline:
        """Return the ridge regression.

        Args:
            l2: penalty per row on standardised coefficients, >= 0; a constant column gets coefficient zero.
        """
        mean, gram = self.gram[0, 1:] / self.rows, self.gram[1:, 1:] / self.rows
        covariance = gram - np.outer(mean, mean)
        scale = np.sqrt(np.diag(covariance).clip(0))
        varies = scale > 1e-6 * np.sqrt(np.diag(gram).clip(1e-30))
        inverse = np.where(varies, 1 / np.where(varies, scale, 1), 0)
        average = self.cross[0] / self.rows
        target = (self.cross[1:] / self.rows - np.outer(mean, average)) * inverse[:, None]
        correlation = covariance * np.outer(inverse, inverse) + np.diag(np.where(varies, l2 + 1e-9, 1.0))
        slope = np.linalg.solve(correlation, target) * inverse[:, None]
        return Baseline(slope, average - mean @ slope)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted m(s)."""

    slope: Floats  # (D, M)
    intercept: Floats  # (M,)

    def predict(self, wide: Floats) -> Floats:
        """Return (n, M) float32 expected rewards under production of a design matrix (n, D)."""
        return (wide @ self.slope.astype(np.float32) + self.intercept.astype(np.float32)).astype(np.float32)


def baseline_sums(wide: Floats, rewards: Floats) -> BaselineSums:
    """Return the moments of one batch.

    Args:
        wide: (n, D) finite, n > 0.
        rewards: (n, M) finite.

    Raises:
        DataError: there is no row, shapes disagree, or a number is not finite.
    """
    check_rows(rewards, wide)
    check_rows(wide)
    if len(wide) == 0:
        raise DataError("no production rows to fit a baseline on", hint="give earlier days that hold production rows")
    size = wide.shape[1] + 1
    gram, cross = np.zeros((size, size)), np.zeros((size, rewards.shape[1]))
    for start in range(0, len(wide), ROWS_PER_CHUNK):
        part = wide[start : start + ROWS_PER_CHUNK].astype(np.float64)
        x = np.concatenate([np.ones((len(part), 1)), part], axis=1)
        gram += x.T @ x
        cross += x.T @ rewards[start : start + ROWS_PER_CHUNK]
    return BaselineSums(len(wide), gram, cross)


def fit_baseline(wide: Floats, rewards: Floats, *, l2: float = 1e-3) -> Baseline:
    """Return m(s) fitted on production rows of earlier days.

    Args:
        wide: (n, D) float32 design matrix without missing values.
        rewards: (n, M).
        l2: penalty per row on standardised coefficients.

    Raises:
        DataError: there is no row, shapes disagree, or a number is not finite.
    """
    return baseline_sums(wide, rewards).solve(l2=l2)
