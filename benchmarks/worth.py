"""How often the product says that personalisation is worth it: python benchmarks/worth.py [--quick] --json OUT.

In the `perfect-ranker` setting there is nothing to gain, so "personalise" is an error; in the `demo` setting there is much to gain. Each
seed is a world of its own: training rows, a model, later hold-out rows, a sweep, an answer. Beside the answer stand the comparison that
spoke most against the pick, and the true lifts of that pick over fresh requests: evaluation code, the only kind that may ask a world for
its truth. A sweep that is refused outright counts as "not enough data". --quick holds out so few rows that this is its only answer, which
checks that the script runs; the figures are those of the full size.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paretune.errors import GateError
from paretune.frontier.anchor import fit_anchor
from paretune.frontier.assemble import assemble_front, floors_of, signs_of
from paretune.frontier.evaluate import sweep_sums
from paretune.frontier.worth import judge_worth
from paretune.records import Candidates, Log
from paretune.seeds import stream
from paretune.sim.lineup import line_up
from paretune.sim.memory import draw_log
from paretune.sim.response import exact_values
from paretune.sim.world import World, open_world
from paretune.value.train import fit

SETTINGS = {"null": "perfect-ranker", "demo": "demo"}


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of one run."""

    train: int  # exploration rows, as many production rows beside them
    hold_out: int  # exploration rows, as many production rows beside them
    truth: int


def traffic(world: World, rows: int, *, seed: int) -> Log:
    """Return exploration rows with candidates and as many production rows without."""
    explored = draw_log(world, rows, seed=seed)
    produced = draw_log(world, rows, seed=seed + 1, explore_share=0.0, candidates=False)
    scores = np.empty((0, len(world.surface.heads)), np.float16)
    nothing = Candidates(np.zeros(rows + 1, np.int64), np.empty(0, np.int32), scores)
    return Log.concat([explored, replace(produced, candidates=nothing)])


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer in one world, and what lies behind it."""

    answer: str
    evidence: str  # the comparison that speaks most against the judged pick, and that pick's true lifts; why not, where there is none


def judged(setting: str, size: Size, *, seed: int, model: str) -> Judged:
    """Return the answer in one world."""
    world = open_world("homefeed", setting=setting, seed=1000 + seed)
    config = world.config()
    config = config.model_copy(update={"training": config.training.model_copy(update={"model": model})})
    train = traffic(world, size.train, seed=10 * seed)
    fitted = fit(train, config, seed=seed)
    anchor = fit_anchor(train, config)
    sums = sweep_sums(fitted, traffic(world, size.hold_out, seed=10 * seed + 5), config, anchor=anchor)
    try:
        front = assemble_front(sums, config.surface.build(), config, rng=stream(seed, "bootstrap"))
        worth = judge_worth(
            front, signs=signs_of(config), floors=floors_of(config), smallest_lift=config.evaluation.smallest_lift_pct / 100
        )
    except GateError as refused:
        return Judged("not enough data", str(refused).splitlines()[0])
    if not worth.personalised:
        return Judged(worth.answer, "no pick has an estimate")
    hardest = min(worth.personalised, key=lambda comparison: comparison.low[-1])
    arrivals = world.arrive(size.truth, day=3, rng=stream(seed, "truth"))
    line = line_up(world, [front.policies[hardest.policy]], model=fitted, scale=sums.family.scale)
    truth = exact_values(world, arrivals, world.surface.actions)
    served = truth[np.arange(len(truth)), line.decide(arrivals)[:, 0]].mean(axis=0)
    lifts = ", ".join(f"{100 * lift:+.2f}" for lift in served / truth[:, 0].mean(axis=0) - 1)
    value = f"{100 * hardest.estimate[-1]:+.2f} ({100 * hardest.low[-1]:+.2f} … {100 * hardest.high[-1]:+.2f})"
    return Judged(worth.answer, f"value of {hardest.name} {value}; true lifts {lifts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows, under 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=0, help="hold-out exploration rows, in place of the size's own")
    parser.add_argument("--world", default="both", choices=["both", *SETTINGS], help="which worlds to judge in")
    parser.add_argument("--model", default="replay", help="replay, smooth or ridge")
    options = parser.parse_args()
    size = Size(8_000, 12_000, 5_000) if options.quick else Size(100_000, 200_000, 30_000)
    size = replace(size, hold_out=options.rows or size.hold_out)
    figures: dict[str, float] = {"seeds": float(options.seeds), "train_rows": float(size.train), "hold_out_rows": float(size.hold_out)}
    began = time.perf_counter()
    for name, setting in SETTINGS.items():
        if options.world not in {"both", name}:
            continue
        answers: Counter[str] = Counter()
        for seed in range(options.seeds):
            found = judged(setting, size, seed=seed, model=options.model)
            answers[found.answer] += 1
            print(f"{setting:14s} seed {seed}: {found.answer:16s} {found.evidence}", flush=True)
        figures |= {
            f"{name}_{answer.replace(' ', '_')}": answers[answer] / options.seeds for answer in ("retune", "keep", "not enough data")
        }
        figures[f"{name}_personalise"] = answers["personalise"] / options.seeds
    if "null_personalise" in figures:
        figures["null_world_not_personalised"] = 1 - figures["null_personalise"]
    if "demo_personalise" in figures:
        figures["demo_world_personalised"] = figures["demo_personalise"]
    figures["seconds"] = time.perf_counter() - began
    for name, figure in figures.items():
        print(f"{name:28s} {figure:12.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
