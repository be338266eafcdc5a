"""The list-replay control variate: the ranker's own prediction of what an action changes, scaled by how far data say to believe it.

With H_j(s, a) the ranker's prediction of the reward of the list that a would serve (`surface.lists.list_values`):

    g_j(s, a) = (b_0 + b'x_s) (H_j(s, a) - H_j(s, production)),     ridge on the residual r_j - m_j(s) of exploration rows

The rule: it is fitted on training days, never on the rows it corrects; the lift is then unbiased under hits for any g, and under a kernel g
takes away most of what pooling mixes. How strongly b is held to zero is chosen between two halves of the users of the training days; b_0,
the average belief, is free. Sums have `+`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.ope.clusters import check_rows
from paretune.records import Floats, Ints

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0)  # per row, on standardised coefficients
ROWS_PER_CHUNK = 16_384


@dataclass(frozen=True, slots=True)
class VariateSums:
    """Second moments of z = (1, x) (H(a) - H(production)) and of the residual, per objective and half of the users."""

    rows: Floats  # (2,)
    gram: Floats  # (2, M, D + 1, D + 1) of z
    cross: Floats  # (2, M, D + 1) of z and the residual

    def __add__(self, other: VariateSums) -> VariateSums:
        """Return the moments of both batches."""
        return VariateSums(self.rows + other.rows, self.gram + other.gram, self.cross + other.cross)

    def solve(self) -> Variate:
        """Return the ridge regression, each objective with the penalty that predicts the other half of the users best."""
        gram, cross, rows = self.gram.sum(axis=0), self.cross.sum(axis=0), self.rows.sum()
        coefficients = np.zeros(cross.shape)
        for j in range(len(cross)):
            loss = [sum(self._loss(j, half, penalty) for half in (0, 1)) for penalty in PENALTIES]
            coefficients[j] = _ridge(gram[j], cross[j], rows, PENALTIES[int(np.argmin(loss))])
        return Variate(coefficients)

    def _loss(self, j: int, half: int, penalty: float) -> float:
        """Squared error on one half of the coefficients fitted on the other, up to a constant."""
        fitted = _ridge(self.gram[1 - half, j], self.cross[1 - half, j], self.rows[1 - half], penalty)
        return float(fitted @ self.gram[half, j] @ fitted - 2 * fitted @ self.cross[half, j])


@dataclass(frozen=True, slots=True)
class Variate:
    """A fitted g(s, a)."""

    coefficients: Floats  # (M, D + 1), the average belief b_0 first

    def advantages(self, wide: Floats, listed: Floats) -> Floats:
        """Return g(s, a) (n, K, M) float32, zero for production.

        Args:
            wide: (n, D) design matrix.
            listed: (n, K, M) list-replay values H_j(s, a), production first.
        """
        belief = wide @ self.coefficients[:, 1:].T.astype(np.float32) + self.coefficients[:, 0].astype(np.float32)  # (n, M)
        return (belief[:, None] * (listed - listed[:, :1])).astype(np.float32)


def variate_sums(wide: Floats, change: Floats, residual: Floats, *, half: Ints) -> VariateSums:
    """Return the moments of one batch of exploration rows.

    Args:
        wide: (n, D) finite design matrix.
        change: (n, M) H_j(s, a) - H_j(s, production) of the logged action.
        residual: (n, M) finite r - m(s).
        half: (n,) 0 or 1, by user.

    Raises:
        DataError: there is no row, shapes disagree, or a number is not finite.
    """
    check_rows(residual, wide, change, half)
    check_rows(wide)
    check_rows(change)
    if len(wide) == 0:
        raise DataError("no exploration rows to fit the list-replay variate on", hint="give training days that hold exploration rows")
    size, objectives = wide.shape[1] + 1, residual.shape[1]
    sums = VariateSums(np.zeros(2), np.zeros((2, objectives, size, size)), np.zeros((2, objectives, size)))
    for side in (0, 1):
        mine = np.flatnonzero(half == side)
        sums.rows[side] = len(mine)
        for start in range(0, len(mine), ROWS_PER_CHUNK):
            rows = mine[start : start + ROWS_PER_CHUNK]
            x = np.concatenate([np.ones((len(rows), 1)), wide[rows]], axis=1)
            for j in range(objectives):
                z = x * change[rows, j, None]
                sums.gram[side, j] += z.T @ z
                sums.cross[side, j] += z.T @ residual[rows, j]
    return sums


def _ridge(gram: Floats, cross: Floats, rows: float, penalty: float) -> Floats:
    """Return the coefficients of z; b_0 without penalty, a column that never varies gets zero."""
    scale = np.sqrt(np.diag(gram) / max(rows, 1))
    varies = scale > 1e-12
    inverse = np.where(varies, 1 / np.where(varies, scale, 1), 0)
    correlation = gram / max(rows, 1) * np.outer(inverse, inverse)
    correlation[np.diag_indices(len(gram))] += np.where(varies, np.where(np.arange(len(gram)) == 0, 1e-9, penalty), 1.0)
    return np.linalg.solve(correlation, cross / max(rows, 1) * inverse) * inverse
