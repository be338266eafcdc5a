"""A small configuration and decisions of it, for the tests of sinks and the join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from paretune.config import Config, parse_config
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.spool import Spool

CONFIG: Config = parse_config(
    {
        "surface": {
            "k": 3,
            "heads": [
                {"name": "save", "weight": 90.0, "tune": {"low": 10.0, "high": 200.0, "levels": 3}},
                {"name": "p2p", "weight": 9.0, "tune": {"low": 1.0, "high": 30.0, "levels": 3}},
            ],
        },
        "objectives": [{"name": "save", "column": "saves", "head": "save"}, {"name": "p2p", "column": "p2ps", "head": "p2p"}],
        "features": {
            "numeric": ["age"],
            "categorical": ["device", "cohort"],
            "embeddings": [{"name": "emb", "size": 2, "dtype": "float16"}],
            "sequences": [{"name": "seq", "length": 3, "vocabulary": 50}],
        },
    }
)
ACTIONS = CONFIG.surface.build().actions
DAY_US = 86_400_000_000
START_US = 20_500 * DAY_US


def pair(i: int, *, time_us: int | None = None, reason: Reason = Reason.EXPLORE) -> tuple[Request, Decision]:
    """The i-th request and its decision."""
    action = 1 + i % (len(ACTIONS) - 1) if reason is Reason.EXPLORE else 0
    features = {"age": i * 0.5, "device": "phone", "emb": np.array([i % 7, 1], "<f2").tobytes(), "seq": [i % 50, 1]}
    time = START_US + i * 60_000_000 if time_us is None else time_us
    request = Request(f"r{i}", i % 5, features, cohort="CORE", time_us=time)
    return request, Decision(f"r{i}", tuple(ACTIONS[action].tolist()), action, "", 1, 1 / 9 if action else 1.0, reason)


def spooled(folder: Path) -> pl.DataFrame:
    """All rows of a spool's Parquet files."""
    parts = [pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))]
    return pl.concat(parts) if parts else pl.DataFrame({"request_id": pl.Series([], dtype=pl.String)})


def write_spool(folder: Path, pairs: list[tuple[Request, Decision]]) -> None:
    """Spool decisions and close."""
    spool = Spool(folder, CONFIG)
    for request, decision in pairs:
        assert spool.offer(request, decision)
    spool.close()
