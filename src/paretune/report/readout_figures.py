"""A readout as tables and two pictures: lifts with what may be lost, and what each look could say.

The rule: intervals that are drawn hold for all arms and metrics at once; the bar of a fixed horizon and that of a sequence are told apart,
and the one that the verdicts are read off is named. A lift of which nothing may be said yet is not drawn.
"""

from __future__ import annotations

import altair as alt
import numpy as np

from paretune.errors import DataError
from paretune.experiment.metrics import Metric
from paretune.experiment.readout import FIXED, Readout
from paretune.experiment.users import Exposure
from paretune.experiment.verdict import BETTER, KEPT, OPEN, WORSE
from paretune.logs.parquet import day_name
from paretune.records import Floats
from paretune.report.tables import MISSING, Table, interval, percent, signed, worded
from paretune.report.theme import ESTIMATE, FAINT, ONLINE, SERIES, TRUTH, WIDTH, finished, inline

WORDS = {BETTER: "better", KEPT: "not inferior", OPEN: "open", WORSE: "worse"}
HUES = {BETTER: ONLINE, KEPT: ESTIMATE, OPEN: FAINT, WORSE: TRUTH}
_ABREAST = 4  # panels of a row
_WIDEST = 4.0  # times the last interval, above which early looks leave the picture


def named(metric: Metric) -> str:
    """Return a metric's name, with a word where less of it is better."""
    return worded(metric.name, frozenset({metric.name}) if metric.sign < 0 else frozenset())


def limit_words(metric: Metric) -> str:
    """Return what may be lost of a metric, in words."""
    return "nothing may be lost" if metric.margin == 0 else f"may {'fall' if metric.sign > 0 else 'rise'} by {percent(metric.margin, 2)}"


def split_table(found: Readout, exposed: Exposure) -> Table:
    """Return the sample ratio test: units seen and expected by arm, and the share of explored requests."""
    ratio = found.ratio
    rows = [
        (arm, f"{seen:,.0f}", f"{expected:,.0f}", percent(share, 2), percent(exposed.explored.get(arm, float("nan")), 2))
        for arm, seen, expected, share in zip(ratio.arms, ratio.seen, ratio.expected, ratio.share, strict=True)
    ]
    known = np.isfinite(ratio.p_value)
    said = f"χ² test: p = {ratio.p_value:.3g}; below 0.001 nothing is said of any arm." if known else "One arm: there is nothing to test."
    note = f"{said} An arm is its {ratio.unit}, whatever they were served: explored and fallen-back requests count in it."
    if exposed.moved:
        note += f" {exposed.moved:,} users changed their arm and count in their first."
    if exposed.armless:
        note += f" {exposed.armless:,} requests of no arm are left out."
    mark = "✗ " if ratio.failed else ""
    return Table(f"{mark}Sample ratio", ("arm", f"{ratio.unit} seen", "by the plan", "share", "explored requests"), tuple(rows), note)


def lifts_table(found: Readout) -> Table:
    """Return every lift with its intervals and what it says of its metric."""
    rows = []
    for a, arm in enumerate(found.arms):
        for m, metric in enumerate(found.metrics):
            rows.append((
                arm if m == 0 else "",
                named(metric),
                *(f"{found.value[place, m]:.4g}" for place in (0, a + 1)),
                interval(found.lift[a, m], found.low[a, m], found.high[a, m]),
                _ends(found.band_low[a, m], found.band_high[a, m]),
                _ends(found.watched_low[-1, a, m], found.watched_high[-1, a, m]),
                limit_words(metric),
                WORDS.get(found.verdicts[a].findings[m], "") if not found.blocked else "–",
            ))  # fmt: skip
    adjusted = [f"{metric.name} {percent(share)}" for metric, share in zip(found.metrics, found.explained, strict=True) if share > 0]
    note = (
        f"Relative to {found.control}, by user, {percent(found.confidence)}. Bands hold for all lifts at once on the planned last day, "
        f"always-valid ones at every look too; verdicts are read off the {'bands' if found.basis == FIXED else 'always-valid ones'}."
    )
    if adjusted:
        note += f" Adjusted by what users did before, which explains of the variance: {', '.join(adjusted)}."
    columns = ("arm", "metric", found.control, "arm's", "lift (alone)", "band", "always valid", "margin", "says")
    return Table("Lifts", columns, tuple(rows), note)


def power_table(found: Readout) -> Table:
    """Return what the test can see now, and how many users the smallest lift worth having takes."""
    rows = []
    for a, arm in enumerate(found.arms):
        for m, metric in enumerate(found.metrics):
            users = found.needed[a, m]
            cells = (percent(found.detectable[a, m], 2), f"{users:,.0f}" if np.isfinite(users) else MISSING)
            rows.append((arm if m == 0 else "", named(metric), *cells))
    note = (
        f"With 80 % power, by the bands; {found.users.sum():,.0f} users are in the compared arms now. Users needed: at these shares, "
        "as long as each user is seen for as long."
    )
    return Table("What the test can see", ("arm", "metric", "lift seen now", f"users for {percent(found.smallest, 2)}"), tuple(rows), note)


