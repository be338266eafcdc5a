"""Tables of results as plain text cells: the command line and the HTML page print the same ones.

The rule: a number that does not exist is a dash, never 0; lifts are signed per cents of production.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paretune.errors import DataError
from paretune.frontier.front import Front
from paretune.records import Floats

MISSING = "–"
EXPECTED = "to expect"
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells with a heading row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Relative lifts of the picks seen online (or simulated), in fractions; rows in the order of `Front.picks`."""

    estimate: Floats  # (L, M)
    low: Floats  # (L, M)
    high: Floats  # (L, M)


def signed(lift: float, digits: int = 2) -> str:
    """Return a fraction as a signed per cent, such as +1.35 %; a dash for NaN."""
    if not math.isfinite(lift):
        return MISSING
    text = f"{100 * lift:+.{digits}f}"
    return (f"{0:+.{digits}f}" if float(text) == 0 else text).replace("-", "−") + " %"


def percent(share: float, digits: int = 0) -> str:
    """Return a fraction as a per cent without sign, such as 95 %; a dash for NaN."""
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else MISSING


def interval(estimate: float, low: float, high: float, digits: int = 2) -> str:
    """Return an estimate with its interval, such as +1.35 % (+0.20 … +2.50)."""
    if not math.isfinite(estimate):
        return MISSING
    if not (math.isfinite(low) and math.isfinite(high)):
        return signed(estimate, digits)
    ends = [signed(end, digits).removesuffix(" %") for end in (low, high)]
    return f"{signed(estimate, digits)} ({ends[0]} … {ends[1]})"


def with_error(estimate: float, std_error: float) -> str:
    """Return an estimate with its 95 % interval by the normal approximation."""
    return interval(estimate, estimate - NORMAL_95 * std_error, estimate + NORMAL_95 * std_error)


def worded(objective: str, minimised: frozenset[str]) -> str:
    """Return an objective's name, with a word where less of it is better."""
    return f"{objective} (lower is better)" if objective in minimised else objective


def picks_table(
    front: Front, *, online: Outcome | None = None, truth: Floats | None = None, minimised: frozenset[str] = frozenset()
) -> Table:
    """Return what speaks for each pick, one row per pick and objective.

    Args:
        front: the swept family.
        online: lifts of the picks seen in an A/B test.
        truth: (P, M) true relative lifts of the front's policies, where a simulated world knows them.
        minimised: objectives of which less is better; they say so.
    """
    lifts = front.lifts
    expected = front.expectation
    columns = ["pick", "policy", "objective", f"offline lift ({percent(lifts.confidence)} band)"]
    columns += [EXPECTED] * (expected is not None) + ["rows that speak", "P(degrading)"]
    judged = any(pick.verdict for pick in front.picks)
    columns += ["verdict"] * judged
    columns += ["online lift"] * (online is not None) + ["truth"] * (truth is not None)
    rows = []
    for place, pick in enumerate(front.picks):
        p = pick.policy
        for j, objective in enumerate(lifts.objectives):
            first = j == 0
            row = [
                pick.label if first else "",
                front.policies[p].name if first else "",
                worded(objective, minimised),
                interval(lifts.estimate[p, j], lifts.band_low[p, j], lifts.band_high[p, j]),
            ]
            if expected is not None:
                row.append(interval(expected.mean[p, j], expected.low[p, j], expected.high[p, j]))
            row.append(f"{int(lifts.hits[p]):,}" if first else "")
            row.append(probability(pick.probability_degrading) if first else "")
            if judged:
                row.append(pick.verdict if first else "")
            if online is not None:
                row.append(interval(online.estimate[place, j], online.low[place, j], online.high[place, j]))
            if truth is not None:
                row.append(signed(truth[p, j]))
            rows.append(tuple(row))
    note = (
        f"Lifts are relative to production; bands hold for all {lifts.estimate.size} numbers of the sweep at once. "
        f"Estimator: {lifts.estimator}; {lifts.n_rows:,} held-out requests of {lifts.n_users:,} users."
    )
    if expected is not None:
        note += (
            " What to expect, and P(degrading), allow for the picks having been picked for looking good: what a policy gains at its own "
            "trade-off is pulled towards what its neighbours gain and towards nothing, as far as the sweep itself says one must; "
            "the lift of a single objective may move either way."
        )
    return Table("Operating policies put forward", tuple(columns), tuple(rows), note)


