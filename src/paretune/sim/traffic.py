"""Traffic of a world: sessions of requests under any way of choosing weights, written as the log that production would write.

An edge: `write_logs` writes Parquet. The rule: a log row is built from what a service knows (state, decision, ranker scores, events); the
hidden side of `Arrivals` never reaches `log_columns`, and a test reads the files back to prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paretune.logs import schema
from paretune.logs.parquet import binary, ragged_binary, write_day
from paretune.ports import Progress, silent
from paretune.records import PRODUCTION, Bools, Candidates, Floats, Ints
from paretune.seeds import stream
from paretune.sim.response import draw_events, pool_candidates, ranker_scores, satiated, served_lists, true_probabilities
from paretune.sim.world import Arrivals, World
from paretune.surface.lists import list_union, top_lists

EPOCH_DAY = 20_454  # 2026-01-01, the first day of every world
MAX_SESSION = 6
ROWS_PER_CHUNK = 20_000
ROWS_PER_FILE = 60_000  # at least, unless the day has fewer; small files are slow to read
ROWS_PER_BLOCK = 2_048  # whose pools stay in the cache while their lists are made

Chooser = Callable[[Arrivals, np.random.Generator], "Choice"]
WaveChooser = Callable[[Arrivals, Ints, int], "Choice"]  # arrivals, session (n,), position in the sessions


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided for n requests."""

    action: Ints  # (n,) int32; OFF_GRID where the weights are no action
    weights: Floats  # (n, m)
    propensity: Floats  # (n,) float64
    explored: Bools  # (n,)


@dataclass(frozen=True, slots=True)
class Served:
    """Requests, what was decided, and what the users did."""

    arrivals: Arrivals
    choice: Choice
    session: Ints  # (n,) int64, unique within the day
    position: Ints  # (n,) int8 place in the session
    scores: Floats  # (n, C, H) float32 what the ranker predicted of the pool
    lists: Ints  # (n, k) int16 positions in the pool
    events: Ints  # (n, k, H) uint8
    counts: Ints  # (n, M) int32, with long tails


def explore_uniformly(world: World, share: float) -> Chooser:
    """Return the logging policy of the paper: a share of requests draws uniformly from the grid, the rest get the static weights."""
    actions = world.surface.actions

    def choose(arrivals: Arrivals, rng: np.random.Generator) -> Choice:
        n = len(arrivals)
        explored = rng.random(n) < share
        action = np.where(explored, rng.integers(1, len(actions), n), PRODUCTION).astype(np.int32)
        return Choice(action, actions[action], np.where(explored, 1.0 / (len(actions) - 1), 1.0), explored)

    return choose


def serve(world: World, arrivals: Arrivals, choice: Choice, *, session: Ints, position: int, rng: np.random.Generator) -> Served:
    """Return what users do with the lists that the chosen weights make.

    Args:
        world: whose users answer.
        arrivals: n requests.
        choice: weights per request.
        session: (n,) session of each request.
        position: place of these requests in their sessions.
        rng: source of the draws.
    """
    scores = ranker_scores(arrivals, world.catalogue)
    lists = served_lists(scores, choice.weights, world.surface.k)
    events = satiated(draw_events(true_probabilities(arrivals, world.catalogue, lists), world.continuation, rng), rng)
    happened = events[:, :, list(world.objective_heads)].sum(axis=1, dtype=np.int32)
    bursts = np.floor(rng.pareto(1.6, happened.shape)).astype(np.int64).clip(0, 50) * (rng.random(happened.shape) < 0.15)
    counts = (happened + (happened > 0) * bursts).astype(np.int32)
    return Served(arrivals, choice, session, np.full(len(arrivals), position, np.int8), scores, lists, events, counts)


def sessions(world: World, n_sessions: int, *, day: int, choose: Chooser, rng: np.random.Generator) -> Iterator[Served]:
    """Yield one day's requests, wave by wave: the first requests of all sessions, then the second of those that go on, and so on.

    A session goes on more often when the user saved, explored or watched, and less often after a hide.
    """
    return waves(world, n_sessions, day=day, choose=lambda arrivals, session, position: choose(arrivals, rng), rng=rng)  # noqa: ARG005


def waves(world: World, n_sessions: int, *, day: int, choose: WaveChooser, rng: np.random.Generator) -> Iterator[Served]:
    """Yield what `sessions` does, for a chooser that is told the session and the position of each request too."""
    arrivals, session = world.arrive(n_sessions, day=day, rng=rng), np.arange(n_sessions)
    for position in range(MAX_SESSION):
        served = serve(world, arrivals, choose(arrivals, session, position), session=session, position=position, rng=rng)
        yield served
        active = (served.events.any(axis=1) * _stay(world)).sum(axis=1)
        stays = np.flatnonzero(rng.random(len(arrivals)) < np.clip(0.35 + active, 0.05, 0.85))
        if len(stays) == 0:
            return
        arrivals, session = world.again(arrivals.take(stays), rng=rng), session[stays]


def _stay(world: World) -> Floats:
    effect = np.full(len(world.surface.heads), 0.02)
    effect[list(world.objective_heads)] = 0.12
    effect[world.continuation.long_view_head] = max(effect[world.continuation.long_view_head], 0.08)
    effect[world.continuation.hide_head] = -0.25
    return effect


