"""Is personalisation worth it? Production, static weights of several kinds and personalised policies on the same rows, and one sentence.

d(p, q) is the difference of two policies' relative lifts, signed so that larger is better, from the joint draws of the front: what is
noise in both cancels. A personalised policy is the optimum of some trade-off c (weights of the objectives that sum to one), so its *value*
over q is c'd(p, q): how far it lies beyond q at the very trade-off for which it was chosen. delta is the smallest lift worth having.

The rules, all with one confidence and bands that hold at once for every member of the swept family, every comparison and every number in
it (the objectives and the value), so a policy may be picked from the same rows:

- *harmless*: no objective's estimate is below its floor, and none's band reaches further than delta below it;
- *personalise*: a pick of the family is harmless, and its value over production, over the best static weights, over the best
  cohort table and over its own average served to everybody (matched static) has a band above zero and an estimate of at least delta; of
  several such picks the first is named, in this order: constrained, knee, balanced, then the leans as the objectives are ordered;
- *retune*: static weights (or a table of them by cohort) are harmless and gain at least delta somewhere, with a band above zero;
- *keep*: of every policy that was looked at the bands exclude a gain of delta, or tell that a floor is broken: evidence that there is
  nothing, not the absence of evidence;
- else *not enough data*, with the rows that bands of half a delta would take: of the value of every pick, or, where one is proven, of the
  objective that may still break its floor.

Static weights are the best of many grid actions and carry no family of their own here: their bands hold for a search through all n grid
actions (Bonferroni), and for a table of G cohorts, whose parts were searched for one by one, are sqrt(G) wider (Cauchy-Schwarz).
Source: sup-t bands as in `intervals`; non-inferiority and equivalence margins as in clinical trials (ICH E9).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan, sqrt
from typing import Literal

import numpy as np
from scipy.special import ndtri

from paretune.errors import GateError
from paretune.frontier.front import Front
from paretune.frontier.references import MATCHED
from paretune.frontier.verdict import two_digits
from paretune.records import PRODUCTION, Bools, Floats

Answer = Literal["personalise", "retune", "keep", "not enough data"]
ROLES = {"best static": "best static", "cohort table": "best cohort table"}  # kind of policy -> its name in the table
PREFERRED = ("constrained", "knee", "balanced")  # the order in which picks are recommended; all others follow as the sweep ordered them
ENOUGH = 0.5  # half-width of a band, in smallest lifts, at which either a gain or its absence shows


@dataclass(frozen=True, slots=True)
class Comparison:
    """A policy against another on the same rows; all numbers are differences of relative lifts, larger is better."""

    name: str
    policy: int  # index into the front
    reference: int
    trade_off: Floats  # (M,) weight of each objective in the value
    estimate: Floats  # (M + 1,) the objectives, then the value
    std_error: Floats  # (M + 1,)
    low: Floats  # (M + 1,) simultaneous band
    high: Floats  # (M + 1,)


@dataclass(frozen=True, slots=True)
class Worth:
    """Whether personal weights are worth it, and what says so."""

    answer: Answer
    sentence: str
    standings: tuple[tuple[str, int], ...]  # role and policy: production, best static, best cohort table, matched static, the picks
    personalised: tuple[Comparison, ...]  # each pick against production, static weights, the table
    static: tuple[Comparison, ...]  # static weights and the table against production
    smallest_lift: float  # fraction
    explored: int  # exploration rows that were judged on
    explored_needed: float  # exploration rows at which an answer can be expected; NaN where one was given


@dataclass(frozen=True, slots=True)
class Bands:
    """Differences of every swept policy from every reference, with bands that hold for all of them at once."""

    members: tuple[int, ...]  # (P,) policies of the family that have an estimate
    references: tuple[int, ...]  # (R,) production first
    trade_offs: Floats  # (P, M)
    estimate: Floats  # (P, R, M + 1)
    std_error: Floats  # (P, R, M + 1)
    width: float  # band, in standard errors
    against_all: bool  # whether every static reference of the front has an estimate

    @property
    def low(self) -> Floats:
        """(P, R, M + 1)."""
        return self.estimate - self.width * self.std_error

    @property
    def high(self) -> Floats:
        """(P, R, M + 1)."""
        return self.estimate + self.width * self.std_error


def judge_worth(front: Front, *, signs: Floats, floors: Floats, smallest_lift: float) -> Worth:
    """Return whether the picks of a front are worth more than what static weights can do.

    Args:
        front: of a sweep, with its references.
        signs: (M,) +1 to maximise, -1 to minimise.
        floors: (M,) lowest acceptable lifts, fractions <= 0, larger is better.
        smallest_lift: delta, a fraction.

    Raises:
        GateError: no policy of the family has an estimate.
    """
    bands = family_bands(front, signs=signs)
    wanted = preferred_picks(front, members=bands.members)
    by_pick = {policy: _of_pick(front, bands, labels[0], policy) for policy, labels in wanted.items()}
    personalised = tuple(comparison for mine in by_pick.values() for comparison in mine)
    static = static_comparisons(front, signs=signs)
    explored = front.lifts.n_rows - int(front.lifts.hits[PRODUCTION])
    standings = _standings(front, wanted)

    def found(answer: Answer, sentence: str, needed: float = nan) -> Worth:
        return Worth(answer, sentence, standings, personalised, static, smallest_lift, explored, needed)

    for policy, mine in by_pick.items() if bands.against_all else ():
        safe = any(c.reference == PRODUCTION and harmless(c, floors=floors, smallest_lift=smallest_lift) for c in mine)
        if safe and personal(front, mine) and all(worthwhile(c, smallest_lift) for c in mine):
            return found("personalise", _personalise(front, wanted[policy][0], mine, signs))
    for comparison in static:
        if harmless(comparison, floors=floors, smallest_lift=smallest_lift) and gains(comparison, smallest_lift):
            return found("retune", _retune(front, comparison, signs))
    against_production = [*bands.high[:, 0, :-1], *(comparison.high[:-1] for comparison in static)]
    complete = len(bands.members) == sum(policy.kind == "alpha" for policy in front.policies)
    if complete and all(excluded(high, floors=floors, smallest_lift=smallest_lift) for high in against_production):
        return found("keep", _keep(front, smallest_lift, signs))
    for policy, mine in by_pick.items() if bands.against_all else ():  # whose gain is proven: what is left open is another objective
        against = next(c for c in mine if c.reference == PRODUCTION)
        if personal(front, mine) and all(worthwhile(c, smallest_lift) for c in mine) and (against.estimate[:-1] >= floors).all():
            j = int((against.low[:-1] - floors).argmin())
            needed = rows_needed(against.estimate[j] - against.low[j], explored=explored, smallest_lift=smallest_lift)
            return found("not enough data", _open_loss(front, wanted[policy][0], against, j, signs, needed, smallest_lift), needed)
    half_widths = [c.high[-1] - c.estimate[-1] for c in personalised] or (bands.width * bands.std_error[..., -1]).ravel().tolist()
    needed = rows_needed(max(half_widths), explored=explored, smallest_lift=smallest_lift)
    return found("not enough data", _not_enough(explored, needed, smallest_lift), needed)


def preferred_picks(front: Front, *, members: tuple[int, ...]) -> dict[int, tuple[str, ...]]:
    """Return the labels of each picked member of the family, the preferred one first.

    Args:
        front: of a sweep.
        members: policies of the family that have an estimate.
    """
    order = {label: place for place, label in enumerate(PREFERRED)}
    ordered = replace(front, picks=tuple(sorted(front.picks, key=lambda pick: order.get(pick.label, len(order)))))
    return {policy: labels for policy, labels in ordered.labels().items() if policy in members}


def family_bands(front: Front, *, signs: Floats) -> Bands:
    """Return every swept policy against production and every static reference, with one sup-t band over all of it.

    Args:
        front: of a sweep.
        signs: (M,) +1 to maximise, -1 to minimise.

    Raises:
        GateError: no policy of the family has an estimate.
    """
    lifts, known = front.lifts, np.logical_and.reduce(np.isfinite(front.lifts.estimate), axis=1)
    members = tuple(p for p, policy in enumerate(front.policies) if policy.kind == "alpha" and known[p])
    static = [p for p, policy in enumerate(front.policies) if policy.kind in {"static", "matched static", *ROLES}]
    references = tuple(p for p in static if known[p])
    if not members:
        raise GateError("no policy of the sweep has enough hits for an estimate", hint="collect more exploration rows")
    trade_offs = np.array([front.policies[p].scalarisation for p in members])
    points, draws = lifts.estimate * signs, lifts.replicates * signs
    estimate = np.empty((len(members), len(references), points.shape[1] + 1))
    error, largest = np.empty_like(estimate), np.zeros(len(draws))
    for r, reference in enumerate(references):
        estimate[:, r] = valued(points[list(members)] - points[reference], trade_offs)
        away = valued(draws[:, list(members)] - draws[:, [reference]], trade_offs) - estimate[:, r]
        error[:, r] = away.std(axis=0, ddof=1)
        np.maximum(largest, _largest_t(away, error[:, r]), out=largest)
    width = float(np.quantile(largest, lifts.confidence))
    return Bands(members, references, trade_offs, estimate, error, width, len(references) == len(static))


def valued(differences: Floats, trade_offs: Floats) -> Floats:
    """Return differences (..., P, M) with the value c'd as one more column (..., P, M + 1).

    Args:
        differences: of P policies.
        trade_offs: (P, M) weights of the objectives.
    """
    return np.concatenate([differences, (differences * trade_offs).sum(axis=-1, keepdims=True)], axis=-1)


def static_comparisons(front: Front, *, signs: Floats) -> tuple[Comparison, ...]:
    """Return the best static weights and the cohort table against production, with bands for the search that found them."""
    lifts, m = front.lifts, len(signs)
    found = []
    for p, policy in enumerate(front.policies):
        if policy.kind not in ROLES or not np.isfinite(lifts.estimate[p]).all():
            continue
        trade_off = np.full(m, 1 / m)
        estimate = valued(lifts.estimate[p] * signs, trade_off)
        error = valued(lifts.replicates[:, p] * signs, trade_off).std(axis=0, ddof=1)
        cohorts = max(1, len(policy.cohort_weights))
        searched = (front.action_shares.shape[1] - 1) * cohorts * m
        width = sqrt(cohorts) * float(-ndtri((1 - lifts.confidence) / (2 * max(1, searched))))
        name = f"{ROLES[policy.kind]} − production"
        found.append(Comparison(name, p, PRODUCTION, trade_off, estimate, error, estimate - width * error, estimate + width * error))
    return tuple(found)


def harmless(comparison: Comparison, *, floors: Floats, smallest_lift: float) -> bool:
    """Say whether a policy breaks no floor by its estimate, and none by more than the smallest lift with confidence."""
    estimate, low = comparison.estimate[:-1], comparison.low[:-1]
    return bool((estimate >= floors).all() and (low > floors - smallest_lift).all())


def personal(front: Front, comparisons: list[Comparison]) -> bool:
    """Say whether a pick is compared with its own average at all; without, nothing tells its gain from a static one."""
    return any(front.policies[comparison.reference].kind == "matched static" for comparison in comparisons)


def worthwhile(comparison: Comparison, smallest_lift: float) -> bool:
    """Say whether the value is above zero with confidence, and worth having by its estimate."""
    return bool(comparison.low[-1] > 0 and comparison.estimate[-1] >= smallest_lift)


def gains(comparison: Comparison, smallest_lift: float) -> bool:
    """Say whether some objective gains with confidence, and enough to be worth having by its estimate."""
    return bool(((comparison.low[:-1] > 0) & (comparison.estimate[:-1] >= smallest_lift)).any())


def excluded(high: Floats, *, floors: Floats, smallest_lift: float) -> bool:
    """Say whether upper ends of lifts over production exclude a policy that is worth having.

    It is excluded when every objective either cannot gain the smallest lift, or would do so beside another that breaks its floor.

    Args:
        high: (M,).
        floors: (M,).
        smallest_lift: delta, a fraction.
    """
    broken: Bools = high < floors
    return all(bool(end < smallest_lift) or bool(np.delete(broken, j).any()) for j, end in enumerate(high))


def rows_needed(half_width: float, *, explored: int, smallest_lift: float) -> float:
    """Return the exploration rows at which a band is half the smallest lift on either side; widths fall as 1/sqrt(n).

    Args:
        half_width: of the band now, a fraction.
        explored: exploration rows behind it.
        smallest_lift: delta, a fraction.
    """
    return float(explored * (half_width / (ENOUGH * smallest_lift)) ** 2)


def _largest_t(away: Floats, error: Floats) -> Floats:
    """Return (B,) the largest |t| of each draw, over numbers that vary at all."""
    varies = error > 0
    return np.abs(away[:, varies] / error[varies]).max(axis=1, initial=0.0)


def _of_pick(front: Front, bands: Bands, label: str, policy: int) -> list[Comparison]:
    """Return a pick against production, the best static weights, the table, and its own matched static weights; production first."""
    p, found = bands.members.index(policy), []
    for r, reference in enumerate(bands.references):
        against = front.policies[reference]
        if against.kind == "matched static" and not _matches(front, against.name, policy):
            continue
        name = f"{label} − {'production' if against.kind == 'static' else ROLES.get(against.kind, against.kind)}"
        numbers = (bands.estimate[p, r], bands.std_error[p, r], bands.low[p, r], bands.high[p, r])
        found.append(Comparison(name, policy, reference, bands.trade_offs[p], *numbers))
    return found


def _matches(front: Front, matched: str, policy: int) -> bool:
    """Say whether matched static weights are the averages of a policy; they are named after one of the labels it was picked under."""
    return matched.removeprefix(MATCHED).split(" (")[0] in front.labels()[policy]


def _standings(front: Front, wanted: dict[int, tuple[str, ...]]) -> tuple[tuple[str, int], ...]:
    rows = [("production", PRODUCTION)]
    for kind, role in ROLES.items():
        rows += [(role, p) for p, policy in enumerate(front.policies) if policy.kind == kind]
    rows += [(policy.name.split(" (")[0], p) for p, policy in enumerate(front.policies) if policy.kind == "matched static"]
    return (*rows, *((f"personalised: {' = '.join(labels)}", p) for p, labels in wanted.items()))


def _signed(lift: float) -> str:
    return f"{100 * lift:+.2f}".replace("-", "−")


def _counted(front: Front, signs: Floats) -> str:
    """Say which falls count as gains; nothing where more is better of every objective."""
    turned = [name for name, sign in zip(front.lifts.objectives, signs, strict=True) if sign < 0]
    return f" (less {' and '.join(turned)} counts as a gain)" if turned else ""


def _personalise(front: Front, label: str, comparisons: list[Comparison], signs: Floats) -> str:
    hardest = min(comparisons, key=lambda comparison: comparison.low[-1])
    value, low, high = (_signed(end[-1]) for end in (hardest.estimate, hardest.low, hardest.high))
    rival = hardest.name.rpartition(" − ")[2]
    gain = f"at its trade-off the {label} pick gains {value} % ({low} … {high}) over {rival}{_counted(front, signs)}"
    return f"Personalise: {gain}, and breaks no floor by its estimate."


def _retune(front: Front, comparison: Comparison, signs: Floats) -> str:
    j = int(np.where(comparison.low[:-1] > 0, comparison.estimate[:-1], -np.inf).argmax())
    lift, name = (comparison.estimate[j], comparison.low[j], comparison.high[j]), front.lifts.objectives[j]
    seen, *ends = (_signed(signs[j] * end) for end in (lift if signs[j] > 0 else (lift[0], lift[2], lift[1])))
    gain = f"gains {seen} % {name}" if signs[j] > 0 else f"changes {name}, of which less is better, by {seen} %"
    gain = f"{front.policies[comparison.policy].name} {gain} ({' … '.join(ends)})"
    return f"Retune the static weights: {gain}; personal weights do not provably add to that."


def _keep(front: Front, smallest_lift: float, signs: Floats) -> str:
    sure = f"{front.lifts.confidence:.0%}".replace("%", " %")
    gain = f"gains {100 * smallest_lift:g} % without a loss{_counted(front, signs)}"
    return f"Keep the static weights: no policy that was looked at {gain}, at {sure} confidence."


def _open_loss(front: Front, label: str, against: Comparison, j: int, signs: Floats, needed: float, smallest_lift: float) -> str:
    seen, worst = _signed(signs[j] * against.estimate[j]), _signed(signs[j] * against.low[j])
    size = f"{100 * smallest_lift:g}"
    objective, too_far = front.lifts.objectives[j], f"{size} point{'' if size == '1' else 's'} past its floor is too far"
    loss = f"{objective} ({seen} % by its estimate) may truly be at {worst} %, and {too_far}"
    rows = f"to tell takes about {two_digits(needed):,} held-out exploration rows"
    return f"Not enough data: the value of the {label} pick is proven, but {loss}; {rows}."


def _not_enough(explored: int, needed: float, smallest_lift: float) -> str:
    delta = f"{100 * smallest_lift:g} %"
    if needed > explored:
        rounded = two_digits(needed)
        takes = f"takes about {rounded:,} held-out exploration rows"
        question = f"to tell a gain of {delta} from none, of every pick over production and static weights at once,"
        return f"Not enough data: {question} {takes}; here are {explored:,}."
    return f"Not enough data: {explored:,} held-out exploration rows leave open whether the gain exceeds {delta}, to which it is close."
