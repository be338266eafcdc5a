"""A world whose users are served a plan that a registry holds, and the log of it."""

import atexit
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from registries import ANNA, BERT, bundle, document

from paretune.config import Config
from paretune.policy.registry import Registry
from paretune.records import Floats
from paretune.sim import open_world
from paretune.sim.tested import PlayedArm, fixed, write_test
from paretune.sim.world import World
from paretune.template import render_config

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # of the world's first day
DAY_S = 86_400


@cache
def _world() -> World:
    return open_world("homefeed", setting="demo", seed=5, objectives=3)


def _served(factor: float) -> Floats:
    weights = _world().surface.static.copy()
    weights[_world().objective_heads[0]] *= factor
    return weights


@cache
def _written(factor: float, days: int) -> Path:
    """Return the folder of a log, written once for all tests that ask for it."""
    folder = Path(tempfile.mkdtemp(prefix="paretune-served-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    arms = [PlayedArm("policy-1", 0.5, fixed(_world(), _served(factor))), PlayedArm("control", 0.25)]
    write_test(_world(), folder, arms, days=range(days), requests_per_day=5_000, seed=6)
    return folder


class Served:
    """A world whose users are served a plan that a registry holds; the arm may favour saves so much that p2p falls."""

    def __init__(self, folder: Path, *, factor: float = 1.0, days: int = 3, **rollout: object) -> None:
        world = _world()
        config = world.config()
        settings = {"least_users": 100, "planned_users": 4_000, **rollout}
        self.config = Config.model_validate(config.model_dump(mode="json") | {"rollout": settings})
        (folder / "paretune.toml").write_text(render_config(self.config), encoding="utf-8")
        self.now = START
        self.registry = Registry(folder / "r.db", clock=lambda: self.now)
        heads, static = list(world.surface.names), world.surface.static.tolist()
        files, weights = bundle(), _served(factor).tolist()
        written = document(None, heads=heads, static=static, weights=weights)
        self.registry.publish(written, files, by=ANNA)
        self.registry.approve(1, by=BERT)
        self.registry.activate(1, share=0.5, control=0.25, by=ANNA)
        self.logs = folder / "logs"
        shutil.copytree(_written(factor, days), self.logs)
        self.now = START + days * DAY_S
        self.words = ["guard", str(self.logs), "--registry", str(folder / "r.db"), "-c", str(folder / "paretune.toml")]
