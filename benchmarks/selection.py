"""What picks promise and what they keep: python benchmarks/selection.py [--quick] --json OUT.

In each of three worlds two `replay` models are trained, each on a log of its own of 50,000 exploration rows, with the baseline m(s) and
the list-replay variate fitted on that log and as many production rows, as training days would. A population of users of that world with
the exact value of every action is then drawn once, and its requests get what does not change between logs. A log draws users from the
population with replacement (a log is larger than its population, so requests recur, with fresh draws of everything that is random given
the request), explores half of their requests uniformly, serves the others by production, and draws clipped rewards from the exact values.

The log is judged as `paretune sweep` judges one: list overlap p = 16 with list-replay, picks, expectations, verdicts; only that bands here
are of the family's 50 numbers, a sweep's also of its reference policies and cohorts, so *confirmed* comes easier here. The paper's rule
takes, for each objective, the best point estimate of Reward@HIT over that of the grid action nearest to production among policies that it
predicts not to degrade the other. A policy degrades when its exact value in the population is below production's in an objective. A
policy that several labels of a run share counts once. World seeds are used nowhere else; the prior's constants were set on seed 301.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from paretune.frontier.anchor import Anchor, fit_anchor
from paretune.frontier.assemble import floors_of, signs_of
from paretune.frontier.evaluate import scalarisations_of
from paretune.frontier.judge import Judge
from paretune.frontier.lifts import lifts_record, with_production
from paretune.frontier.references import nearest_grid_action
from paretune.frontier.select import Choice, choose_points
from paretune.frontier.sweep import choose
from paretune.frontier.verdict import CANNOT_TELL, CONFIRMED, PROMISING
from paretune.ope.clusters import Clustering, user_buckets
from paretune.ope.lift import AnchoredSums, explored_sums, paper_lift, pooled_lift, produced_sums
from paretune.ope.pooled import no_pooled_sums
from paretune.ope.pooling import OVERLAP, Kernel, overlaps
from paretune.ports import ValueModel
from paretune.records import PRODUCTION, Candidates, Floats, Ints, Log
from paretune.seeds import stream
from paretune.sim.memory import draw_log as draw_training_log
from paretune.sim.response import exact_values, pool_candidates
from paretune.sim.traffic import explore_uniformly, sessions, union_candidates
from paretune.sim.world import World, open_world
from paretune.surface.lists import list_values, top_lists
from paretune.value.train import fit

FIRST_SEED = 2301
KERNEL = Kernel(OVERLAP.name, (OVERLAP.rungs[OVERLAP.speaks],), 0)
ROWS_PER_BLOCK = 1_024
BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
FEWEST = 30  # picks in a bin before its frequency is compared
TARGETS = {"overstatement_promising_400k": ("in", (-0.3, 0.3)), "calibration_gap": ("<=", 0.1)}


@dataclass(frozen=True, slots=True)
class Family:
    """A model's policies on the population, with what was fitted on the model's training days."""

    chosen: Ints  # (n, P + 1) action of each policy, the stand-in for production last
    expected: Floats  # (n, M) float32 m(s)
    advantages: Floats  # (n, K, M) float32 g(s, a)
    truth: Floats  # (P, M) lifts over production


@dataclass(frozen=True, slots=True)
class Population:
    """Users with their requests, what is true of them, and what does not change between logs."""

    first: Ints  # (users + 1,) rows of user i are first[i]:first[i + 1]
    true: Floats  # (n, K, M)
    overlap: Floats  # (n, K - 1, K) float16 weight of each logged action towards each action
    families: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of one pick, and what is true."""

    rows: int
    run: int
    labels: tuple[str, ...]
    verdict: str
    risk: float
    claimed: Floats  # (M,)
    estimate: Floats  # (M,)
    truth: Floats  # (M,)

    @property
    def degrades(self) -> bool:
        """Whether an objective is truly below production."""
        return bool((self.truth < 0).any())


def train(world: World, rows: int, *, seed: int) -> tuple[ValueModel, Anchor]:
    """Return a model of a log of its own, and what its training days say of production and of the ranker's word."""
    config = world.config()
    explored = draw_training_log(world, rows, seed=seed)
    produced = draw_training_log(world, rows, seed=seed + 1_000_000, candidates=False, explore_share=0.0)
    heads = len(world.surface.heads)
    nothing = Candidates(np.zeros(len(produced) + 1, np.int64), np.empty(0, np.int64), np.empty((0, heads), np.float16))
    return fit(explored, config, model="replay", seed=seed), fit_anchor(
        Log.concat([explored, replace(produced, candidates=nothing)]), config
    )


