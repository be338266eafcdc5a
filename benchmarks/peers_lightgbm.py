"""LightGBM as a contestant of `peers.py`: one model of reward for each objective, on state and action features together.

Trees grow on log loss until the last days say stop; leaves, the share of columns, and whether production rows are read too are chosen by
the log loss there. The model that is kept is fitted again on all days, with as many trees as were best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.records import Floats, Log
from paretune.surface.grid import log_coordinates
from peers_lesson import Contestant, Learned, Lesson, swept

MOST_TREES, PATIENCE = 1_000, 30
ALWAYS: dict[str, Any] = {"objective": "binary", "learning_rate": 0.05, "min_data_in_leaf": 200, "num_threads": 1, "verbose": -1}


@dataclass(frozen=True, slots=True)
class Settings:
    """What is searched, and the trees that were best in it."""

    leaves: int
    columns: float
    production: bool
    trees: tuple[int, ...] = ()  # for each objective

    def __str__(self) -> str:
        rows = "exploration and production rows" if self.production else "exploration rows"
        return f"{self.leaves} leaves, columns {self.columns:g}, {rows}, {'/'.join(str(n) for n in self.trees)} trees"

    def parameters(self, seed: int) -> dict[str, Any]:
        """Return them in LightGBM's words."""
        return {**ALWAYS, "num_leaves": self.leaves, "feature_fraction": self.columns, "seed": seed}


TRIED = tuple(Settings(leaves, columns, production) for production in (False, True) for leaves, columns in ((7, 1.0), (31, 1.0), (31, 0.5)))


def search(lesson: Lesson) -> Settings:
    """Return the settings with the least log loss on the last days."""
    import lightgbm

    late, early = lesson.log.take(lesson.late), lesson.log.take(~lesson.late)
    produced = lesson.production.take(lesson.production.day < late.day.min())
    judged, known, beside = (features(lesson, log) for log in (late, early, produced))

    def tried(settings: Settings) -> tuple[float, Settings]:
        losses, trees = [], []
        for j in range(lesson.log.rewards.shape[1]):
            x, y = known, early.rewards[:, j].copy()
            if settings.production:
                x, y = np.concatenate([known, beside]), np.concatenate([y, produced.rewards[:, j]])
            training = lightgbm.Dataset(x, y)
            booster = lightgbm.train(
                settings.parameters(lesson.seed),
                training,
                MOST_TREES,
                valid_sets=[lightgbm.Dataset(judged, late.rewards[:, j].copy(), reference=training)],
                callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
            )
            losses.append(booster.best_score["valid_0"]["binary_logloss"])
            trees.append(max(booster.best_iteration, 1))
        return sum(losses), Settings(settings.leaves, settings.columns, settings.production, tuple(trees))

    return min((tried(settings) for settings in TRIED), key=lambda each: each[0])[1]


def learn(lesson: Lesson, settings: Settings) -> Learned:
    """Return the front of these settings, fitted on all days."""
    import lightgbm

    logs = [lesson.log, lesson.production] if settings.production else [lesson.log]
    x = np.concatenate([features(lesson, log) for log in logs])
    wide, coordinates = lesson.encoder.wide(lesson.judged), _coordinates(lesson)
    believed = np.empty((len(wide), len(coordinates), lesson.log.rewards.shape[1]), np.float32)
    for j, trees in enumerate(settings.trees):
        training = lightgbm.Dataset(x, np.concatenate([log.rewards[:, j] for log in logs]))
        booster = lightgbm.train(settings.parameters(lesson.seed), training, trees)
        for action, row in enumerate(coordinates):
            asked = np.concatenate([wide, np.broadcast_to(row, (len(wide), len(row)))], axis=1)
            believed[:, action, j] = booster.predict(asked, num_threads=1)
    return Learned(actions=swept(believed, lesson.level), chosen=str(settings))


def features(lesson: Lesson, log: Log) -> Floats:
    """Return (n, D) the state beside the action's coordinates."""
    return np.concatenate([lesson.encoder.wide(log.state), _coordinates(lesson)[log.action]], axis=1)


def _coordinates(lesson: Lesson) -> Floats:
    """Return (K, t + 1) log weights of the actions, and the first minus the second, which trees do not find by themselves."""
    surface = lesson.world.surface
    weights = log_coordinates(surface, surface.actions).astype(np.float32)
    return np.concatenate([weights, weights[:, :1] - weights[:, 1:2]], axis=1)


LIGHTGBM = Contestant("exploration and production rows: state, action", search, learn)
