"""Are drift verdicts right? False alarms in undisturbed worlds, and disturbances of several sizes by their names.

`python benchmarks/drift.py --json OUT`: both homefeed settings, a reference of 14 days and windows of 7, half of the requests explored. The
same seeds give the same worlds before and after a disturbance; nothing reads the truth.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paretune.monitor.drift import Drift
from paretune.monitor.verdict import judge
from paretune.monitor.watch import take_reference, take_window, watched
from paretune.monitor.window import Window
from paretune.sim import open_world
from paretune.sim.drifting import Disturbance, open_drifting
from paretune.sim.memory import draw_log

SETTINGS = ("demo", "paper")
DISTURBANCES = {
    "scores of save × 1.3": (Disturbance(0, scale=(("save", 1.3),)), "rescaled heads"),
    "scores of save × 1.6": (Disturbance(0, scale=(("save", 1.6),)), "rescaled heads"),
    "p2p shifted by −0.5 in log odds": (Disturbance(0, logit=(("p2p", -0.5),)), "rescaled heads"),
    "save × 2 and click × 0.5": (Disturbance(0, scale=(("save", 2.0), ("click", 0.5))), "rescaled heads"),
    "new errors of the ranker": (Disturbance(0, relearned=True), "ranker errors"),
    "new errors and save × 1.6": (Disturbance(0, scale=(("save", 1.6),), relearned=True), "ranker errors"),
    "other visitors, strength 0.5": (Disturbance(0, season=0.5), "visitors"),
    "other visitors, strength 1": (Disturbance(0, season=1.0), "visitors"),
}


def reference_of(setting: str, seed: int, rows: int) -> Window:
    world = open_world("homefeed", setting=setting, seed=seed)
    log = draw_log(world, rows, seed=1_000 + seed, days=14, explore_share=0.5, predicted=True)
    return take_reference(lambda: [log], world.config())


def drift_of(reference: Window, disturbance: Disturbance, setting: str, seed: int, *, rows: int, traffic: int) -> Drift:
    world = open_drifting("homefeed", disturbance, setting=setting, seed=seed)
    log = draw_log(world, rows // 2, seed=10_000 + 100 * seed + traffic, days=7, explore_share=0.5, predicted=True)
    return watched(reference, *take_window([log], reference))


def calm(rows: int, worlds: int, windows: int) -> dict[str, Any]:
    """False alarms, and how often a single p-value is below its level."""
    answers: Counter[str] = Counter()
    p_values: list[float] = []
    for setting in SETTINGS:
        for seed in range(worlds):
            reference = reference_of(setting, seed, rows)
            for traffic in range(windows):
                drift = drift_of(reference, Disturbance(0), setting, seed, rows=rows, traffic=traffic)
                answers[judge(drift).answer] += 1
                p_values += [each.p_value for each in drift.findings]
    below = {str(level): float(np.mean(np.array(p_values) < level)) for level in (0.05, 0.01, 0.001)}
    return {"rows": rows, "windows": answers.total(), "alarms": answers.total() - answers["serve"], "p_values_below": below}


def disturbed(rows: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Verdicts by disturbance."""
    references = {(setting, seed): reference_of(setting, seed, rows) for setting in SETTINGS for seed in range(100, 100 + seeds)}
    for name, (disturbance, cause) in DISTURBANCES.items():
        named: Counter[str] = Counter()
        errors: list[float] = []
        for (setting, seed), reference in references.items():
            drift = drift_of(reference, disturbance, setting, seed, rows=rows, traffic=0)
            named[judge(drift).causes[0]] += 1
            if drift.recalibration is not None and disturbance.scale and not disturbance.relearned:
                wanted = np.array([dict(disturbance.scale).get(head, 1.0) for head in reference.heads])
                errors.append(float(np.abs(drift.recalibration.factor / wanted - 1)[:3].max()))
        yield {
            "disturbance": name, "rows": rows, "right": named[cause], "of": named.total(), "named": dict(named),
            "largest_error_of_a_factor": max(errors, default=None),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--quick", action="store_true", help="fewer windows and seeds")
    given = parser.parse_args()
    worlds, windows, seeds = (2, 5, 2) if given.quick else (10, 10, 10)
    found: dict[str, Any] = {"calm": [calm(rows, worlds, windows) for rows in (2_000, 8_000)], "disturbed": []}
    for line in found["calm"]:
        print(line)
    for rows in (2_000, 8_000):
        for line in disturbed(rows, seeds):
            found["disturbed"].append(line)
            print(line, flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
