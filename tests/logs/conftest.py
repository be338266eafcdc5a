"""A small log of plain arrays, and the configuration that fits it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from paretune.config import Config, parse_config
from paretune.logs.parquet import binary, ragged_binary
from paretune.surface.heads import Surface

RAW: dict[str, Any] = {
    "surface": {
        "k": 3,
        "heads": [
            {"name": "save", "weight": 90.0, "tune": {"low": 10.0, "high": 200.0, "levels": 3}},
            {"name": "p2p", "weight": 9.0, "tune": {"low": 1.0, "high": 30.0, "levels": 3}},
            {"name": "hide", "weight": -4.0},
        ],
    },
    "objectives": [
        {"name": "save", "column": "saves", "head": "save"},
        {"name": "p2p", "column": "p2ps", "head": "p2p", "transform": "log1p"},
    ],
    "features": {
        "numeric": ["age"],
        "categorical": ["device"],
        "embeddings": [{"name": "emb", "size": 4, "dtype": "float16"}],
        "sequences": [{"name": "seq", "length": 5, "vocabulary": 50}],
    },
    "evaluation": {"train_days": 1, "hold_out_days": 1, "min_hits": 5},
}


def make_columns(surface: Surface, n: int, seed: int, *, lists: bool = False, chances: Any = None) -> dict[str, Any]:
    """Return n rows of schema.py, nine in ten explored; the logged propensity is always uniform."""
    rng = np.random.default_rng(seed)
    explored = rng.random(n) < 0.9
    action = np.where(explored, rng.choice(np.arange(1, len(surface)), n, p=chances), 0).astype(np.int32)
    weights = surface.actions[action].astype(np.float32)
    emb = rng.normal(size=(n, 4)).astype(np.float16)
    seq = rng.integers(0, 50, (n, 5)).astype(np.int16)
    seq[:, :2][rng.random((n, 2)) < 0.3] = -1
    items = np.where(explored, rng.integers(3, 8, n), 0)
    offsets = np.concatenate([[0], np.cumsum(items)])
    item_ids = rng.integers(0, 9999, offsets[-1]).astype(np.int32)
    scores = rng.random((offsets[-1], 3)).astype(np.float16)
    cut = list(pairwise(offsets))
    as_lists = {
        "weights": pl.Series(weights.tolist(), dtype=pl.List(pl.Float32)),
        "emb": pl.Series(emb.astype(np.float32)),  # a fixed-size array column
        "seq": pl.Series(seq.tolist(), dtype=pl.List(pl.Int64)),
        "candidate_ids": pl.Series([item_ids[a:b].tolist() for a, b in cut], dtype=pl.List(pl.Int64)),
        "candidate_scores": pl.Series([scores[a:b].ravel().tolist() for a, b in cut], dtype=pl.List(pl.Float32)),
    }
    as_binary = {
        "weights": binary(weights),
        "emb": binary(emb),
        "seq": binary(seq),
        "candidate_ids": ragged_binary(item_ids, offsets),
        "candidate_scores": ragged_binary(scores, offsets),
    }
    return {
        "request_id": [f"r{seed}-{i}" for i in range(n)],
        "user": rng.integers(0, max(2, n // 4), n),
        "session": np.arange(n),
        "ts": (np.arange(n) + seed * 1_000_000_000).astype("datetime64[us]"),
        "cohort": rng.choice(["CORE", "REST"], n),
        "action": action,
        "propensity": np.where(explored, 1 / (len(surface) - 1), 1.0),
        "reason": np.where(explored, "EXPLORE", "STATIC"),
        "label_age_h": np.full(n, 30.0),
        "saves": rng.poisson(0.3, n),
        "p2ps": rng.poisson(0.5, n),
        "age": rng.normal(size=n),
        "device": rng.choice(["phone", "tablet", "web"], n),
        **(as_lists if lists else as_binary),
    }


@pytest.fixture(scope="session")
def config() -> Config:
    return parse_config(RAW)


@pytest.fixture(scope="session")
def surface(config: Config) -> Surface:
    return config.surface.build()


@pytest.fixture(scope="session")
def rows_of(surface: Surface) -> Callable[..., dict[str, Any]]:
    def rows(n: int, seed: int = 0, **options: Any) -> dict[str, Any]:
        return make_columns(surface, n, seed, **options)

    return rows
