"""paretune beside what one would otherwise pick: true hypervolume at equal data, and what it costs.

    python benchmarks/peers.py [--quick] [--data DIR] --json OUT

`homefeed` in its `paper` setting, `kuairand` where --data names its folder; every seed is a world of its own, used nowhere else. All are
given the same log of 14 days: uniform exploration rows with candidates, four times as many production rows. Shares are of the attainable
hypervolume, as in `learners.py`: the true value of the front that a contestant's policies span above production, over that of a network
fitted on noise-free truths of other requests. All choose among the grid's 49 actions by the same trade-offs, but Optuna, whose weights may
lie between the levels. Whoever has settings searches them on training rows alone: the paper's network its learning rate and epochs by
held-out loss, Vowpal Wabbit and LightGBM theirs on the last two days. paretune searches nothing here.

CPU seconds are those of one thread, from the log in memory to the actions of the judged requests; `last fit` leaves the search out, for
the paper's network it is one of its three fits. Simulated traffic of Optuna's trials is not counted. --quick is the size of the table in
README.md, three seeds at 100,000 exploration rows; without it five seeds at 200,000. Evaluation against `obp` is in `peers_obp.py`.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ[name] = "1"  # one core per task, so that CPU seconds mean the same for everybody

import argparse
import importlib.util
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import peers_obp
from attainable import attainable_front, best_at_no_loss, hypervolume, requests_with_truth, static_front
from paretune.records import PRODUCTION, Floats, Log, State
from paretune.sim import open_world
from paretune.sim.memory import draw_log
from paretune.sim.world import World
from paretune.value.features import Encoder
from peers_lesson import Contestant, Learned, Lesson, swept
from peers_lightgbm import LIGHTGBM
from peers_optuna import tuned
from peers_tables import OURS, figures, tables
from peers_vw import VOWPAL_WABBIT

SEEDS = (1201, 1202, 1203, 1204, 1205)
WORLDS = {"homefeed": "paper", "kuairand": "standard"}
PAPER_EPOCHS = 4
TARGETS: dict[str, tuple[str, float]] = {
    "homefeed_replay_over_best_peer": (">=", 1),
    "homefeed_smooth_over_best_peer": (">=", 1),
    "kuairand_replay_over_best_peer": (">=", 1),
    "kuairand_smooth_over_best_peer": (">=", 1),
}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is drawn."""

    rows: int  # exploration rows; four production rows for each
    judged: int
    fitted: int  # noise-free requests of the attainable front
    seeds: int


FULL, QUICK = Size(200_000, 30_000, 80_000, 5), Size(100_000, 10_000, 30_000, 3)


def own(kind: str) -> Contestant:
    """Return one of paretune's models as a contestant."""

    def learn(lesson: Lesson, _: None) -> Learned:
        from paretune.value.train import fit

        bare = replace(lesson.log, candidates=None)
        model: Any = fit(lesson.log if kind == "replay" else Log.concat([bare, lesson.production]), lesson.config, model=kind, seed=0)
        return Learned(actions=swept(model.values(lesson.judged, lesson.world.surface.actions), lesson.level))

    reads = "exploration rows, with candidates" if kind == "replay" else "exploration and production rows, no candidates"
    return Contestant(reads, lambda _: None, learn)


def paper_search(lesson: Lesson) -> tuple[Any, float]:
    """Return the paper's network with the least held-out loss over its learning rates, and the CPU seconds of that one fit."""
    from paretune.value.paper_net import LEARNING_RATES, fit_paper

    config = lesson.config.model_copy(update={"training": lesson.config.training.model_copy(update={"max_epochs": PAPER_EPOCHS})})
    tries = []
    for rate in LEARNING_RATES:
        started = time.process_time()
        model = fit_paper(lesson.log, config, seed=0, learning_rates=(rate,))
        tries.append((model, time.process_time() - started))
    return min(tries, key=lambda tried: tried[0].origin.losses["validation"])


