"""Relative lifts of arms over the control arm, from moments: ratios of sums, the delta method, CUPED, all on the log scale.

    V = sum y / sum x,    psi_i = (y_i - V x_i) / sum y,    l = log V_arm - log V_control,    var(l) = sum_i (psi_i,arm - psi_i,control)^2

CUPED subtracts from V what the same ratio before the test explains, theta = cov(V, before) / var(before) over all arms together:

    V' = V - theta (B - B_all),    psi'_i = (y_i - V x_i) / sum x - theta (b_i - B c_i) / sum c        (then / V')

The rule: the denominator's randomness is always in the error; users are independent, requests are not; a lift without a positive value of
both arms is NaN, never 0. Sources: Deng, Knoblich and Lu (2018) for ratios; Deng, Xu, Kohavi and Walker (2013) for CUPED; intervals on the
log scale stay above -100 % and are the same whichever arm is called control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from paretune.errors import DataError
from paretune.experiment.moments import Moments
from paretune.records import Floats


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric as a ratio of two columns of the moments."""

    name: str
    numerator: int
    denominator: int
    before: tuple[int, int] | None = None  # columns of the same ratio before the test; None = no adjustment


@dataclass(frozen=True, slots=True)
class ArmValues:
    """What each arm is worth in each metric, and how the errors of all of them vary together."""

    users: Floats  # (..., A)
    value: Floats  # (..., A, M), adjusted where the metric has a `before`
    raw: Floats  # (..., A, M), not adjusted
    covariance: Floats  # (..., A, M, A, M) of the logs of the values
    explained: Floats  # (..., M) share of the variance that the time before the test explains; 0 without


@dataclass(frozen=True, slots=True)
class Lifts:
    """Lifts of A arms over the control in M metrics, on the log scale."""

    log_ratio: Floats  # (..., A, M)
    std_error: Floats  # (..., A, M) of the log ratio
    degrees: Floats  # (..., A, M) of freedom, Welch's
    covariance: Floats  # (..., A, M, A, M)

    @property
    def lift(self) -> Floats:
        """(..., A, M) relative lifts, as fractions."""
        return np.expm1(self.log_ratio)

    def ends(self, critical: Floats | float) -> tuple[Floats, Floats]:
        """Return the lifts at so many standard errors below and above the estimate, each (..., A, M)."""
        half = critical * self.std_error
        return np.expm1(self.log_ratio - half), np.expm1(self.log_ratio + half)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Return the interval of each lift alone, by Student's t."""
        return self.ends(stdtrit(self.degrees, 0.5 + confidence / 2))

    @property
    def p_value(self) -> Floats:
        """(..., A, M) two-sided, of no lift, each alone."""
        return 2 * stdtr(self.degrees, -np.abs(self.log_ratio) / self.std_error)


def arm_values(moments: Moments, metrics: Sequence[Ratio]) -> ArmValues:
    """Return the value of every arm and metric with their joint error; NaN where an arm has fewer than two users or earned nothing.

    Args:
        moments: of A arms and K columns.
        metrics: (M,) ratios of columns.

    Raises:
        DataError: a metric names a column that is not there.
    """
    size, arms = moments.total.shape[-1], moments.arms
    named = [c for m in metrics for c in (m.numerator, m.denominator, *(m.before or ()))]
    if any(not 0 <= c < size for c in named):
        raise DataError(f"metrics name columns {sorted(set(named))} of {size}", hint="name columns of the moments")
    y, x = ([getattr(m, part) for m in metrics] for part in ("numerator", "denominator"))
    above, below = moments.total[..., y], moments.total[..., x]
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = above / below  # (..., A, M)
        plain = _gradient(raw, below, y, x, size)  # (..., A, M, K): psi_i of the value, linear in what the user did
        value, gradient, explained = _adjusted(moments, metrics, raw, plain)
        known = (value > 0) & (moments.users[..., None] >= 2)
        value = np.where(known, value, np.nan)
        gradient = gradient / value[..., None]
        covariance = np.einsum("...amk,...akbl,...bnl->...ambn", gradient, moments.product, gradient, optimize=True)
        factor = moments.users / (moments.users - 1)  # Bessel's
        factor = np.sqrt(factor[..., :, None] * factor[..., None, :])
    covariance = covariance * factor[..., :, None, :, None]
    return ArmValues(moments.users, value, raw, covariance.reshape(*value.shape[:-2], arms, len(metrics), arms, len(metrics)), explained)


