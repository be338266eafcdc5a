"""What policies are truly worth in a world. For evaluation only: nothing that learns, chooses or reports offline evidence may read it.

The rule: rewards are exact expectations, only the requests are drawn, and from production's own traffic; policies and production are
averaged over the same requests, so that what is left of the sampling error is that of their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.frontier.front import Policy
from paretune.ports import Progress, silent
from paretune.records import PRODUCTION, Floats
from paretune.seeds import stream
from paretune.sim.abtest import REQUESTS_PER_SESSION, SESSIONS_AT_A_TIME
from paretune.sim.lineup import Lineup, chooser, line_up
from paretune.sim.response import exact_values
from paretune.sim.traffic import sessions
from paretune.sim.world import World


@dataclass(frozen=True, slots=True)
class Truth:
    """True lifts over production on the traffic of production, in fractions."""

    lift: Floats  # (P, M)
    std_error: Floats  # (P, M) left by the finite number of requests they were averaged over
    production: Floats  # (M,) true value of the static weights
    requests: int


def true_lifts(world: World, lineup: Lineup, *, n: int, days: range, seed: int = 0, progress: Progress = silent) -> Truth:
    """Return the true relative lifts of policies: E[min(count, 1)] under each, over that under production, minus 1.

    Args:
        world: whose truth.
        lineup: the policies.
        n: about how many requests to average over.
        days: whose traffic.
        seed: of the requests.
        progress: told the share done.
    """
    policies, objectives = len(lineup.policies), len(world.objectives)
    value, square, product = np.zeros((3, policies, objectives))  # sums of v, v^2 and v v_0
    base, base_square = np.zeros((2, objectives))
    count, n_sessions = 0, max(1, round(n / REQUESTS_PER_SESSION / len(days)))
    production = chooser(line_up(world, [Policy("production", "static", weights=world.surface.static)]), 0)
    for done, day in enumerate(days):
        rng = stream(seed, "truth", world.name, day)
        for start in range(0, n_sessions, SESSIONS_AT_A_TIME):
            for served in sessions(world, min(SESSIONS_AT_A_TIME, n_sessions - start), day=day, choose=production, rng=rng):
                exact = exact_values(world, served.arrivals, lineup.actions).astype(np.float64)
                mine = np.take_along_axis(exact, lineup.decide(served.arrivals)[:, :, None], axis=1)  # (n, P, M)
                static = exact[:, PRODUCTION]
                value += mine.sum(axis=0)
                square += np.square(mine).sum(axis=0)
                product += np.einsum("npm,nm->pm", mine, static)
                base += static.sum(axis=0)
                base_square += np.square(static).sum(axis=0)
                count += len(static)
        progress((done + 1) / len(days), "the truth")
    ratio = value / base
    spread = np.maximum(square - 2 * ratio * product + ratio**2 * base_square, 0.0)  # of v - ratio v_0, whose mean is zero
    return Truth(ratio - 1, np.sqrt(spread) / base, base / count, count)