def paper_learn(lesson: Lesson, found: tuple[Any, float]) -> Learned:
    """Return the front of the network that the search kept."""
    model, seconds = found
    losses = model.origin.losses
    return Learned(
        actions=swept(model.values(lesson.judged, lesson.world.surface.actions), lesson.level),
        chosen=f"learning rate {losses['learning_rate']:g}, {losses['epochs']:.0f} epochs",
        fit_before_s=seconds,
    )


CONTESTANTS = {
    **{name: own(kind) for kind, name in OURS.items()},
    "the paper's network": Contestant("exploration rows: state, action", paper_search, paper_learn),
    "Vowpal Wabbit": VOWPAL_WABBIT,
    "LightGBM": LIGHTGBM,
    "Optuna, TPE": tuned("TPESampler"),
    "Optuna, Gaussian process": tuned("GPSampler"),
}
PACKAGES = {"Vowpal Wabbit": "vowpalwabbit", "LightGBM": "lightgbm", "Optuna, TPE": "optuna", "Optuna, Gaussian process": "optuna"}


def run_task(world_name: str, seed: int, size: Size, data: Path | None) -> list[Row]:
    """Return the rows of one world: what every contestant reached, and at which cost."""
    import torch

    torch.set_num_threads(1)
    world = open_world(world_name, setting=WORLDS[world_name], seed=seed, data=data)
    state, truth = requests_with_truth(world, size.judged, seed=seed, purpose="judged")
    front = attainable_front(world, n=size.fitted, seed=seed, state=state, truth=truth)
    attainable = hypervolume(front)
    warm_up(world, seed)
    lesson = lesson_of(world, size, state, seed)

    def row(contestant: str, points: Floats, **more: Any) -> Row:
        first, second = (100 * lift for lift in best_at_no_loss(points))
        reached = hypervolume(points)
        return {
            "world": world_name, "seed": seed, "contestant": contestant, "rows": size.rows, "hypervolume": reached,
            "objectives": world.objectives, "share": reached / attainable,
            "first_at_no_loss_pct": first, "second_at_no_loss_pct": second, **more,
        }  # fmt: skip

    rows = [row("attainable", front), row("best static weights, in hindsight", static_front(truth))]
    for name, contestant in CONTESTANTS.items():
        if (package := PACKAGES.get(name)) and importlib.util.find_spec(package) is None:
            continue  # `missing` says so
        learned, cost = timed(contestant, lesson)
        rows.append(row(name, points_of(learned, world, truth, seed), **cost, reads=contestant.reads, chosen=learned.chosen))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def lesson_of(world: World, size: Size, judged: State, seed: int) -> Lesson:
    """Return the data that all contestants have alike."""
    config = world.config()
    log = draw_log(world, size.rows, seed=seed)
    production = draw_log(world, 4 * size.rows, seed=seed + 2_000_000, candidates=False, explore_share=0.0)
    return Lesson(world, config, log, production, judged, Encoder.fit(log.state, config.features), seed)


def warm_up(world: World, seed: int) -> None:
    """Fit each of ours once on little, so that nobody's first seconds are those of imports and compilers."""
    small = lesson_of(world, Size(2_000, 0, 0, 1), world.arrive(500, day=0, rng=np.random.default_rng(seed)).state, seed)
    for kind in OURS:
        own(kind).learn(small, None)


