"""Drift as pictures and tables: how far features moved, by what factor heads were rescaled, whose share of utility that changed.

The rules of `figures` hold: each chart is legible without its caption; what counts as moved is vermilion, what does not is blue.
"""

from __future__ import annotations

from math import exp
from typing import Any

import altair as alt
import numpy as np

from paretune.monitor.drift import LEVEL, OF_HEADS, Drift
from paretune.monitor.finding import Finding
from paretune.monitor.psi import MODERATE
from paretune.monitor.verdict import worded_finding
from paretune.report.tables import MISSING, Table
from paretune.report.theme import ESTIMATE, FAINT, ONLINE, TRUTH, finished, inline

MOST_FEATURES = 24
MOVED, STILL = "moved", "within chance, or too small to matter"


def state_figure(drift: Drift, *, at_most: int = MOST_FEATURES) -> alt.TopLevelMixin:
    """Return the stability index of the features that moved most, each with the mark it would have to pass."""
    found = [each for each in drift.findings if each.aspect == "state"]
    shown = sorted(found, key=lambda each: -each.current)[:at_most]
    rows: list[dict[str, Any]] = [
        {
            "feature": each.name,
            "psi": each.current,
            "mark": each.threshold + each.reference,
            "verdict": MOVED if each.moved else STILL,
            "label": f"{each.current:.3f}",
        }
        for each in shown
    ]
    y = alt.Y("feature:N", sort=[row["feature"] for row in rows], title=None, axis=alt.Axis(labelLimit=200, grid=False))
    x = alt.X("psi:Q", title="population stability index against the reference window", scale=alt.Scale(domainMin=0))
    base = alt.Chart(inline(rows))
    chart = alt.layer(
        base.mark_bar(height={"band": 0.7}).encode(x, y, color=_verdict_colour()),
        base.mark_tick(style="zero", thickness=2.2, height=15).encode(alt.X("mark:Q"), y),
        base.mark_text(style="label", align="left", dx=5, fontWeight=400).encode(x, y, text="label:N"),
    ).properties(width=470, height=alt.Step(21))
    moved = [each for each in found if each.moved]
    title = f"{len(moved)} of {len(found)} features moved" if moved else f"None of {len(found)} features moved"
    mark = shown[0].threshold if shown else MODERATE
    how = [f"Ticks: the mark, {mark:g} plus chance. A feature counts as moved past it, where chance is ruled out", _windows(drift)]
    return finished(chart, title=title, subtitle=how)


def scale_figure(drift: Drift) -> alt.TopLevelMixin:
    """Return by what factor each head's scores grew, with 99 % intervals, and the band in which nothing need be done."""
    found = {each.name: each for each in drift.findings if each.aspect == "scale"}
    rows: list[dict[str, Any]] = [
        {
            "head": name,
            "factor": found[name].current,
            "low": found[name].current * exp(-2.58 * found[name].std_error),
            "high": found[name].current * exp(2.58 * found[name].std_error),
            "verdict": MOVED if found[name].moved else STILL,
            "label": f"× {found[name].current:.2f}",
        }
        for name in drift.reference.heads
        if name in found
    ]
    mark = exp(next(iter(found.values())).threshold)
    scale = alt.Scale(type="log", nice=False, padding=25, domain=_reach(rows, mark))
    x = alt.X("factor:Q", scale=scale, title="scores now over scores before (log scale)")
    y = alt.Y("head:N", sort=[row["head"] for row in rows], title=None, axis=alt.Axis(grid=False))
    base, band = alt.Chart(inline(rows)), alt.Chart(inline([{"from": 1 / mark, "to": mark}]))
    chart = alt.layer(
        band.mark_rect(style="better").encode(alt.X("from:Q", scale=scale), alt.X2("to:Q")),
        alt.Chart(inline([{"x": 1.0}])).mark_rule(style="zero").encode(alt.X("x:Q", scale=scale)),
        base.mark_rule(strokeWidth=2.4).encode(alt.X("low:Q", scale=scale), y, alt.X2("high:Q"), color=_verdict_colour()),
        base.mark_point(filled=True, size=95, opacity=1).encode(x, y, color=_verdict_colour()),
        base.mark_text(style="label", align="left", dx=8, fontWeight=400).encode(alt.X("high:Q", scale=scale), y, text="label:N"),
    ).properties(width=500, height=alt.Step(32))
    factors = drift.factors
    told = ", ".join(f"{head} by {factor:.2f}" for head, factor in factors.items())
    title = f"Heads were rescaled: {told}" if factors else "No head that matters was rescaled"
    how = [
        f"On lists that undo the change, so that selection does not count; green: 1/{mark:g} to {mark:g}, too little to act on",
        "Bars: 99 %, clustered by user",
        _windows(drift),
    ]
    return finished(chart, title=title, subtitle=how)


