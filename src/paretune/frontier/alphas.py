"""A whole alpha family evaluated from intervals: sums per bucket of users, without choosing for any policy.

Of two objectives, a row is a hit of exactly those policies whose alpha lies in the interval in which its logged action is the best one. In
a sorted grid these are neighbours, so two updates of a difference array stand for all of them.

The rule: the sums are those of `explored_sums` with the policies' hits, up to trade-offs at which two actions tie to the last digit.
"""

from __future__ import annotations

import numpy as np

from paretune.errors import DataError
from paretune.frontier.hull import optimal_interval
from paretune.ope.clusters import BUCKETS, check_rows
from paretune.ope.estimators import PolicySums, check_propensity
from paretune.ope.lift import ExploredSums
from paretune.records import Floats, Ints


def alpha_sums(
    values: Floats,
    action: Ints,
    *,
    alphas: Floats,
    propensity: Floats,
    rewards: Floats,
    cluster: Ints,
    clusters: int = BUCKETS,
    expected: Floats | None = None,
) -> ExploredSums:
    """Return the sums of one batch of exploration rows for every policy argmax_a [alpha v_1 + (1 - alpha) v_2].

    Args:
        values: (n, K, 2) finite, relative-lift units, of the actions that may be chosen.
        action: (n,) logged action in [0, K).
        alphas: (P,) increasing, in [0, 1].
        propensity: (n,) in (0, 1].
        rewards: (n, M) finite.
        cluster: (n,) from `user_buckets`.
        clusters: C.
        expected: m(s) (n, M), fitted on other rows; zero where not given.

    Raises:
        DataError: alphas do not increase within [0, 1], shapes disagree, a number is not finite, or a propensity is outside (0, 1].
    """
    alphas = np.asarray(alphas, dtype=np.float64)
    if not (len(alphas) and (np.diff(alphas) > 0).all() and alphas[0] >= 0 and alphas[-1] <= 1):
        raise DataError("alphas do not increase within [0, 1]", hint="give them sorted and once each, e.g. `alpha_grid(25)`")
    check_rows(rewards, propensity, cluster, action)
    check_propensity(propensity)
    low, high = optimal_interval(values, action)
    hit = np.flatnonzero(np.isfinite(low))
    enters = np.searchsorted(alphas, low[hit])
    leaves = np.where(high[hit] < 1, np.searchsorted(alphas, high[hit]), len(alphas))
    some = enters < leaves
    hit, enters, leaves = hit[some], enters[some], leaves[some]
    row = cluster[hit].astype(np.int64) * (len(alphas) + 1)
    shape = (clusters, len(alphas) + 1)

    def total(column: Floats | None) -> Floats:
        step = [np.bincount(row + at, column, clusters * shape[1]).reshape(shape) for at in (enters, leaves)]
        return np.cumsum(step[0] - step[1], axis=1)[:, :-1]

    weight, reward = 1.0 / propensity[hit], rewards[hit].astype(np.float64)
    residual = reward if expected is None else reward - expected[hit]
    hits, weights = total(None), total(weight)
    earned, weighted = (np.stack([total(c) for c in columns.T], axis=2) for columns in (reward, weight[:, None] * reward))
    left = weighted if expected is None else np.stack([total(c) for c in (weight[:, None] * residual).T], axis=2)
    rows = np.bincount(cluster, minlength=clusters).astype(np.float64)
    return ExploredSums(PolicySums(rows, hits, weights, earned, weighted, total(np.square(weight))), left, np.zeros((clusters, 1, 1)))
