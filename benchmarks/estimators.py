"""Mean squared error of a policy's lift, by estimator: python benchmarks/estimators.py [--quick] [--data DIR] --json OUT.

A population of users with all their requests is simulated once, with the exact value of every action. Each log draws users from it with
replacement, explores a fifth of their requests uniformly, and draws clipped rewards from the exact values; the rest are production rows.
25 policies, the baseline m(s) and the list-replay variate are fitted beforehand on other traffic, as training days would. The truth is
the population's own lift over production. An estimator's gain is the mean squared error of the paper's lift (Reward@HIT of the policy over
Reward@HIT of the grid action nearest to production, against its own truth, so that what the stand-in misses is not held against it)
divided by the estimator's, averaged over policies, geometric mean over objectives. Candidates are as a log carries them: the union of all
actions' lists with half-precision scores. The kuairand world runs where --data names its folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from paretune.frontier.references import nearest_grid_action
from paretune.frontier.sweep import alpha_grid, choose, scalarise
from paretune.ope.baseline import Baseline, fit_baseline
from paretune.ope.clusters import Clustering, user_buckets
from paretune.ope.estimators import Estimate
from paretune.ope.intervals import clustered_std_error, occupied
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, paper_lift, pooled_lift, produced_sums
from paretune.ope.pooled import PooledSums, pooled_sums
from paretune.ope.pooling import ACTION, OVERLAP, Kernel, Likeness, action_likeness, kernel_coordinates, overlaps
from paretune.ope.variate import Variate, variate_sums
from paretune.records import PRODUCTION, Bools, Candidates, Floats, Ints, State
from paretune.seeds import stream
from paretune.sim.response import exact_values, pool_candidates
from paretune.sim.traffic import explore_uniformly, sessions, union_candidates
from paretune.sim.world import World, open_world
from paretune.surface.lists import list_values, top_lists

ALPHAS = 25
EXPLORED = 0.2
ROWS_PER_BLOCK = 2_048
PAPER, HITS = "Reward@HIT (the paper's)", "hits, production-anchored"


@dataclass(frozen=True, slots=True)
class Requests:
    """Some traffic, with what is logged and what is true."""

    user: Ints  # (n,)
    features: Floats  # (n, D)
    true: Floats  # (n, K, M) exact values
    listed: Floats  # (n, K, M) list-replay values
    lists: Ints  # (n, K, k)


@dataclass(frozen=True, slots=True)
class Population:
    """Users with their requests, what is true of them, and what does not change between logs."""

    first: Ints  # (users + 1,) rows of user i are first[i]:first[i + 1]
    features: Floats  # (n, D)
    true: Floats  # (n, K, M)
    chosen: Ints  # (n, P) action of each policy, the stand-in for production last
    expected: Floats  # (n, M) baseline m(s)
    advantages: Floats  # (n, K, M) list-replay g(s, a)
    overlap: Floats  # (n, K - 1, P, R) float16 weight of each logged action towards each policy
    action: Floats  # (K - 1, K, R) the same of the action kernel, towards each action

    def truth(self) -> tuple[Floats, Floats]:
        """Return (P, M) true relative lifts over production, and over the stand-in."""
        value = self.true[np.arange(len(self.true))[:, None], self.chosen].mean(axis=0)
        return value / self.true[:, PRODUCTION].mean(axis=0) - 1, value / value[-1] - 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """A simulated log."""

    row: Ints  # (n,) request of the population
    cluster: Ints  # (n,) bucket of its user
    explored: Bools  # (n,)
    action: Ints  # (n,)
    rewards: Floats  # (n, M) float32


def wide(state: State) -> Floats:
    """Return a plain design matrix: numbers, embedding, one-hot categories."""
    columns = [*(c[:, None] for c in state.numeric.values()), *state.embedding.values()]
    columns += [(c.codes[:, None] == np.arange(len(c.vocabulary))).astype(np.float32) for c in state.categorical.values()]
    return np.nan_to_num(np.concatenate(columns, axis=1)).astype(np.float32)


def requests_of(world: World, rows: int, rng: np.random.Generator) -> Requests:
    """Return about `rows` requests of one day."""
    parts = list(_blocks(world, rows, rng))
    return Requests(*(np.concatenate([getattr(part, name) for part in parts]) for name in Requests.__slots__))


def _blocks(world: World, rows: int, rng: np.random.Generator) -> Iterator[Requests]:
    surface, heads = world.surface, world.objective_heads
    for wave in sessions(world, int(rows / 1.85), day=3, choose=explore_uniformly(world, 0.5), rng=rng):
        for start in range(0, len(wave.arrivals), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            arrivals = wave.arrivals.take(block)
            pool = pool_candidates(arrivals, world.catalogue, wave.scores[block])
            union = union_candidates(pool, top_lists(pool, surface.actions, surface.k))
            logged = Candidates(union.offsets, union.ids, union.scores.astype(np.float16))
            lists = top_lists(logged, surface.actions, surface.k)
            truth = exact_values(world, arrivals, surface.actions)
            yield Requests(arrivals.user, wide(arrivals.state), truth, list_values(logged, lists, heads), lists)


def fit_variate(train: Requests, baseline: Baseline, rows: int, rng: np.random.Generator) -> Variate:
    """Return the list-replay variate of about `rows` exploration rows of training days; each request is explored several times over."""
    n, n_actions, objectives = train.true.shape
    total = None
    for _ in range(-(-rows // n)):
        action = rng.integers(1, n_actions, n)
        row = np.arange(n)
        rewards = (rng.random((n, objectives)) < train.true[row, action]).astype(np.float32)
        change = train.listed[row, action] - train.listed[:, PRODUCTION]
        residual = rewards - baseline.predict(train.features)
        part = variate_sums(train.features, change, residual, half=(user_buckets(train.user) % 2).astype(np.int64))
        total = part if total is None else total + part
    if total is None:
        raise SystemExit("no training rows were asked for")
    return total.solve()


def overlap_weights(lists: Ints, chosen: Ints) -> Floats:
    """Return (n, K - 1, P, R) float16 weight of each logged action towards each policy, under uniform logging."""
    result = np.empty((len(lists), lists.shape[1] - 1, chosen.shape[1], len(OVERLAP.rungs)), dtype=np.float16)
    for start in range(0, len(lists), 512):
        block = slice(start, start + 512)
        shared = overlaps(lists[block], width=int(lists.max()) + 1)[:, 1:]
        towards = np.take_along_axis(shared, chosen[block, None].astype(np.int64), axis=2)
        for rung, power in enumerate(OVERLAP.rungs):
            likeness = towards ** np.float32(power)
            result[block, :, :, rung] = likeness / likeness.mean(axis=1, keepdims=True)
    return result


def populate(world: World, *, rows: int, train_rows: int, rng: np.random.Generator) -> Population:
    """Return a population, with a policy family, a baseline and a variate fitted on other traffic."""
    train = requests_of(world, rows // 2, rng)
    n, n_actions, objectives = train.true.shape
    model = fit_baseline(train.features, train.true.reshape(n, -1), l2=1e-3)
    drawn = (rng.random((n, objectives)) < train.true[:, PRODUCTION]).astype(np.float32)
    baseline, production = fit_baseline(train.features, drawn, l2=1e-2), drawn.mean(axis=0)
    variate = fit_variate(train, baseline, train_rows, rng)

    requests = requests_of(world, rows, rng)
    order = np.argsort(requests.user, kind="stable")
    requests = Requests(*(getattr(requests, name)[order] for name in Requests.__slots__))
    predicted = model.predict(requests.features).reshape(-1, n_actions, objectives) / production
    family = choose(predicted, scalarise(alpha_grid(ALPHAS)))
    nearest = nearest_grid_action(world.surface, world.surface.static)
    chosen = np.concatenate([family, np.full((len(family), 1), nearest, family.dtype)], axis=1)
    first = np.concatenate([[0], np.flatnonzero(np.diff(requests.user)) + 1, [len(order)]])
    every = np.arange(1, n_actions)
    action = action_likeness(kernel_coordinates(world.surface), every, np.full(len(every), 1 / len(every)))
    return Population(
        first,
        requests.features,
        requests.true,
        chosen,
        baseline.predict(requests.features),
        variate.advantages(requests.features, requests.listed),
        overlap_weights(requests.lists, chosen),
        action.weight,
    )


def draw(population: Population, users: int, rng: np.random.Generator) -> Drawn:
    """Return one simulated log of so many users, drawn with replacement."""
    drawn = rng.integers(0, len(population.first) - 1, users)
    length = np.diff(population.first)[drawn]
    begin = np.cumsum(length) - length
    row = np.arange(length.sum()) - np.repeat(begin - population.first[drawn], length)
    cluster = user_buckets(np.repeat(np.arange(users), length))
    explored = rng.random(len(row)) < EXPLORED
    n_actions, objectives = population.true.shape[1:]
    action = np.where(explored, rng.integers(1, n_actions, len(row)), PRODUCTION)
    rewards = (rng.random((len(row), objectives)) < population.true[row, action]).astype(np.float32)
    return Drawn(row, cluster, explored, action, rewards)


def sums_of(population: Population, log: Drawn) -> dict[str, AnchoredSums]:
    """Return one simulated log as sums, per way of pooling."""
    explored, n_actions = log.explored, population.true.shape[1]
    e, p, a, where = log.row[explored], log.row[~explored], log.action[explored], log.cluster[explored]
    expected, chosen, earned = population.expected[e], population.chosen[e], log.rewards[explored]
    hits = explored_sums(earned, np.full(len(e), 1 / (n_actions - 1)), chosen == a[:, None], where, expected=expected)
    produced = produced_sums(log.rewards[~explored], log.cluster[~explored], expected=population.expected[p])

    def pooled(kernel: Kernel, weight: Floats, minus: Floats) -> PooledSums:
        nothing = np.zeros(weight.shape[:2], np.float32)
        same = np.broadcast_to(np.arange(weight.shape[1]), nothing.shape)
        return pooled_sums(earned, Likeness(weight, nothing, nothing), same, where, kernel=kernel, action=a, expected=minus)

    overlap = population.overlap[e, a - 1].astype(np.float32)
    gathered = Clustering(where, clusters=hits.n_clusters)
    advantage = np.stack(
        [gathered.sums(np.take_along_axis(g, chosen.astype(np.int64), axis=1)) for g in _by_objective(population, e)],
        axis=2,
    )
    replayed = pooled(OVERLAP, overlap, expected + population.advantages[e, a])
    return {
        ACTION.name: AnchoredSums(hits, produced, pooled(ACTION, population.action[a[:, None] - 1, chosen], expected)),
        OVERLAP.name: AnchoredSums(hits, produced, pooled(OVERLAP, overlap, expected)),
        "list-overlap with list-replay": AnchoredSums(hits, produced, replace(replayed, advantage=advantage, replayed=True)),
    }


def _by_objective(population: Population, rows: Ints) -> Iterator[Floats]:
    for j in range(population.advantages.shape[2]):
        yield population.advantages[rows, :, j]


def estimates(sums: dict[str, AnchoredSums]) -> dict[str, Estimate]:
    """Return every estimator's lifts on one log."""
    first = sums[OVERLAP.name]
    found = {PAPER: paper_lift(first, -1), HITS: anchored_lift(first)}
    for name, each in sums.items():
        if each.pooled is not None:
            found |= {f"{name}, {label}": pooled_lift(each, rung) for rung, label in enumerate(each.pooled.kernel.labels)}
    return found


