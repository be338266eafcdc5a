"""Does a test with users see what the sweep promised? python benchmarks/offline_online.py [--quick] --json OUT.

Each of five demo worlds has its own logs, model and sweep (the product's: 14 days train, 7 are held out). Eight policies of its front are
then really served, each to an arm of users of a simulated A/B test on the days after, and the ledger compares the sweep's held-out
estimates with what the test saw: 40 points for each objective. Policies: of those with a trade-off that the sweep found non-dominated,
eight, evenly spaced from one end to the other. World seeds are used nowhere else; nothing was tuned on them.

[offline_online_r], [offline_online_slope] of the objective that does worst in it (slope: farthest from 1), of all 40 points; also by
objective, together, and the worst of a single world. Slopes are errors-in-variables, with an intercept (what the paper's 0.65 and 0.35
are), and through the origin. Correlation is easily near 1 where policies differ much, so [offline_online_level_pct], the mean of seen
minus promised, and [offline_online_coverage], the share of outcomes inside promise and errors of both, stand beside it. Points of one world
share a control arm and held-out rows; intervals are those of leaving out worlds where these are wider. The ends of a front differ so
much from production that anything correlates with them: the middle half of the trade-offs, 0.25 to 0.75, is told apart
([offline_online_r_middle], [offline_online_slope_middle]), and so are the picks, which the sweep chose because they looked good and which
are tested in the same test. Online, a policy also changes how long sessions last, so which requests there are; what is promised is for
the requests that production has. So promises are also compared with their exact truth on these ([offline_truth_slope]): what is left there
is the estimate's own fault, the rest of the difference is what no log of single requests sees. The paper's published numbers are read by
the same ledger.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from paretune.demo import HOLD_OUT_DAYS, LOGS, TRAIN_DAYS, Sizes, write_traffic
from paretune.experiment.ledger import Account, Entry, Ledger, Lift, kept_ledger
from paretune.experiment.promises import entries_in
from paretune.frontier.front import Front
from paretune.report.archive import MODEL
from paretune.run import sweep_logs
from paretune.sim.abtest import run_abtest
from paretune.sim.lineup import chooser, line_up
from paretune.sim.truth import true_lifts
from paretune.sim.world import open_world
from paretune.value.bundle import load_model

SEEDS = (5601, 5602, 5603, 5604, 5605)
POLICIES = 8
MIDDLE = (0.25, 0.75)
TEST_DAYS = 14
PAPER = Path(__file__).parents[1] / "examples" / "ledger" / "paper.csv"
QUICK = Sizes(20_000, 10_000, 30_000, 30_000, 8_000, 6_000)
FULL = Sizes()  # the demo's own
TARGETS = {"offline_online_r": (">=", 0.9), "offline_online_slope": ("in", (0.8, 1.2))}  # over whole fronts


@dataclass(frozen=True, slots=True)
class Tested:
    """What a world's test said of its front's policies and of the picks."""

    front: tuple[Entry, ...]
    middle: tuple[Entry, ...]  # of these, the ones in the middle of the trade-offs
    picks: tuple[Entry, ...]
    truth: tuple[Entry, ...]  # of the front's policies, on production's requests


def chosen(front: Front) -> list[int]:
    """Return eight policies with a trade-off, evenly spaced over the non-dominated ones, or over all where these are fewer."""
    family = [p for p, policy in enumerate(front.policies) if policy.alpha is not None]
    offered = [p for p in family if front.non_dominated[p]]
    offered = offered if len(offered) >= POLICIES else family
    return [offered[place] for place in np.linspace(0, len(offered) - 1, POLICIES).round().astype(int)]


def run_world(seed: int, sizes: Sizes) -> Tested:
    """Return what one world's sweep promised and what its test saw."""
    world = open_world("homefeed", setting="demo", seed=seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_traffic(world, folder / LOGS, sizes, seed=seed)
        found = sweep_logs(folder / LOGS, world.config(), folder / "run", seed=seed, draw=False)
        model = load_model(folder / "run" / MODEL)
    front = found.front
    evenly = chosen(front)
    picked = sorted({pick.policy for pick in front.picks})
    served = list(dict.fromkeys([*evenly, *picked]))
    lineup = line_up(world, [front.policies[p] for p in served], model=model, scale=found.scale)
    arms = [(front.policies[p].name, chooser(lineup, place)) for place, p in enumerate(served)]
    first = TRAIN_DAYS + HOLD_OUT_DAYS
    test_days = range(first, first + TEST_DAYS)
    readout = run_abtest(world, arms, days=test_days, requests_per_arm=sizes.requests_per_arm, seed=seed)
    truth = true_lifts(world, lineup, n=sizes.truth_requests, days=test_days, seed=seed)
    half = ndtri(0.5 + readout.confidence / 2)

    def entries(policies: Sequence[int], *, true: bool = False) -> tuple[Entry, ...]:
        made = []
        for p in policies:
            arm = served.index(p)
            for j, objective in enumerate(front.lifts.objectives):
                promise = Lift(*(float(getattr(front.lifts, part)[p, j]) for part in ("estimate", "std_error", "low", "high")))
                low, high = float(readout.low[arm, j]), float(readout.high[arm, j])
                seen = Lift(float(readout.lift[arm, j]), float((high - low) / (2 * half)), low, high)
                if true:
                    seen = Lift(float(truth.lift[arm, j]), float(truth.std_error[arm, j]))
                made.append(Entry(f"{front.policies[p].name} of world {seed}", objective, promise, seen, test=f"world {seed}"))
        return tuple(made)

    alphas = {p: front.policies[p].alpha for p in evenly}
    middle = [p for p, alpha in alphas.items() if alpha is not None and MIDDLE[0] <= alpha <= MIDDLE[1]]
    return Tested(entries(evenly), entries(middle), entries(picked), entries(evenly, true=True))


def show(title: str, ledger: Ledger) -> None:
    """Print a ledger as lines of text."""
    print(f"\n{title}: {len(ledger.entries)} outcomes")
    heads = ("r", "slope", "through the origin", "level, points", "coverage")
    print(f"  {'':16s}{'n':>4s}" + "".join(f"{head:>26s}" for head in heads))
    for account in (*ledger.accounts, ledger.together):
        slope, line, level = account.slope, account.line, account.level
        cells = (
            spelled(account.correlation.value, account.correlation.low, account.correlation.high),
            spelled(line.slope, line.low, line.high),
            spelled(slope.slope, slope.low, slope.high),
            spelled(100 * level.value, 100 * level.low, 100 * level.high),
            spelled(account.coverage.value, account.coverage.low, account.coverage.high),
        )
        print(f"  {account.name:16s}{account.outcomes:4d}" + "".join(f"{cell:>26s}" for cell in cells) + f"  {account.answer}")


def spelled(value: float, low: float, high: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f} ({low:.3f} … {high:.3f})"


def farthest(accounts: Sequence[Account]) -> float:
    """Return the slope that is farthest from 1, as a ratio."""
    return max((account.line.slope for account in accounts), key=lambda slope: abs(np.log(slope)) if slope > 0 else np.inf)


def figures(ledger: Ledger, worlds: Sequence[Ledger], middle: Ledger) -> dict[str, float]:
    """Return the figures that the first lines name."""
    singles = [account for each in worlds for account in each.accounts]
    result = {
        "offline_online_r": min(account.correlation.value for account in ledger.accounts),
        "offline_online_slope": farthest(ledger.accounts),
        "offline_online_level_pct": 100 * max((account.level.value for account in ledger.accounts), key=abs),
        "offline_online_coverage": ledger.together.coverage.value,
        "offline_online_r_middle": min(account.correlation.value for account in middle.accounts),
        "offline_online_slope_middle": farthest(middle.accounts),
        "offline_online_coverage_middle": middle.together.coverage.value,
        "offline_online_r_worst_world": min(account.correlation.value for account in singles),
        "offline_online_slope_worst_world": farthest(singles),
    }
    for account in (*ledger.accounts, ledger.together):
        result[f"offline_online_r_{account.name}"] = account.correlation.value
        result[f"offline_online_slope_{account.name}"] = account.line.slope
        result[f"offline_online_slope_origin_{account.name}"] = account.slope.slope
        result[f"offline_online_level_pct_{account.name}"] = 100 * account.level.value
        result[f"offline_online_coverage_{account.name}"] = account.coverage.value
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="three worlds of a tenth of the traffic")
    arguments = parser.parse_args()
    sizes, seeds = (QUICK, SEEDS[:3]) if arguments.quick else (FULL, SEEDS)
    tested = []
    for seed in seeds:
        wall, cpu = time.monotonic(), time.process_time()
        tested.append(run_world(seed, sizes))
        show(f"world {seed} ({time.monotonic() - wall:.0f} s, {time.process_time() - cpu:.0f} s of CPU)", kept_ledger(tested[-1].front))
        for entry, exact in zip(tested[-1].front, tested[-1].truth, strict=True):
            promise, seen = entry.predicted, entry.seen
            print(
                f"    {entry.release:32s} {entry.objective:6s} promised {100 * promise.estimate:+7.2f} ± {100 * promise.std_error:.2f} %"
                f"   seen {100 * seen.estimate:+7.2f} ± {100 * seen.std_error:.2f} %"
                f"   truly, for production's requests {100 * exact.seen.estimate:+7.2f} %",
                flush=True,
            )
    together = kept_ledger([entry for each in tested for entry in each.front])
    show("All worlds, eight policies of each front", together)
    middle = kept_ledger([entry for each in tested for entry in each.middle])
    show("All worlds, the middle half of the trade-offs", middle)
    show("All worlds, the picks alone", kept_ledger([entry for each in tested for entry in each.picks]))
    exactly = kept_ledger([entry for each in tested for entry in each.truth])
    show("All worlds, promised against true for production's requests", exactly)
    show("The paper's numbers", kept_ledger(entries_in(PAPER.read_text(encoding="utf-8"), source=PAPER.name)))
    result = figures(together, [kept_ledger(each.front) for each in tested], middle)
    result |= {"offline_truth_slope": farthest(exactly.accounts), "offline_truth_coverage": exactly.together.coverage.value}
    print()
    for name, value in result.items():
        print(f"{name}: {value:.4g}")
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
