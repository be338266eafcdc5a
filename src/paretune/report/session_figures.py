"""Requests against sessions, as tables and one picture.

The rule: both axes are lifts of the same policies over production; agreement is a rising order of the points, not the diagonal, because one
decision of a session is diluted by the others.
"""

from __future__ import annotations

import altair as alt

from paretune.frontier.horizon import Horizon
from paretune.ope.sessions import Wald
from paretune.records import Floats
from paretune.report.tables import Table, interval, percent
from paretune.report.theme import ESTIMATE, WIDTH, finished, inline


def horizon_table(horizon: Horizon) -> Table:
    """Return the lifts of every policy on request and session reward, one row each."""
    rows = []
    for p, name in enumerate(horizon.policies):
        cells = [
            interval(horizon.estimate[p, h, j], horizon.low[p, h, j], horizon.high[p, h, j])
            for j in range(len(horizon.objectives))
            for h in (0, 1)
        ]
        rows.append((name, *cells))
    columns = ("policy", *(f"{name}, {what}" for name in horizon.objectives for what in ("request", "session")))
    note = f"Lifts over production; bands hold for all of them at once, at {percent(horizon.confidence)}."
    return Table("Lifts on the request's reward and until the session's end", columns, tuple(rows), note)


def agreement_table(horizon: Horizon) -> Table:
    """Return how alike both rewards rank the policies, one row per objective."""
    rows = []
    for name, each in zip(horizon.objectives, horizon.agreement, strict=True):
        tau = f"{each.tau:.2f} ({each.low:.2f} … {each.high:.2f})".replace("-", "−")
        first, second = (horizon.policies[p] for p in each.best)
        rows.append((name, tau, first, second, "yes" if first == second else "no", percent(each.same_best)))
    columns = ("objective", "Kendall's tau", "best by request", "best by session", "same", "same in draws")
    return Table("Do requests and sessions rank alike?", columns, tuple(rows))


def carry_over_table(tests: tuple[Wald, ...]) -> Table:
    """Return the tests of what the previous weights do to the next request."""
    rows = [(test.outcome, f"{test.rows:,}", f"{test.statistic:.2f}", f"{test.p_value:.3g}", percent(test.largest, 1)) for test in tests]
    note = (
        "F tests with errors clustered by user. A next request exists only where the session went on: read the first row before the others."
    )
    return Table("Does the previous decision carry over?", ("outcome", "rows", "F", "p", "spread over the grid"), tuple(rows), note)


def horizon_figure(horizon: Horizon, sentence: str) -> alt.TopLevelMixin:
    """Return one panel per objective: each policy's lift on the session against its lift on the request, with bands.

    Args:
        horizon: of the family.
        sentence: what is to be seen, the title.
    """
    charts = []
    side = (WIDTH - 80) // len(horizon.objectives) - 20
    for j, objective in enumerate(horizon.objectives):
        rows = [
            {
                "policy": name,
                **{f"{axis}{end}": 100 * numbers[p, h, j] for axis, h in (("x", 0), ("y", 1)) for end, numbers in _numbers(horizon)},
            }
            for p, name in enumerate(horizon.policies)
        ]
        x = alt.X("x:Q", title=f"{objective}: lift on the request (%)", scale=alt.Scale(zero=False))
        y = alt.Y("y:Q", title="lift on the session (%)" if j == 0 else None, scale=alt.Scale(zero=False))
        base = alt.Chart(inline(rows))
        rule = base.mark_rule(color=ESTIMATE, opacity=0.25, clip=True)
        across = rule.encode(alt.X("xlow:Q"), y, alt.X2("xhigh:Q"))
        upwards = rule.encode(x, alt.Y("ylow:Q"), alt.Y2("yhigh:Q"))
        tips = [alt.Tooltip("policy:N"), alt.Tooltip("x:Q", format=".2f"), alt.Tooltip("y:Q", format=".2f")]
        points = base.mark_point(filled=True, size=60, color=ESTIMATE, opacity=1).encode(x, y, tooltip=tips)
        zero = alt.Chart(inline([{}]))
        lines = [zero.mark_rule(style="zero").encode(x=alt.datum(0)), zero.mark_rule(style="zero").encode(y=alt.datum(0))]
        charts.append(alt.layer(*lines, across, upwards, points).properties(width=side, height=side))
    answer, _, reason = sentence.partition(": ")
    how = f"Points that rise from left to right: the same order. Bars: {percent(horizon.confidence)} bands over all numbers."
    return finished(alt.hconcat(*charts), title=answer, subtitle=[reason[:1].upper() + reason[1:], how])


def _numbers(horizon: Horizon) -> tuple[tuple[str, Floats], ...]:
    return (("", horizon.estimate), ("low", horizon.low), ("high", horizon.high))
