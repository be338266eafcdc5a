"""Weeks of operation over ten seeds: is a harmful incident stepped back from, how soon, and does anything step back without a reason.

`python benchmarks/rehearse.py --json OUT` (about half an hour on one core), `--quick` for two seeds. Each seed is rehearsed twice, with an
incident that doubles hides where a policy is served, a refresh of the ranker and other people; and as long without any of it. The ledger
holds the promises of all rehearsals. Seeds are used nowhere else; retraining at the end is left out, it says nothing of what is asked.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from paretune.commands.rehearse import publish
from paretune.errors import GateError
from paretune.experiment.ledger import kept_ledger
from paretune.rehearse import Rehearsal, Script, rehearse
from paretune.sim import open_world

SEEDS = range(2001, 2011)
RIGHT = {"calm": {"serve"}, "refresh": {"re-anchor"}, "season": {"collect", "retrain"}}


def rehearsed(seed: int, script: Script) -> Rehearsal | None:
    """Return one rehearsal, None where exploration said that there is nothing to choose."""
    world = open_world("homefeed", setting="demo", seed=seed, objectives=3)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return rehearse(world, Path(folder), script, publish=publish, seed=seed)
        except GateError as error:
            print(f"seed {seed}: {error}", flush=True)
            return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "UNTIL"), help="a part of the seeds, to run several at once")
    arguments = parser.parse_args()
    seeds = range(*arguments.seeds) if arguments.seeds else SEEDS[:2] if arguments.quick else SEEDS
    harm, backs, early, entries = [], [], [], []
    verdicts: dict[str, list[str]] = {}
    for seed in seeds:
        began = time.perf_counter()
        eventful = rehearsed(seed, replace(Script(), retrain=False))
        calm = rehearsed(seed, replace(Script(), incident=None, refresh=(), season=0.0, retrain=False))
        if eventful is None or calm is None:
            continue
        harm.append(eventful.harm_share)
        early.append(eventful.false_backs)
        backs.append(calm.false_backs)
        for one in (eventful, calm):
            entries += [] if one.ledger is None else [replace(entry, test=f"{seed} {one.incident_days}") for entry in one.ledger.entries]
        for name, answer in (*eventful.verdicts.items(), *(("calm", answer) for answer in calm.verdicts.values())):
            verdicts.setdefault(name, []).append(answer)
        print(f"seed {seed}: {eventful.verdicts} {eventful.sentence} | {calm.sentence} | {time.perf_counter() - began:.0f} s", flush=True)
    found = {
        "rehearsed": len(harm),
        "incidents_stepped_back": float(np.mean(np.array(harm) < 1)),
        "worst_harm_share": float(np.max(harm)),
        "median_harm_share": float(np.median(harm)),
        "calm_without_a_step_back": float(np.mean(np.array(backs) == 0)),
        "eventful_without_a_false_step_back": float(np.mean(np.array(early) == 0)),
    }
    for name, right in RIGHT.items():
        answers = verdicts.get(name, [])
        found[f"verdict_right_{name}"] = float(np.mean([answer in right for answer in answers])) if answers else float("nan")
    ledger = kept_ledger(entries)
    found |= {"ledger_outcomes": len(entries), "ledger_coverage": ledger.together.coverage.value}
    found |= {"ledger_slope": ledger.together.slope.slope, "ledger_correlation": ledger.together.correlation.value}
    for name, value in found.items():
        print(f"{name:36s} {value:.3g}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