def populate(world: World, learned: list[tuple[ValueModel, Anchor]], rows: int, rng: np.random.Generator) -> Population:
    """Return about `rows` requests of one day by user, with the families of the models."""
    surface, heads, scalarisations = world.surface, world.objective_heads, scalarisations_of(world.config())
    nearest = nearest_grid_action(surface, surface.static)
    user, true, weights = [], [], []
    chosen: list[list[Ints]] = [[] for _ in learned]
    expected: list[list[Floats]] = [[] for _ in learned]
    advantages: list[list[Floats]] = [[] for _ in learned]
    for wave in sessions(world, int(rows / 1.85), day=15, choose=explore_uniformly(world, 0.5), rng=rng):
        for start in range(0, len(wave.arrivals), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            arrivals = wave.arrivals.take(block)
            pool = pool_candidates(arrivals, world.catalogue, wave.scores[block])
            union = union_candidates(pool, top_lists(pool, surface.actions, surface.k))
            logged = Candidates(union.offsets, union.ids, union.scores.astype(np.float16))
            lists = top_lists(logged, surface.actions, surface.k)
            listed = list_values(logged, lists, heads)
            user.append(arrivals.user)
            true.append(exact_values(world, arrivals, surface.actions))
            weights.append(overlap_weights(lists))
            for i, (model, anchor) in enumerate(learned):
                policies = choose(model.values(arrivals.state, surface.actions) / anchor.value, scalarisations)
                stand_in = np.full((len(policies), 1), nearest, policies.dtype)
                wide = anchor.encoder.wide(arrivals.state)
                chosen[i].append(np.concatenate([policies, stand_in], axis=1))
                expected[i].append(anchor.baseline.predict(wide))
                advantages[i].append(anchor.variate.advantages(wide, listed))
    order = np.argsort(np.concatenate(user), kind="stable")
    of = np.concatenate(user)[order]
    values = np.concatenate(true)[order]
    production = values[:, PRODUCTION].mean(axis=0, dtype=np.float64)
    families = []
    for actions, level, change in zip(chosen, expected, advantages, strict=True):
        taken = np.concatenate(actions)[order]
        earned = values[np.arange(len(of))[:, None], taken[:, :-1]].mean(axis=0, dtype=np.float64)
        families.append(Family(taken, np.concatenate(level)[order], np.concatenate(change)[order], earned / production - 1))
    first = np.concatenate([[0], np.flatnonzero(np.diff(of)) + 1, [len(of)]])
    return Population(first, values, np.concatenate(weights)[order], tuple(families))


def overlap_weights(lists: Ints) -> Floats:
    """Return (n, K - 1, K) float16 weight of each logged action towards each action, under uniform logging."""
    likeness = overlaps(lists, width=int(lists.max()) + 1)[:, 1:]
    for _ in range(int(np.log2(KERNEL.rungs[0]))):
        np.square(likeness, out=likeness)
    mean = likeness.mean(axis=1, keepdims=True)
    return np.divide(likeness, mean, out=np.zeros_like(likeness), where=mean > 0).astype(np.float16)


def draw_log(population: Population, family: Family, users: int, rng: np.random.Generator) -> AnchoredSums:
    """Return one simulated log as sums of the family's policies, the stand-in for production last (and pooled without it)."""
    drawn = rng.integers(0, len(population.first) - 1, users)
    length = np.diff(population.first)[drawn]
    begin = np.cumsum(length) - length
    row = np.arange(length.sum()) - np.repeat(begin - population.first[drawn], length)
    cluster = user_buckets(np.repeat(np.arange(users), length))
    explored = rng.random(len(row)) < 0.5
    n_actions, objectives = population.true.shape[1:]
    action = np.where(explored, rng.integers(1, n_actions, len(row)), PRODUCTION)
    rewards = (rng.random((len(row), objectives)) < population.true[row, action]).astype(np.float32)
    e, p, a, where, earned = row[explored], row[~explored], action[explored], cluster[explored], rewards[explored]
    expected, chosen = family.expected[e], family.chosen[e]
    hits = explored_sums(earned, np.full(len(e), 1 / (n_actions - 1)), chosen == a[:, None], where, expected=expected)
    produced = produced_sums(rewards[~explored], cluster[~explored], expected=family.expected[p])
    gathered, policies = Clustering(where, clusters=hits.n_clusters), chosen[:, :-1]
    weight = population.overlap[e[:, None], a[:, None] - 1, policies].astype(np.float64)
    moved = family.advantages[e[:, None], policies]
    residual = earned - expected - family.advantages[e, a]
    nothing = no_pooled_sums(KERNEL, policies=policies.shape[1], objectives=objectives, clusters=hits.n_clusters, replayed=True)
    pooled = replace(
        nothing,
        weight=gathered.sums(weight)[:, None],
        square=gathered.sums(np.square(weight))[:, None],
        residual=np.stack([gathered.sums(weight, times=residual[:, j]) for j in range(objectives)], axis=2)[:, None],
        advantage=np.stack([gathered.sums(moved[:, :, j]) for j in range(objectives)], axis=2),
    )
    return AnchoredSums(hits, produced, pooled)


def judged(sums: AnchoredSums, truth: Floats, config: Any, *, rows: int, run: int, rng: np.random.Generator) -> Iterator[Told]:
    """Yield what is told of each policy that was picked by the product's rules."""
    evaluation, scalarisations, floors = config.evaluation, scalarisations_of(config), floors_of(config)
    objectives = tuple(objective.name for objective in config.objectives)
    judge = Judge(signs_of(config), floors, evaluation.tolerated_risk, evaluation.confidence, evaluation.replicates)
    estimate = pooled_lift(sums).refuse_below(evaluation.min_hits)
    safest, sure = judge.safest(estimate, scalarisations, rng=rng)
    choices = (*choose_points(estimate.value, objectives=objectives, floors=floors, sure=sure), safest)
    lifts = lifts_record(
        estimate, sums.produced.value()[0], policies=tuple(f"alpha {alpha:.3g}" for alpha in scalarisations[:, 0]), objectives=objectives,
        confidence=evaluation.confidence, replicates=evaluation.replicates, n_rows=2 * rows, n_users=2 * rows, rng=rng,
    )  # fmt: skip
    lifts = with_production(lifts, rows=rows)
    expectation = judge.expectation(estimate, scalarisations, family=len(scalarisations), rng=rng)
    said = judge.verdicts(lifts, expectation)
    for policy, labels in labelled(choices).items():
        p = policy + 1
        yield Told(rows, run, labels, said[p], float(expectation.degrading[p]), expectation.mean[p], lifts.estimate[p], truth[policy])


def paper_picks(sums: AnchoredSums, truth: Floats, *, rows: int, run: int) -> Iterator[Told]:
    """Yield what the paper's rule puts forward: per objective, the best point estimate among policies that degrade nothing by theirs."""
    points = paper_lift(replace(sums, pooled=None), -1).value[:-1]
    safe = np.flatnonzero((np.where(np.isfinite(points), points, -np.inf) >= 0).all(axis=1))
    if len(safe) == 0:
        return
    choices = tuple(Choice(str(j), int(safe[points[safe, j].argmax()])) for j in range(points.shape[1]))
    for policy, labels in labelled(choices).items():
        yield Told(rows, run, labels, "put forward", np.nan, points[policy], points[policy], truth[policy])


def labelled(choices: tuple[Choice, ...]) -> dict[int, tuple[str, ...]]:
    """Return the labels of each policy that was picked."""
    found: dict[int, tuple[str, ...]] = {}
    for choice in choices:
        found[choice.policy] = (*found.get(choice.policy, ()), choice.label)
    return found


def measure(*, worlds: int, models: int, repetitions: dict[int, int], rows: int, train_rows: int, seed: int) -> dict[str, float]:
    """Return the figures over all runs, and print the tables so far after each world.

    Args:
        worlds: how many, each with a population of its own.
        models: per world, each with a training log of its own.
        repetitions: logs per model, by hold-out exploration rows.
        rows: requests of a population.
        train_rows: exploration rows of a training log.
        seed: of everything drawn.
    """
    ours: list[Told] = []
    paper: list[Told] = []
    runs, result = dict.fromkeys(repetitions, 0), {}
    for w in range(worlds):
        began = time.perf_counter()
        world = open_world("homefeed", setting="paper", seed=seed + FIRST_SEED + w)
        config = world.config()
        learned = [train(world, train_rows, seed=seed + FIRST_SEED + 100 * w + i) for i in range(models)]
        population = populate(world, learned, rows, stream(seed, "population", w))
        per_user = len(population.true) / (len(population.first) - 1)
        for f, family in enumerate(population.families):
            best = 100 * family.truth[family.truth.min(axis=1).argmax()]
            print(f"world {w}, model {f}: truly best on its worst objective: {best[0]:+.2f} % save {best[1]:+.2f} % p2p", flush=True)
        ready = time.perf_counter()
        for size, count in repetitions.items():
            for f, family in enumerate(population.families):
                for repetition in range(count):
                    rng = stream(seed, "log", w, size, f, repetition)
                    sums = draw_log(population, family, int(2 * size / per_user), rng)
                    ours += judged(sums, family.truth, config, rows=size, run=runs[size], rng=rng)
                    paper += paper_picks(sums, family.truth, rows=size, run=runs[size])
                    runs[size] += 1
        print(f"world {w}: {ready - began:.0f} s to learn and to populate, {time.perf_counter() - ready:.0f} s to judge", flush=True)
        result = figures(ours, paper, runs=runs)
    return result


def figures(ours: list[Told], paper: list[Told], *, runs: dict[int, int]) -> dict[str, float]:
    """Return the figures that are named by size, and print the tables."""
    result: dict[str, float] = {f"runs_{size // 1000}k": float(count) for size, count in runs.items()}
    print(f"\n{'rule':28s} {'rows':>8s} {'picks':>6s} {'runs with one':>14s} {'truly improve both':>19s} {'overstate, points':>24s}")
    for size, count in runs.items():
        name, mine, theirs = f"{size // 1000}k", [t for t in ours if t.rows == size], [t for t in paper if t.rows == size]
        groups = {
            "the paper's": theirs,
            "all picks": mine,
            "promising or confirmed": [t for t in mine if t.verdict != CANNOT_TELL],
            "promising": [t for t in mine if t.verdict == PROMISING],
            "confirmed": [t for t in mine if t.verdict == CONFIRMED],
        } | {label: [t for t in mine if label in t.labels] for label in ("balanced", "constrained", "knee")}
        for rule, told in groups.items():
            right = 1 - float(np.mean([t.degrades for t in told])) if told else float("nan")
            over = 100 * np.mean([t.claimed - t.truth for t in told], axis=0) if told else np.full(2, np.nan)
            rate = len({t.run for t in told}) / count
            print(f"{rule:28s} {size:8,d} {len(told):6d} {rate:14.2f} {right:19.3f} {over[0]:+12.2f} save {over[1]:+6.2f} p2p")
            if rule == "promising":
                result |= {f"promising_right_{name}": right, f"promising_picks_{name}": float(len(told))}
            if rule == "promising or confirmed":
                result |= {f"promising_rate_{name}": rate, f"promising_or_confirmed_right_{name}": right}
                result[f"overstatement_promising_{name}"] = float(over.mean())
            if rule == "all picks":
                raw = 100 * np.mean([t.estimate - t.truth for t in told])
                result |= {f"overstatement_{name}": float(over.mean()), f"overstatement_estimates_{name}": float(raw)}
            if rule == "the paper's":
                result |= {f"paper_right_{name}": right, f"paper_rate_{name}": rate, f"paper_overstatement_{name}": float(over.mean())}
    confirmed = [t.degrades for t in ours if t.verdict == CONFIRMED]
    result["confirmed_picks"] = float(len(confirmed))
    result["degrading_confirmed"] = float(np.mean(confirmed)) if confirmed else float("nan")
    result["overstatement"] = float(100 * np.mean([t.claimed - t.truth for t in ours]))
    result["calibration_gap"] = calibration(ours)
    return {key: value for key, value in result.items() if np.isfinite(value)}


def calibration(ours: list[Told]) -> float:
    """Return the largest gap between stated and observed frequency of degrading over bins with enough picks, and print all bins."""
    print(f"\n{'P(degrading) said':20s} {'picks':>6s} {'said':>6s} {'was':>6s}")
    risk, truth, gap = np.array([t.risk for t in ours]), np.array([t.degrades for t in ours]), float("nan")  # until a bin has picks enough
    for low, high in pairwise(BINS):
        inside = (risk >= low) & ((risk < high) | (high == 1.0))
        if not inside.any():
            continue
        said, was, enough = float(risk[inside].mean()), float(truth[inside].mean()), inside.sum() >= FEWEST
        print(f"{low:.2f} to {high:.2f}        {inside.sum():6d} {said:6.2f} {was:6.2f}" + ("" if enough else "  too few to compare"))
        if enough:
            gap = float(np.fmax(gap, abs(said - was)))
    return gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one world, a smaller population, fewer logs; under 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, help="populations, each of a world of its own")
    parser.add_argument("--repetitions", type=int, help="logs per model and size")
    options = parser.parse_args()
    began = time.perf_counter()
    size: dict[str, Any] = {"worlds": 3, "models": 2, "rows": 20_000, "train_rows": 50_000, "repetitions": {100_000: 17, 400_000: 17}}
    if options.quick:
        size |= {"worlds": 1, "models": 2, "rows": 10_000, "repetitions": {100_000: 30, 400_000: 20}}
    if options.worlds is not None:
        size["worlds"] = options.worlds
    if options.repetitions is not None:
        size["repetitions"] = dict.fromkeys(size["repetitions"], options.repetitions)
    found = measure(**size, seed=options.seed)
    found["seconds"] = time.perf_counter() - began
    print()
    for name, value in found.items():
        print(f"{name:34s} {value:10.4f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
