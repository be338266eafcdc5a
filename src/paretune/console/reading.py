"""What the dial shows of one policy of a front: lifts with bands, what to expect, lists that change, cohorts that lose. Pure.

The rule: every number is the front's own; nothing is computed here that the report does not say too, but for the words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from paretune.frontier.front import Front
from paretune.records import Floats, Ints
from paretune.report.tables import interval, percent, probability, signed, worded

LOSES, MAY_LOSE, GAINS, UNCLEAR, UNKNOWN = "loses", "may lose", "gains", "unclear", "too few rows"


@dataclass(frozen=True, slots=True)
class LiftLine:
    """One objective's lift, as text."""

    objective: str
    measured: str  # estimate with its simultaneous band
    expected: str  # what to expect of it, with its interval; a dash where the front does not say
    standing: str  # LOSES, GAINS or UNCLEAR, by the band


@dataclass(frozen=True, slots=True)
class CohortLine:
    """One cohort's lifts, as text."""

    cohort: str
    lifts: tuple[tuple[str, str], ...]  # (M,) text, and LOSES, MAY_LOSE, GAINS, UNCLEAR or UNKNOWN
    loses: bool  # with 95 % confidence, on some objective


@dataclass(frozen=True, slots=True)
class Reading:
    """One policy, as people read it."""

    index: int  # into Front.policies
    name: str
    alpha: str  # weight of the first objective; empty where the policy has none
    labels: tuple[str, ...]  # of the picks that it is
    notes: tuple[str, ...]  # of those picks
    verdict: str  # empty where the front does not say
    risk: str  # probability of being below a floor on some objective
    lifts: tuple[LiftLine, ...]  # (M,)
    changed: str  # share of requests that get another list; a dash where that is not known
    cohorts: tuple[CohortLine, ...]
    weights: tuple[tuple[str, str, str], ...]  # head, static weight, average weight served
    hits: str


def family_of(front: Front) -> Ints:
    """Return the indices of the swept family, along alpha where there is one."""
    family = [p for p, policy in enumerate(front.policies) if policy.kind == "alpha"]
    return np.array(sorted(family, key=lambda p: (front.policies[p].alpha is None, front.policies[p].alpha or 0.0, p)), dtype=np.int64)


def directions_of(front: Front) -> Floats:
    """Return (M,) +1 for objectives of which more is better, -1 for the others."""
    return np.array([-1.0 if name in front.minimised else 1.0 for name in front.lifts.objectives])


def expected_of(front: Front) -> Floats:
    """Return (P, M) the lifts to expect; what was measured where the front does not say."""
    if front.expectation is None:
        return front.lifts.estimate
    return np.where(np.isfinite(front.expectation.mean), front.expectation.mean, front.lifts.estimate)


def highest_with_floors(front: Front, maximise: int, floors: Floats) -> int | None:
    """Return the policy of the family with the most of one objective among those that are expected to keep every floor.

    Args:
        front: swept.
        maximise: index of the objective.
        floors: (M,) smallest lifts, turned so that larger is better; that of the objective to maximise counts too, NaN = none.

    Returns:
        Its index, or None where no policy keeps the floors.
    """
    family = family_of(front)
    turned = expected_of(front)[family] * directions_of(front)
    kept = np.isfinite(turned).all(axis=1) & ((turned >= floors) | np.isnan(floors)).all(axis=1)
    if not kept.any():
        return None
    return int(family[np.argmax(np.where(kept, turned[:, maximise], -np.inf))])


def read_policy(front: Front, policy: int, *, heads: tuple[str, ...], static: tuple[float, ...]) -> Reading:
    """Return one policy as people read it.

    Args:
        front: swept.
        policy: its index.
        heads: (m,) names.
        static: (m,) production weights.
    """
    lifts, picks = front.lifts, [pick for pick in front.picks if pick.policy == policy]
    risk = float("nan") if front.expectation is None else float(front.expectation.degrading[policy])
    changed = float("nan") if front.changed is None else float(front.changed[policy])
    return Reading(
        index=policy,
        name=front.policies[policy].name,
        alpha="" if front.policies[policy].alpha is None else f"{front.policies[policy].alpha:.3f}",
        labels=tuple(pick.label for pick in picks),
        notes=tuple(pick.note for pick in picks if pick.note),
        verdict=front.verdicts[policy] if front.verdicts else next((pick.verdict for pick in picks), ""),
        risk=probability(risk),
        lifts=tuple(_lift(front, policy, j) for j in range(len(lifts.objectives))),
        changed=percent(changed),
        cohorts=_cohorts(front, policy),
        weights=tuple(
            (name, f"{weight:g}", f"{mean:.3g}") for name, weight, mean in zip(heads, static, front.mean_weights[policy], strict=True)
        ),
        hits=f"{int(lifts.hits[policy]):,}",
    )


def _lift(front: Front, policy: int, objective: int) -> LiftLine:
    lifts, at = front.lifts, (policy, objective)
    expected = "–"
    if front.expectation is not None:
        told = front.expectation
        expected = interval(float(told.mean[at]), float(told.low[at]), float(told.high[at]))
    low, high = sorted(directions_of(front)[objective] * np.array([lifts.band_low[at], lifts.band_high[at]]))
    return LiftLine(
        worded(lifts.objectives[objective], frozenset(front.minimised)),
        interval(float(lifts.estimate[at]), float(lifts.band_low[at]), float(lifts.band_high[at])),
        expected,
        GAINS if low > 0 else LOSES if high < 0 else UNCLEAR,
    )


def _cohorts(front: Front, policy: int) -> tuple[CohortLine, ...]:
    """Return the policy inside every cohort: nothing where the front does not say."""
    swept, members = front.cohort_sweep, [p for p, one in enumerate(front.policies) if one.kind == "alpha"]
    if swept is None or policy not in members:
        return ()
    at, directions, wide = members.index(policy), directions_of(front), float(ndtri(0.975))
    lines = []
    for g, cohort in enumerate(swept.cohorts):
        lift, error = swept.estimate[g, at] * directions, swept.std_error[g, at]
        standing = [_standing(float(mean), wide * float(sd)) for mean, sd in zip(lift, error, strict=True)]
        told = tuple((signed(float(value)), word) for value, word in zip(swept.estimate[g, at], standing, strict=True))
        lines.append(CohortLine(cohort, told, LOSES in standing))
    return tuple(sorted(lines, key=lambda line: not line.loses))


def _standing(lift: float, half: float) -> str:
    """Return where a lift that is better when larger stands, given half its interval."""
    if not np.isfinite(lift):
        return UNKNOWN
    if lift + half < 0:
        return LOSES
    if lift - half > 0:
        return GAINS
    return MAY_LOSE if lift < 0 else UNCLEAR