def timed(contestant: Contestant, lesson: Lesson) -> tuple[Learned, dict[str, float]]:
    """Return what was learned, and wall and CPU seconds of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = contestant.search(lesson)
    searched = time.process_time()
    learned = contestant.learn(lesson, found)
    done = time.process_time()
    return learned, {
        "cpu_s": done - cpu - learned.traffic_s,
        "last_fit_cpu_s": done - searched + learned.fit_before_s - learned.traffic_s,
        "wall_s": time.perf_counter() - wall,
    }


def points_of(learned: Learned, world: World, truth: Floats, seed: int) -> Floats:
    """Return the true relative lifts (P, M) of what was learned, on the judged requests.

    Args:
        learned: policies.
        world: whose truth.
        truth: (n, K, M) of the surface's actions.
        seed: of the judged requests.
    """
    if learned.actions is not None:
        rows = np.arange(len(truth))
        values = [truth[rows, action].mean(axis=0) for action in learned.actions.T]
        return np.array(values) / truth[:, PRODUCTION].mean(axis=0) - 1
    if learned.weights is None:
        raise ValueError("a contestant offers actions or weights")
    every = np.concatenate([world.surface.static[None], learned.weights])
    return static_front(requests_with_truth(world, len(truth), seed=seed, purpose="judged", actions=every)[1])[1:]


def missing() -> list[str]:
    """Return whom nobody can ask here, and why."""
    wanted = PACKAGES | {"obp": "obp"}
    hint = 'is not installed; pip install "paretune[bench]"'
    return [f"{name}: {package} {hint}" for name, package in wanted.items() if importlib.util.find_spec(package) is None]


def lines(rows: list[Row]) -> Iterator[str]:
    """Yield the printed table: a line for each world and contestant, means over seeds."""
    yield f"{'world':9s} {'contestant':34s} {'share':>6s} {'first':>7s} {'second':>7s} {'cpu s':>7s} {'last fit':>8s} {'wall s':>7s}  seeds"
    for world, contestant in dict.fromkeys((row["world"], row["contestant"]) for row in rows):
        of = sorted((r for r in rows if (r["world"], r["contestant"]) == (world, contestant)), key=lambda r: r["seed"])
        keys = ("share", "first_at_no_loss_pct", "second_at_no_loss_pct", "cpu_s", "last_fit_cpu_s", "wall_s")
        mean = {key: float(np.mean([r.get(key, 0.0) for r in of])) for key in keys}
        seeds = " ".join(f"{r['share']:.2f}" for r in of)
        yield (
            f"{world:9s} {contestant:34s} {mean['share']:6.2f} {mean['first_at_no_loss_pct']:+7.2f} {mean['second_at_no_loss_pct']:+7.2f}"
            f" {mean['cpu_s']:7.1f} {mean['last_fit_cpu_s']:8.1f} {mean['wall_s']:7.1f}  {seeds}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three seeds at 100,000 exploration rows, the size of the table")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of the KuaiRand files; without it that world is skipped")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--rows", type=int, help="exploration rows, in place of the size's own")
    parser.add_argument("--seeds", type=int, help="worlds of each kind, in place of the size's own")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    size = replace(size, rows=arguments.rows or size.rows, seeds=arguments.seeds or size.seeds)
    evaluated = peers_obp.QUICK if arguments.quick else peers_obp.FULL
    worlds = [world for world in WORLDS if world != "kuairand" or arguments.data is not None]
    skipped = [*missing(), *([] if "kuairand" in worlds else ["kuairand: no folder of the KuaiRand files was named with --data DIR"])]
    print("\n".join(f"skipped {each}" for each in skipped), flush=True)
    rows: list[Row] = []
    estimators: list[Row] = []
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_task, world, seed, size, arguments.data): rows for seed in SEEDS[: size.seeds] for world in worlds}
        if importlib.util.find_spec("obp") is not None:
            for world in worlds:
                waiting[pool.submit(peers_obp.measured, world, WORLDS[world], SEEDS[-1] + 1, evaluated, arguments.data)] = estimators
        for done in as_completed(waiting):
            waiting[done] += done.result()
    rows.sort(key=lambda row: list(WORLDS).index(row["world"]))
    print("\n".join(lines(rows)))
    found = figures(rows, estimators)
    print(json.dumps(found, indent=1))
    shown = list(tables(rows, estimators, skipped))
    arguments.json.write_text(
        json.dumps({"figures": found, "tables": shown, "rows": rows, "estimators": estimators}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
