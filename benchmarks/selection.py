"""What picks promise and what they keep: python benchmarks/selection.py [--quick] --json OUT.

Populations of users with exact values, and logs drawn from them, are those of `estimators.py`; half of the requests are explored, the
others are production rows. Learners of different quality choose the actions of 25 policies each: a ridge of drawn rewards on request
features, per action, on 3 to 48 thousand requests of other traffic, each answered once under every action. Each log is judged as
`paretune sweep` judges one: list overlap p = 16 with list-replay, picks, expectations, verdicts. The paper's rule picks by the best point
estimates of Reward@HIT over the grid action nearest to production, and puts forward what is predicted not to degrade anything. World
seeds are used nowhere else; the prior's constants were set on seed 301. A policy degrades when its exact value in the population is below
production's in an objective. A policy that several labels of a run share counts once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from estimators import Requests, fit_variate, requests_of
from paretune.frontier.judge import Judge
from paretune.frontier.lifts import lifts_record, with_production
from paretune.frontier.references import nearest_grid_action
from paretune.frontier.select import choose_points
from paretune.frontier.sweep import alpha_grid, choose, scalarise
from paretune.frontier.verdict import CANNOT_TELL, CONFIRMED
from paretune.ope.baseline import fit_baseline
from paretune.ope.clusters import Clustering, user_buckets
from paretune.ope.estimators import Estimate
from paretune.ope.lift import AnchoredSums, explored_sums, paper_lift, pooled_lift, produced_sums
from paretune.ope.pooled import no_pooled_sums
from paretune.ope.pooling import OVERLAP, Kernel, overlaps
from paretune.records import PRODUCTION, Floats, Ints
from paretune.seeds import stream
from paretune.sim.world import World, open_world

ALPHAS = 25
SCALARISATIONS = scalarise(alpha_grid(ALPHAS))
OBJECTIVES = ("save", "p2p")
KERNEL = Kernel(OVERLAP.name, (OVERLAP.rungs[OVERLAP.speaks],), 0)
LEARNED_ON = (3_000, 6_000, 12_000, 24_000, 48_000)
VARIATE_ROWS = 200_000
BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
FEWEST = 30  # picks in a bin before its frequency is compared


@dataclass(frozen=True, slots=True)
class Family:
    """A learner's 25 policies on the population."""

    learned_on: int  # requests
    chosen: Ints  # (n, P + 1) action of each policy, the stand-in for production last
    overlap: Floats  # (n, K - 1, P) float16 weight of each logged action towards each policy
    advantage: Floats  # (n, P, M) float32 g(s, pi(s))
    truth: Floats  # (P, M) lifts over production


@dataclass(frozen=True, slots=True)
class Population:
    """Users with their requests, what is true of them, and what does not change between logs."""

    first: Ints  # (users + 1,)
    true: Floats  # (n, K, M)
    expected: Floats  # (n, M)
    advantages: Floats  # (n, K, M)
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


def populate(world: World, *, rows: int, train_rows: int, learned_on: tuple[int, ...], rng: np.random.Generator) -> Population:
    """Return a population with the families of several learners."""
    train = requests_of(world, train_rows, rng)
    drawn = (rng.random(train.true[:, PRODUCTION].shape) < train.true[:, PRODUCTION]).astype(np.float32)
    baseline, production = fit_baseline(train.features, drawn, l2=1e-2), drawn.mean(axis=0)
    variate = fit_variate(train, baseline, VARIATE_ROWS, rng)
    learners = []
    for n in learned_on:
        rewards = (rng.random((min(n, len(train.user)), *train.true.shape[1:])) < train.true[:n]).astype(np.float32)
        learners.append(fit_baseline(train.features[:n], rewards.reshape(len(rewards), -1), l2=1e-2))
    requests = requests_of(world, rows, rng)
    requests = _some(requests, len(requests.user), np.argsort(requests.user, kind="stable"))
    advantages = variate.advantages(requests.features, requests.listed)
    nearest = nearest_grid_action(world.surface, world.surface.static)
    chosen = []
    for learner in learners:
        gain = learner.predict(requests.features).reshape(requests.true.shape) / production
        policies = choose(gain, SCALARISATIONS)
        chosen.append(np.concatenate([policies, np.full((len(policies), 1), nearest, policies.dtype)], axis=1))
    weights = _overlap_weights(requests.lists, np.stack([c[:, :-1] for c in chosen], axis=1))
    families, row = [], np.arange(len(requests.true))[:, None]
    for n, actions, weight in zip(learned_on, chosen, weights, strict=True):
        policies = actions[:, :-1]
        truth = requests.true[row, policies].mean(axis=0) / requests.true[:, PRODUCTION].mean(axis=0) - 1
        families.append(Family(n, actions, weight, advantages[row, policies], truth))
    first = np.concatenate([[0], np.flatnonzero(np.diff(requests.user)) + 1, [len(row)]])
    return Population(first, requests.true, baseline.predict(requests.features), advantages, tuple(families))