def cohort_table(found: Readout) -> Table | None:
    """Return the lifts inside each cohort, and of everybody; None where they were not asked for."""
    parts = found.by_cohort
    if parts is None:
        return None
    rows = []
    for a, arm in enumerate(found.arms):
        for c, cohort in enumerate(parts.cohorts):
            cells = [_lift(parts.lift[c, a, m], parts.low[c, a, m], parts.high[c, a, m]) for m in range(len(found.metrics))]
            rows.append((arm if c == 0 else "", cohort, f"{parts.users[c, 0]:,.0f}", f"{parts.users[c, a + 1]:,.0f}", *cells))
        cells = [_lift(found.lift[a, m], found.band_low[a, m], found.band_high[a, m]) for m in range(len(found.metrics))]
        rows.append(("", "everybody", f"{found.users[0]:,.0f}", f"{found.users[a + 1]:,.0f}", *cells))
    note = (
        "A user is in the cohort of the first request. Bands hold for all cohorts at once on the planned last day; everybody's lift is of "
        "the sums over all cohorts, not the mean of theirs."
    )
    columns = ("arm", "cohort", f"users of {found.control}", "of the arm", *(named(metric) for metric in found.metrics))
    return Table("Lifts by cohort", columns, tuple(rows), note)


def forest_figure(found: Readout) -> alt.TopLevelMixin:
    """Return every lift with both intervals: a panel per metric, a row per arm, the margin dashed."""
    charts = []
    columns = min(len(found.metrics), _ABREAST)
    width = (WIDTH - 110) // columns - 22
    for m, metric in enumerate(found.metrics):
        rows = []
        for a, arm in enumerate(found.arms):
            said = OPEN if found.blocked else found.verdicts[a].findings[m]
            ends = _drawn(found.band_low[a, m], found.band_high[a, m]), _drawn(found.watched_low[-1, a, m], found.watched_high[-1, a, m])
            known = np.isfinite(ends[1]).all()
            lift = 100 * found.lift[a, m] if known else np.nan
            rows.append({
                "arm": arm, "lift": lift, "says": WORDS[said], "text": signed(found.lift[a, m], 1) if known else "too few events yet",
                "low": ends[0][0], "high": ends[0][1], "wlow": ends[1][0], "whigh": ends[1][1],
            })  # fmt: skip
        y = alt.Y(
            "arm:N",
            sort=list(found.arms),
            title=None,
            axis=alt.Axis(labels=m % columns == 0, ticks=m % columns == 0, grid=False, labelLimit=110),
        )
        x = alt.X("lift:Q", title=f"{metric.name} (%)", axis=alt.Axis(tickCount=3), scale=alt.Scale(nice=False, padding=24))
        shown = list(dict.fromkeys(WORDS.values()))
        colour = alt.Color("says:N", title=None, scale=alt.Scale(domain=shown, range=[HUES[said] for said in WORDS]))
        base = alt.Chart(inline(rows))
        watched = base.mark_rule(strokeWidth=1.4).encode(alt.X("wlow:Q"), y, alt.X2("whigh:Q"), color=colour)
        band = base.mark_rule(strokeWidth=5, opacity=0.55).encode(alt.X("low:Q"), y, alt.X2("high:Q"), color=colour)
        tips = [alt.Tooltip("arm:N"), alt.Tooltip("text:N", title="lift")]
        points = base.mark_point(filled=True, size=75, opacity=1).encode(x, y, color=colour, tooltip=tips)
        text = base.mark_text(dy=-12, fontSize=11, style="label").encode(x, y, text="text:N")
        once = alt.Chart(inline([{}]))
        lines = [once.mark_rule(style="zero").encode(x=alt.datum(0))]
        if metric.margin:
            lines.append(once.mark_rule(style="zero", strokeDash=[4, 3]).encode(x=alt.datum(-100 * metric.sign * metric.margin)))
        above = alt.TitleParams(
            "lower is better" if metric.sign < 0 else "", fontSize=12, fontWeight=400, anchor="middle", frame="group", offset=4
        )
        charts.append(alt.layer(*lines, watched, band, points, text).properties(width=width, height=alt.Step(46), title=above))
    how = [
        f"Lift over {found.control} by user, {found.users.sum():,.0f} users. Solid line: no change; dashed: what may be lost.",
        f"Thick: {percent(found.confidence)} band for all lifts at once on the planned day; thin: always valid, also while one watches.",
        f"Colours by the {'bands: the test is at its planned end' if found.basis == FIXED else 'always-valid intervals'}.",
    ]
    answers = [found.verdicts[0].sentence] if len(found.arms) == 1 else [f"{verdict.arm}: {verdict.answer}" for verdict in found.verdicts]
    return finished(alt.concat(*charts, columns=columns, spacing=14), title=_short("; ".join(answers)), subtitle=how)


