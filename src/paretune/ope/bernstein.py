"""Bounds for guardrails that do not lean on the normal approximation: empirical Bernstein over clusters of users.

For n independent terms of mean E[X], sample variance V and range R, with probability at least 1 - delta (Maurer, Pontil 2009, theorem 4):

    mean(X) - E[X] <= sqrt(2 V log(2 / delta) / n) + 7 R log(2 / delta) / (3 (n - 1))

The terms are the clusters' influence on an estimate, X_c = n psi_c, so V / n is the clustered variance and R = n (max psi - min psi). The
rule: it is always wider than the normal interval, and widest where few users carry the evidence; that is what one wants of a floor that
must not be broken. A range known beforehand makes it a theorem for means; of the influence of a ratio the range that was seen is used,
since the one that rewards in [0, 1] and weights up to 1 / mu would allow says nothing below hundreds of millions of rows.
"""

from __future__ import annotations

import numpy as np

from paretune.errors import DataError
from paretune.ope.intervals import clustered_std_error, occupied
from paretune.records import Floats


def bernstein_half_width(influence: Floats, *, confidence: float, statements: int = 1, span: Floats | float | None = None) -> Floats:
    """Return how far below its estimate a value may lie, one-sided.

    Args:
        influence: (C, ...) per cluster of users, summing to zero; NaN without an estimate.
        confidence: in (0, 1), that all statements hold at once.
        statements: how many bounds are read off together (Bonferroni).
        span: largest difference between two clusters' influence, known beforehand; by default the one that was seen.

    Returns:
        (...) half-widths, >= 0, NaN where the influence is.

    Raises:
        DataError: fewer than two clusters hold rows, or confidence and statements make no sense.
    """
    if not 0 < confidence < 1 or statements < 1:
        raise DataError(f"{statements} statements at confidence {confidence}", hint="give a confidence in (0, 1) for one statement or more")
    error, clusters = clustered_std_error(influence), occupied(influence)
    doubt = np.log(2 * statements / (1 - confidence))
    seen = np.ptp(influence, axis=0) if span is None else np.asarray(span)
    return np.sqrt(2 * doubt) * error + 7 / 3 * doubt * seen * clusters / (clusters - 1)
