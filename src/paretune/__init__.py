"""Personal utility weights for multi-task rankers.

The names below are imported when they are first used (PEP 562), so that `import paretune` is quick and brings neither torch nor polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paretune.config import Config, dump_config, load_config
    from paretune.errors import ParetuneError
    from paretune.exchange.obp import from_obp, to_obp
    from paretune.frontier.anchor import fit_anchor
    from paretune.frontier.archive import load_front, save_front
    from paretune.frontier.evaluate import sweep
    from paretune.frontier.front import Front
    from paretune.logs.inspection import check_log
    from paretune.logs.parquet import log_days, read_log, scan_log
    from paretune.logs.split import time_split
    from paretune.records import Log, State
    from paretune.run import sweep_logs
    from paretune.serving.bundle import load_bundle, save_bundle
    from paretune.serving.decide import Request
    from paretune.serving.runtime import Runtime
    from paretune.sim.world import open_world
    from paretune.value.bundle import load_model, save_model
    from paretune.value.train import fit

_PLACES = {
    "Config": "paretune.config",
    "Front": "paretune.frontier.front",
    "Log": "paretune.records",
    "ParetuneError": "paretune.errors",
    "Request": "paretune.serving.decide",
    "Runtime": "paretune.serving.runtime",
    "State": "paretune.records",
    "check_log": "paretune.logs.inspection",
    "dump_config": "paretune.config",
    "fit": "paretune.value.train",
    "fit_anchor": "paretune.frontier.anchor",
    "from_obp": "paretune.exchange.obp",
    "load_bundle": "paretune.serving.bundle",
    "load_config": "paretune.config",
    "load_front": "paretune.frontier.archive",
    "load_model": "paretune.value.bundle",
    "log_days": "paretune.logs.parquet",
    "open_world": "paretune.sim.world",
    "read_log": "paretune.logs.parquet",
    "save_bundle": "paretune.serving.bundle",
    "save_front": "paretune.frontier.archive",
    "save_model": "paretune.value.bundle",
    "scan_log": "paretune.logs.parquet",
    "sweep": "paretune.frontier.evaluate",
    "sweep_logs": "paretune.run",
    "time_split": "paretune.logs.split",
    "to_obp": "paretune.exchange.obp",
}

__all__ = [
    "Config",
    "Front",
    "Log",
    "ParetuneError",
    "Request",
    "Runtime",
    "State",
    "check_log",
    "dump_config",
    "fit",
    "fit_anchor",
    "from_obp",
    "load_bundle",
    "load_config",
    "load_front",
    "load_model",
    "log_days",
    "open_world",
    "read_log",
    "save_bundle",
    "save_front",
    "save_model",
    "scan_log",
    "sweep",
    "sweep_logs",
    "time_split",
    "to_obp",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported now; and `__version__`."""
    if name == "__version__":
        from importlib.metadata import version

        return version("paretune")
    if name not in _PLACES:
        raise AttributeError(f"module 'paretune' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
