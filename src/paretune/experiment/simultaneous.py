"""How wide intervals must be to hold for all arms and metrics at once: the largest |t| of correlated numbers.

    c = quantile of max_k |Z_k|,    Z ~ N(0, R),    R the correlation of the lifts

The rule: the quantile is drawn once with a fixed seed, and its own error is put on the safe side; each number then gets the Student
quantile with the same tail, so that few users widen what few users carry. Never narrower than a number alone, never wider than Bonferroni.
Source: Hothorn, Bretz and Westfall (2008), *Simultaneous inference in general parametric models*.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from paretune.experiment.lifts import Lifts
from paretune.records import Floats
from paretune.seeds import stream

DRAWS = 20_000
SAFE = 2.0  # standard errors of the drawn level


def together(lifts: Lifts, *, confidence: float) -> Floats:
    """Return (A, M) how many standard errors wide each band is to each side, so that all hold at once; NaN where there is no lift.

    Args:
        lifts: of A arms and M metrics, no leading axes.
        confidence: of the simultaneous statement, in (0, 1).
    """
    known = np.isfinite(lifts.std_error) & np.isfinite(lifts.log_ratio)
    if not known.any():
        return np.full(known.shape, np.nan)
    flat = np.flatnonzero(known)
    size = known.size
    covariance = lifts.covariance.reshape(size, size)[np.ix_(flat, flat)]
    tail = tail_of_largest(covariance, confidence=confidence)
    return np.where(known, stdtrit(lifts.degrees, 1 - tail / 2), np.nan)


def tail_of_largest(covariance: Floats, *, confidence: float) -> float:
    """Return the two-sided tail probability that each of correlated normal numbers may have, so that all are inside at once.

    Args:
        covariance: (d, d).
        confidence: in (0, 1).
    """
    d, alpha = len(covariance), 1 - confidence
    error = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(error, error))
    root = vectors * np.sqrt(np.maximum(values, 0))
    largest = np.abs(stream(0, "largest of correlated").standard_normal((DRAWS, d)) @ root.T).max(axis=1)
    level = min(confidence + SAFE * np.sqrt(confidence * alpha / DRAWS), 1 - 1 / DRAWS)
    quantile = np.clip(np.quantile(largest, level), -ndtri(alpha / 2), -ndtri(alpha / (2 * d)))
    return float(2 * ndtr(-quantile))