def _some(requests: Requests, count: int, rows: Ints | None = None) -> Requests:
    rows = np.arange(min(count, len(requests.user))) if rows is None else rows
    return Requests(*(getattr(requests, name)[rows] for name in Requests.__slots__))


def _overlap_weights(lists: Ints, chosen: Ints) -> list[Floats]:
    """Return (n, K - 1, P) float16 weight of each logged action towards each policy, per family of chosen (n, F, P)."""
    n, families, policies = chosen.shape
    result = [np.empty((n, lists.shape[1] - 1, policies), np.float16) for _ in range(families)]
    width = int(lists.max()) + 1
    for start in range(0, n, 512):
        block = slice(start, start + 512)
        likeness = overlaps(lists[block], width=width)[:, 1:] ** np.float32(KERNEL.rungs[0])
        likeness /= np.maximum(likeness.mean(axis=1, keepdims=True), 1e-12)
        for f in range(families):
            result[f][block] = np.take_along_axis(likeness, chosen[block, f, None].astype(np.int64), axis=2)
    return result


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
    expected = population.expected[e]
    hits = explored_sums(earned, np.full(len(e), 1 / (n_actions - 1)), family.chosen[e] == a[:, None], where, expected=expected)
    produced = produced_sums(rewards[~explored], cluster[~explored], expected=population.expected[p])
    gathered, weight = Clustering(where, clusters=hits.n_clusters), family.overlap[e, a - 1].astype(np.float64)
    residual = earned - expected - population.advantages[e, a]
    nothing = no_pooled_sums(KERNEL, policies=ALPHAS, objectives=objectives, clusters=hits.n_clusters, replayed=True)
    pooled = replace(
        nothing,
        weight=gathered.sums(weight)[:, None],
        square=gathered.sums(np.square(weight))[:, None],
        residual=np.stack([gathered.sums(weight, times=residual[:, j]) for j in range(objectives)], axis=2)[:, None],
        advantage=np.stack([gathered.sums(family.advantage[e, :, j]) for j in range(objectives)], axis=2),
    )
    return AnchoredSums(hits, produced, pooled)


def judged(sums: AnchoredSums, truth: Floats, *, rows: int, run: int, replicates: int, rng: np.random.Generator) -> Iterator[Told]:
    """Yield what is told of each policy that was picked by the product's rules."""
    judge = Judge(np.ones(2), np.zeros(2), 0.1, 0.95, replicates)
    estimate = pooled_lift(sums)
    safest = judge.safest(estimate, SCALARISATIONS, rng=rng)
    choices = (*choose_points(estimate.value, objectives=OBJECTIVES, floors=np.zeros(2)), safest)
    names = tuple(f"alpha {alpha:.3g}" for alpha in SCALARISATIONS[:, 0])
    known = {"policies": names, "objectives": OBJECTIVES, "confidence": 0.95, "n_rows": rows, "n_users": rows}
    lifts = with_production(lifts_record(estimate, sums.produced.value()[0], **known, replicates=replicates, rng=rng), rows=rows)
    expectation = judge.expectation(estimate, SCALARISATIONS, family=ALPHAS, rng=rng)
    said = judge.verdicts(lifts, expectation)
    for policy, labels in _labels(choices).items():
        p = policy + 1
        risk = float(expectation.degrading[p])
        yield Told(rows, run, labels, said[p], risk, expectation.mean[p], lifts.estimate[p], truth[policy])


def paper_picks(sums: AnchoredSums, truth: Floats, *, rows: int, run: int) -> Iterator[Told]:
    """Yield what the paper's rule puts forward."""
    estimate: Estimate = paper_lift(replace(sums, pooled=None), -1)
    points = estimate.value[:ALPHAS]
    for policy, labels in _labels(choose_points(points, objectives=OBJECTIVES, floors=np.zeros(2))).items():
        if (points[policy] >= 0).all():
            yield Told(rows, run, labels, "put forward", np.nan, points[policy], points[policy], truth[policy])


def _labels(choices: tuple[object, ...]) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for choice in choices:
        found[choice.policy] = (*found.get(choice.policy, ()), choice.label)  # type: ignore[attr-defined]
    return found


