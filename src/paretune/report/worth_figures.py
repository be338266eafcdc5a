"""Is it worth it, as tables and one picture: what each kind of policy gains, and by how much the personalised ones beat the others.

The rule: everything drawn is a difference on the same rows, with the bands of `frontier.worth`; the sentence is its title.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from paretune.frontier.front import Front
from paretune.frontier.worth import Comparison, Worth
from paretune.records import PRODUCTION
from paretune.report.tables import Table, interval, percent, signed, worded
from paretune.report.theme import ESTIMATE, REFERENCE, WIDTH, finished, inline

VALUE = "value"


def standings_table(front: Front, worth: Worth, *, minimised: frozenset[str] = frozenset()) -> Table:
    """Return the lifts over production of static, cohort and personalised policies, one row each; columns say where less is better."""
    lifts, rows = front.lifts, []
    for role, p in worth.standings:
        cells = [interval(lifts.estimate[p, j], lifts.low[p, j], lifts.high[p, j]) for j in range(len(lifts.objectives))]
        cells = ["0" for _ in cells] if p == PRODUCTION else cells
        rows.append((role, front.policies[p].name, *cells, f"{int(lifts.hits[p]):,}"))
    note = f"Lifts over production on the same {lifts.n_rows:,} held-out rows, each with its own {percent(lifts.confidence)} interval" + (
        "; where lower is better, a fall is good." if minimised else "."
    )
    names = (worded(name, minimised) for name in lifts.objectives)
    return Table("What each kind of weights gains", ("weights", "policy", *names, "hits"), tuple(rows), note)


def comparisons_table(front: Front, worth: Worth) -> Table:
    """Return the paired differences with their simultaneous bands, one row per comparison."""
    rows = []
    for comparison in (*worth.personalised, *worth.static):
        cells = [interval(*ends) for ends in zip(comparison.estimate, comparison.low, comparison.high, strict=True)]
        rows.append((comparison.name, *cells))
    note = (
        f"Paired differences of lifts; bands hold for all of them at once, at {percent(front.lifts.confidence)}. Value: the objectives "
        f"weighed by the policy's own trade-off. Larger is better in every column: a fall, where less is better. "
        f"Smallest lift worth having: {percent(worth.smallest_lift, 2)}."
    )
    return Table("Is it worth it?", ("difference", *front.lifts.objectives, VALUE), tuple(rows), note)


def worth_figure(front: Front, worth: Worth) -> alt.TopLevelMixin:
    """Return a forest of the paired differences: a row per comparison, a panel per objective and one for the value."""
    panels, rows = [*front.lifts.objectives, VALUE], []
    for kind, group in (("personalised", worth.personalised), ("static weights", worth.static)):
        rows += [row for comparison in group for row in _ends(comparison, panels, kind)]
    kinds = [kind for kind in ("personalised", "static weights") if any(row["kind"] == kind for row in rows)]
    colours = {"personalised": ESTIMATE, "static weights": REFERENCE}
    colour = alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=[colours[kind] for kind in kinds]))
    names = list(dict.fromkeys(row["difference"] for row in rows))
    y = alt.Y("difference:N", sort=names, title=None, axis=alt.Axis(labelLimit=260, grid=False))
    x = alt.X("estimate:Q", title="difference of lifts (%)", axis=alt.Axis(tickCount=5))
    base = alt.Chart()
    bars = base.mark_rule(strokeWidth=2.2).encode(alt.X("low:Q"), y, alt.X2("high:Q"), color=colour)
    tips = [alt.Tooltip("text:N", title="difference (band)")]
    points = base.mark_point(filled=True, size=75, opacity=1).encode(x, y, color=colour, tooltip=tips)
    once = base.transform_aggregate(n="count()", groupby=["panel"])
    zero = once.mark_rule(style="zero").encode(x=alt.datum(0))
    wanted = once.mark_rule(strokeDash=[4, 3], style="zero").encode(x=alt.datum(100 * worth.smallest_lift))
    width = (WIDTH - 170) // len(panels)
    layered = alt.layer(zero, wanted, bars, points, data=inline(rows)).properties(width=width, height=alt.Step(24))
    chart = layered.facet(column=alt.Column("panel:N", title=None, sort=panels))
    how = f"Right of the solid line: better. Dashed: the smallest lift worth having, {signed(worth.smallest_lift)}."
    explained = f"Bars: bands that hold at once, {percent(front.lifts.confidence)}. Value: the objectives at the policy's own trade-off."
    answer, _, reason = worth.sentence.partition(": ")
    return finished(chart, title=answer, subtitle=[reason[:1].upper() + reason[1:], how, explained])


def _ends(comparison: Comparison, panels: list[str], kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for panel, estimate, low, high in zip(panels, comparison.estimate, comparison.low, comparison.high, strict=True):
        ends = {"estimate": 100 * estimate, "low": 100 * low, "high": 100 * high, "text": interval(estimate, low, high)}
        found.append({"panel": panel, "difference": comparison.name, "kind": kind, **ends})
    return found
