"""How often intervals and bands of the anchored lift hold the truth: python benchmarks/coverage.py [--quick] --json OUT.

A population of users with all their requests is simulated once, with the exact value of every action. Each log then draws users from it
with replacement (they are what a log samples), explores half of their requests uniformly, and draws clipped rewards from the exact values.
The family of 25 alphas is fixed beforehand on other traffic, as is the baseline m(s); the truth is the population's own lift.
"""

from __future__ import annotations

if __name__ not in {"__main__", "__mp_main__"}:  # numba asks for the package of this name, and finds this file beside other benchmarks
    raise ImportError("benchmarks/coverage.py is a program, not the package coverage")

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune.frontier.sweep import alpha_grid, choose, scalarise
from paretune.ope.baseline import fit_baseline
from paretune.ope.clusters import user_buckets
from paretune.ope.intervals import Intervals, intervals
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, produced_sums
from paretune.records import PRODUCTION, Floats, Ints, State
from paretune.seeds import stream
from paretune.sim.response import exact_values
from paretune.sim.traffic import explore_uniformly, sessions
from paretune.sim.world import World, open_world

ALPHAS = 25


@dataclass(frozen=True, slots=True)
class Population:
    """Users with their requests, and what is true of them."""

    first: Ints  # (users + 1,) rows of user i are first[i]:first[i + 1]
    true: Floats  # (n, K, M) exact values
    chosen: Ints  # (n, P) action of each policy
    expected: Floats  # (n, M) baseline m(s)

    def truth(self) -> Floats:
        """Return (P, M) true relative lifts."""
        row = np.arange(len(self.true))[:, None]
        return self.true[row, self.chosen].mean(axis=0) / self.true[:, PRODUCTION].mean(axis=0) - 1


def wide(state: State) -> Floats:
    """Return a plain design matrix: numbers, embedding, one-hot categories."""
    columns = [*(c[:, None] for c in state.numeric.values()), *state.embedding.values()]
    columns += [(c.codes[:, None] == np.arange(len(c.vocabulary))).astype(np.float32) for c in state.categorical.values()]
    return np.nan_to_num(np.concatenate(columns, axis=1)).astype(np.float32)


def traffic(world: World, rows: int, rng: np.random.Generator) -> tuple[Ints, Floats, Floats]:
    """Return users, design matrix and exact values of about `rows` requests of one day."""
    waves = list(sessions(world, int(rows / 1.85), day=3, choose=explore_uniformly(world, 0.5), rng=rng))
    arrivals = [wave.arrivals for wave in waves]
    actions = world.surface.actions
    return (
        np.concatenate([a.user for a in arrivals]),
        np.concatenate([wide(a.state) for a in arrivals]),
        np.concatenate([exact_values(world, a, actions) for a in arrivals]),
    )


def populate(world: World, rows: int, rng: np.random.Generator) -> Population:
    """Return a population, with a policy family and a baseline fitted on other traffic."""
    _, features, values = traffic(world, rows // 3, rng)
    n, n_actions, objectives = values.shape
    model = fit_baseline(features, values.reshape(n, -1), l2=1e-3)
    drawn = (rng.random((n, objectives)) < values[:, PRODUCTION]).astype(np.float32)
    baseline, production = fit_baseline(features, drawn, l2=1e-2), drawn.mean(axis=0)

    user, features, values = traffic(world, rows, rng)
    order = np.argsort(user, kind="stable")
    features, values = features[order], values[order]
    predicted = model.predict(features).reshape(-1, n_actions, objectives) / production
    first = np.concatenate([[0], np.flatnonzero(np.diff(user[order])) + 1, [len(user)]])
    return Population(first, values, choose(predicted, scalarise(alpha_grid(ALPHAS))), baseline.predict(features))


def draw_log(population: Population, users: int, rng: np.random.Generator) -> AnchoredSums:
    """Return one simulated log as sums."""
    drawn = rng.integers(0, len(population.first) - 1, users)
    length = np.diff(population.first)[drawn]
    begin = np.cumsum(length) - length
    row = np.arange(length.sum()) - np.repeat(begin - population.first[drawn], length)
    cluster = user_buckets(np.repeat(np.arange(users), length))
    explored = rng.random(len(row)) < 0.5
    n_actions = population.true.shape[1]
    action = np.where(explored, rng.integers(1, n_actions, len(row)), PRODUCTION)
    rewards = (rng.random((len(row), population.true.shape[2])) < population.true[row, action]).astype(np.float32)
    e, p = row[explored], row[~explored]
    hits = population.chosen[e] == action[explored, None]
    propensity = np.full(len(e), 1 / (n_actions - 1))
    return AnchoredSums(
        explored_sums(rewards[explored], propensity, hits, cluster[explored], expected=population.expected[e]),
        produced_sums(rewards[~explored], cluster[~explored], expected=population.expected[p]),
    )


def measure(world: World, *, logs: int, users: int, rows: int, seed: int) -> dict[str, float]:
    """Return the coverage figures over many logs."""
    population = populate(world, rows, stream(seed, "population"))
    truth = population.truth()
    found: list[Intervals] = []
    values = []
    for log in range(logs):
        rng = stream(seed, "log", log)
        sums = draw_log(population, users, rng)
        estimate = anchored_lift(sums)
        found.append(intervals(estimate, confidence=0.95, replicates=1000, rng=rng))
        values.append(estimate.value)
    inside = np.array([(one.low <= truth) & (truth <= one.high) for one in found])
    banded = np.array([((one.band_low <= truth) & (truth <= one.band_high)).all() for one in found])
    spread = np.std(values, axis=0)
    return {
        "coverage_lift": float(inside.mean()),
        "coverage_lift_worst": float(inside.mean(axis=0).min()),
        "coverage_bands": float(banded.mean()),
        "coverage_intervals_all_50": float(inside.all(axis=(1, 2)).mean()),
        "std_error_over_spread": float((np.mean([one.std_error for one in found], axis=0) / spread).mean()),
        "bias_over_spread": float(np.abs((np.mean(values, axis=0) - truth) / spread).mean()),
        "mean_std_error": float(np.mean([one.std_error for one in found])),
        "logs": float(logs),
        "rows_per_log": float(users * len(population.true) / (len(population.first) - 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 smaller logs, under 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = {"logs": 500, "users": 30_000, "rows": 30_000} if options.quick else {"logs": 1000, "users": 60_000, "rows": 120_000}
    began = time.perf_counter()
    figures = measure(open_world("homefeed", setting="paper", seed=options.seed + 101), **size, seed=options.seed)
    figures["seconds"] = time.perf_counter() - began
    for name, value in figures.items():
        print(f"{name:28s} {value:12.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
