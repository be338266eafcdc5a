"""Windows of small worlds, drawn once."""

from functools import cache

from paretune.config import Config
from paretune.monitor.drift import Drift
from paretune.monitor.watch import take_reference, take_window, watched
from paretune.monitor.window import Window
from paretune.records import Log
from paretune.sim import open_world
from paretune.sim.drifting import Disturbance, open_drifting
from paretune.sim.memory import draw_log

ROWS = 6_000  # of the reference's 14 days; the current 7 days have half as many


@cache
def rows_before(seed: int, setting: str = "demo", rows: int = ROWS) -> Log:
    """The reference's rows of a world."""
    world = open_world("homefeed", setting=setting, seed=seed)
    return draw_log(world, rows, seed=100 + seed, days=14, explore_share=0.5, predicted=True)


@cache
def reference_of(seed: int, setting: str = "demo", rows: int = ROWS) -> Window:
    """The reference window of a world."""
    return take_reference(lambda: [rows_before(seed, setting, rows)], config_of(setting))


@cache
def config_of(setting: str = "demo") -> Config:
    return open_world("homefeed", setting=setting, seed=0).config()


def rows_after(seed: int, disturbance: Disturbance, *, setting: str = "demo", rows: int = ROWS, traffic: int = 0) -> Log:
    """Rows of the seven days after a disturbance."""
    world = open_drifting("homefeed", disturbance, setting=setting, seed=seed)
    return draw_log(world, rows // 2, seed=500 + seed + 1_000 * traffic, days=7, explore_share=0.5, predicted=True)


def drift_after(seed: int, disturbance: Disturbance, *, setting: str = "demo", rows: int = ROWS, traffic: int = 0) -> Drift:
    """What moved after a disturbance."""
    reference = reference_of(seed, setting, rows)
    return watched(reference, *take_window([rows_after(seed, disturbance, setting=setting, rows=rows, traffic=traffic)], reference))
