"""The pictures people choose from: the front, lifts along the sweep, picks offline and online.

The rule: each picture exists once; the command line, notebooks, the HTML report and the console draw the same one. Each returns an
Altair chart that is legible without its caption. Lifts are drawn in per cent of production. Policies without overlap (NaN) are not drawn.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from paretune.errors import DataError
from paretune.frontier.front import Front
from paretune.frontier.worth import PREFERRED
from paretune.records import Bools, Floats, Ints
from paretune.report.front_labels import better_lines, label_layers
from paretune.report.labels import LINE_HEIGHT
from paretune.report.tables import Outcome, percent, signed, worded
from paretune.report.theme import ESTIMATE, ONLINE, REFERENCE, TRUTH, WIDTH, finished, inline

MOST_POINTS = 25
_PLOT = (WIDTH - 70, 440)


def front_figure(
    front: Front, *, axes: tuple[int, int] = (0, 1), truth: Floats | None = None, minimised: frozenset[str] = frozenset()
) -> alt.TopLevelMixin:
    """Return the front: two objectives' lifts of the swept policies with simultaneous bands, picks and static references.

    Args:
        front: the swept family; at most 25 of its policies are drawn, picks always among them.
        axes: the objectives across and up.
        truth: (P, M) true relative lifts, where a simulated world knows them.
        minimised: objectives of which less is better; their axes are turned, so that better is always to the right and upwards.

    Raises:
        DataError: fewer than two objectives, or no policy has an estimate.
    """
    lifts, (across, up) = front.lifts, axes
    if max(axes) >= len(lifts.objectives):
        raise DataError(f"no objectives {axes} among {lifts.objectives}", hint="draw a one-objective sweep with the lift picture")
    xy = 100 * lifts.estimate[:, [across, up]]
    drawn = np.isfinite(xy).all(axis=1)
    if not drawn.any():
        raise DataError("no policy of the sweep has an estimate", hint="widen the exploration slice; no logged request took their actions")
    swept = _thinned(front, drawn)
    picked = sorted({pick.policy for pick in front.picks if drawn[pick.policy]})
    still = [i for i, p in enumerate(front.policies) if p.kind != "alpha" and i not in picked and drawn[i] and (xy[i] != 0).any()]
    references = np.array(still, dtype=int)
    shown = np.unique(np.concatenate([swept, references, picked])).astype(int)
    actual = 100 * truth[:, [across, up]] if truth is not None else None
    bands = 100 * np.stack([lifts.band_low[:, [across, up]], lifts.band_high[:, [across, up]]], axis=1)  # (P, 2 ends, 2 axes)
    seen = [xy[shown], np.zeros((1, 2)), *([actual[swept]] if actual is not None else [])]
    domain = _domain(np.concatenate(seen), bands[shown].reshape(-1, 2))
    domain = (_turned(domain[0], lifts.objectives[across] in minimised), _turned(domain[1], lifts.objectives[up] in minimised))
    titles = [f"{worded(lifts.objectives[j], minimised)}: lift over production (%)" for j in axes]
    x = alt.X("x:Q", scale=alt.Scale(domain=domain[0], nice=False), title=titles[0])
    y = alt.Y("y:Q", scale=alt.Scale(domain=domain[1], nice=False), title=titles[1])

    layers = [*_quadrant(domain, x, y), *_crosses(xy, bands, swept, picked, references, x, y)]
    if actual is not None and len(swept):
        layers += _truth(actual, swept, x, y, along_alpha=front.policies[swept[0]].alpha is not None)
    layers += _family(front, xy, swept, references, picked, x, y)
    layers += label_layers(front, xy, bands, actual, swept=swept, references=references, picked=picked, domain=domain, size=_PLOT, x=x, y=y)
    chart = alt.layer(*layers).properties(width=_PLOT[0], height=_PLOT[1])
    missing = int((~drawn).sum())
    whole = int(drawn[_family_rows(front)].sum())
    drawn_of = f"{len(swept)} of {whole}" if whole > len(swept) else f"{len(swept)}"
    along, every = ("policies α", "") if len(lifts.objectives) == 2 else ("policies", f" in all {len(lifts.objectives)} objectives at once")
    how = [
        f"{drawn_of} {along} of one model on {lifts.n_rows:,} held-out requests; {lifts.estimator}",
        f"Crosses: {percent(lifts.confidence)} bands that hold for all at once"
        + (f"; {missing} without overlap left out" if missing else ""),
        f"Blue, filled: not dominated{every}; hollow: dominated" + ("" if actual is None else ". Orange: the truth"),
    ]
    return finished(chart, title=_front_title(front, axes), subtitle=how)


def lift_figure(front: Front, *, truth: Floats | None = None, minimised: frozenset[str] = frozenset()) -> alt.TopLevelMixin:
    """Return each objective's lift along the sweep, with pointwise intervals and simultaneous bands.

    Args:
        front: the swept family.
        truth: (P, M) true relative lifts, where a simulated world knows them.
        minimised: objectives of which less is better; their axes are turned, so that better is always upwards.

    Raises:
        DataError: the front holds no policy of the alpha family.
    """
    lifts = front.lifts
    swept = _family_rows(front)
    if not len(swept):
        raise DataError("the front holds no swept policy", hint="sweep alpha before drawing lifts along it")
    confidence = percent(lifts.confidence)
    names = [f"{confidence} band, all at once", f"{confidence} interval, each alone"]
    rows: list[dict[str, Any]] = []
    for j, objective in enumerate(lifts.objectives):
        for p in swept:
            here = {"objective": objective, "alpha": front.policies[p].alpha}
            for name, low, high in ((names[0], lifts.band_low, lifts.band_high), (names[1], lifts.low, lifts.high)):
                rows.append({**here, "kind": name, "low": 100 * low[p, j], "high": 100 * high[p, j]})
            rows.append({**here, "line": "estimate", "lift": 100 * lifts.estimate[p, j]})
            if truth is not None:
                rows.append({**here, "line": "truth", "lift": 100 * truth[p, j]})
    lines, hues = (["estimate", "truth"], [ESTIMATE, TRUTH]) if truth is not None else (["estimate"], [ESTIMATE])
    x = alt.X("alpha:Q", title=f"α: weight on {lifts.objectives[0]}", scale=alt.Scale(nice=False))
    base, limits = alt.Chart(), _limits(rows, "lift", "low", "high")
    shade = alt.Opacity(
        "kind:O", sort=names, scale=alt.Scale(domain=names, range=[0.16, 0.26]), title=None, legend=alt.Legend(symbolType="square")
    )
    colour = alt.Color("line:N", scale=alt.Scale(domain=lines, range=hues), title=None)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=lines, range=[[1, 0], [6, 4]][: len(lines)]), title=None)
    columns = min(len(lifts.objectives), 2)

    def panel(objective: str) -> Any:
        scale = alt.Scale(domain=limits, reverse=objective in minimised, nice=False)
        area = base.transform_filter("isValid(datum.low)").mark_area(color=ESTIMATE)
        band = area.encode(x, alt.Y("low:Q", scale=scale), alt.Y2("high:Q"), opacity=shade)
        line = base.transform_filter("isValid(datum.lift)").mark_line(strokeWidth=2.2)
        line = line.encode(x, alt.Y("lift:Q", scale=scale, title="lift over production (%)"), color=colour, strokeDash=dash)
        zero = base.transform_aggregate(n="count()").mark_rule(style="zero").encode(y=alt.datum(0))
        layered = alt.layer(band, zero, line, data=inline([row for row in rows if row["objective"] == objective]))
        return _headed(layered.properties(width=_PLOT[0] // columns - 32, height=260), worded(objective, minimised))

    chart = alt.concat(*(panel(objective) for objective in lifts.objectives), columns=columns, spacing=20)
    better = np.array([-1.0 if name in minimised else 1.0 for name in lifts.objectives])
    good = ((lifts.estimate[swept] * better > 0).all(axis=1)).sum()
    title = f"{good} of {len(swept)} swept policies are estimated to improve every objective"
    how = f"Zero is production. {lifts.n_rows:,} held-out requests of {lifts.n_users:,} users"
    how += "; better is upwards" * bool(minimised.intersection(lifts.objectives))
    return finished(chart, title=title, subtitle=how)


def picks_figure(
    front: Front, *, online: Outcome | None = None, truth: Floats | None = None, minimised: frozenset[str] = frozenset()
) -> alt.TopLevelMixin:
    """Return each pick's lift as it was predicted offline, as it was seen online and as it truly is.

    Args:
        front: the swept family with its picks.
        online: lifts of the picks seen in an A/B test, in the order of the picks.
        truth: (P, M) true relative lifts, where a simulated world knows them.
        minimised: objectives of which less is better; their axes are turned, so that better is always to the right.

    Raises:
        DataError: the front has no picks.
    """
    if not front.picks:
        raise DataError("the front has no picks", hint="choose picks before drawing them")
    lifts, rows = front.lifts, []
    for place, pick in enumerate(front.picks):
        for j, objective in enumerate(lifts.objectives):
            p, here = pick.policy, {"pick": pick.label, "objective": objective}
            rows.append({**here, "source": "offline estimate", **_ends(lifts.estimate[p, j], lifts.band_low[p, j], lifts.band_high[p, j])})
            if online is not None:
                rows.append({**here, "source": "online", **_ends(online.estimate[place, j], online.low[place, j], online.high[place, j])})
            if truth is not None:
                rows.append({**here, "source": "truth", **_ends(truth[p, j], np.nan, np.nan)})
    present = {row["source"] for row in rows}
    styles = {"offline estimate": (ESTIMATE, "circle"), "online": (ONLINE, "square"), "truth": (TRUTH, "diamond")}
    domain = [source for source in styles if source in present]
    colour = alt.Color("source:N", scale=alt.Scale(domain=domain, range=[styles[s][0] for s in domain]), title=None)
    shape = alt.Shape("source:N", scale=alt.Scale(domain=domain, range=[styles[s][1] for s in domain]), title=None)
    labels = list(dict.fromkeys(pick.label for pick in front.picks))
    limits, width = _limits(rows, "lift", "low", "high"), (_PLOT[0] - 50) // len(lifts.objectives) - 10

    def panel(j: int, objective: str) -> alt.LayerChart:
        names = alt.Axis(labelFontSize=13, labelLimit=160, grid=False, labels=j == 0, ticks=j == 0)
        y = alt.Y("pick:N", sort=labels, title=None, axis=names)
        scale = alt.Scale(domain=limits, reverse=objective in minimised, nice=False)
        x = alt.X("lift:Q", title="lift over production (%)", scale=scale, axis=alt.Axis(grid=True, tickCount=6))
        base = alt.Chart().encode(y, yOffset=alt.YOffset("source:N", sort=domain), color=colour)
        bars = base.mark_rule(strokeWidth=2.2).encode(alt.X("low:Q", scale=scale), alt.X2("high:Q"))
        points = base.mark_point(filled=True, size=80, opacity=1).encode(x, shape=shape, tooltip=_tips("pick", "source", "lift"))
        zero = alt.Chart().transform_aggregate(n="count()").mark_rule(style="zero").encode(x=alt.datum(0))
        layered = alt.layer(zero, bars, points, data=inline([row for row in rows if row["objective"] == objective]))
        return _headed(layered.properties(width=width, height=alt.Step(20, **{"for": "offset"})), worded(objective, minimised))

    chart = alt.hconcat(*(panel(j, objective) for j, objective in enumerate(lifts.objectives)), spacing=20)
    words = {"online": "what the A/B test saw", "truth": "the truth"}
    against = [words[source] for source in domain if source in words]
    title = "Picks: the offline estimate" + (" beside " + " and ".join(against) if against else " of each lift")
    how = f"Zero is production. Offline bars: {percent(lifts.confidence)} band over the whole sweep" + (
        "; online bars: its own" * (online is not None)
    )
    how += "; better is to the right" * bool(minimised.intersection(lifts.objectives))
    return finished(chart, title=title, subtitle=how)


def _headed(panel: Any, title: str) -> Any:
    """Return a panel of a row with its own heading."""
    return panel.properties(title=alt.TitleParams(title, anchor="middle", frame="group", fontSize=13, offset=6))


def _limits(rows: list[dict[str, Any]], *keys: str) -> list[float]:
    """Return limits that hold every number and zero, with some room."""
    seen = np.array([row[key] for row in rows for key in keys if key in row and np.isfinite(row[key])] + [0.0])
    pad = 0.05 * max(float(np.ptp(seen)), 0.1)
    return [float(seen.min()) - pad, float(seen.max()) + pad]


def _turned(limits: list[float], turned: bool) -> list[float]:
    return limits[::-1] if turned else limits


def _front_title(front: Front, axes: tuple[int, int]) -> str:
    if not front.picks:
        return "No policy of the sweep is put forward"
    pick = next((pick for wanted in PREFERRED for pick in front.picks if pick.label == wanted), front.picks[0])
    lifts = [f"{signed(front.lifts.estimate[pick.policy, j], 1)} {front.lifts.objectives[j]}" for j in axes]
    return f"The {pick.label} pick is estimated at {lifts[0]} and {lifts[1]}"


def _family_rows(front: Front) -> Ints:
    """Return the swept policies: in order of alpha with two objectives, as they were swept with more."""
    family = [(0.0 if policy.alpha is None else policy.alpha, i) for i, policy in enumerate(front.policies) if policy.kind == "alpha"]
    return np.array([i for _, i in sorted(family)], dtype=int)


def _thinned(front: Front, drawn: Bools) -> Ints:
    """Return at most 25 swept policies in order of alpha, evenly spread, picks always among them."""
    family = _family_rows(front)
    family = family[drawn[family]]
    if len(family) <= MOST_POINTS:
        return family
    picks = {pick.policy for pick in front.picks}
    fixed = [place for place, p in enumerate(family) if p in picks]
    spread = np.linspace(0, len(family) - 1, max(2, MOST_POINTS - len(fixed))).round().astype(int)
    return family[np.unique(np.concatenate([spread, np.array(fixed, dtype=int)]))]


def _domain(points: Floats, bands: Floats) -> tuple[list[float], list[float]]:
    """Return x and y limits: every point, and bands as far as they leave the points readable; longer ones run off the edge."""
    limits = []
    for column, ends in zip(points.T, bands.T, strict=True):
        low, high = float(column.min()), float(column.max())
        room = 1.2 * max(high - low, 0.5)
        low, high = (
            min(low, max(float(np.nanmin(ends, initial=low)), low - room)),
            max(high, min(float(np.nanmax(ends, initial=high)), high + room)),
        )
        pad = 0.07 * (high - low)
        limits.append([low - pad, high + pad])
    return limits[0], limits[1]


def _quadrant(domain: tuple[list[float], list[float]], x: alt.X, y: alt.Y) -> list[Any]:
    corner = inline([{"x": 0.0, "y": 0.0, "x2": domain[0][1], "y2": domain[1][1]}])
    area = alt.Chart(corner).mark_rect(style="better").encode(x, y, alt.X2("x2:Q"), alt.Y2("y2:Q"))
    lines = better_lines(domain, _PLOT)
    words = alt.Chart(corner).mark_text(style="note", align="right", baseline="top", dx=-6, dy=6, text=lines, lineHeight=LINE_HEIGHT)
    across = alt.Chart(corner).mark_rule(style="zero").encode(y=alt.Y("y:Q"))
    upwards = alt.Chart(corner).mark_rule(style="zero").encode(x=alt.X("x:Q"))
    return [area, words.encode(alt.X("x2:Q"), alt.Y("y2:Q")), across, upwards]


def _crosses(xy: Floats, bands: Floats, swept: Ints, picked: list[int], references: Ints, x: alt.X, y: alt.Y) -> list[Any]:
    layers = []
    groups = (
        ([p for p in swept if p not in picked], ESTIMATE, 1.0, 0.26),
        (picked, ESTIMATE, 2.0, 0.75),
        (references, REFERENCE, 1.2, 0.55),
    )
    for group, colour, width, opacity in groups:
        rows = [
            {"x": xy[p, 0], "y": xy[p, 1], "l": bands[p, 0, 0], "r": bands[p, 1, 0], "b": bands[p, 0, 1], "t": bands[p, 1, 1]}
            for p in group
        ]
        base = alt.Chart(inline([row for row in rows if np.isfinite(list(row.values())).all()]))
        base = base.mark_rule(color=colour, strokeWidth=width, opacity=opacity, clip=True)
        layers.append(base.encode(alt.X("l:Q"), y, alt.X2("r:Q")))
        layers.append(base.encode(x, alt.Y("b:Q"), alt.Y2("t:Q")))
    return layers


def _truth(actual: Floats, swept: Ints, x: alt.X, y: alt.Y, *, along_alpha: bool) -> list[Any]:
    rows = [{"x": actual[p, 0], "y": actual[p, 1], "order": i} for i, p in enumerate(swept)]
    base = alt.Chart(inline(rows)).encode(x, y)
    line = base.mark_line(color=TRUTH, strokeWidth=1.4 if along_alpha else 0, strokeDash=[5, 3]).encode(order="order:Q")
    return [line, base.mark_point(style="hollow", filled=False, color=TRUTH, size=38, strokeWidth=1.4, opacity=1)]


def _family(front: Front, xy: Floats, swept: Ints, references: Ints, picked: list[int], x: alt.X, y: alt.Y) -> list[Any]:
    rows = [
        {
            "x": xy[p, 0],
            "y": xy[p, 1],
            "order": i,
            "policy": front.policies[p].name,
            "alpha": front.policies[p].alpha,
            "best": front.non_dominated[p],
        }
        for i, p in enumerate(swept)
    ]
    base = alt.Chart(inline(rows)).encode(x, y)
    tips = _tips("policy", "alpha", "x", "y")
    ordered = len(swept) > 0 and front.policies[swept[0]].alpha is not None  # other families have no one way through
    line = base.mark_line(color=ESTIMATE, strokeWidth=1.2 if ordered else 0, opacity=0.6).encode(order="order:Q")
    hollow = base.transform_filter("!datum.best").mark_point(style="hollow", filled=False, color=ESTIMATE, size=34, opacity=1)
    full = base.transform_filter("datum.best").mark_point(filled=True, color=ESTIMATE, size=60, opacity=1).encode(tooltip=tips)
    picks = [{"x": xy[p, 0], "y": xy[p, 1], "policy": front.policies[p].name} for p in picked]
    ring = (
        alt.Chart(inline(picks))
        .mark_point(filled=True, color=ESTIMATE, size=190, opacity=1)
        .encode(x, y, tooltip=_tips("policy", "x", "y"))
    )
    still = [{"x": xy[p, 0], "y": xy[p, 1], "policy": front.policies[p].name} for p in references]
    square = alt.Chart(inline(still)).mark_point(filled=True, shape="square", color=REFERENCE, size=110, opacity=1)
    centre = alt.Chart(inline([{"x": 0.0, "y": 0.0}])).mark_point(style="production", shape="diamond", size=170, opacity=1, filled=True)
    return [line, hollow.encode(tooltip=tips), full, square.encode(x, y, tooltip=_tips("policy", "x", "y")), centre.encode(x, y), ring]


def _ends(lift: float, low: float, high: float) -> dict[str, float]:
    return {"lift": 100 * lift, "low": 100 * low, "high": 100 * high}


def _tips(*names: str) -> list[alt.Tooltip]:
    numbers = {"x", "y", "lift", "low", "high", "alpha"}
    return [alt.Tooltip(f"{name}:Q", format=".2f") if name in numbers else alt.Tooltip(f"{name}:N") for name in names]
