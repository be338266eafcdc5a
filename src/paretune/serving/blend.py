"""The blending step of a ranker: utility and top-k (Eq. 1 of the paper), for one request whose head scores are there.

    u(x) = sum_i w_i h_i(x);   the k items of highest utility, ties in candidate order

The reference for rankers in any language: `surface.lists` does the same for whole logs.
"""

from __future__ import annotations

import numpy as np

from paretune.errors import DataError
from paretune.records import Floats, Ints


def blend(scores: Floats, weights: Floats, k: int) -> Ints:
    """Return the candidates to serve, best first: positions (min(k, C),) int64.

    The order is that of a stable sort of all utilities, without sorting more than the k best.

    Args:
        scores: (C, m) head scores.
        weights: (m,) of the decision.
        k: items to serve, >= 1.

    Raises:
        DataError: shapes do not fit, or a utility is NaN.
    """
    if scores.ndim != 2 or weights.shape != (scores.shape[1],) or k < 1:
        raise DataError(
            f"scores of shape {scores.shape} and weights of shape {weights.shape} for k = {k}", hint="give (C, m), (m,) and k >= 1"
        )
    cost = scores @ np.negative(weights)
    n = len(cost)
    if k >= n:
        order = np.argsort(cost, kind="stable")
    else:
        worst = np.partition(cost, k - 1)[k - 1]
        within = np.flatnonzero(cost <= worst)  # in candidate order; more than k where utilities tie
        order = within[np.argsort(cost[within], kind="stable")[:k]]
    missing = np.isnan(cost)
    if missing.any():
        raise DataError(f"the utility of candidate {missing.argmax()} is NaN", hint="a head's score is missing; leave the candidate out")
    return order
