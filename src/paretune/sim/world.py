"""What every simulated world is made of: a catalogue in pools, requests with a visible and a hidden side, a way of looking at lists.

The rule: whatever a learner may see is in `Arrivals.state`, `cohort`, `user` and the ranker's scores; `theta_true` and `Catalogue.true`
are the truth, read only by the kernels that draw responses and by evaluation code. A head's probability is
sigmoid(theta[request, head] . phi[item]); all ranker error lives in the factors, so no per-cell noise is drawn and the truth of any list
can be computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.records import Floats, Ints, State
from paretune.surface.heads import Surface

WORLDS = {"homefeed": ("demo", "paper", "perfect-ranker"), "kuairand": ("standard",)}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items in candidate pools; a request is ranked over one pool."""

    ids: Ints  # (pools, C) int32
    true: Floats  # (pools, C, d) float32, column 0 is the constant 1
    ranker: Floats  # (pools, C, d) float32


@dataclass(frozen=True, slots=True)
class Continuation:
    """The user goes on to the next position with probability sigmoid(base + long_view * p_long_view - hide * p_hide)."""

    base: float
    long_view: float
    hide: float
    long_view_head: int
    hide_head: int


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n requests at the moment they arrive."""

    user: Ints  # (n,) int64
    cohort: Ints  # (n,) int8 into World.cohorts
    day: int  # days since the world began
    hour: Floats  # (n,) in [0, 24)
    pool: Ints  # (n,) int32 into the catalogue
    state: State  # what a learner may see
    theta_true: Floats  # (n, H, d) float32, hidden
    theta_ranker: Floats  # (n, H, d) float32
    intent: Ints  # (n,) int8, hidden
    ranker_scale: Floats | None = None  # (H,) what the ranker's scores are multiplied by, to at most 1; None = nothing

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | slice) -> Arrivals:
        """Return the rows asked for."""
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in ("user", "cohort", "hour", "pool", "theta_true", "theta_ranker", "intent")},
            state=self.state.take(rows),
        )


class World(Protocol):
    """A feed whose truth can be computed.

    Laws: exact values equal the mean over drawn responses; nothing hidden is in `state`; the same seed gives the same world and traffic.
    """

    name: str
    setting: str
    surface: Surface
    cohorts: tuple[str, ...]
    objectives: tuple[str, ...]
    objective_heads: tuple[int, ...]
    continuation: Continuation
    catalogue: Catalogue

    def config(self) -> Config:
        """Return the configuration that fits this world's logs."""
        ...

    def arrive(self, n: int, *, day: int, rng: np.random.Generator) -> Arrivals:
        """Return n requests of one day, each the first of a session."""
        ...

    def again(self, arrivals: Arrivals, *, rng: np.random.Generator) -> Arrivals:
        """Return the next request of the same sessions: same user and intent, a new pool."""
        ...


def open_world(name: str, *, setting: str = "", seed: int = 0, data: Path | None = None, objectives: int = 2) -> World:
    """Return a world by name.

    Args:
        name: ``homefeed`` or ``kuairand``.
        setting: a variant of the world; empty takes the first.
        seed: of the world itself (users, items, ranker errors), not of its traffic.
        data: folder of the KuaiRand files; ``kuairand`` only.
        objectives: 2, or 3: the third is a guardrail.

    Raises:
        ConfigError: no such world, setting or number of objectives, or the data are missing.
    """
    if objectives not in {2, 3}:
        raise ConfigError(f"no world has {objectives} objectives", hint="ask for 2 or 3")
    if name not in WORLDS:
        raise ConfigError(f"there is no world {name!r}", hint=f"worlds are {', '.join(WORLDS)}")
    setting = setting or WORLDS[name][0]
    if setting not in WORLDS[name]:
        raise ConfigError(f"world {name!r} has no setting {setting!r}", hint=f"settings are {', '.join(WORLDS[name])}")
    if name == "homefeed":
        from paretune.sim.homefeed import Homefeed

        return Homefeed(setting, seed=seed, objectives=objectives)
    from paretune.sim.kuairand import open_kuairand

    if data is None:
        raise ConfigError("the kuairand world needs its data", hint="name the folder of the KuaiRand files with --data DIR")
    return open_kuairand(data, seed=seed, objectives=objectives)
