"""Intervals from influence values: clustered standard errors, pointwise intervals, and max-t bands by a multiplier bootstrap over users.

The rule: one multiplier per cluster of users, shared by all policies and objectives, so that the correlation of neighbouring policies makes
the bands narrower by itself. Multipliers are standard normal: the draws then have exactly the clustered covariance, which is all that a
symmetric band uses, and a cluster already sums hundreds of rows. Exponential multipliers would add the third moment, which matters to
one-sided intervals only. Source: Chernozhukov, Chetverikov and Kato (2013); Montiel Olea and Plagborg-Møller (2019) for the sup-t band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from paretune.errors import DataError
from paretune.ope.estimators import Estimate
from paretune.records import Floats

DRAWS_PER_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Intervals:
    """What the data leave open about an estimate."""

    std_error: Floats  # (P, M), clustered by user
    low: Floats  # (P, M) pointwise
    high: Floats  # (P, M)
    band_low: Floats  # (P, M) simultaneous over all P x M numbers
    band_high: Floats  # (P, M)
    replicates: Floats  # (B, P, M) float32 draws around the estimate


def occupied(influence: Floats) -> int:
    """Return the number of clusters that hold any row."""
    finite = np.nan_to_num(influence).reshape(len(influence), -1)
    return int((finite != 0).any(axis=1).sum())


def clustered_std_error(influence: Floats) -> Floats:
    """Return sqrt(C / (C - 1) sum psi^2) over the C occupied clusters.

    Args:
        influence: (C, ...) per cluster of users, summing to zero.

    Raises:
        DataError: fewer than two clusters hold rows.
    """
    return np.sqrt(_correction(influence) * np.square(influence).sum(axis=0))


def clustered_covariance(influence: Floats) -> Floats:
    """Return C / (C - 1) psi' psi, the covariance (d, d) of d estimates over the C occupied clusters.

    Args:
        influence: (C, d) per cluster of users, summing to zero.

    Raises:
        DataError: fewer than two clusters hold rows.
    """
    return _correction(influence) * (influence.T @ influence)


def multiplier_draws(influence: Floats, *, replicates: int, rng: np.random.Generator) -> Floats:
    """Return draws of the estimation error: sum over clusters of multiplier x influence.

    Args:
        influence: (C, P, M).
        replicates: B.
        rng: source of the multipliers.

    Returns:
        (B, P, M) float32, NaN where the influence is.

    Raises:
        DataError: fewer than two clusters hold rows.
    """
    flat = influence.reshape(len(influence), -1) * np.sqrt(_correction(influence))
    draws = [
        (rng.standard_normal((min(DRAWS_PER_CHUNK, replicates - start), len(flat))) @ flat).astype(np.float32)
        for start in range(0, replicates, DRAWS_PER_CHUNK)
    ]
    return np.concatenate(draws).reshape(replicates, *influence.shape[1:])


def sup_t_quantile(draws: Floats, std_error: Floats, *, confidence: float) -> float:
    """Return the quantile of the largest |t| over all numbers that have an estimate.

    Args:
        draws: (B, P, M) of the estimation error.
        std_error: (P, M).
        confidence: of the simultaneous statement, in (0, 1).
    """
    known = np.isfinite(std_error) & (std_error > 0)
    if not known.any():
        return float("nan")
    largest = (np.abs(draws[:, known]) / std_error[known]).max(axis=1)
    return float(np.quantile(largest, confidence))


def intervals(estimate: Estimate, *, confidence: float, replicates: int, rng: np.random.Generator) -> Intervals:
    """Return standard errors, pointwise intervals, bands and bootstrap draws of an estimate.

    Args:
        estimate: of P policies on M objectives.
        confidence: in (0, 1), of each interval, and of all bands together.
        replicates: B bootstrap draws.
        rng: source of the multipliers.

    Raises:
        DataError: fewer than two clusters of users hold rows.
    """
    error = clustered_std_error(estimate.influence)
    draws = multiplier_draws(estimate.influence, replicates=replicates, rng=rng)
    point = stdtrit(occupied(estimate.influence) - 1, 0.5 + confidence / 2)
    band = np.fmax(point, sup_t_quantile(draws, error, confidence=confidence))
    value = estimate.value
    return Intervals(
        error,
        value - point * error,
        value + point * error,
        value - band * error,
        value + band * error,
        draws + value.astype(np.float32),
    )


def _correction(influence: Floats) -> float:
    clusters = occupied(influence)
    if clusters < 2:
        raise DataError(f"rows of {clusters} user(s) only: nothing can be said of the uncertainty", hint="evaluate on more users")
    return clusters / (clusters - 1)