def sequence_figure(found: Readout) -> alt.TopLevelMixin:
    """Return what each look could say: a panel per metric, the always-valid interval of each arm over the days.

    Raises:
        DataError: there was one look only.
    """
    if len(found.days) < 2:
        raise DataError("one look makes no sequence", hint="draw the lifts alone on the first day")
    charts = []
    columns = 2 if len(found.metrics) > 1 else 1
    width = WIDTH // columns - 66
    hues = alt.Scale(domain=list(found.arms), range=list(SERIES[: len(found.arms)]))
    first = found.days[0]
    for m, metric in enumerate(found.metrics):
        rows, labels = [], []
        for a, arm in enumerate(found.arms):
            for t, day in enumerate(found.days):
                low, high = _drawn(found.watched_low[t, a, m], found.watched_high[t, a, m])
                lift = 100 * found.seen_lift[t, a, m] if np.isfinite(low) else np.nan
                rows.append({"arm": arm, "day": int(day - first + 1), "date": day_name(day), "lift": lift, "low": low, "high": high})
            if np.isfinite(rows[-1]["lift"]):
                labels.append(rows[-1])
        ends = np.array([[row["low"], row["high"], row["lift"]] for row in rows], dtype=np.float64)
        what = f"{metric.name}: lift (%)" if metric.sign > 0 else f"{metric.name}: lift (%), lower is better"
        y = alt.Y("low:Q", title=what, scale=alt.Scale(domain=_domain(found, m, ends), nice=False))
        x = alt.X("day:Q", title="day of the test", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False, padding=8))
        colour = alt.Color("arm:N", scale=hues, title=None, legend=None if len(found.arms) == 1 else alt.Legend())
        base = alt.Chart(inline(rows)).transform_filter("isValid(datum.lift)")
        area = base.mark_area(opacity=0.16, clip=True).encode(x, y, alt.Y2("high:Q"), color=colour)
        tips = [alt.Tooltip("arm:N"), alt.Tooltip("date:N"), *(alt.Tooltip(f"{k}:Q", format=".2f") for k in ("lift", "low", "high"))]
        line = base.mark_line(strokeWidth=2.2, point=True, clip=True).encode(x, alt.Y("lift:Q"), color=colour, tooltip=tips)
        once = alt.Chart(inline([{}]))
        lines = [once.mark_rule(style="zero").encode(y=alt.datum(0))]
        if metric.margin:
            lines.append(once.mark_rule(style="zero", strokeDash=[4, 3]).encode(y=alt.datum(-100 * metric.sign * metric.margin)))
        charts.append(alt.layer(*lines, area, line).properties(width=width, height=190))
    complete = bool(np.isfinite(found.watched_high).all())
    title = f"What each of {len(found.days)} looks could say"
    how = [
        f"Shaded: {percent(found.confidence)} for all arms and metrics at once, however often one looks. "
        f"Planned for {found.planned_days} days.",
        "Solid line: no change; dashed: what may be lost." + ("" if complete else " Looks with too few users or events are left out."),
    ]
    return finished(alt.concat(*charts, columns=columns, spacing=18), title=title, subtitle=how)


def _domain(found: Readout, m: int, ends: Floats) -> list[float]:
    """Return limits of y that show the later looks, zero and the margin; the first looks may leave the picture."""
    metric = found.metrics[m]
    known = ends[np.isfinite(ends).all(axis=1)]
    if not len(known):
        return [-1.0, 1.0]
    last = [100 * found.watched_low[-1, :, m], 100 * found.watched_high[-1, :, m]]
    half = np.nanmax(np.where(np.isfinite(last[1]), last[1] - last[0], np.nan)) / 2 if np.isfinite(last[1]).any() else np.ptp(known)
    middle = known[-1, 2]
    low = max(known[:, 0].min(), min(known[:, 2].min(), middle) - _WIDEST * half)
    high = min(known[:, 1].max(), max(known[:, 2].max(), middle) + _WIDEST * half)
    limit = -100 * metric.sign * metric.margin
    low, high = min(low, 0.0, limit), max(high, 0.0, limit)
    return [low - 0.04 * (high - low), high + 0.04 * (high - low)]


def _drawn(low: float, high: float) -> tuple[float, float]:
    return (100 * low, 100 * high) if np.isfinite(low) and np.isfinite(high) else (np.nan, np.nan)


def _ends(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return MISSING
    return f"{signed(low).removesuffix(' %')} … {signed(high).removesuffix(' %')} %"


def _lift(lift: float, low: float, high: float) -> str:
    return interval(lift, low, high) if np.isfinite(high) else MISSING


def _short(sentence: str, most: int = 92) -> str:
    return sentence if len(sentence) <= most else sentence[:most].rsplit(" ", 1)[0] + " …"
