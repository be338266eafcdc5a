"""The picture of weeks of operation: who was served, what a guardrail saw, and what happened when.

The rule: every event that changed anything stands on the time axis with its name, so that the picture tells the story by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import altair as alt

from paretune.errors import DataError
from paretune.report.tables import Table
from paretune.report.theme import ESTIMATE, FAINT, ONLINE, TRUTH, WIDTH, finished, inline

KINDS = {"people": ONLINE, "guardrails": TRUTH, "world": FAINT, "verdict": ESTIMATE}  # whose doing an event is -> its hue
Moment = tuple[float, str, str, str]
"""Seconds since 1970, what, detail, kind."""


def timeline_figure(events: Sequence[Moment], days: Sequence[tuple[float, float, float]], *, watched: str, title: str) -> alt.TopLevelMixin:
    """Return the share of users served, the lift of one guarded objective as each look saw it, and the events under both.

    Args:
        events: in any order.
        days: (seconds since 1970, share of users served a policy, lift of the guarded objective or NaN) of each look.
        watched: name of that objective.
        title: says what is to be seen.

    Raises:
        DataError: nothing was looked at, or nothing happened.
    """
    if not days or not events:
        raise DataError("no look or no event to draw", hint="serve for a day or more")
    events = sorted(events)
    span = [_iso(min(events[0][0], days[0][0])), _iso(max(days[-1][0], events[-1][0]))]
    x = alt.X("at:T", title=None, scale=alt.Scale(domain=span), axis=alt.Axis(format="%d %b", grid=True))
    rows = [{"at": _iso(at), "share": 100 * share, "lift": 100 * lift} for at, share, lift in days]
    base = alt.Chart(inline(rows))
    share = base.mark_area(interpolate="step-after", color=ESTIMATE, opacity=0.5)
    share = share.encode(x, alt.Y("share:Q", title="users served a policy (%)", scale=alt.Scale(domain=[0, 100])))
    lift = base.transform_filter("isValid(datum.lift)").mark_line(color=TRUTH, strokeWidth=1.8)
    lift = lift.encode(x, alt.Y("lift:Q", title=f"{watched}: lift seen (%)"))
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(style="zero").encode(y="zero:Q")
    told = [{"at": _iso(at), "what": what, "detail": detail, "kind": kind, "row": i} for i, (at, what, detail, kind) in enumerate(events)]
    hue = alt.Color("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values())), title=None)
    place = alt.Y("row:O", axis=None)
    middle = (events[0][0] + max(days[-1][0], events[-1][0])) / 2
    dots = alt.Chart(inline(told)).mark_point(filled=True, size=80, opacity=1).encode(x, place, hue, tooltip=["what:N", "detail:N"])
    early, late = ([row for row, event in zip(told, events, strict=True) if (event[0] < middle) == side] for side in (True, False))
    words = [
        alt.Chart(inline(early)).mark_text(align="left", dx=10, style="label").encode(x, place, text="what:N"),
        alt.Chart(inline(late)).mark_text(align="right", dx=-10, style="label").encode(x, place, text="what:N"),
    ]
    width = WIDTH - 70
    story = alt.layer(dots, *words).properties(width=width, height=max(60, 21 * len(told)))
    chart = alt.vconcat(share.properties(width=width, height=110), (lift + zero).properties(width=width, height=150), story, spacing=14)
    how = "Green: people; orange: guardrails, by themselves; grey: what the world did; blue: verdicts"
    return finished(chart, title=title, subtitle=how)


def timeline_table(events: Sequence[Moment]) -> Table:
    """Return all events, the earliest first."""
    rows = tuple((_said(at), what, detail, kind) for at, what, detail, kind in sorted(events))
    return Table("What happened", ("when (UTC)", "what", "details", "whose doing"), rows)


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _said(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