def shares_figure(drift: Drift) -> alt.TopLevelMixin:
    """Return each head's share of utility before and now, and where heads were rescaled with their factors undone."""
    shares = drift.shares
    names = ["before", "now", *(["now, factors undone"] if drift.factors else [])]
    columns = [] if shares is None else [shares.reference, shares.current, shares.reanchored]
    rows = [
        {"head": head, "when": name, "share": 100 * float(column[j]), "label": f"{100 * float(column[j]):.0f} %"}
        for j, head in enumerate(drift.reference.heads)
        for name, column in zip(names, columns, strict=False)
    ]
    colour = alt.Color("when:N", title=None, scale=alt.Scale(domain=names, range=[FAINT, TRUTH, ONLINE][: len(names)]))
    y = alt.Y("head:N", sort=list(drift.reference.heads), title=None, axis=alt.Axis(grid=False))
    offset = alt.YOffset("when:N", sort=names)
    x = alt.X("share:Q", title="share of utility under the static weights (%)", scale=alt.Scale(domainMin=0))
    base = alt.Chart(inline(rows))
    chart = alt.layer(
        base.mark_bar().encode(x, y, color=colour, yOffset=offset),
        base.mark_text(align="left", dx=4, fontSize=11).encode(x, y, yOffset=offset, text="label:N"),
    ).properties(width=500, height=alt.Step(15, **{"for": "offset"}))
    if shares is None or drift.factors:
        title = "With the factors undone, each head has the share it had"
    else:
        apart = 100 * np.abs(shares.current - shares.reference)
        title = f"No share of utility moved by more than {apart.max():.1f} points ({drift.reference.heads[int(apart.argmax())]})"
    return finished(chart, title=title, subtitle=["|weight × score| over the sum of all heads, mean over listed items", _windows(drift)])


def findings_table(drift: Drift, *, quiet: int = 8) -> Table:
    """Return what moved, and the largest of what did not."""
    moved = list(drift.moved())
    rest = sorted((each for each in drift.findings if not each.moved), key=lambda each: each.p_value)[:quiet]
    rows = [(each.aspect, each.name, worded_finding(each), _p(each), _judged(each)) for each in (*moved, *rest)]
    note = (
        f"{len(drift.findings)} comparisons, judged together: where nothing moved, some alarm sounds in one window of a hundred at most. "
        "What is certain and small is no alarm, nor is a head with under 2 % of utility. Below what moved: the least likely of the rest."
    )
    return Table("What was compared", ("aspect", "of", "seen", "chance", ""), tuple(rows), note)


def windows_table(drift: Drift) -> Table:
    """Return what the two windows hold."""
    columns = (
        "window",
        "days",
        "rows",
        "exploration rows",
        "production rows",
        *(f"{name} per request" for name in drift.reference.objectives),
    )
    rows = []
    for name, window in (("reference", drift.reference), ("current", drift.current)):
        produced = float(window.sums.produced.sum())
        means = window.sums.reward.sum(axis=0) / produced if produced else np.full(len(window.objectives), np.nan)
        counts = (f"{window.rows:,}", f"{window.exploration_rows:,}", f"{produced:,.0f}")
        rows.append((name, _days(window.days), *counts, *(f"{mean:.4f}" if np.isfinite(mean) else MISSING for mean in means)))
    return Table("The windows", columns, tuple(rows), "\n".join(drift.notes))


def weights_table(before: dict[str, float], after: dict[str, float], factors: dict[str, float]) -> Table:
    """Return the static weights of re-anchored heads, before and after."""
    rows = [(head, f"{before[head]:g}", f"{after[head]:.4g}", f"{factor:.2f}") for head, factor in factors.items()]
    note = "The range of a tuned head moves with its static weight. A policy keeps its levels; what a level multiplies with changes."
    return Table("Re-anchored weights", ("head", "weight", "re-anchored", "scores grew by"), tuple(rows), note)


def _judged(each: Finding) -> str:
    if each.moved:
        return "✗ moved"
    return "✓ small head" if each.aspect in OF_HEADS and each.size >= each.threshold and each.p_value < LEVEL else "✓"


def _p(each: Finding) -> str:
    return f"{each.p_value:.1g}" if each.p_value >= 1e-6 else "< 1e-6"


def _windows(drift: Drift) -> str:
    now, before = drift.current, drift.reference
    return f"Now: {_days(now.days)}, {now.rows:,} rows; before: {_days(before.days)}, {before.rows:,} rows"


def _days(days: tuple[int, ...]) -> str:
    ends = [str(np.datetime64(day, "D")) for day in (days[0], days[-1])]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} … {ends[1]}"


def _verdict_colour() -> alt.Color:
    return alt.Color("verdict:N", title=None, scale=alt.Scale(domain=[MOVED, STILL], range=[TRUTH, ESTIMATE]))


def _reach(rows: list[dict[str, Any]], mark: float) -> list[float]:
    """Return ends of a log axis that hold every interval and the band."""
    low, high = min(1 / mark, *(row["low"] for row in rows)), max(mark, *(row["high"] for row in rows))
    return [low / 1.05, high * 1.15]
