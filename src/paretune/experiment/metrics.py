"""What a test is judged by: every objective per request, sessions with a success, and how much of each may be lost.

The rule: each metric is a ratio of two sums of a user; what may be lost is a margin of the relative lift: the one that was asked for, else
the guardrail's floor, else the smallest lift worth having (whoever would not notice a gain of that size would not notice a loss).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.experiment.lifts import Ratio
from paretune.experiment.users import REQUESTS, SESSIONS, SUCCESSFUL

SUCCESSFUL_SESSIONS = "successful sessions"
_BEFORE = "before "


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that arms are compared by."""

    name: str
    ratio: Ratio
    sign: int  # +1 where more is better, -1 where less is
    margin: float  # of the relative lift that may be lost, >= 0
    guardrail: bool = False


def metrics_of(
    config: Config, columns: Sequence[str], *, margins: Mapping[str, float] | None = None, sessions: bool = True
) -> tuple[Metric, ...]:
    """Return the objectives of a configuration, then the sessions.

    Args:
        config: objectives, guardrails, smallest lift.
        columns: of the moments, in order; with columns of before, metrics are adjusted by them.
        margins: relative lift that may be lost, by metric.
        sessions: judge by sessions too.

    Raises:
        ConfigError: a margin is negative, or of something that is no metric.
    """
    floors = {guardrail.objective: abs(guardrail.floor_pct) / 100 for guardrail in config.guardrails}
    asked, place = dict(margins or {}), {name: index for index, name in enumerate(columns)}
    smallest = config.evaluation.smallest_lift_pct / 100

    def metric(name: str, above: str, below: str, *, sign: int) -> Metric:
        earlier = (place[_BEFORE + above], place[_BEFORE + below]) if _BEFORE + above in place else None
        margin = asked.get(name, floors.get(name, smallest))
        return Metric(name, Ratio(name, place[above], place[below], earlier), sign, margin, guardrail=name in floors)

    found = [
        metric(objective.name, f"reward:{j}", REQUESTS, sign=1 if objective.direction == "maximise" else -1)
        for j, objective in enumerate(config.objectives)
    ]
    if sessions and any(objective.direction == "maximise" for objective in config.objectives):
        found.append(metric(SUCCESSFUL_SESSIONS, SUCCESSFUL, SESSIONS, sign=1))
    names = [one.name for one in found]
    for name in asked:
        if name not in names:
            raise ConfigError(f"a margin of {name!r}, which is no metric; metrics are {names}", hint="write --margin METRIC=PER_CENT")
    for one in found:
        if not (0 <= one.margin < 1 if one.sign > 0 else 0 <= one.margin < np.inf):
            raise ConfigError(
                f"a margin of {100 * one.margin:g} % of {one.name}", hint="give what may be lost, from 0 to below 100 per cent"
            )
    return tuple(found)
