"""From nothing to a front and its report in a minute: simulated traffic, the check of its log, training, the sweep.

    python quickstart.py [FOLDER] [--requests 4000] [--model auto]

The feed is simulated, so that its truth is known; nothing below reads it. So little traffic rarely tells policies apart: what is printed
then is how much would.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import paretune as pt
from paretune.sim.traffic import write_logs

DAYS, EXPLORED = 21, 0.7


def quickstart(folder: Path, *, requests_per_day: int, model: str, seed: int = 0) -> pt.Front:
    """Return the front of three weeks of traffic; logs, model, front and report are left in the folder."""
    world = pt.open_world("homefeed", seed=seed)
    config = world.config()  # heads and their levels, objectives, columns; of your own feed: pt.load_config("paretune.toml")
    write_logs(world, folder / "logs", days=range(DAYS), requests_per_day=requests_per_day, explore_share=EXPLORED, seed=seed)

    check = pt.check_log(folder / "logs", config)
    print(f"{check.good:,} of {check.rows:,} rows are good; fit to learn from: {'yes' if check.ok else 'no'}")

    run = folder / "run"
    front = pt.sweep_logs(folder / "logs", config, run, model=model, seed=seed).front  # trains on 14 days, evaluates on the other 7
    print(f"report: {run / 'report.html'}")
    return front


def tell(front: pt.Front) -> None:
    """Print what can be chosen, or why nothing can be."""
    lifts = front.lifts
    for pick in front.picks:
        said = ", ".join(
            f"{name} {100 * lifts.estimate[pick.policy, j]:+.1f} % "
            f"({100 * lifts.band_low[pick.policy, j]:+.1f} to {100 * lifts.band_high[pick.policy, j]:+.1f})"
            for j, name in enumerate(lifts.objectives)
        )
        print(f"{pick.label}: {said}; {pick.verdict}")
    if front.refusal is not None:
        print(f"keep the static weights: {front.refusal.reason}\n{front.refusal.remedy}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("quickstart"))
    parser.add_argument("--requests", type=int, default=4000, help="per day")
    parser.add_argument("--model", default="auto")
    given = parser.parse_args()
    tell(quickstart(given.folder, requests_per_day=given.requests, model=given.model))