def measure(world: World, *, logs: int, explored: int, rows: int, seed: int) -> dict[str, float]:
    """Return the figures of one world over many logs, and print its table."""
    population = populate(world, rows=rows, train_rows=2 * explored, rng=stream(seed, "population"))
    over_production, over_stand_in = population.truth()
    users = int(explored / EXPLORED * (len(population.first) - 1) / len(population.true))
    error: dict[str, list[Floats]] = {}
    inside: dict[str, list[Floats]] = {}
    said: dict[str, list[Floats]] = {}
    for log in range(logs):
        for name, estimate in estimates(sums_of(population, draw(population, users, stream(seed, "log", log)))).items():
            truth = (over_stand_in if name == PAPER else over_production)[:ALPHAS]
            miss, spread = estimate.value[:ALPHAS] - truth, clustered_std_error(estimate.influence)[:ALPHAS]
            error.setdefault(name, []).append(miss)
            said.setdefault(name, []).append(spread)
            inside.setdefault(name, []).append(np.abs(miss) <= stdtrit(occupied(estimate.influence) - 1, 0.975) * spread)
    mse = {name: np.square(each).mean(axis=(0, 1)) for name, each in error.items()}  # (M,)
    print(f"\n{world.name}, {world.setting}: {logs} logs of about {explored:,} exploration rows, {ALPHAS} policies")
    print(f"{'estimator':42s} {'gain':>7s} {'coverage':>9s} {'worst':>6s} {'bias, points':>13s} {'bias/sd':>8s} {'se/sd':>6s}")
    result: dict[str, dict[str, float]] = {}
    for name, each in error.items():
        bias, sd = np.mean(each, axis=0), np.std(each, axis=0)
        result[name] = {
            "gain": float(np.exp(np.log(mse[PAPER] / mse[name]).mean())),
            "coverage": float(np.mean(inside[name])),
            "worst": float(np.mean(inside[name], axis=0).min()),
            "bias_points": float(100 * np.abs(bias).mean()),
            "bias_over_sd": float(np.abs(bias / sd).mean()),
            "se_over_sd": float((np.mean(said[name], axis=0) / sd).mean()),
        }
        widths = ("7.2f", "9.3f", "6.2f", "13.3f", "8.2f", "6.2f")
        print(f"{name:42s} " + " ".join(format(number, width) for number, width in zip(result[name].values(), widths, strict=True)))
    overlap, default = f"{OVERLAP.name}, {OVERLAP.labels[1]}", f"{OVERLAP.name} with list-replay, {OVERLAP.labels[1]}"
    return {
        "mse_gain_overlap": result[overlap]["gain"],
        "mse_gain_replay": result[default]["gain"],
        "mse_gain_action_kernel": result[f"{ACTION.name}, {ACTION.labels[1]}"]["gain"],
        "mse_gain_hits_anchored": result[HITS]["gain"],
        "coverage_default": result[default]["coverage"],
        "coverage_default_worst": result[default]["worst"],
        "bias_default_points": result[default]["bias_points"],
        "bias_default_over_sd": result[default]["bias_over_sd"],
        "coverage_overlap": result[overlap]["coverage"],
        "coverage_action_kernel": result[f"{ACTION.name}, {ACTION.labels[1]}"]["coverage"],
        "logs": float(logs),
        "explored_rows": float(explored),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller populations, under 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--data", type=Path, help="folder of the KuaiRand files; without it that world is skipped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", type=int, help="repetitions per world")
    options = parser.parse_args()
    size = {"logs": 100, "explored": 100_000, "rows": 20_000} if options.quick else {"logs": 200, "explored": 100_000, "rows": 60_000}
    size["logs"] = options.logs or size["logs"]
    began = time.perf_counter()
    figures = measure(open_world("homefeed", setting="paper", seed=options.seed + 3301), **size, seed=options.seed)
    if options.data is None:
        print("\nkuairand: skipped; name the folder of the KuaiRand files with --data DIR")
    else:
        world = open_world("kuairand", seed=options.seed, data=options.data)
        figures |= {f"{name}_kuairand": value for name, value in measure(world, **size, seed=options.seed).items()}
    figures["seconds"] = time.perf_counter() - began
    print()
    for name, value in figures.items():
        print(f"{name:34s} {value:12.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
