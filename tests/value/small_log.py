"""A small log with a known truth: one numeric feature moves the personal effect of the weights."""

import numpy as np

from paretune.config import Config, parse_config
from paretune.records import Candidates, Categorical, Log, State
from paretune.surface.grid import log_coordinates
from paretune.surface.lists import list_union, top_lists


def make_config(**training) -> Config:
    """Return three heads, two tuned; every kind of feature; small networks' worth of epochs."""
    return parse_config(
        {
            "surface": {
                "k": 5,
                "heads": [
                    {"name": "save", "weight": 20.0, "tune": {"low": 5.0, "high": 80.0, "levels": 3, "spacing": "log"}},
                    {"name": "p2p", "weight": 4.0, "tune": {"low": 1.0, "high": 16.0, "levels": 3, "spacing": "log"}},
                    {"name": "click", "weight": 1.0},
                ],
            },
            "objectives": [{"name": "save", "column": "saves", "head": "save"}, {"name": "p2p", "column": "p2ps", "head": "p2p"}],
            "features": {
                "numeric": ["taste", "age"],
                "categorical": ["country"],
                "embeddings": [{"name": "vector", "size": 3}],
                "sequences": [{"name": "history", "length": 6, "vocabulary": 5}, {"name": "items", "length": 4, "vocabulary": 200}],
            },
            "training": {"max_epochs": 3, "patience": 2, **training},
        }
    )


def make_state(n: int, rng: np.random.Generator) -> State:
    """Return n states with missing numbers, missing words and short histories."""
    history = rng.integers(0, 5, (n, 6)).astype(np.int16)
    history[np.arange(6) < rng.integers(0, 7, n)[:, None]] = -1
    age = rng.normal(40, 10, n).astype(np.float32)
    age[rng.random(n) < 0.1] = np.nan
    return State(
        {"taste": rng.normal(size=n).astype(np.float32), "age": age},
        {"country": Categorical(rng.integers(-1, 3, n).astype(np.int32), ("at", "be", "cy"))},
        {"vector": rng.normal(size=(n, 3)).astype(np.float16)},
        {"history": history, "items": rng.integers(0, 200, (n, 4)).astype(np.int32)},
    )


def make_truth(config: Config, state: State, actions: np.ndarray) -> np.ndarray:
    """Return (n, K, 2) probabilities: taste decides who gains from a larger save weight."""
    phi = log_coordinates(config.surface.build(), actions)
    gap = phi[:, 0] - phi[:, 1]
    taste = state.numeric["taste"][:, None]
    logits = np.stack([-0.5 + 0.5 * taste + (0.8 + 0.8 * taste) * gap, -0.2 - (0.8 - 0.8 * taste) * gap], axis=2)
    return 1 / (1 + np.exp(-logits))


def make_candidates(config: Config, n: int, rng: np.random.Generator) -> Candidates:
    """Return the union of the grid's lists out of 30 items per row."""
    surface = config.surface.build()
    pool = Candidates(np.arange(n + 1) * 30, np.tile(np.arange(30), n), rng.beta(1, 12, (n * 30, 3)).astype(np.float32))
    mask = list_union(top_lists(pool, surface.actions, surface.k), 30)
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    return Candidates(offsets, pool.ids[mask.ravel()], pool.scores[mask.ravel()])


def make_log(n: int, config: Config, *, seed: int = 0) -> Log:
    """Return n rows of n // 4 users: nine in ten explore uniformly, the rest are production."""
    rng = np.random.default_rng(seed)
    actions = config.surface.build().actions
    state = make_state(n, rng)
    explored = rng.random(n) < 0.9
    action = np.where(explored, rng.integers(1, len(actions), n), 0).astype(np.int32)
    truth = make_truth(config, state, actions)[np.arange(n), action]
    return Log(
        request=np.arange(n, dtype=np.uint64),
        user=rng.integers(0, n // 4, n).astype(np.uint64),
        session=np.arange(n, dtype=np.uint64),
        day=rng.integers(20_000, 20_014, n).astype(np.int32),
        cohort=Categorical(np.zeros(n, np.int32), ("ALL",)),
        action=action,
        propensity=np.where(explored, 1 / (len(actions) - 1), 1.0),
        explored=explored,
        rewards=(rng.random((n, 2)) < truth).astype(np.float32),
        state=state,
        candidates=make_candidates(config, n, rng),
    )
