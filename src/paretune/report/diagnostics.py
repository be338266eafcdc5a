"""The pictures that say whether to trust the choice: weights served, head contributions, ranges, engagement, log checks, training.

The rule: plain arrays in, an Altair chart out that is legible without its caption; nothing here reads a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from paretune.errors import DataError
from paretune.frontier.front import Front
from paretune.records import Floats, Ints
from paretune.report.front_labels import pick_labels
from paretune.report.tables import percent
from paretune.report.theme import ESTIMATE, FAINT, ONLINE, TRUTH, WIDTH, finished, inline
from paretune.surface.contribution import EngagementBins
from paretune.surface.heads import Surface

_INNER = WIDTH - 70


@dataclass(frozen=True, slots=True)
class WeightRange:
    """How a head's share of utility grows with its weight, the other heads staying static."""

    head: str
    weights: Floats  # (W,) increasing, positive
    shares: Floats  # (W,) in [0, 1]
    production: float
    low: float  # proposed or configured range; NaN when the head is not tuned
    high: float


def weights_figure(front: Front, surface: Surface, *, policies: tuple[int, ...] | None = None) -> alt.TopLevelMixin:
    """Return how often each pick chooses each weight of the first two tuned heads (of the only one, if one is tuned).

    Args:
        front: the swept family; action shares of a policy may be NaN when it is off the grid, and it is then left out.
        surface: the surface whose actions the shares are of.
        policies: which policies to draw; those of the picks when left out.

    Raises:
        DataError: none of the policies serves grid actions, or the shares belong to another surface.
    """
    labels = pick_labels(front)
    wanted = policies if policies is not None else tuple(labels)
    wanted = tuple(p for p in wanted if np.isfinite(front.action_shares[p]).all())
    if not wanted:
        raise DataError("no policy to draw serves grid actions", hint="name policies that choose among the surface's actions")
    if front.action_shares.shape[1] != len(surface):
        raise DataError(f"shares of {front.action_shares.shape[1]} actions, a surface of {len(surface)}", hint="use the surface of the log")
    heads = [surface.heads[i] for i in surface.tuned]
    sizes = [len(head.levels) for head in heads]
    across, up = heads[0], heads[1] if len(heads) > 1 else None
    cells, marks = [], []
    panels = [labels.get(p, front.policies[p].name) for p in wanted]
    for panel, p in zip(panels, wanted, strict=True):
        shares = front.action_shares[p]
        grid = shares[1:].reshape(sizes).sum(axis=tuple(range(2, len(sizes)))).reshape(sizes[0], -1)
        for (i, j), share in np.ndenumerate(grid):
            cells.append({"policy": panel, "x": i, "y": j, "share": 100 * share})
        for kind, vector in (("production", surface.static), ("policy's average", front.mean_weights[p])):
            at = [float(np.interp(vector[i], surface.heads[i].levels, np.arange(len(surface.heads[i].levels)))) for i in surface.tuned[:2]]
            marks.append({"policy": panel, "mark": kind, "x": at[0], "y": at[1] if up else 0.0})
    columns = 2 if len(wanted) in (2, 4) else min(len(wanted), 3)
    side = min(230, _INNER // columns - 14)
    height = side if up else 46
    x = _levels_axis(across.levels, f"{across.name} weight", labelAngle=-45)
    y = _levels_axis(up.levels, f"{up.name} weight") if up else {"axis": None, "scale": alt.Scale(domain=[-0.5, 0.5])}
    colour = alt.Fill("share:Q", scale=alt.Scale(domainMin=0), title="share of requests (%)", legend=alt.Legend(gradientLength=180))
    base = alt.Chart().transform_calculate(x1="datum.x - 0.5", x2="datum.x + 0.5", y1="datum.y - 0.5", y2="datum.y + 0.5")
    tiles = base.transform_filter("isValid(datum.share)").mark_rect()
    tiles = tiles.encode(
        alt.X("x1:Q", **x), alt.Y("y1:Q", **y), alt.X2("x2:Q"), alt.Y2("y2:Q"), fill=colour, tooltip=[alt.Tooltip("share:Q", format=".1f")]
    )
    kinds = ["production", "policy's average"]
    key = alt.Shape("mark:N", scale=alt.Scale(domain=kinds, range=["cross", "diamond"]), title=None)
    hue = alt.Color("mark:N", scale=alt.Scale(domain=kinds, range=[TRUTH, ONLINE]), title=None)
    spots = base.transform_filter("isValid(datum.mark)").mark_point(filled=True, size=110, opacity=1)
    spots = spots.encode(alt.X("x:Q", **x), alt.Y("y:Q", **y), shape=key, color=hue)
    layered = alt.layer(tiles, spots, data=inline(cells + marks))
    chart = layered.properties(width=side, height=height).facet(alt.Facet("policy:N", title=None, sort=panels), columns=columns)
    kept = ", ".join(f"{panel} {percent(front.action_shares[p][0])}" for panel, p in zip(panels, wanted, strict=True))
    rest = f"; summed over {', '.join(head.name for head in heads[2:])}" if len(heads) > 2 else ""
    title = "Weights are chosen per request: how often each pick serves each"
    return finished(chart, title=title, subtitle=[f"Production weights kept for: {kept} of requests{rest}"])


def contribution_figure(names: tuple[str, ...], shares: Floats, *, tuned: tuple[str, ...] = ()) -> alt.TopLevelMixin:
    """Return each head's share of utility under production weights (Eq. 11), largest first.

    Args:
        names: (m,) head names.
        shares: (m,) in [0, 1].
        tuned: names of the tuned heads.
    """
    kinds = ["tuned", "static"]
    largest = [names[i] for i in np.argsort(-np.asarray(shares), kind="stable")]
    rows = [{"head": n, "share": 100 * s, "kind": kinds[n not in tuned]} for n, s in zip(names, shares, strict=True)]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[ESTIMATE, FAINT]), title=None, legend=alt.Legend() if tuned else None)
    base = alt.Chart(inline(rows)).encode(alt.Y("head:N", sort=largest, title=None, axis=alt.Axis(labelFontSize=13, labelLimit=160)))
    bars = base.mark_bar(height={"band": 0.7}).encode(alt.X("share:Q", title="share of utility under production weights (%)"), color=colour)
    numbers = base.mark_text(style="label", align="left", dx=5).encode(alt.X("share:Q"), text=alt.Text("share:Q", format=".1f"))
    said = [name for name in largest if name in tuned] or largest[:1]
    share = sum(float(shares[names.index(name)]) for name in said)
    title = f"{_listed(said)} {'make' if len(said) > 1 else 'makes'} up {percent(share)} of utility"
    chart = alt.layer(bars, numbers).properties(width=_INNER - 40, height=alt.Step(30))
    return finished(chart, title=title, subtitle="Average over logged candidates of |weight × score| / Σ |weight × score|")