def write_logs(
    world: World,
    folder: Path,
    *,
    days: range,
    requests_per_day: int,
    explore_share: float,
    candidates: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> int:
    """Write a world's traffic as an exploration log, one Parquet folder per day.

    Args:
        world: whose traffic it is.
        folder: new or existing; files of the same day are replaced.
        days: day numbers since the world began.
        requests_per_day: about how many rows a day has.
        explore_share: share of requests explored uniformly.
        candidates: log the union of the top-k lists of all actions on exploration rows.
        seed: of the traffic.
        progress: told the share done.

    Returns:
        Number of rows written.
    """
    choose = explore_uniformly(world, explore_share)
    total = 0
    for done, day in enumerate(days):
        rng = stream(seed, "traffic", world.name, day)
        waiting: list[pl.DataFrame] = []
        written = part = session_base = 0
        while written < requests_per_day:
            n_sessions = min(ROWS_PER_CHUNK, max(1, int((requests_per_day - written) / 1.9) + 1))
            for served in sessions(world, n_sessions, day=day, choose=choose, rng=rng):
                columns = log_columns(world, served, first_session=session_base, first_request=written, candidates=candidates)
                waiting.append(pl.DataFrame(columns))
                written += len(served.arrivals)
            session_base += n_sessions
            if sum(map(len, waiting)) >= ROWS_PER_FILE or written >= requests_per_day:
                write_day(folder, EPOCH_DAY + day, pl.concat(waiting).to_dict(), part=part)
                waiting, part = [], part + 1
            progress((done + min(1.0, written / requests_per_day)) / len(days), f"day {day}")
        total += written
    return total


def log_columns(world: World, served: Served, *, first_session: int, first_request: int, candidates: bool) -> dict[str, Any]:
    """Return the columns of log rows: what a service knows, nothing else; sessions and requests are numbered within the day."""
    a, choice, n = served.arrivals, served.choice, len(served.arrivals)
    index = np.arange(n) + first_request
    seconds = np.minimum((a.hour * 3600).astype(np.int64) + served.position * 60, 86_399)  # a session stays in its day's folder
    columns: dict[str, Any] = {
        "request_id": pl.Series(index).cast(pl.String).str.pad_start(12, "0").str.replace("^", f"d{a.day}-"),
        "user": a.user,
        "ts": pl.Series((np.int64(EPOCH_DAY + a.day) * 86_400 + seconds) * 1_000_000).cast(pl.Datetime("us")),
        "cohort": pl.Series(a.cohort.astype(np.uint8)).replace_strict(dict(enumerate(world.cohorts)), return_dtype=pl.String),
        "session": np.int64(a.day) * 10_000_000 + first_session + served.session,
        "action": choice.action,
        "weights": binary(choice.weights.astype(schema.WEIGHTS_DTYPE)),
        "propensity": choice.propensity,
        "reason": pl.Series(np.where(choice.explored, schema.REASON_EXPLORE, schema.REASON_STATIC)),
        "plan": np.zeros(n, np.int32),
        "label_age_h": np.full(n, 48.0, np.float32),
    }
    for j, objective in enumerate(world.config().objectives):
        columns[objective.column] = served.counts[:, j]
    columns |= dict(a.state.numeric)
    for name, column in a.state.categorical.items():
        columns[name] = pl.Series(column.codes).replace_strict(dict(enumerate(column.vocabulary)), default=None, return_dtype=pl.String)
    columns |= {name: binary(vector.astype("<f2")) for name, vector in a.state.embedding.items()}
    columns |= {name: binary(tokens.astype(schema.SEQUENCE_DTYPE)) for name, tokens in a.state.sequence.items()}
    columns["served_ids"] = binary(world.catalogue.ids[a.pool[:, None], served.lists].astype(schema.IDS_DTYPE))
    columns["served_scores"] = _served_scores(served)
    bits = (1 << np.arange(served.events.shape[2])).astype(np.uint8)
    columns["served_events"] = binary((served.events * bits).sum(axis=2, dtype=np.uint8))
    if candidates:
        columns |= _candidate_columns(world, served)
    return columns


def _served_scores(served: Served) -> pl.Series:
    """The ranker's scores of the served items, on production rows; exploration rows carry their candidates' scores instead."""
    produced = ~served.choice.explored
    rows = np.flatnonzero(produced)
    scores = served.scores[rows[:, None], served.lists[rows]].astype("<f2").reshape(-1)
    lengths = produced * (served.lists.shape[1] * served.scores.shape[2])
    return ragged_binary(scores, np.concatenate([[0], np.cumsum(lengths)]))


def _candidate_columns(world: World, served: Served) -> dict[str, pl.Series]:
    """The union of the lists of production and all grid actions, on exploration rows; empty elsewhere."""
    rows, parts = np.flatnonzero(served.choice.explored), []
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        block = rows[start : start + ROWS_PER_BLOCK]
        pool = pool_candidates(served.arrivals.take(block), world.catalogue, served.scores[block])
        parts.append(union_candidates(pool, top_lists(pool, world.surface.actions, world.surface.k)))
    lengths = np.zeros(len(served.arrivals), np.int64)
    lengths[rows] = np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([np.empty(0, schema.IDS_DTYPE), *(part.ids for part in parts)])
    scores = np.concatenate([np.empty((0, len(world.surface.heads)), "<f2"), *(part.scores.astype("<f2") for part in parts)])
    return {"candidate_ids": ragged_binary(ids.astype(schema.IDS_DTYPE), offsets), "candidate_scores": ragged_binary(scores, offsets)}


def union_candidates(pool: Candidates, lists: Ints) -> Candidates:
    """Return the candidates that are in any of the row's lists, in candidate order; rows of `pool` are equally long."""
    width = int(pool.offsets[1]) if len(pool) else 0
    mask = list_union(lists, width)
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    return Candidates(offsets, pool.ids[mask.ravel()], pool.scores[mask.ravel()])