def measure(
    worlds: list[World],
    *,
    repetitions: int,
    sizes: tuple[int, ...],
    rows: int,
    train_rows: int,
    learned_on: tuple[int, ...],
    seed: int,
) -> dict[str, float]:
    """Return the figures over all runs, and print the tables."""
    ours: list[Told] = []
    paper: list[Told] = []
    for w, world in enumerate(worlds):
        population = populate(world, rows=rows, train_rows=train_rows, learned_on=learned_on, rng=stream(seed, "population", w))
        per_user = len(population.true) / (len(population.first) - 1)
        for family in population.families:
            best = family.truth[family.truth.min(axis=1).argmax()]
            said = f"{100 * best[0]:+.2f} % save {100 * best[1]:+.2f} % p2p"
            print(
                f"world {w}, learned on {family.learned_on:,} requests: best worst objective {said}",
                flush=True,
            )
        for size in sizes:
            for repetition in range(repetitions):
                for f, family in enumerate(population.families):
                    rng = stream(seed, "log", w, size, f, repetition)
                    run = (w * repetitions + repetition) * len(population.families) + f
                    sums = draw_log(population, family, int(2 * size / per_user), rng)
                    ours += judged(sums, family.truth, rows=size, run=run, replicates=500, rng=rng)
                    paper += paper_picks(sums, family.truth, rows=size, run=run)
    runs = len(worlds) * repetitions * len(learned_on)
    return figures(ours, paper, sizes=sizes, runs=runs)


def figures(ours: list[Told], paper: list[Told], *, sizes: tuple[int, ...], runs: int) -> dict[str, float]:
    """Return the figures that are named by size, and print the tables."""
    result: dict[str, float] = {"runs": float(runs)}
    print(f"\n{'rule':28s} {'rows':>8s} {'picks':>6s} {'runs with one':>14s} {'truly improve both':>19s} {'overstate, points':>24s}")
    for size in sizes:
        name = f"{size // 1000}k"
        groups = {
            "the paper's, put forward": [t for t in paper if t.rows == size],
            "all picks": [t for t in ours if t.rows == size],
            "promising or confirmed": [t for t in ours if t.rows == size and t.verdict != CANNOT_TELL],
            "confirmed": [t for t in ours if t.rows == size and t.verdict == CONFIRMED],
            "balanced": [t for t in ours if t.rows == size and "balanced" in t.labels],
            "constrained": [t for t in ours if t.rows == size and "constrained" in t.labels],
            "knee": [t for t in ours if t.rows == size and "knee" in t.labels],
        }
        for rule, told in groups.items():
            right = 1 - float(np.mean([t.degrades for t in told])) if told else float("nan")
            over = 100 * np.mean([t.claimed - t.truth for t in told], axis=0) if told else np.full(2, np.nan)
            rate = len({t.run for t in told}) / runs
            print(f"{rule:28s} {size:8,d} {len(told):6d} {rate:14.2f} {right:19.2f} {over[0]:+12.2f} save {over[1]:+6.2f} p2p")
            if rule == "promising or confirmed":
                result |= {f"promising_right_{name}": right, f"promising_rate_{name}": rate}
            if rule == "all picks":
                raw = 100 * np.mean([t.estimate - t.truth for t in told])
                result |= {f"overstatement_{name}": float(over.mean()), f"overstatement_estimates_{name}": float(raw)}
            if rule == "the paper's, put forward":
                result |= {f"paper_right_{name}": right, f"paper_rate_{name}": rate, f"paper_overstatement_{name}": float(over.mean())}
            if rule == "balanced":
                result[f"balanced_right_{name}"] = right
            if rule == "constrained":
                result[f"constrained_right_{name}"] = right
    confirmed = [t for t in ours if t.verdict == CONFIRMED]
    result["confirmed_picks"] = float(len(confirmed))
    result["degrading_confirmed"] = float(np.mean([t.degrades for t in confirmed])) if confirmed else 0.0
    result["overstatement"] = max(result[f"overstatement_{size // 1000}k"] for size in sizes)
    result["calibration_gap"] = calibration(ours)
    return result


def calibration(ours: list[Told]) -> float:
    """Return the largest gap between stated and observed frequency of degrading over bins with enough picks, and print all bins."""
    print(f"\n{'P(degrading) said':20s} {'picks':>6s} {'said':>6s} {'was':>6s}")
    risk, truth, gap = np.array([t.risk for t in ours]), np.array([t.degrades for t in ours]), 0.0
    for low, high in pairwise(BINS):
        inside = (risk >= low) & ((risk < high) | (high == 1.0))
        if not inside.any():
            continue
        said, was = risk[inside].mean(), truth[inside].mean()
        print(
            f"{low:.2f} to {high:.2f}        {inside.sum():6d} {said:6.2f} {was:6.2f}"
            + ("" if inside.sum() >= FEWEST else "  too few to compare")
        )
        if inside.sum() >= FEWEST:
            gap = max(gap, abs(float(said - was)))
    return gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small population, under 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--worlds", type=int, default=1, help="populations, each of a world of its own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    worlds = [open_world("homefeed", setting="paper", seed=options.seed + 2201 + w) for w in range(options.worlds)]
    quick, full = {"repetitions": 4, "rows": 10_000, "train_rows": 48_000}, {"repetitions": 20, "rows": 20_000, "train_rows": 48_000}
    size = quick if options.quick else full
    found = measure(worlds, **size, sizes=(100_000, 400_000), learned_on=LEARNED_ON, seed=options.seed)
    found["seconds"] = time.perf_counter() - began
    print()
    for name, value in found.items():
        print(f"{name:30s} {value:10.4f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
