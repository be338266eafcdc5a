"""What a log says of planning: what production earns per request, and what exploring it costs; sums per bucket of users, with `+`.

    cost_j = V_j(uniform over the grid) / V_j(production) - 1,    V(uniform) = sum_E r / mu / sum_E 1 / mu

The rule: both values come from logged rewards, never from a model. Exploration rows are weighted by their propensity, so a log of any
design says what uniform exploration would cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import ConfigError, DataError
from paretune.ope.clusters import BUCKETS, Bag, bucket_sums, user_buckets
from paretune.ope.estimators import ratio_of_sums
from paretune.ope.intervals import clustered_std_error
from paretune.records import Floats, Log


@dataclass(frozen=True, slots=True)
class Rate:
    """What production earns of an objective per request."""

    objective: str
    mean: float
    relative_variance: float  # var(r) / mean^2

    @staticmethod
    def clipped(objective: str, share: float) -> Rate:
        """Return the rate of an objective that a share of requests earns, clipped to one event.

        Raises:
            ConfigError: the share is not inside (0, 1).
        """
        if not 0 < share < 1:
            raise ConfigError(f"a rate of {share:g} for {objective!r}", hint="give the share of requests with the event, between 0 and 1")
        return Rate(objective, share, (1 - share) / share)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one explored request earns, relative to production; fractions, negative is a loss where more is better."""

    relative: Floats  # (M,)
    std_error: Floats  # (M,), clustered by user


@dataclass(frozen=True, slots=True)
class TrafficSums(Bag):
    """Counts and moments of a log, per bucket of users (C)."""

    rows: Floats  # (C,) all rows
    produced: Floats  # (C,) rows under the static weights
    reward: Floats  # (C, M) of these
    square: Floats  # (C, M) squared rewards of these
    explored: Floats  # (C,) exploration rows on the grid
    weight: Floats  # (C,) their 1 / propensity
    weighted: Floats  # (C, M) weight x reward
    weighted_square: Floats  # (C, M) weight x reward^2

    @property
    def share(self) -> float:
        """Share of rows explored."""
        return float(self.explored.sum() / self.rows.sum())

    def rates(self, objectives: tuple[str, ...]) -> tuple[Rate, ...]:
        """Return what production earns; where no production row was logged, what uniform exploration earns.

        Args:
            objectives: names (M,).

        Raises:
            DataError: there are no such rows, or an objective earns nothing or always the same.
        """
        if self.produced.sum() > 0:
            rows, first, second = self.produced.sum(), self.reward, self.square
        else:
            rows, first, second = self.weight.sum(), self.weighted, self.weighted_square
        if not rows > 0:
            raise DataError("the log has neither production nor exploration rows", hint="name another log, or give --rates")
        mean = first.sum(axis=0) / rows
        variance = second.sum(axis=0) / rows - mean**2
        if idle := [name for name, m, v in zip(objectives, mean, variance, strict=True) if not (m > 0 and v > 0)]:
            raise DataError(f"objectives {idle} earn nothing, or always the same", hint="check their columns, or give --rates")
        return tuple(Rate(name, float(m), float(v / m**2)) for name, m, v in zip(objectives, mean, variance, strict=True))

    def cost(self) -> Cost | None:
        """Return what uniform exploration costs; None where production or exploration rows are missing."""
        if not (self.produced.sum() > 0 and self.weight.sum() > 0):
            return None
        base, psi_base = ratio_of_sums(self.reward, self.produced[:, None])
        value, psi = ratio_of_sums(self.weighted, self.weight[:, None])
        base = np.where(base == 0, np.nan, base)
        return Cost(value / base - 1, clustered_std_error((psi - value / base * psi_base) / base))


def traffic_sums(log: Log) -> TrafficSums:
    """Return the sums of a batch of rows of any kind."""

    def total(columns: Floats, rows: Log) -> Floats:
        return bucket_sums(columns, user_buckets(rows.user), clusters=BUCKETS)

    production, explored = log.production(), log.exploration()
    reward, other = production.rewards.astype(np.float64), explored.rewards.astype(np.float64)
    weight = 1.0 / explored.propensity
    return TrafficSums(
        total(np.ones(len(log)), log),
        total(np.ones(len(production)), production),
        total(reward, production),
        total(reward**2, production),
        total(np.ones(len(explored)), explored),
        total(weight, explored),
        total(weight[:, None] * other, explored),
        total(weight[:, None] * other**2, explored),
    )
