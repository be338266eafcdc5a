"""What is said of stage 2: a table per policy, the cost beside that of uniform exploration, sentences, one picture, one page.

An edge: `publish_stage2` writes files. The rule: the gain is stated for estimation by hits, and who does not profit is said too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from paretune.explore.stage2 import DESIGNS, Stage2
from paretune.report.html import Section, save_figures, write_report
from paretune.report.planner_figures import short_percent
from paretune.report.tables import MISSING, NORMAL_95, Table, signed, with_error
from paretune.report.theme import ESTIMATE, REFERENCE, WIDTH, finished, inline

PAGE, FIGURES = "stage2.html", "figures"
_INNER = WIDTH - 70


def stage2_tables(found: Stage2, share: float) -> tuple[Table, ...]:
    """Return the variance factor of each policy, and the costs of both designs where the log says them."""
    rows = []
    for policy, label, factor in zip(found.policies, found.labels, found.factors.tolist(), strict=True):
        known = np.isfinite(factor)
        times = f"{found.actions / factor:.1f}" if known else MISSING
        rows.append((policy.name, label, f"{found.actions}", f"{factor:.2f}" if known else MISSING, times))
    note = (
        f"Variance factor E[1 / propensity of the policy's own action], over {found.rows:,} exploration rows. "
        f"Stage 2 keeps {short_percent(found.floor)} uniform."
    )
    columns = ("policy", "pick", "uniform", "stage 2", "uniform rows that a row stands for")
    tables = [Table("Variance of a lift per exploration row, by hits", columns, tuple(rows), note)]
    if found.cost is not None:
        costs = []
        for j, objective in enumerate(found.objectives):
            for d, design in enumerate(DESIGNS):
                lift = float(found.cost.relative[d, j])
                cell = with_error(lift, float(found.cost.std_error[d, j]))
                costs.append((objective if d == 0 else "", design, cell, signed(lift * share, 3)))
        heads = ("objective", "design", "explored request against production (95 %)", f"all traffic at {short_percent(share)}")
        tables.append(Table("Cost of exploring", heads, tuple(costs), "From logged rewards, weighted to each design."))
    return tuple(tables)


def stage2_sentences(found: Stage2) -> tuple[str, ...]:
    """Return what stage 2 brings and costs, and what it does not do."""
    low, high = float(np.nanmin(found.factors)), float(np.nanmax(found.factors))
    said = [
        f"Stage 2 lowers the variance factor of the family from {found.actions} to {float(np.nanmean(found.factors)):.1f} on average "
        f"({low:.1f} to {high:.1f}): by hits, one of its rows stands for {found.worth:.1f} uniform ones."
    ]
    if found.cost is None:
        said.append("What it costs is unknown: the log has no production rows.")
    else:
        parts = [
            f"{name} {signed(float(after))} instead of {signed(float(before))}"
            for name, before, after in zip(found.objectives, *found.cost.relative.tolist(), strict=True)
        ]
        said.append(f"An explored request changes {', '.join(parts)}.")
    if found.floor > 0:
        worst = found.actions / found.floor
        said.append(f"Policies outside the family, static weights among them, live off the uniform floor: a factor of up to {worst:.0f}.")
    said.append('Log the drawn propensities, and set exploration.design = "logged".')
    return tuple(said)


def stage2_figure(found: Stage2) -> alt.TopLevelMixin:
    """Return the variance factor of each policy under both designs, and the cost of an explored request under each."""
    two = all(policy.alpha is not None for policy in found.policies)
    place = [float(policy.alpha or 0) if two else float(p) for p, policy in enumerate(found.policies)]
    points = [{"x": x, "factor": factor, "design": DESIGNS[1]} for x, factor in zip(place, found.factors.tolist(), strict=True)]
    points += [{"x": x, "factor": float(found.actions), "design": DESIGNS[0]} for x in place]
    labels = [
        {"x": x, "factor": f, "pick": label} for x, f, label in zip(place, found.factors.tolist(), found.labels, strict=True) if label
    ]
    hue = alt.Color("design:N", scale=alt.Scale(domain=list(DESIGNS), range=[REFERENCE, ESTIMATE]), title=None)
    x = alt.X("x:Q", title=f"α: weight on {found.objectives[0]}" if two else "policy of the family", scale=alt.Scale(nice=False))
    y = alt.Y("factor:Q", title="variance factor (1 = always its own action)", scale=alt.Scale(type="log", domainMin=1))
    lines = alt.Chart(inline(points)).transform_filter("isValid(datum.factor)").mark_line(point=True, strokeWidth=2.2).encode(x, y, hue)
    marked = alt.Chart(inline(labels)).mark_point(size=120, style="label").encode(x, y, tooltip=["pick:N"])
    wide = _INNER if found.cost is None else int(0.56 * _INNER)
    panels: list[Any] = [alt.layer(lines, marked).properties(width=wide, height=300)]
    if found.cost is not None:
        costs = []
        for d, design in enumerate(DESIGNS):
            for j, objective in enumerate(found.objectives):
                lift, half = 100 * float(found.cost.relative[d, j]), 100 * NORMAL_95 * float(found.cost.std_error[d, j])
                costs.append({"objective": objective, "design": design, "lift": lift, "low": lift - half, "high": lift + half})
        across = alt.X("objective:N", title=None, sort=list(found.objectives), axis=alt.Axis(labelAngle=0))
        beside = alt.XOffset("design:N", sort=list(DESIGNS))
        base = alt.Chart(inline(costs)).encode(across, beside, hue)
        spans = base.mark_rule(strokeWidth=2.2).encode(alt.Y("low:Q", title="explored request against production (%)"), alt.Y2("high:Q"))
        dots = base.mark_point(filled=True, size=90, opacity=1).encode(alt.Y("lift:Q"))
        zero = alt.Chart(inline([{"lift": 0}])).mark_rule(style="zero").encode(alt.Y("lift:Q"))
        panels.append(alt.layer(zero, spans, dots).properties(width=_INNER - wide - 60, height=300))
    title = f"A stage-2 row stands for {found.worth:.1f} uniform ones"
    subtitle = (
        f"{found.rows:,} exploration rows; {short_percent(found.floor)} of stage 2 stays uniform. Circles: picks of the run. 95 % intervals"
    )
    return finished(alt.hconcat(*panels, spacing=24), title=title, subtitle=subtitle)


def stage2_summary(found: Stage2) -> dict[str, Any]:
    """Return the same for programs; costs are fractions."""
    cost = None
    if found.cost is not None:
        cost = {
            design: {
                name: {"per_explored_request": float(found.cost.relative[d, j]), "std_error": float(found.cost.std_error[d, j])}
                for j, name in enumerate(found.objectives)
            }
            for d, design in enumerate(DESIGNS)
        }
    policies = [
        {"policy": policy.name, "pick": label, "variance_factor": factor}
        for policy, label, factor in zip(found.policies, found.labels, found.factors.tolist(), strict=True)
    ]
    return {
        "rows": found.rows,
        "floor": found.floor,
        "uniform_variance_factor": found.actions,
        "mean_variance_factor": float(np.nanmean(found.factors)),
        "uniform_rows_per_row": found.worth,
        "policies": policies,
        "cost": cost,
        "sentences": stage2_sentences(found),
    }


def publish_stage2(found: Stage2, folder: Path, *, share: float) -> Path:
    """Write stage2.html and the picture as PNG and SVG, and return the page's path."""
    figure = stage2_figure(found)
    save_figures([("stage2", figure)], folder / FIGURES)
    section = Section("Exploring where the family goes", stage2_sentences(found), (figure, *stage2_tables(found, share)))
    return write_report(folder / PAGE, [section], title="paretune exploration, stage 2")
