"""Do the picks of the demo truly improve on production? The whole loop on several seeds of the demo world, judged by the truth.

    python benchmarks/demo.py [--quick] [--objectives 3] --json OUT

Each seed is another world: users, items, ranker errors, traffic. Logs are smaller than those of `paretune demo`: 200,000 exploration rows
train, 400,000 exploration and 400,000 production rows are held out (--quick: 60,000, 120,000 and 120,000; three seeds).

[knee_improves_both] number of seeds in which the knee or the constrained pick truly improves every objective, and [seeds] of how many;
[knee_alone] those in which the knee itself does. [matched_share] share of the pick's gain that everybody on its exact average weights
gets: the gain is the sum of the true relative lifts over objectives, summed over seeds, of the knee where it improves both or the
constrained pick does not, else of the constrained pick; below zero the average weights lose. [overstated_pct] offline estimate minus
truth of these picks, mean over seeds and objectives, in points.

With --objectives 3 (saves, related pins, and hides that must not rise by more than their guardrail says): [floors_respected] number of
seeds in which every true lift of the constrained pick but the target's is above its floor, of [seeds]; [constrained_gain_pct] its true
lift of the target, mean over seeds; [worst_slack_pct] the smallest distance of a true lift to its floor, in points; below zero if missed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune.demo import HOLD_OUT_DAYS, LOGS, MODEL, TRAIN_DAYS, Sizes, write_traffic
from paretune.frontier.assemble import floors_of, signs_of
from paretune.frontier.front import Policy
from paretune.records import Floats
from paretune.run import sweep_logs
from paretune.sim.lineup import line_up
from paretune.sim.truth import true_lifts
from paretune.sim.world import open_world
from paretune.value.bundle import load_model

SEEDS = (2001, 2002, 2003, 2004, 2005)
FULL = Sizes(200_000, 80_000, 400_000, 400_000, truth_requests=50_000)
QUICK = Sizes(60_000, 40_000, 120_000, 120_000, truth_requests=20_000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A pick of one seed."""

    seed: int
    label: str
    policy: str
    estimate: Floats  # (M,) offline lifts
    true: Floats  # (M,)
    slack: Floats  # (M - 1,) true lifts but the target's above their floors, larger is better
    matched: Floats  # (M,) true lifts of its average weights

    @property
    def improves(self) -> bool:
        """Whether every objective truly gains."""
        return bool((self.true > 0).all())


def run_seed(seed: int, sizes: Sizes, *, model: str | None, objectives: int) -> dict[str, Outcome]:
    """Return the knee and the constrained pick of one seed."""
    world = open_world("homefeed", setting="demo", seed=seed, objectives=objectives)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_traffic(world, folder / LOGS, sizes, seed=seed)
        found = sweep_logs(folder / LOGS, world.config(), folder / "run", model=model, seed=seed, draw=False)
        fitted = load_model(folder / "run" / MODEL)
    front = found.front
    picks = {pick.label: pick.policy for pick in front.picks if pick.label in {"knee", "constrained"}}
    averages = [Policy(f"average of {label}", "matched static", weights=front.mean_weights[p]) for label, p in picks.items()]
    lineup = line_up(world, [*(front.policies[p] for p in picks.values()), *averages], model=fitted, scale=found.scale)
    days = range(TRAIN_DAYS, TRAIN_DAYS + HOLD_OUT_DAYS)
    truth = true_lifts(world, lineup, n=sizes.truth_requests, days=days, seed=seed).lift
    slack = (truth * signs_of(found.config) - floors_of(found.config))[:, 1:]
    return {
        label: Outcome(seed, label, front.policies[p].name, front.lifts.estimate[p], truth[i], slack[i], truth[len(picks) + i])
        for i, (label, p) in enumerate(picks.items())
    }


def figures(found: list[dict[str, Outcome]]) -> dict[str, float]:
    """Return the figures that the first lines name."""
    judged = [each["knee"] if each["knee"].improves or not each["constrained"].improves else each["constrained"] for each in found]
    gain, matched = (sum(float(getattr(pick, name).sum()) for pick in judged) for name in ("true", "matched"))
    return {
        "knee_improves_both": float(sum(pick.improves for pick in judged)),
        "knee_alone": float(sum(each["knee"].improves for each in found)),
        "seeds": float(len(found)),
        "matched_share": matched / gain,
        "gain_save_pct": 100 * float(np.mean([pick.true[0] for pick in judged])),
        "gain_p2p_pct": 100 * float(np.mean([pick.true[1] for pick in judged])),
        "matched_save_pct": 100 * float(np.mean([pick.matched[0] for pick in judged])),
        "matched_p2p_pct": 100 * float(np.mean([pick.matched[1] for pick in judged])),
        "overstated_pct": 100 * float(np.mean([pick.estimate - pick.true for pick in judged])),
    }


def floor_figures(found: list[dict[str, Outcome]]) -> dict[str, float]:
    """Return the figures of three objectives."""
    picks = [each["constrained"] for each in found]
    return {
        "floors_respected": float(sum((pick.slack >= 0).all() for pick in picks)),
        "seeds": float(len(picks)),
        "constrained_gain_pct": 100 * float(np.mean([pick.true[0] for pick in picks])),
        "worst_slack_pct": 100 * float(min(pick.slack.min() for pick in picks)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", help="a kind of value model, in place of the default")
    parser.add_argument("--objectives", type=int, choices=(2, 3), default=2)
    arguments = parser.parse_args()
    sizes, seeds = (QUICK, SEEDS[:3]) if arguments.quick else (FULL, SEEDS)
    found: list[dict[str, Outcome]] = []
    heads = ("offline lifts (%)", "true lifts (%)", "average weights (%)")
    print(f"{'seed':>5} {'pick':12} {'policy':14} " + " ".join(f"{head:>22}" for head in heads) + f" {'s':>5}")
    for seed in seeds:
        started = time.monotonic()
        found.append(run_seed(seed, sizes, model=arguments.model, objectives=arguments.objectives))
        for pick in found[-1].values():
            numbers = [" ".join(f"{100 * lift:+7.2f}" for lift in lifts) for lifts in (pick.estimate, pick.true, pick.matched)]
            cells = " ".join(f"{number:>22}" for number in numbers)
            print(f"{seed:5} {pick.label:12} {pick.policy:14} {cells} {time.monotonic() - started:5.0f}", flush=True)
    result = figures(found) if arguments.objectives == 2 else floor_figures(found)
    for name, value in result.items():
        print(f"{name}: {value:.4g}")
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
