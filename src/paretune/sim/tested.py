"""Traffic of a test with users in arms, written as the log that service and join would write. An edge: `write_test` writes Parquet.

The rule: a user's arm is that of the product's own salted hash, explored requests stay in their user's arm, and before the test everybody
is served the static weights and is in no arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from paretune.explore.assign import OUTSIDE, arm_of
from paretune.logs import schema
from paretune.logs.decisions import ARM
from paretune.logs.hashing import hash_integers
from paretune.logs.parquet import write_day
from paretune.ports import Progress, silent
from paretune.records import OFF_GRID, PRODUCTION, Floats, Ints
from paretune.seeds import stream
from paretune.sim.traffic import EPOCH_DAY, Choice, Chooser, log_columns, sessions
from paretune.sim.world import Arrivals, World

REQUESTS_PER_SESSION = 1.85  # about; only sets how many sessions are drawn
DEFAULT = "static"  # arm of users whom no share takes


@dataclass(frozen=True, slots=True)
class PlayedArm:
    """An arm of a simulated test."""

    name: str
    share: float  # of users
    choose: Chooser | None = None  # None = the static weights


def fixed(world: World, weights: Floats) -> Chooser:
    """Return the chooser that serves everybody one weight vector (m,)."""
    action = int(world.surface.index(weights[None])[0])

    def choose(arrivals: Arrivals, rng: np.random.Generator) -> Choice:  # noqa: ARG001
        n = len(arrivals)
        actions = np.full(n, action if action >= 0 else OFF_GRID, dtype=np.int32)
        return Choice(actions, np.tile(weights, (n, 1)), np.ones(n), np.zeros(n, dtype=np.bool_))

    return choose


def write_test(
    world: World,
    folder: Path,
    arms: Sequence[PlayedArm],
    *,
    days: range,
    requests_per_day: int,
    before: int = 0,
    explore_share: float = 0.0,
    salt: str = "arms",
    seed: int = 0,
    progress: Progress = silent,
) -> int:
    """Write a test as a log with the column `arm`, one Parquet folder per day, and return its number of rows.

    Args:
        world: whose users answer.
        folder: new or existing; files of the same day are replaced.
        arms: of the test; users whom no share takes are in the arm `static`.
        days: day numbers since the world began, those before the test among them.
        requests_per_day: about how many rows a day has.
        before: so many of the days come before the test.
        explore_share: share of requests explored uniformly, in every arm alike.
        salt: of the split of users.
        seed: of the traffic.
        progress: told the share done.
    """
    total = 0
    for done, day in enumerate(days):
        rng, n_sessions = stream(seed, "test", world.name, day), max(1, round(requests_per_day / REQUESTS_PER_SESSION))
        frame = arm_columns(world, arms, n_sessions, day=day, tested=done >= before, explore_share=explore_share, salt=salt, rng=rng)
        write_day(folder, EPOCH_DAY + day, frame.to_dict())
        total += len(frame)
        progress((done + 1) / len(days), f"day {day}")
    return total


def arm_columns(
    world: World,
    arms: Sequence[PlayedArm],
    n_sessions: int,
    *,
    day: int,
    tested: bool = True,
    explore_share: float = 0.0,
    salt: str = "arms",
    candidates: bool = False,
    first: int = 0,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return the log rows of some sessions of a day whose users are in arms.

    Args:
        world: whose users answer.
        arms: see `write_test`.
        n_sessions: that begin.
        day: since the world began.
        tested: False serves everybody the static weights, in no arm.
        explore_share: share of requests explored uniformly, in every arm alike.
        salt: of the split of users.
        candidates: log them with explored requests.
        first: number of the first session and of the first request within the day.
        rng: source of the traffic.
    """
    names, grid = np.array([*(arm.name for arm in arms), DEFAULT]), len(world.surface.actions) - 1
    chosen_by = np.array([arm.choose is not None for arm in arms] + [False])

    def placed(user: Ints) -> Ints:
        if not arms:
            return np.zeros(len(user), dtype=np.int64)
        found = arm_of(hash_integers(user), shares=[arm.share for arm in arms], salt=salt)
        return np.where(found == OUTSIDE, len(arms), found)

    def served(arrivals: Arrivals, rng: np.random.Generator) -> Choice:
        n, arm = len(arrivals), placed(arrivals.user)
        action, weights = np.full(n, PRODUCTION, dtype=np.int32), np.tile(world.surface.static, (n, 1))
        for index, played in enumerate(arms):
            rows = np.flatnonzero(arm == index)
            if tested and played.choose is not None and len(rows):
                choice = played.choose(arrivals.take(rows), rng)
                action[rows], weights[rows] = choice.action, choice.weights
        explored = rng.random(n) < explore_share
        action[explored] = rng.integers(1, grid + 1, int(explored.sum()))
        weights[explored] = world.surface.actions[action[explored]]
        return Choice(action, weights, np.where(explored, 1 / grid, 1.0), explored)

    frames, written = [], 0
    for wave in sessions(world, n_sessions, day=day, choose=served, rng=rng):
        columns = log_columns(world, wave, first_session=first, first_request=first + written, candidates=candidates)
        arm = placed(wave.arrivals.user)
        reason = np.where(chosen_by[arm] & tested, schema.REASON_POLICY, schema.REASON_STATIC)
        columns["reason"] = pl.Series(np.where(wave.choice.explored, schema.REASON_EXPLORE, reason))
        columns[ARM] = pl.Series(np.where(tested, names[arm], ""))
        columns["action"] = pl.Series(wave.choice.action).set(pl.Series(wave.choice.action == OFF_GRID), None)
        frames.append(pl.DataFrame(columns))
        written += len(wave.arrivals)
    return pl.concat(frames)
