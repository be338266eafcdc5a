"""The report's pictures as specifications for a page, with the dial's marker on the front. Pure.

The rule: the console draws what the report draws; it adds a layer with a data set of its own, which the page fills as the dial moves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt

from paretune.console.live import Live
from paretune.errors import DataError
from paretune.frontier.front import Front
from paretune.report.diagnostics import weights_figure
from paretune.report.figures import front_figure
from paretune.report.tables import worded
from paretune.report.theme import ESTIMATE, FAINT, ONLINE, TRUTH, WIDTH, finished, inline
from paretune.surface.heads import Surface

MARKED = "marked"  # name of the data set
REASONS = ("POLICY", "EXPLORE", "STATIC", "FALLBACK")
HUES = (ESTIMATE, ONLINE, FAINT, TRUTH)  # of the reasons
_SLOWEST_MS = 1_000.0  # what is beyond the services' last bound is drawn here


def front_specification(front: Front) -> dict[str, Any]:
    """Return the front as a Vega-Lite specification without its theme, with an empty data set MARKED of `mark_of` rows."""
    minimised = frozenset(front.minimised)
    specification = _plain(front_figure(front, minimised=minimised))
    titles = [f"{worded(name, minimised)}: lift over production (%)" for name in front.lifts.objectives[:2]]
    specification["layer"] += marker_layers(*titles)
    specification.setdefault("datasets", {})[MARKED] = []
    return specification


def marker_layers(across: str, up: str) -> list[dict[str, Any]]:
    """Return the layers of the marker: a ring, and its band as a cross.

    Args:
        across: title of the horizontal axis, as the other layers have it.
        up: of the vertical axis.
    """

    def at(name: str, title: str) -> dict[str, Any]:
        return {"field": name, "type": "quantitative", "title": title}

    data, what = {"name": MARKED}, {"field": "what", "type": "nominal", "legend": None, "scale": {"range": [[1, 0], [5, 3]]}}
    cross = {"type": "rule", "color": TRUTH, "strokeWidth": 2}
    ring = {"type": "point", "filled": False, "size": 420, "strokeWidth": 3, "color": TRUTH}
    return [
        {
            "data": data,
            "mark": cross,
            "encoding": {"x": at("x", across), "y": at("low_y", up), "y2": {"field": "high_y"}, "strokeDash": what},
        },
        {
            "data": data,
            "mark": cross,
            "encoding": {"x": at("low_x", across), "x2": {"field": "high_x"}, "y": at("y", up), "strokeDash": what},
        },
        {"data": data, "mark": ring, "encoding": {"x": at("x", across), "y": at("y", up), "strokeDash": what}},
    ]


def mark_of(front: Front, policy: int, *, what: str) -> dict[str, Any]:
    """Return the row of MARKED that marks a policy, in per cents; empty where it has no estimate.

    Args:
        front: swept, over two objectives or more; the first two are drawn.
        policy: its index.
        what: "1 dial" or "2 compared".
    """
    lifts = front.lifts
    names = ("x", "y", "low_x", "low_y", "high_x", "high_y")
    numbers = [100 * float(row[policy, j]) for row in (lifts.estimate, lifts.band_low, lifts.band_high) for j in (0, 1)]
    if not all(abs(number) < 1e9 for number in numbers):
        return {}
    return {"what": what, **dict(zip(names, numbers, strict=True))}


def weights_specification(front: Front, surface: Surface, policy: int) -> dict[str, Any] | None:
    """Return how often a policy serves each weight, as a specification without its theme; None where it serves no grid actions.

    Args:
        front: swept.
        surface: whose grid.
        policy: its index.
    """
    try:
        return _plain(weights_figure(front, surface, policies=(policy,)))
    except DataError:
        return None


def live_specifications(steps: Sequence[tuple[float, Live]]) -> list[dict[str, Any]]:
    """Return decisions by reason and their latency over the last minutes; nothing before anything was decided.

    Args:
        steps: (seconds before now, what happened in the step), the oldest first.
    """
    steps = [(ago, live) for ago, live in steps if live.seconds > 0]
    counted = [
        {"ago": -round(ago, 1), "reason": kind, "rate": live.share(kind) * live.total / live.seconds if live.total else 0.0}
        for ago, live in steps
        for kind in REASONS
    ]
    if not any(row["rate"] for row in counted):
        return []
    x = alt.X("ago:Q", title="seconds ago", axis=alt.Axis(labelExpr="-datum.value"), scale=alt.Scale(nice=False))
    colour = alt.Color("reason:N", sort=list(REASONS), scale=alt.Scale(domain=list(REASONS), range=list(HUES)), title=None)
    area = alt.Chart(inline(counted)).mark_area(interpolate="step-after").encode(x, alt.Y("rate:Q", title="decisions per second"), colour)
    late = [
        {"ago": -round(ago, 1), "which": which, "ms": min(1e3 * live.quantile_s(quantile), _SLOWEST_MS)}
        for ago, live in steps
        for which, quantile in (("half of them within", 0.5), ("99 % within", 0.99))
        if live.total
    ]
    dash = alt.StrokeDash("which:N", sort=["half of them within", "99 % within"], title=None)
    line = alt.Chart(inline(late)).mark_line(interpolate="step-after", color=ESTIMATE)
    line = line.encode(x, alt.Y("ms:Q", title="milliseconds", scale=alt.Scale(type="log")), dash)
    size = {"width": WIDTH - 70, "height": 200}
    return [
        _plain(finished(area.properties(**size), title="Decisions by reason")),
        _plain(finished(line.properties(**size), title="How long a decision takes", subtitle="upper bounds, as the services count them")),
    ]


def _plain(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart as a specification; the page adds the theme."""
    specification: dict[str, Any] = json.loads(chart.to_json(validate=False))
    specification.pop("config", None)
    return specification