def lifts_over(values: ArmValues, control: int) -> Lifts:
    """Return the lifts of all other arms over one.

    Args:
        values: of A + 1 arms.
        control: index of the arm to compare with.
    """
    others = [a for a in range(values.value.shape[-2]) if a != control]
    log = np.log(values.value)

    def block(rows: list[int], columns: list[int]) -> Floats:
        return np.take(np.take(values.covariance, rows, axis=-4), columns, axis=-2)

    covariance = block(others, others) - block(others, [control]) - block([control], others) + block([control], [control])
    variance = np.einsum("...amam->...am", covariance)
    mine = np.einsum("...amam->...am", values.covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = mine**2 / (values.users[..., None] - 1)
        degrees = variance**2 / (share[..., others, :] + share[..., [control], :])
        error = np.sqrt(np.where(variance > 0, variance, np.nan))
    return Lifts(log[..., others, :] - log[..., [control], :], error, degrees, covariance)


def _gradient(ratio: Floats, below: Floats, y: Sequence[int], x: Sequence[int], size: int) -> Floats:
    gradient = np.zeros((*ratio.shape, size))
    for m in range(len(y)):
        gradient[..., m, y[m]] += 1 / below[..., m]
        gradient[..., m, x[m]] -= ratio[..., m] / below[..., m]
    return gradient


def _adjusted(moments: Moments, metrics: Sequence[Ratio], raw: Floats, plain: Floats) -> tuple[Floats, Floats, Floats]:
    """Return values, gradients and shares explained after CUPED, which leaves metrics without a `before` as they are."""
    value, gradient = raw.copy(), plain.copy()
    explained = np.zeros((*raw.shape[:-2], len(metrics)))
    n = moments.users.sum(axis=-1)
    together = moments.total.sum(axis=-2)  # (..., K) of all arms
    product = np.einsum("...akal->...kl", moments.product)
    size = moments.total.shape[-1]
    for m, metric in enumerate(metrics):
        if metric.before is None:
            continue
        (b, c), y, x = metric.before, metric.numerator, metric.denominator
        ratio_all, before_all = together[..., y] / together[..., x], together[..., b] / together[..., c]
        g = _gradient(ratio_all[..., None], together[..., [x]], [y], [x], size)[..., 0, :]
        h = _gradient(before_all[..., None], together[..., [c]], [b], [c], size)[..., 0, :]
        spread = np.einsum("...k,...kl,...l->...", h, product, h)
        common = np.einsum("...k,...kl,...l->...", g, product, h)
        own = np.einsum("...k,...kl,...l->...", g, product, g)
        usable = (n > 2) & (spread > 0) & (moments.total[..., c] > 0).all(axis=-1)
        theta = np.where(usable, common / np.where(usable, spread, 1), 0.0)
        before = moments.total[..., b] / np.where(moments.total[..., c] > 0, moments.total[..., c], np.nan)  # (..., A)
        shift = np.where(usable[..., None], theta[..., None] * (before - before_all[..., None]), 0.0)
        value[..., m] = raw[..., m] - shift
        mine = _gradient(before[..., None], moments.total[..., [c]], [b], [c], size)[..., 0, :]
        gradient[..., m, :] -= np.where(usable[..., None, None], theta[..., None, None] * mine, 0.0)
        explained[..., m] = np.where(usable & (own > 0), common**2 / np.where(usable & (own > 0), spread * own, 1), 0.0)
    return value, gradient, explained
