"""What every contestant of `peers.py` is given, what it hands back, and how a value model's front is swept: the same for all.

The rule: a contestant learns, searches and chooses from the lesson alone. The requests it is judged by are given as their visible state;
their truth stays with `peers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from attainable import ALPHAS
from paretune.config import Config
from paretune.records import Bools, Floats, Ints, Log, State
from paretune.sim.world import World
from paretune.value.features import Encoder

LAST_DAYS = 2  # of the log's 14; what a search is judged by
_ROWS_PER_PASS = 20_000


@dataclass(frozen=True, slots=True)
class Lesson:
    """The data that all have alike."""

    world: World  # whose traffic answers those who learn by serving; the others do not look at it
    config: Config
    log: Log  # uniform exploration rows over 14 days, with candidates
    production: Log  # rows under the static weights of the same days
    judged: State  # requests to choose for
    encoder: Encoder  # of the log; `wide` is what a peer reads of a state
    seed: int

    @property
    def level(self) -> Floats:
        """(M,) mean rewards of production, as logged."""
        return self.production.rewards.mean(axis=0, dtype=np.float64)

    @property
    def late(self) -> Bools:
        """(n,) exploration rows of the last days."""
        return self.log.day > self.log.day.max() - LAST_DAYS


@dataclass(frozen=True, slots=True)
class Learned:
    """The policies that somebody would offer, one for each trade-off: an action per request, or weights for everybody."""

    actions: Ints | None = None  # (n, P) into the surface's actions
    weights: Floats | None = None  # (P, m)
    chosen: str = ""  # what the search chose
    fit_before_s: float = 0.0  # CPU seconds of the fit that was kept, where the search made it
    traffic_s: float = 0.0  # CPU seconds of simulating the traffic it asked for: the world's, not its own


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way of learning whom to serve which weights."""

    reads: str  # which rows and columns of the log
    search: Callable[[Lesson], Any]  # its settings, from training rows alone
    learn: Callable[[Lesson, Any], Learned]  # fits with these settings, and chooses for the judged requests


def swept(believed: Floats, level: Floats) -> Ints:
    """Return (n, P) the grid action that each trade-off takes for each request.

    Args:
        believed: (n, K, M) values of all actions, production first.
        level: (M,) of production.
    """
    relative = (believed[:, 1:] / level).astype(np.float32)
    chosen = np.empty((len(believed), len(ALPHAS)), np.int16)
    for start in range(0, len(relative), _ROWS_PER_PASS):
        part = relative[start : start + _ROWS_PER_PASS]
        for p, alpha in enumerate(ALPHAS):
            chosen[start : start + len(part), p] = 1 + (part @ np.array([alpha, 1 - alpha], np.float32)).argmax(axis=1)
    return chosen


def squared_errors(believed: Floats, log: Log, rows: Ints) -> Floats:
    """Return (M,) mean squared errors of the values believed of the actions that were logged.

    Args:
        believed: (len(rows), M) of those actions.
        log: exploration rows.
        rows: indices of those that are judged by.
    """
    return np.square(believed - log.rewards[rows]).mean(axis=0, dtype=np.float64)
