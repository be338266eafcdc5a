"""The readout of a test with users: is the split as planned, what did each arm earn, and what may be said of it now.

The rule: the sample ratio comes first, and a split that is not the planned one is no verdict. Numbers of a fixed horizon hold once, on the
planned last day; before and after that day, and whenever somebody looks, the sequence speaks. Either kind holds for all compared arms and
metrics at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.experiment.lifts import Lifts, arm_values, lifts_over
from paretune.experiment.metrics import Metric
from paretune.experiment.moments import Moments
from paretune.experiment.power import detectable_lift, users_needed
from paretune.experiment.sample_ratio import SampleRatio
from paretune.experiment.sequences import critical, planned_error, tells, tightest
from paretune.experiment.simultaneous import together
from paretune.experiment.verdict import BLOCKED, CANNOT_TELL, OPEN, Verdict, verdict_of
from paretune.records import Floats

FIXED, WATCHED = "fixed horizon", "always valid"
MOST_MOVED = 0.01  # share of users whose arm changed, above which nothing is said


@dataclass(frozen=True, slots=True)
class Design:
    """How a test is read."""

    arms: tuple[str, ...]  # (A + 1,) of the moments that are compared, the control first
    planned_days: int  # the fixed horizon
    confidence: float = 0.95  # of all that is said, together
    smallest: float = 0.01  # relative lift worth having


@dataclass(frozen=True, slots=True)
class CohortLifts:
    """Lifts inside each cohort; bands hold for all cohorts, arms and metrics at once."""

    cohorts: tuple[str, ...]  # (C,)
    users: Floats  # (C, A + 1)
    lift: Floats  # (C, A, M)
    low: Floats  # (C, A, M)
    high: Floats  # (C, A, M)


@dataclass(frozen=True, slots=True)
class Readout:
    """What a test says; lifts are relative to the control arm, as fractions; minimised metrics keep their own direction."""

    arms: tuple[str, ...]  # (A,) compared
    control: str
    metrics: tuple[Metric, ...]  # (M,)
    ratio: SampleRatio
    users: Floats  # (A + 1,) control first
    value: Floats  # (A + 1, M), adjusted by what came before
    raw: Floats  # (A + 1, M)
    explained: Floats  # (M,) share of the variance that what came before explains
    lift: Floats  # (A, M)
    std_error: Floats  # (A, M) of the log ratio
    p_value: Floats  # (A, M) each alone
    low: Floats  # (A, M) each alone
    high: Floats  # (A, M)
    band_low: Floats  # (A, M) all at once, at the planned end
    band_high: Floats  # (A, M)
    days: tuple[int, ...]  # (T,) looks: until the end of each
    planned_days: int
    seen_lift: Floats  # (T, A, M) as each look saw it
    watched_low: Floats  # (T, A, M) all at once and at every look
    watched_high: Floats  # (T, A, M)
    detectable: Floats  # (A, M) lift seen with 80 % power by the bands
    needed: Floats  # (A, M) users in all for the smallest lift worth having, by the bands
    smallest: float
    confidence: float
    basis: str  # FIXED or WATCHED: which intervals the verdicts are read off
    blocked: str  # why nothing may be said; empty = it may
    verdicts: tuple[Verdict, ...]  # (A,)
    by_cohort: CohortLifts | None = None

    @property
    def told(self) -> bool:
        """Whether something is said of at least one arm."""
        return any(verdict.answer not in {CANNOT_TELL, BLOCKED} for verdict in self.verdicts)


def read_out(
    looks: Moments,
    metrics: Sequence[Metric],
    design: Design,
    *,
    days: Sequence[int],
    ratio: SampleRatio,
    cohorts: Moments | None = None,
    cohort_names: Sequence[str] = (),
    moved: int = 0,
) -> Readout:
    """Return the readout of a test.

    Args:
        looks: (T, ...) of all that users did until the end of each look's day; the arms of the design, control first.
        metrics: (M,).
        design: of the test.
        days: (T,) of the looks, increasing; the last is the one that a fixed horizon is read at.
        ratio: the sample ratio test, of all arms of the plan.
        cohorts: (C, ...) at the last look, adding up to it.
        cohort_names: (C,).
        moved: users whose arm changed.

    Raises:
        DataError: fewer than two arms, no metric, or no look.
    """
    if looks.arms != len(design.arms) or looks.arms < 2 or not metrics or looks.total.ndim != 3 or not len(days):
        raise DataError(
            f"{looks.arms} arms, {len(metrics)} metrics and {len(days)} looks make no test",
            hint="compare two arms or more, on a day or more",
        )
    values = arm_values(looks, [metric.ratio for metric in metrics])
    every = lifts_over(values, 0)
    last = Lifts(*(getattr(every, part)[-1] for part in ("log_ratio", "std_error", "degrees", "covariance")))
    smallest_arm = values.users.min(axis=-1)
    telling = tells(every.std_error, smallest_arm)  # (T, A, M)
    band = np.where(telling[-1], together(last, confidence=design.confidence), np.inf)
    band_low, band_high = last.ends(band)
    elapsed = np.asarray(days) - days[0] + 1
    alpha = (1 - design.confidence) / last.lift.size
    planned = planned_error(every.std_error, smallest_arm, elapsed, planned=design.planned_days)
    watched_low, watched_high = every.ends(np.where(telling, critical(every.std_error, planned=planned, alpha=alpha), np.inf))
    low, high = last.interval(design.confidence)
    users, total = values.users[-1], float(values.users[-1].sum() - looks.crossed[-1])
    basis = FIXED if elapsed[-1] == design.planned_days else WATCHED
    blocked = _blocked(ratio, moved=moved, users=total)
    ends = (band_low, band_high) if basis == FIXED else (watched_low[-1], watched_high[-1])
    wide = band if basis == FIXED else np.full(band.shape, np.sqrt(1 + tightest(alpha)))
    with np.errstate(invalid="ignore", divide="ignore"):
        detectable = detectable_lift(last.std_error, critical=band)
        needed = users_needed(total, last.std_error, lift=design.smallest, critical=band)
    verdicts = tuple(
        Verdict(arm, BLOCKED, f"{arm}: blocked; {blocked}", (OPEN,) * len(metrics), np.nan)
        if blocked
        else verdict_of(
            arm,
            metrics,
            lift=last.lift[a],
            low=ends[0][a],
            high=ends[1][a],
            std_error=np.where(telling[-1, a], last.std_error[a], np.nan),
            critical=wide[a],
            users=total,
            smallest=design.smallest,
        )
        for a, arm in enumerate(design.arms[1:])
    )
    return Readout(
        arms=design.arms[1:],
        control=design.arms[0],
        metrics=tuple(metrics),
        ratio=ratio,
        users=users,
        value=values.value[-1],
        raw=values.raw[-1],
        explained=values.explained[-1],
        lift=last.lift,
        std_error=last.std_error,
        p_value=last.p_value,
        low=low,
        high=high,
        band_low=band_low,
        band_high=band_high,
        days=tuple(days),
        planned_days=design.planned_days,
        seen_lift=every.lift,
        watched_low=watched_low,
        watched_high=watched_high,
        detectable=detectable,
        needed=needed,
        smallest=design.smallest,
        confidence=design.confidence,
        basis=basis,
        blocked=blocked,
        verdicts=verdicts,
        by_cohort=None if cohorts is None else cohort_lifts(cohorts, metrics, names=cohort_names, confidence=design.confidence),
    )


def cohort_lifts(cohorts: Moments, metrics: Sequence[Metric], *, names: Sequence[str], confidence: float) -> CohortLifts:
    """Return the lifts inside each cohort; cohorts share no user, so that each gets confidence^(1/C) and all together hold.

    Args:
        cohorts: (C, ...) with the control first.
        metrics: (M,).
        names: (C,).
        confidence: of all bands at once.
    """
    values = arm_values(cohorts, [metric.ratio for metric in metrics])
    every = lifts_over(values, 0)
    telling = tells(every.std_error, values.users.min(axis=-1))
    each = confidence ** (1 / max(len(names), 1))
    parts = ("log_ratio", "std_error", "degrees", "covariance")
    wide = [together(Lifts(*(getattr(every, part)[c] for part in parts)), confidence=each) for c in range(len(names))]
    low, high = every.ends(np.where(telling, np.stack(wide), np.inf))
    return CohortLifts(tuple(names), values.users, every.lift, low, high)


def _blocked(ratio: SampleRatio, *, moved: int, users: float) -> str:
    if ratio.failed:
        seen = ", ".join(f"{arm} {n:,.0f} of {e:,.0f}" for arm, n, e in zip(ratio.arms, ratio.seen, ratio.expected, strict=True))
        return f"the split is not the planned one (p = {ratio.p_value:.1g}; {ratio.unit} seen of expected: {seen})"
    if moved > MOST_MOVED * users:
        return f"{moved:,} of {users:,.0f} users changed their arm meanwhile"
    return ""
