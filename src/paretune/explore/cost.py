"""What designs of exploration would cost production, from logged rewards; sums per bucket of users, with `+`.

    cost_j(mu) = V_j(mu) / V_j(production) - 1,    V(mu) = sum_E (mu / mu_0) r / sum_E (mu / mu_0)

with mu_0 the logged propensity. The rule: the answer is the log's (SNIPS), never what a model predicts for the policies it chose. Rows must
be later than those the family was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.explore.rates import Cost
from paretune.ope.clusters import BUCKETS, Bag, bucket_sums, user_buckets
from paretune.ope.estimators import check_propensity, ratio_of_sums
from paretune.ope.intervals import clustered_std_error
from paretune.records import Floats, Log


@dataclass(frozen=True, slots=True)
class DesignSums(Bag):
    """Weighted rewards of exploration rows under D designs, and rewards of production rows."""

    produced: Floats  # (C,)
    reward: Floats  # (C, M)
    weight: Floats  # (C, D) sum of mu / mu_0
    weighted: Floats  # (C, D, M) sum of weight x reward

    def costs(self) -> Cost | None:
        """Return what each design costs (D, M); None where production or exploration rows are missing."""
        if not (self.produced.sum() > 0 and (self.weight.sum(axis=0) > 0).all()):
            return None
        base, psi_base = ratio_of_sums(self.reward, self.produced[:, None])
        base = np.where(base == 0, np.nan, base)
        value, psi = ratio_of_sums(self.weighted, self.weight[:, :, None])
        relative = value / base
        return Cost(relative - 1, clustered_std_error((psi - relative * psi_base[:, None]) / base))


def explored_designs(log: Log, designs: Floats) -> DesignSums:
    """Return the sums of a batch of exploration rows that lie on the grid.

    Args:
        log: n rows.
        designs: (n, D) probability with which each design would show the logged action.

    Raises:
        DataError: shapes disagree, or a logged propensity is outside (0, 1].
    """
    if designs.shape[:1] != (len(log),) or designs.ndim != 2:
        raise DataError(f"designs have shape {designs.shape} for {len(log)} rows", hint="give one probability per row and design")
    check_propensity(log.propensity)
    bucket, weight = user_buckets(log.user), designs / log.propensity[:, None]
    nothing = np.zeros((BUCKETS, log.rewards.shape[1]))
    return DesignSums(
        np.zeros(BUCKETS),
        nothing,
        bucket_sums(weight, bucket, clusters=BUCKETS),
        bucket_sums(weight[:, :, None] * log.rewards[:, None], bucket, clusters=BUCKETS),
    )


def produced_designs(log: Log, designs: int) -> DesignSums:
    """Return the sums of a batch of production rows, beside those of that many designs."""
    bucket, objectives = user_buckets(log.user), log.rewards.shape[1]
    return DesignSums(
        bucket_sums(np.ones(len(log)), bucket, clusters=BUCKETS),
        bucket_sums(log.rewards, bucket, clusters=BUCKETS),
        np.zeros((BUCKETS, designs)),
        np.zeros((BUCKETS, designs, objectives)),
    )
