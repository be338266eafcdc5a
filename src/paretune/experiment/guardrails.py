"""Guardrails of a policy that is served: what must not fall, rise, fail or be late, watched at every look.

    relative: log V_arm - log V_control + c s < log(1 - margin)    an objective has truly fallen by more than its margin
    absolute: log V_arm - c s > log(limit)                         requests truly fall back, or are late, more often than they may

The rule: c is that of a confidence sequence (`sequences`), so that looking as often as one likes costs nothing; the guardrails share alpha,
and so do the sequences that begin with every step of a ramp and with every day: each of the first H gets alpha / 2H, the j-th after them
alpha / 2 x 6 / (pi j)^2. Within a step shares do not change, so that arms are compared over the same time. Where users or events are few
nothing is said, and nothing is breached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from paretune.errors import DataError
from paretune.experiment.lifts import Ratio, arm_values, lifts_over
from paretune.experiment.metrics import Metric
from paretune.experiment.moments import Moments
from paretune.experiment.sequences import FEWEST_USERS, critical, tells

_ALONE = 1.645  # standard errors: 95 %, one-sided
BREACHED, HOLDS, WORRIES, OPEN = "breached", "holds", "worries", "open"


@dataclass(frozen=True, slots=True)
class Limit:
    """A share of requests that may not be exceeded."""

    name: str
    ratio: Ratio
    largest: float  # in (0, 1]


@dataclass(frozen=True, slots=True)
class Watched:
    """One guardrail at one look."""

    name: str
    value: float  # relative lift over the control, or the share itself; NaN where nothing can be said
    low: float  # of the sequence
    high: float
    limit: float  # that must not be passed: a relative lift, or a share
    state: str  # BREACHED; WORRIES where this look alone would say so (one-sided, 95 %); HOLDS; or OPEN where too little was seen

    @property
    def sentence(self) -> str:
        """What is seen, in words."""
        if not np.isfinite(self.value):
            return f"{self.name}: too little was seen"
        numbers = f"{100 * self.value:+.2f} % ({100 * self.low:+.2f} … {100 * self.high:+.2f})".replace("-", "−")
        return f"{self.name}: {numbers}, limit {100 * self.limit:+.3g} %".replace("-", "−")


@dataclass(frozen=True, slots=True)
class Spending:
    """How the sequences of one guardrail share its alpha: they are counted by the days and steps of the ramp that went before."""

    alpha: float
    offset: int  # to add to a day, so that the first sequence of the ramp is number 1
    horizon: int

    def on(self, day: int) -> float:
        """Return the part of the sequence that begins on a day."""
        return alpha_of_sequence(self.alpha, max(1, int(day) + self.offset), horizon=self.horizon)


def alpha_of_sequence(alpha: float, number: int, *, horizon: int) -> float:
    """Return the part of alpha that the j-th sequence of a ramp gets; all sequences together get alpha, however many begin.

    Args:
        alpha: of the whole ramp, in (0, 1).
        number: j, from 1, in the order in which sequences begin.
        horizon: H, about how many will begin.

    Raises:
        DataError: a number is out of range.
    """
    if not 0 < alpha < 1 or number < 1 or horizon < 1:
        raise DataError(
            f"sequence {number} of about {horizon} at level {alpha:g}", hint="count sequences from 1; give a level such as 0.05"
        )
    return alpha / (2 * horizon) if number <= horizon else alpha / 2 * 6 / (pi * (number - horizon)) ** 2


def watch_lifts(moments: Moments, metrics: Sequence[Metric], *, alpha: float, planned_users: float) -> tuple[Watched, ...]:
    """Return the state of every metric of an arm against its control.

    Args:
        moments: of two arms since the step began, the control first.
        metrics: (M,) with the margins that may be lost.
        alpha: of each metric's sequence.
        planned_users: of both arms, at which the sequences are narrowest.

    Raises:
        DataError: there are not two arms.
    """
    if moments.arms != 2:
        raise DataError(f"{moments.arms} arms to watch", hint="compare the arm with its control")
    values = arm_values(moments, [metric.ratio for metric in metrics])
    lifts = lifts_over(values, 0)
    users = moments.users
    telling = tells(lifts.std_error[None], users.min(keepdims=True))[0, 0]
    wide = _critical(lifts.std_error[0], users=float(users.sum()), planned_users=planned_users, alpha=alpha)
    low, high = lifts.ends(wide)
    return tuple(
        _watched(
            metric.name,
            float(lifts.lift[0, m]),
            float(low[0, m]),
            float(high[0, m]),
            limit=-metric.sign * metric.margin,
            worse=-metric.sign,
            telling=bool(telling[m]),
            alone=tuple(np.expm1(lifts.log_ratio[0, m] + at * lifts.std_error[0, m]) for at in (-_ALONE, _ALONE)),
        )
        for m, metric in enumerate(metrics)
    )


def watch_shares(moments: Moments, limits: Sequence[Limit], *, alpha: float, planned_users: float) -> tuple[Watched, ...]:
    """Return the state of every share of an arm against its limit.

    Args:
        moments: of one arm since the step began.
        limits: (L,).
        alpha: of each share's sequence.
        planned_users: of the arm, at which the sequences are narrowest.

    Raises:
        DataError: there is not one arm.
    """
    if moments.arms != 1:
        raise DataError(f"{moments.arms} arms to watch", hint="give the arm alone")
    values = arm_values(moments, [limit.ratio for limit in limits])
    share = values.raw[0]
    error = np.sqrt(np.einsum("amam->am", values.covariance)[0])
    users = float(moments.users[0])
    wide = _critical(error, users=users, planned_users=planned_users, alpha=alpha)
    found = []
    for m, limit in enumerate(limits):
        if share[m] == 0 and users >= FEWEST_USERS:  # nothing of the kind was ever seen: no error can be estimated, and none is needed
            found.append(Watched(limit.name, 0.0, 0.0, 0.0, limit.largest, HOLDS))
            continue
        spread = np.exp(wide[m] * error[m])
        telling = bool(tells(error[None, m : m + 1], moments.users[:1])[0, 0])
        ends = float(share[m] / spread), float(share[m] * spread)
        alone = tuple(share[m] * np.exp(at * error[m]) for at in (-_ALONE, _ALONE))
        found.append(_watched(limit.name, float(share[m]), *ends, limit=limit.largest, worse=1, telling=telling, alone=alone))
    return tuple(found)


def worst_of(looks: Iterable[tuple[Watched, ...]]) -> tuple[Watched, ...]:
    """Return each guardrail as the whole step sees it, or as the first later beginning does that sees a breach."""
    by_name = zip(*looks, strict=True)
    return tuple(next((one for one in alike if one.state == BREACHED), alike[0]) for alike in by_name)


def _critical(error: np.ndarray, *, users: float, planned_users: float, alpha: float) -> np.ndarray:
    """Return the sequence's width in errors; time is counted in users, so that the planned end is fixed beforehand."""
    return critical(error, planned=error * sqrt(users / planned_users), alpha=alpha)


def _watched(
    name: str, value: float, low: float, high: float, *, limit: float, worse: int, telling: bool, alone: tuple[float, ...]
) -> Watched:
    """Return one guardrail's state.

    Args:
        name: of it.
        value: estimate.
        low: end of the sequence.
        high: end of the sequence.
        limit: that must not be passed.
        worse: +1 where more is worse, -1 where less is.
        telling: users and events are enough.
        alone: ends of the interval of this look alone.
    """
    if not telling:
        return Watched(name, value, low, high, limit, OPEN)
    best = 0 if worse > 0 else 1
    if worse * (low, high)[best] > worse * limit:
        return Watched(name, value, low, high, limit, BREACHED)
    return Watched(name, value, low, high, limit, WORRIES if worse * alone[best] > worse * limit else HOLDS)
