"""The picture of a plan: days (or rows) of exploration against the lift they resolve, a line per grid.

The rule: plain records in, an Altair chart out that is legible without its caption. Grids that need equally many rows share one line, and
its label says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np

from paretune.explore.planner import Aim, Estimator, Grid, explore_options
from paretune.explore.rates import Rate
from paretune.report.tables import MISSING
from paretune.report.theme import SERIES, WIDTH, finished, inline

_INNER = WIDTH - 70
_LIFTS = 41  # per line


def plan_figure(
    aim: Aim,
    rates: Sequence[Rate],
    *,
    grids: Sequence[Grid],
    asked: Grid,
    share: float,
    estimators: Sequence[Estimator],
    requests_per_day: float,
    days: float,
) -> alt.TopLevelMixin:
    """Return days against lift where traffic is known, else rows against lift.

    Args:
        aim: marked in the picture.
        rates: of M objectives; the hardest one decides.
        grids: a line each, coarsest first.
        asked: the grid whose point is marked.
        share: of requests explored.
        estimators: a line style each, the one that is planned with first.
        requests_per_day: NaN where not known.
        days: there are to evaluate on.
    """
    timed = bool(np.isfinite(requests_per_day))
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    for estimator in estimators:
        for label, grid in _lines(grids, estimator):
            names += [label] * (label not in names)
            for lift in np.geomspace(aim.lift / 5, aim.lift * 5, _LIFTS):
                option = explore_options(
                    replace(aim, lift=float(lift)),
                    rates,
                    grids=[grid],
                    shares=[share],
                    estimator=estimator,
                    requests_per_day=requests_per_day,
                )[0]
                rows.append(
                    {"lift": 100 * lift, "grid": label, "estimator": estimator.title, "needed": option.days if timed else option.needed}
                )
    names.sort(key=lambda name: "=" in name or name == "every grid")  # lines of several grids last
    mark = explore_options(aim, rates, grids=[asked], shares=[share], estimator=estimators[0], requests_per_day=requests_per_day)[0]
    needed = mark.days if timed else mark.needed
    title = f"days of held-out traffic at {short_percent(share)} explored" if timed else "held-out exploration rows"
    x = alt.X("lift:Q", scale=alt.Scale(type="log", nice=False), title="relative lift to resolve (%)", axis=alt.Axis(format="~g"))
    y = alt.Y("needed:Q", scale=alt.Scale(type="log"), title=title, axis=alt.Axis(format="~s", tickCount=7))
    colour = alt.Color("grid:N", sort=names, scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])), title="grid")
    styles = [estimator.title for estimator in estimators]
    dash = alt.StrokeDash("estimator:N", scale=alt.Scale(domain=styles, range=[[1, 0], [6, 4]][: len(styles)]), legend=None)
    line = alt.Chart(inline(rows)).mark_line(strokeWidth=2.2, clip=True).encode(x, y, colour, dash)
    point = alt.Chart(inline([{"lift": 100 * aim.lift, "needed": needed}]))
    layers: list[Any] = [line]
    if timed:
        limit = alt.Chart(inline([{"needed": days, "lift": 100 * aim.lift / 5}]))
        said = limit.mark_text(style="note", align="left", baseline="bottom", dx=4, dy=-3, text=f"{days:g} days")
        layers += [limit.mark_rule(style="zero", strokeDash=[2, 3]).encode(y), said.encode(x, y)]
    told = f"{asked.name}: {time_words(needed)}" if timed else f"{asked.name}: {count_words(needed)} rows"
    layers += [
        point.mark_point(filled=True, size=110, opacity=1, style="label").encode(x, y),
        point.mark_text(style="label", align="left", dx=9, dy=-9, text=told).encode(x, y),
    ]
    decides = rates[mark.hardest].objective
    subtitle = [
        f"{short_percent(aim.power)} power, {short_percent(aim.confidence)} confidence; {decides} needs the most rows",
        f"Solid: {styles[0]}" + (f"; dashed: {styles[1]}" if len(styles) > 1 else ""),
    ]
    heading = f"A {short_percent(aim.lift)} lift on {asked.name} takes {time_words(needed) if timed else count_words(needed) + ' rows'}"
    return finished(alt.layer(*layers).properties(width=_INNER, height=360), title=heading, subtitle=subtitle)


def time_words(days: float) -> str:
    """Return days in words, rounded up: hours below a day, years beyond two."""
    if not np.isfinite(days):
        return "an unknown time"
    if days < 1:
        hours = max(1, int(np.ceil(days * 24)))
        return f"{hours} hour{'s' * (hours > 1)}"
    if days > 730:
        return f"{days / 365.25:,.1f} years"
    whole = int(np.ceil(days))
    return f"{whole} day{'s' * (whole > 1)}"


def short_percent(share: float) -> str:
    """Return a fraction as a per cent of at most three digits, such as 1.25 %; a dash for NaN."""
    return f"{100 * share:.3g} %" if np.isfinite(share) else MISSING


def count_words(rows: float) -> str:
    """Return a number of rows to three digits, such as 69.2 million."""
    for size, word in ((1e9, " billion"), (1e6, " million")):
        if rows >= size:
            return f"{rows / size:.3g}{word}"
    return f"{float(f'{rows:.3g}'):,.0f}"


def _lines(grids: Sequence[Grid], estimator: Estimator) -> list[tuple[str, Grid]]:
    """Return a label and a grid of each line: grids that need the same rows (K / gain) fall into one."""
    same: dict[float, list[Grid]] = {}
    for grid in grids:
        same.setdefault(round(grid.actions / estimator.gain_on(grid.actions), 9), []).append(grid)
    every = len(same) == 1 and len(grids) > 1
    return [("every grid" if every else " = ".join(grid.name for grid in group), group[0]) for group in same.values()]
