"""The ladder of the pooled estimator as a table and a picture: how far wider and narrower pooling, and exact hits, agree on the picks."""

from __future__ import annotations

import altair as alt
import numpy as np

from paretune.frontier.front import Front
from paretune.frontier.ladder import Ladder
from paretune.report.front_labels import pick_labels
from paretune.report.tables import MISSING, NORMAL_95, Table, signed, worded
from paretune.report.theme import ESTIMATE, FAINT, finished, inline


def ladder_table(front: Front, ladder: Ladder, *, minimised: frozenset[str] = frozenset()) -> Table:
    """Return each pick's lift on every rung, and whether pooled residuals depend on the distance to the pick's action.

    Args:
        front: with picks.
        ladder: of the same policies.
        minimised: objectives of which less is better; they say so.
    """
    labels, lifts = pick_labels(front), front.lifts
    picked = [p for p in sorted(labels) if np.isfinite(ladder.estimate[:, p]).any()]
    fires = ladder.suspicious(picked)
    rows = []
    for place, p in enumerate(picked):
        for j, objective in enumerate(lifts.objectives):
            cells = [_with_error(ladder.estimate[r, p, j], ladder.std_error[r, p, j]) for r in range(len(ladder.rungs))]
            z, p_value = ladder.bias_z[p, j], ladder.bias_p[p, j]
            tested = MISSING if np.isnan(z) else f"z {z:+.1f}, p {p_value:.2g}".replace("-", "−") + (" ✗" if fires[place, j] else "")
            rows.append((labels[p] if j == 0 else "", worded(objective, minimised), *cells, tested, signed(ladder.shift[p, j])))
    heads = [f"{rung} (the estimate)" if r == ladder.speaks else rung for r, rung in enumerate(ladder.rungs)]
    columns = ("pick", "objective", *heads, "bias left", "would move it by")
    note = (
        "Lift ± standard error by width of pooling; the narrowest counts only rows that took the very action. Bias left: residuals depend "
        "on how far the logged action was from the pick's? ✗ = yes, beyond chance over this table."
    )
    return Table("The same lifts, pooled more and less", columns, tuple(rows), note)


def _with_error(lift: float, error: float) -> str:
    return MISSING if np.isnan(lift) else f"{signed(lift)} ± {100 * error:.2f}"


def ladder_warning(front: Front, ladder: Ladder) -> str:
    """Return what to say aloud where the test for remaining bias fires on a pick; empty where it does not."""
    labels = pick_labels(front)
    picked = sorted(labels)
    named = [labels[picked[i]] for i in np.flatnonzero(ladder.suspicious(picked).any(axis=1))]
    if not named:
        return ""
    return (
        f"The pooled estimate of {', '.join(named)} is suspicious: residuals depend on how far the logged action was from the policy's. "
        "Read the narrower rungs below before you believe it."
    )


def ladder_figure(front: Front, ladder: Ladder, *, minimised: frozenset[str] = frozenset()) -> alt.TopLevelMixin:
    """Return the picks' lifts on every rung with 95 % intervals, one panel per objective; those of which less is better say so."""
    labels = pick_labels(front)
    order = list(ladder.rungs)
    rows = [
        {
            "pick": labels[p],
            "objective": worded(objective, minimised),
            "rung": rung,
            "lift": 100 * ladder.estimate[r, p, j],
            "low": 100 * (ladder.estimate[r, p, j] - NORMAL_95 * ladder.std_error[r, p, j]),
            "high": 100 * (ladder.estimate[r, p, j] + NORMAL_95 * ladder.std_error[r, p, j]),
            "speaks": r == ladder.speaks,
        }
        for p in labels
        for j, objective in enumerate(front.lifts.objectives)
        for r, rung in enumerate(order)
    ]
    base = alt.Chart(inline([row for row in rows if np.isfinite([row["lift"], row["low"], row["high"]]).all()]))
    y = alt.Y("rung:N", sort=order, title=None)
    colour = alt.condition("datum.speaks", alt.value(ESTIMATE), alt.value(FAINT))
    x = alt.X("lift:Q", title="lift over production (%)", scale=alt.Scale(zero=True))
    line = base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", title="lift over production (%)"), y, alt.X2("high:Q"), color=colour)
    point = base.mark_point(filled=True, size=70, opacity=1).encode(x, y, color=colour)
    panels = alt.layer(line, point).properties(width=200, height=22 * len(order))
    chart = panels.facet(
        row=alt.Row("pick:N", title=None, sort=list(labels.values()), header=alt.Header(labelAngle=0, labelAlign="left")),
        column=alt.Column("objective:N", title=None, sort=[worded(objective, minimised) for objective in front.lifts.objectives]),
    )
    speaks = ladder.rungs[ladder.speaks]
    how = [f"Blue: the estimate ({speaks}), fixed beforehand; grey: wider and narrower pooling, down to exact hits", "Bars: 95 % intervals"]
    return finished(chart, title="Do wide and narrow pooling agree?", subtitle=how)
