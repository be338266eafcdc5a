"""The Poisson bootstrap: whole estimators computed again on resampled users, on as many machines as hold their rows.

The rule: the weight of a bucket of users in a replicate is Poisson(1), drawn from a hash of bucket and replicate alone, so machines that
hold different rows of the same users agree on it without talking, and their replicates of the sums add up. An estimator is evaluated on
each replicate's sums, so the denominators of its ratios vary with the numerators. Source: Chamandy, Muralidharan, Najmi and Naidu (2012),
*Estimating uncertainty for massive data streams*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from paretune.errors import NoOverlapError
from paretune.logs.hashing import mixed, poisson_draws
from paretune.ope.clusters import Bag
from paretune.ope.estimators import Estimate
from paretune.records import Floats, Ints

Sums = TypeVar("Sums", bound=Bag)


def poisson_weights(clusters: int, replicates: Ints, *, salt: int = 0) -> Floats:
    """Return (B, C) how often each bucket of users counts in each replicate.

    Args:
        clusters: C, buckets of users.
        replicates: (B,) numbers of the replicates; the same number gives the same weights everywhere.
        salt: another one gives another bootstrap.
    """
    bucket = mixed(np.arange(clusters, dtype=np.uint64) + np.uint64(salt) * np.uint64(2**32))
    drawn = mixed(bucket ^ mixed(np.asarray(replicates, dtype=np.uint64))[:, None])
    return poisson_draws(drawn).astype(np.float64)


def replicate_sums(sums: Sums, weights: Floats) -> Sums:
    """Return the totals of each replicate, in place of the clusters; those of two logs add up.

    Args:
        sums: over C clusters.
        weights: (B, C) of `poisson_weights`.

    Returns:
        A bag whose first axis is the replicate.
    """
    return sums._each(lambda mine: replicate_sums(mine, weights) if isinstance(mine, Bag) else np.tensordot(weights, mine, axes=1))


def poisson_bootstrap(totals: Sums, estimator: Callable[[Sums], Estimate]) -> Floats:
    """Return the estimator's value on every replicate.

    Args:
        totals: of `replicate_sums`, merged over all logs and machines.
        estimator: from sums to an estimate.

    Returns:
        (B, P, M), NaN where a replicate has no overlap.

    Raises:
        NoOverlapError: no replicate has any.
    """
    found: list[Floats | None] = []
    refused: NoOverlapError | None = None
    for b in range(totals.n_clusters):
        try:
            found.append(estimator(totals.of_clusters(slice(b, b + 1))).value)
        except NoOverlapError as error:
            found.append(None)
            refused = error
    shape = next((value.shape for value in found if value is not None), None)
    if shape is None:
        raise refused or NoOverlapError("there is no replicate", hint="ask for at least one")
    return np.stack([np.full(shape, np.nan) if value is None else value for value in found])
