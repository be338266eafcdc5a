"""Non-dominated points, hypervolume, and how sure the data are of either. The rule: NaN is refused, never ranked."""

from __future__ import annotations

import moocore
import numpy as np

from paretune.errors import DataError
from paretune.records import Bools, Floats


def non_dominated(points: Floats) -> Bools:
    """Mark the points that no other point dominates; larger is better in every column.

    p dominates q when p >= q in every column and p > q in at least one. Equal points do not dominate each other.

    Args:
        points: (n, M), finite.

    Returns:
        (n,) mask.

    Raises:
        DataError: points is not 2-D, or holds NaN or infinity.
    """
    _check(points)
    kept = np.ones(len(points), dtype=np.bool_)
    for i, point in enumerate(points):
        kept[i] = not ((points >= point).all(axis=1) & (points > point).any(axis=1)).any()
    return kept


def hypervolume(points: Floats, *, reference: Floats) -> float:
    """Return the volume that the points dominate above a reference; larger is better in every column.

    Args:
        points: (n, M), finite; points below the reference in some column add nothing.
        reference: (M,) finite, e.g. zeros for production in relative-lift units.

    Raises:
        DataError: points or reference hold NaN or infinity, or their sizes disagree.
    """
    _check(points)
    reference = np.asarray(reference, dtype=np.float64)
    _check(reference[None])
    if points.shape[1] != len(reference):
        raise DataError(f"points have {points.shape[1]} columns, the reference {len(reference)}", hint="give one reference per objective")
    better = points[(points > reference).all(axis=1)].astype(np.float64)
    if len(better) == 0:
        return 0.0
    if len(reference) == 1:
        return float((better - reference).max())
    return float(moocore.hypervolume(better, ref=reference, maximise=True))


def probability_non_dominated(replicates: Floats) -> Floats:
    """Return how often each point is non-dominated over bootstrap draws.

    Args:
        replicates: (B, P, M) finite; larger is better.

    Returns:
        (P,) in [0, 1].

    Raises:
        DataError: replicates is not 3-D, or holds NaN or infinity.
    """
    if replicates.ndim != 3:
        raise DataError(f"replicates have shape {replicates.shape}, not (B, P, M)", hint="give the draws of `Lifts.replicates`")
    _check(replicates.reshape(-1, replicates.shape[2]))
    often = np.empty(replicates.shape[1])
    for i in range(replicates.shape[1]):
        point = replicates[:, i : i + 1]
        beaten = (replicates >= point).all(axis=2) & (replicates > point).any(axis=2)
        often[i] = 1 - np.logical_or.reduce(beaten, axis=1).mean()
    return often


def confidently_dominated(points: Floats, replicates: Floats, *, confidence: float) -> Bools:
    """Mark the points that another one beats in every objective, by simultaneous bands over the differences of all pairs.

    Neighbouring policies share most of their rows, so differences are known far better than the points themselves.

    Args:
        points: (P, M) finite estimates, larger is better.
        replicates: (B, P, M) finite draws around them.
        confidence: of all the differences together, in (0, 1).

    Returns:
        (P,) mask.

    Raises:
        DataError: shapes disagree, or a number is not finite.
    """
    _check(points)
    if replicates.ndim != 3 or replicates.shape[1:] != points.shape:
        raise DataError(f"replicates have shape {replicates.shape}, points {points.shape}", hint="give draws around the same points")
    _check(replicates.reshape(-1, replicates.shape[2]))
    size = len(points)
    centred = replicates - points.astype(replicates.dtype)
    largest = np.zeros(len(replicates))
    error = np.zeros((size, size, points.shape[1]))
    for q in range(size - 1):
        apart = centred[:, q + 1 :] - centred[:, q, None]
        spread = np.sqrt(np.square(apart).mean(axis=0))
        error[q, q + 1 :] = error[q + 1 :, q] = spread
        t = np.abs(apart) / np.where(spread > 0, spread, np.inf)
        largest = np.maximum(largest, t.max(axis=(1, 2)))
    margin = np.quantile(largest, confidence) * error
    better = points[:, None] - points > margin  # (q, p, M): q beats p; equal points never do
    return np.logical_or.reduce(np.logical_and.reduce(better, axis=2), axis=0)


def _check(points: Floats) -> None:
    if points.ndim != 2:
        raise DataError(f"points have shape {points.shape}, not (n, M)", hint="give one row per policy")
    if not np.isfinite(points).all():
        row = int(np.argwhere(~np.isfinite(points))[0, 0])
        raise DataError(f"points hold NaN or infinity (first in row {row})", hint="leave policies without an estimate out")