def guardrails_table(front: Front) -> Table:
    """Return how low every pick's guardrail objectives may truly lie, one row per pick and guardrail.

    Raises:
        DataError: the front has no guardrail.
    """
    found, lifts = front.guarded, front.lifts
    if found is None:
        raise DataError("the front has no guardrail", hint="name one under [[guardrails]] in paretune.toml")
    rows = []
    for pick in front.picks:
        for g, (name, direction, floor) in enumerate(zip(found.objectives, found.directions, found.floors, strict=True)):
            j, low = lifts.objectives.index(name), float(found.low[pick.policy, g])
            band = float((lifts.band_low if direction > 0 else lifts.band_high)[pick.policy, j])
            kept = "–" if not math.isfinite(low) else "sure" if low >= floor else "by the band" if band * direction >= floor else "open"
            limit = f"may {'fall' if direction > 0 else 'rise'} by {percent(abs(floor), 2)}"
            cells = (signed(lifts.estimate[pick.policy, j]), signed(band), signed(direction * low))
            rows.append(
                (pick.label if g == 0 else "", worded(name, frozenset() if direction > 0 else frozenset({name})), limit, *cells, kept)
            )
    columns = ("pick", "guardrail", "floor", "offline lift", "worst by the band", "worst without normality", "kept")
    note = (
        f"Worst: the end of an interval on the harmful side, at {percent(lifts.confidence)} for all policies at once. The band supposes "
        "that errors are normal; the other one (empirical Bernstein over buckets of users) does not."
    )
    return Table("Guardrails", columns, tuple(rows), note)


def cohorts_table(front: Front, *, minimised: frozenset[str] = frozenset()) -> Table:
    """Return the picks' lifts inside every cohort, one row per policy and cohort; objectives of which less is better say so.

    Raises:
        DataError: the front tells nothing by cohort.
    """
    found, lifts = front.by_cohort, front.lifts
    if found is None:
        raise DataError("the front tells nothing by cohort", hint="sweep a log with two cohorts or more")
    labels, rows = front.labels(), []
    for place, p in enumerate(found.policies):
        for g, cohort in enumerate(found.cohorts):
            numbers = (found.estimate[g, place], found.band_low[g, place], found.band_high[g, place])
            cells = (interval(*ends) for ends in zip(*numbers, strict=True))
            rows.append((", ".join(labels.get(int(p), ())) if g == 0 else "", cohort, f"{int(found.hits[g, place]):,}", *cells))
    columns = (
        "pick",
        "cohort",
        "hits",
        *(f"{worded(name, minimised)} lift ({percent(lifts.confidence)} band)" for name in lifts.objectives),
    )
    note = "Lifts over production in the same cohort; the bands hold for these numbers and for those of all traffic at once."
    return Table("Picks by cohort", columns, tuple(rows), note)


def policies_table(front: Front, *, truth: Floats | None = None, minimised: frozenset[str] = frozenset()) -> Table:
    """Return every policy of the front with its lifts and bands, one row per policy; objectives of which less is better say so."""
    lifts, expected = front.lifts, front.expectation
    rows = []
    for p, policy in enumerate(front.policies):
        row = [policy.name, policy.kind, "yes" if front.non_dominated[p] else "", f"{int(lifts.hits[p]):,}"]
        if expected is not None:
            row.append(probability(expected.on_front[p]))
        for j in range(len(lifts.objectives)):
            row.append(interval(lifts.estimate[p, j], lifts.band_low[p, j], lifts.band_high[p, j]))
            if truth is not None:
                row.append(signed(truth[p, j]))
        rows.append(tuple(row))
    columns = ["policy", "kind", "not dominated", "rows that speak"] + ["P(on the front)"] * (expected is not None)
    for objective in lifts.objectives:
        columns += [f"{worded(objective, minimised)} lift (band)"] + [f"{worded(objective, minimised)} truth"] * (truth is not None)
    note = f"Not dominated: no other policy of the sweep is better in every objective with {percent(lifts.confidence)} confidence."
    return Table("All policies of the sweep", tuple(columns), tuple(rows), note)


def probability(value: float) -> str:
    """Return a probability as text; one that is nearly sure is not told as if it were."""
    if not math.isfinite(value):
        return MISSING
    return "< 1 %" if value < 0.01 else "> 99 %" if value > 0.99 else percent(value)
