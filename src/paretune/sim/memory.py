"""Exploration rows of a world as arrays, without the detour over Parquet; for benchmarks that need many logs.

The rule of `traffic` holds here too: rows carry what a service knows and nothing hidden.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from paretune.logs.hashing import hash_integers
from paretune.ports import Progress, silent
from paretune.records import Candidates, Categorical, Floats, Log
from paretune.seeds import stream
from paretune.sim.response import pool_candidates, ranker_scores
from paretune.sim.traffic import EPOCH_DAY, ROWS_PER_CHUNK, Chooser, Served, explore_uniformly, serve, union_candidates
from paretune.sim.world import World
from paretune.surface.lists import list_values, top_lists


def draw_log(
    world: World,
    n: int,
    *,
    seed: int,
    days: int = 14,
    explore_share: float = 1.0,
    candidates: bool = True,
    predicted: bool = False,
    choose: Chooser | None = None,
    progress: Progress = silent,
) -> Log:
    """Return n rows, each the first request of a session, days in turn.

    Args:
        world: whose traffic it is.
        n: number of rows.
        seed: of the traffic.
        days: rows are spread over days 0..days-1, in order.
        explore_share: share of uniform exploration; the rest is production.
        candidates: keep the union of the top-k lists of all actions (float16 scores) on every row.
        predicted: say what the ranker's scores of the served list predict, on every row.
        choose: another logging policy, in place of explore_share.
        progress: told the share done.
    """
    choose = choose or explore_uniformly(world, explore_share)
    edges = np.linspace(0, n, max(days, -(-n // ROWS_PER_CHUNK)) + 1).astype(int)
    parts = []
    for i, (start, stop) in enumerate(pairwise(edges)):
        day = i * days // (len(edges) - 1)
        rng = stream(seed, "memory", world.name, i)
        arrivals = world.arrive(stop - start, day=day, rng=rng)
        served = serve(world, arrivals, choose(arrivals, rng), session=np.arange(start, stop), position=0, rng=rng)
        kept = None
        if candidates:
            pool = pool_candidates(arrivals, world.catalogue, ranker_scores(arrivals, world.catalogue))
            union = union_candidates(pool, top_lists(pool, world.surface.actions, world.surface.k))
            kept = type(union)(union.offsets, union.ids, union.scores.astype(np.float16))
        parts.append(
            Log(
                request=hash_integers(np.arange(start, stop)),
                user=hash_integers(arrivals.user),
                session=hash_integers(np.arange(start, stop)),
                day=np.full(stop - start, EPOCH_DAY + day, np.int32),
                cohort=Categorical(arrivals.cohort.astype(np.int32), world.cohorts),
                action=served.choice.action,
                propensity=served.choice.propensity,
                explored=served.choice.explored,
                rewards=np.minimum(served.counts, 1).astype(np.float32),
                state=arrivals.state,
                candidates=kept,
                predicted=_predicted(world, served) if predicted else None,
            )
        )
        progress(stop / n, f"{stop:,} rows")
    return Log.concat(parts)


def _predicted(world: World, served: Served) -> Floats:
    """Return the ranker's own prediction of each served list's rewards (n, M)."""
    n, k = served.lists.shape
    scores = served.scores[np.arange(n)[:, None], served.lists].astype(np.float16)
    items = Candidates(np.arange(n + 1) * k, np.empty(0, np.int64), scores.reshape(n * k, -1))
    return list_values(items, np.broadcast_to(np.arange(k, dtype=np.int16), (n, 1, k)), world.objective_heads)[:, 0]
