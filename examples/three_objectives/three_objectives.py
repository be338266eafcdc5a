"""What a guardrail costs: saves and related pins are to rise, hides may rise by so much and no more.

    python three_objectives.py [--rows 60000] [--model ridge]

The same model and the same held-out rows are swept once per floor, so that the picks differ by the floor alone. An objective of which
less is better is turned in the objectives of paretune.toml (`direction = "minimise"`); its floor is a guardrail (`[[guardrails]]`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import paretune as pt
from paretune.config import Guardrail
from paretune.sim.memory import draw_log

FLOORS_PCT = (0.0, -1.0, -5.0)  # how much hides may rise, in per cent; 0 = not at all


def fronts(rows: int, *, model: str, seed: int = 0, floors_pct: Sequence[float] = FLOORS_PCT) -> dict[float, pt.Front]:
    """Return the front under each floor of the guardrail."""
    world = pt.open_world("homefeed", seed=seed, objectives=3)
    config, log = world.config(), draw_log(world, rows, seed=seed, days=21, explore_share=0.7)
    train, hold_out = pt.time_split(log.day, train_days=14, hold_out_days=7)
    learned, judged = log.take(np.isin(log.day, train)), log.take(np.isin(log.day, hold_out))
    fitted, anchor = pt.fit(learned, config, seed=seed, model=model), pt.fit_anchor(learned, config)
    found = {}
    for floor in floors_pct:
        asked = config.model_copy(update={"guardrails": [Guardrail(objective="hide", floor_pct=floor)]})
        found[floor] = pt.sweep(fitted, judged, asked, anchor=anchor, seed=seed)
    return found


def tell(found: dict[float, pt.Front]) -> None:
    """Print, per floor, what the policy that keeps it earns, and how bad its hides may truly be."""
    for floor, front in found.items():
        pick = next(pick for pick in front.picks if pick.label == "constrained")
        lifts = ", ".join(f"{name} {100 * front.lifts.estimate[pick.policy, j]:+.1f} %" for j, name in enumerate(front.lifts.objectives))
        print(f"hides may rise by {-floor:g} %: {lifts}; P(degrading) {pick.probability_degrading:.2f}")
        if front.guarded is not None:
            print(f"  whatever the distribution, hides rise by no more than {-100 * front.guarded.low[pick.policy, 0]:.0f} %")
        if pick.note:
            print(f"  {pick.note}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--model", default="ridge")
    given = parser.parse_args()
    tell(fronts(given.rows, model=given.model))
