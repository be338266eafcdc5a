"""A simulated test as a log, once for all tests that read one."""

from __future__ import annotations

from pathlib import Path

from paretune.sim import open_world
from paretune.sim.tested import PlayedArm, fixed, write_test
from paretune.template import render_config

SHARES = "control=0.4,saver=0.4,static=0.2"
BEFORE, DAYS = 2, 6


def write(folder: Path, *, explore_share: float = 0.05) -> Path:
    """Write two days before and four of a test whose one arm favours saves, and a configuration beside them."""
    world = open_world("homefeed", setting="demo", seed=5, objectives=3)
    weights = world.surface.static.copy()
    weights[world.objective_heads[0]] *= 1.6
    arms = [PlayedArm("control", 0.4), PlayedArm("saver", 0.4, fixed(world, weights))]
    write_test(world, folder / "logs", arms, days=range(DAYS), before=BEFORE, requests_per_day=4_000, explore_share=explore_share, seed=5)
    (folder / "paretune.toml").write_text(render_config(world.config()), encoding="utf-8")
    return folder / "logs"