def weight_range_figure(ranges: tuple[WeightRange, ...]) -> alt.TopLevelMixin:
    """Return each head's share of utility over its weight, with production and the range to explore.

    Raises:
        DataError: there is no range to draw.
    """
    if not ranges:
        raise DataError("there is no weight range to draw", hint="tune at least one head")
    panels = []
    for place, item in enumerate(ranges):
        curve = inline([{"weight": w, "share": 100 * s} for w, s in zip(item.weights, item.shares, strict=True)])
        at = float(np.interp(item.production, item.weights, item.shares))
        x = alt.X(
            "weight:Q",
            scale=alt.Scale(type="log", nice=False),
            title=f"{item.head} weight",
            axis=alt.Axis(format="~g", tickCount=4, grid=False),
        )
        y = alt.Y("share:Q", scale=alt.Scale(domain=[0, 100]), title="share of utility (%)" if place == 0 else None)
        line = alt.Chart(curve).mark_line(color=ESTIMATE, strokeWidth=2.2).encode(x, y)
        dot = alt.Chart(inline([{"weight": item.production, "share": 100 * at}]))
        layers: list[Any] = []
        if np.isfinite([item.low, item.high]).all():
            span = inline([{"low": item.low, "high": item.high}])
            layers.append(alt.Chart(span).mark_rect(style="better").encode(alt.X("low:Q"), alt.X2("high:Q")))
        layers += [line, dot.mark_point(filled=True, color=TRUTH, size=90, opacity=1).encode(x, y)]
        left = item.production > np.sqrt(item.weights[0] * item.weights[-1])
        word = dot.mark_text(style="label", align="right" if left else "left", dx=-10 if left else 10, text="production")
        panels.append(alt.layer(*layers, word.encode(x, y)).properties(width=_INNER // min(len(ranges), 3) - 26, height=230))
    chart = alt.concat(*panels, columns=3)
    title = "How far each weight can move its head's share of utility"
    return finished(chart, title=title, subtitle="The other heads keep their static weights. Shaded: the range to explore")


def engagement_figure(bins: Mapping[str, EngagementBins]) -> alt.TopLevelMixin:
    """Return the mean event count over equal-frequency bins of requests, per objective (App. A.3).

    Raises:
        DataError: there is nothing to draw.
    """
    if not bins:
        raise DataError("there are no engagement bins to draw", hint="bin the event counts of at least one objective")
    panels = []
    for place, (objective, found) in enumerate(bins.items()):
        n = len(found.mean_count)
        rows = [{"low": 100 * i / n, "high": 100 * (i + 1) / n, "mean": mean, "zero": 0} for i, mean in enumerate(found.mean_count)]
        base = alt.Chart(inline(rows))
        x = alt.X("low:Q", scale=alt.Scale(domain=[0, 100]), title="requests, fewest events first (%)")
        y = alt.Y("mean:Q", scale=alt.Scale(nice=True), axis=alt.Axis(tickCount=5), title="mean events per request" if place == 0 else None)
        bars = base.mark_rect(color=ESTIMATE).encode(x, y, alt.X2("high:Q"), alt.Y2("zero:Q"))
        one = alt.Chart(inline([{"low": 0, "mean": 1}]))
        clip = one.mark_rule(color=TRUTH, strokeDash=[6, 4], strokeWidth=1.6).encode(y)
        said = one.mark_text(style="note", align="left", baseline="bottom", dx=4, dy=-3, text="clipped here: min(count, 1)")
        said = said.encode(x, y)
        side = _INNER // min(len(bins), 2) - 26
        panels.append(alt.layer(bars, clip, said).properties(width=side, height=220, title=alt.TitleParams(objective, fontSize=13)))
    least = min(found.at_most_one for found in bins.values())
    title = f"At least {np.floor(100 * least):.0f} % of requests have at most one event"
    return finished(
        alt.concat(*panels, columns=2),
        title=title,
        subtitle="Each bar holds the same number of requests; the tail on the right is why counts are clipped",
    )


def log_figure(days: Ints, explored: Ints, production: Ints, *, action_counts: Ints, action_expected: Floats) -> alt.TopLevelMixin:
    """Return rows per day by kind, and rows per action against what the design promised.

    Args:
        days: (D,) days since 1970-01-01.
        explored: (D,) exploration rows of each day.
        production: (D,) rows served under static weights.
        action_counts: (A,) exploration rows of each grid action, first action first.
        action_expected: (A,) rows the design expects.

    Raises:
        DataError: shapes disagree, or there are no rows.
    """
    days, counts, expected = np.asarray(days), np.asarray(action_counts), np.asarray(action_expected, dtype=np.float64)
    if not (len(days) == len(explored) == len(production) > 0 and counts.shape == expected.shape and len(counts) and expected.sum() > 0):
        raise DataError("counts per day or per action do not fit together", hint="give one count per day and kind, and per action")
    rows = [
        {"date": str(np.datetime64(int(day), "D")), "kind": kind, "rows": int(n)}
        for kind, column in (("exploration", explored), ("production", production))
        for day, n in zip(days, column, strict=True)
    ]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=["exploration", "production"], range=[ESTIMATE, FAINT]), legend=None)
    bars = (
        alt.Chart()
        .mark_bar(width={"band": 0.8})
        .encode(
            alt.X("yearmonthdate(date):O", title=None, axis=alt.Axis(format="%d %b", labelAngle=-45, labelOverlap=True)),
            alt.Y("rows:Q", title="rows per day", axis=alt.Axis(format=",d", tickCount=4)),
            color=colour,
        )
    )
    daily = alt.layer(bars, data=inline(rows)).properties(width=_INNER, height=110)
    daily = daily.facet(row=alt.Row("kind:N", title=None, header=alt.Header(labelOrient="top", labelAnchor="start"))).resolve_scale(
        y="independent"
    )

    noise = 3 * np.sqrt(expected * np.clip(1 - expected / expected.sum(), 0, None))
    off = np.abs(counts - expected) > noise
    points = [
        {"action": i + 1, "rows": int(n), "low": e - s, "high": e + s, "kind": "outside" if o else "within"}
        for i, (n, e, s, o) in enumerate(zip(counts, expected, noise, off, strict=True))
    ]
    base = alt.Chart(inline(points))
    x = alt.X(
        "action:Q", title="grid action", scale=alt.Scale(domain=[0, len(counts) + 1], nice=False), axis=alt.Axis(tickMinStep=1, grid=False)
    )
    y = alt.Y("low:Q", scale=alt.Scale(zero=False), title="exploration rows", axis=alt.Axis(format=",d"))
    promised = base.mark_rule(color=FAINT, opacity=0.45, strokeWidth=max(3.0, 0.6 * _INNER / len(counts))).encode(x, y, alt.Y2("high:Q"))
    hue = alt.Color("kind:N", scale=alt.Scale(domain=["within", "outside"], range=[ESTIMATE, TRUTH]), legend=None)
    seen = base.mark_point(filled=True, size=46, opacity=1).encode(
        x, alt.Y("rows:Q"), color=hue, tooltip=["action:Q", "rows:Q", "low:Q", "high:Q"]
    )
    names = base.transform_filter("datum.kind == 'outside'").mark_text(style="label", dy=-12).encode(x, alt.Y("rows:Q"), text="action:Q")
    support = alt.layer(promised, seen, names).properties(
        width=_INNER, height=190, title=alt.TitleParams("Rows per action; bars: expected ± 3 standard errors", fontSize=13)
    )
    missing = int(days.max() - days.min() + 1 - len(np.unique(days)))
    share = explored.sum() / max(1, explored.sum() + production.sum())
    gaps = f"{missing} of {int(days.max() - days.min() + 1)} days have no rows" if missing else f"all {len(np.unique(days))} days have rows"
    drawn = (
        f"{int(off.sum())} of {len(counts)} actions off the expected count" if off.any() else "every action is drawn as often as designed"
    )
    title = f"{gaps[0].upper()}{gaps[1:]}; {drawn}"
    chart = alt.vconcat(daily, support, spacing=26).resolve_scale(color="independent")
    return finished(chart, title=title, subtitle=f"{int(explored.sum()):,} exploration rows ({percent(share, 2)} of all)")


def _levels_axis(levels: tuple[float, ...], title: str, **axis: Any) -> dict[str, Any]:
    """Return the options of an axis over level indices that is labelled with the levels."""
    step = 1 + len(levels) // 12
    ticks = alt.Axis(
        values=list(range(0, len(levels), step)), labelExpr=f"{[f'{level:.3g}' for level in levels]}[datum.value]", grid=False, **axis
    )
    return {"scale": alt.Scale(domain=[-0.5, len(levels) - 0.5], nice=False, zero=False), "axis": ticks, "title": title}


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
