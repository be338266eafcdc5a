"""Population stability index of two windows of a log, with what sampling alone makes of it.

    PSI = sum_b (q_b - p_b) ln(q_b / p_b),    p reference, q current; symmetric, the sum of both Kullback-Leibler divergences

Two samples of one distribution differ too: PSI is then about sum_b (q_b - p_b)^2 / p_b, of mean (B - 1)(1/n + 1/m) where rows are
independent. Rows of a user are not, and the same users come back, so the covariance of q - p is taken over clusters of users that both
windows share: the quadratic form has mean `noise`, the sum of the eigenvalues l of D^(-1/2) cov D^(-1/2), and about the law c chi^2_v,
c = sum l^2 / sum l, v = (sum l)^2 / sum l^2 (Rao and Scott, 1981; Satterthwaite, 1946).
The rule: a shift counts when chance does not explain it, by a p-value
that is corrected for the number of shifts looked at (Benjamini and Hochberg, 1995), and when it is large: PSI less its noise of at least
MODERATE = 0.1, the mark by which PSI has been read since credit scoring (0.1 moderate, 0.25 large). A large window makes tiny shifts
certain, a small one makes chance look large; neither alone is an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from paretune.errors import DataError
from paretune.records import Bools, Floats

CLUSTERS = 256  # of users, in which a window keeps its counts; a standard error is then right to 1 / sqrt(512), 4 %
MODERATE = 0.1
SMOOTHING = 0.5  # of a row in every bin, so that an empty one does not make the index infinite (Jeffreys)
RAREST = 20.0  # rows of both windows together; bins with fewer are counted as one


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a distribution moved between two windows."""

    psi: float
    noise: float  # mean of the index were nothing different
    p_value: float
    reference: Floats  # (B,) shares, as given; NaN where the window holds nothing
    current: Floats  # (B,)

    @property
    def excess(self) -> float:
        """PSI beyond its noise, at least 0."""
        return max(0.0, self.psi - self.noise)


def stability_index(reference: Floats, current: Floats) -> float:
    """Return PSI of two distributions.

    Args:
        reference: (B,) positive shares.
        current: (B,) positive shares.
    """
    return float(np.sum((current - reference) * np.log(current / reference)))


def shift_between(reference: Floats, current: Floats) -> Shift:
    """Return how far a distribution moved.

    Args:
        reference: (C, B) counts per cluster of users and bin, >= 0.
        current: (C, B) counts of the same clusters and bins.

    Returns:
        The shift; of index 0 and p-value 1 where a window is empty, or all rows are in one bin.

    Raises:
        DataError: the shapes differ.
    """
    if reference.shape != current.shape or reference.ndim != 2:
        raise DataError(
            f"counts of shapes {reference.shape} and {current.shape} have no common bins", hint="count both windows in the reference's bins"
        )
    before, now = reference.sum(axis=0), current.sum(axis=0)
    with np.errstate(invalid="ignore"):
        shares = before / before.sum(), now / now.sum()
    old, new = _without_rare(reference, current, before + now)
    bins = old.shape[1]
    if bins < 2 or before.sum() <= 0 or now.sum() <= 0:
        return Shift(0.0, 0.0, 1.0, *shares)
    p, q = (_smoothed(counts.sum(axis=0)) for counts in (old, new))
    pooled = _smoothed(old.sum(axis=0) + new.sum(axis=0))
    psi = stability_index(p, q)
    noise, p_value = chance_of_square(psi, (_influence(new) - _influence(old)) / np.sqrt(pooled))
    return Shift(psi, noise, p_value, *shares)


def chance_of_square(square: float, influence: Floats) -> tuple[float, float]:
    """Return what chance makes of a sum of squared differences: its mean, and the p-value of what was seen.

    Args:
        square: sum_b d_b^2 as seen.
        influence: (C, B) what each cluster of users adds to d; its covariance is that of d where there is no difference.
    """
    occupied = int((influence != 0).any(axis=1).sum())
    covariance = influence.T @ influence * occupied / max(1, occupied - 1)
    trace, squares = float(np.trace(covariance)), float(np.square(covariance).sum())
    if trace <= 0:
        return 0.0, 1.0 if square == 0 else 0.0
    return trace, float(chi2.sf(square * trace / squares, trace**2 / squares))


def discoveries(p_values: Floats, *, level: float) -> Bools:
    """Mark the p-values (n,) that are discoveries: Benjamini-Hochberg, false ones among them `level` on average.

    Where nothing moved at all, the chance of any discovery is at most `level`.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= level * np.arange(1, len(p) + 1) / max(1, len(p)))
    found = np.zeros(len(p), dtype=np.bool_)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found


def _without_rare(reference: Floats, current: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Return the counts with empty bins dropped and rare ones counted as one."""
    rare = total < RAREST
    merged = [np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)]) for counts in (reference, current)]
    if not total[rare].sum():
        merged = [counts[:, :-1] for counts in merged]
    return merged[0].astype(np.float64), merged[1].astype(np.float64)


def _smoothed(counts: Floats) -> Floats:
    return (counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts))


def _influence(counts: Floats) -> Floats:
    """Return what each cluster adds to the error of the shares (C, B)."""
    total = counts.sum()
    return (counts - counts.sum(axis=1, keepdims=True) * (counts.sum(axis=0) / total)) / total
