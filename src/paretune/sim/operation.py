"""Weeks of a world under a plan: hours of traffic at a time, written as service and join would have written them. An edge: writes logs.

The rule: who is served what is read off the plan in force, as a decision service reads it. An incident is something that goes wrong
where a policy is served (a page that shows its lists badly, say), and that users answer by one kind of event more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from paretune.logs.parquet import write_day
from paretune.policy.plan import Plan
from paretune.seeds import stream
from paretune.sim.tested import REQUESTS_PER_SESSION, PlayedArm, arm_columns
from paretune.sim.traffic import EPOCH_DAY, Chooser
from paretune.sim.world import World

DAY_S = 86_400
_ROOM = 1_000_000  # numbers of sessions and requests that each part of a day may use


@dataclass(frozen=True, slots=True)
class Incident:
    """What goes wrong while it goes on."""

    objective: int  # whose events become more
    chance: float  # that a request of an arm with a policy earns one event more


def time_of(day: int, part: int = 0, parts: int = 1) -> float:
    """Return the seconds since 1970 at which a part of a day of the world begins."""
    return (EPOCH_DAY + day + part / parts) * DAY_S


def play(
    world: World,
    logs: Path,
    plan: Plan | None,
    choosers: Mapping[str, Chooser],
    *,
    day: int,
    part: int,
    parts: int,
    requests_per_day: int,
    explore_share: float = 0.0,
    incident: Incident | None = None,
    seed: int = 0,
) -> int:
    """Write one part of a day, and return its number of rows.

    Args:
        world: whose users answer.
        logs: folder of the log.
        plan: in force; None, or a killed one, serves everybody the static weights.
        choosers: how each policy's arm chooses, by name of the arm; other arms are static.
        day: since the world began.
        part: of the day, from 0.
        parts: of a day.
        requests_per_day: about.
        explore_share: explored at least, whatever the plan says.
        incident: that goes on.
        seed: of the traffic.
    """
    served = plan is not None and not plan.killed
    arms = [PlayedArm(arm.name, arm.share, choosers.get(arm.name)) for arm in plan.arms] if plan is not None and served else []
    explored = max(explore_share, plan.exploration.share if plan is not None and served else 0.0)
    rng = stream(seed, "operation", world.name, day * parts + part)
    n_sessions = max(1, round(requests_per_day / parts / REQUESTS_PER_SESSION))
    frame = arm_columns(
        world,
        arms,
        n_sessions,
        day=day,
        tested=served,
        explore_share=explored,
        salt=plan.salt if plan is not None else "arms",
        candidates=True,
        first=part * _ROOM,
        rng=rng,
    )
    if incident is not None:
        hit = frame["arm"].is_in(list(choosers)).to_numpy() & (rng.random(len(frame)) < incident.chance)
        column = world.config().objectives[incident.objective].column
        frame = frame.with_columns((pl.col(column) + pl.Series(hit.astype(np.int64))).cast(frame.schema[column]))
    begins, lasts = int(time_of(day, part, parts) * 1e6), DAY_S * 1_000_000 // parts
    within = np.sort(rng.integers(0, lasts, len(frame)))
    frame = frame.with_columns(pl.Series("ts", begins + within).cast(pl.Datetime("us")))
    write_day(logs, EPOCH_DAY + day, frame.to_dict(), part=part)
    return len(frame)
