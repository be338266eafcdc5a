"""What can be plugged in: one Protocol per port, with the laws its contract suite holds every adapter to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from paretune.records import Floats, Ints, State

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.surface.heads import Surface

Progress = Callable[[float, str], None]
"""Called with (share done in [0, 1], what is being done); must not raise."""


def silent(share: float, doing: str) -> None:
    """Report progress to nobody."""


class ValueModel(Protocol):
    """Q_j(s, a) = E[r_j | s, a] for requests it has not seen (Eq. 4 of the paper).

    Laws: rows are scored independently of each other; values are finite, also for missing and unknown features; `save` then
    `load` gives the same values to the bit; weight vectors inside the tuned ranges that are no grid action are scored too.
    """

    @property
    def name(self) -> str:
        """Kind of the model, as `training.model` names it."""
        ...

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names, in the order of the values."""
        ...

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 expected rewards of full weight vectors `actions` (K, m)."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model's arrays and manifest; checksummed, no pickle."""
        ...


class Requests(Protocol):
    """A batch of requests of a world: what a learner may see (`state`), and what only the world knows (the rest)."""

    user: Ints  # (n,) int64
    state: State
    cohort: Ints  # (n,) index into World.cohorts

    def __len__(self) -> int: ...


class World(Protocol):
    """A simulated feed whose truth can be computed. Only evaluation code may call `true_values`.

    Laws: `true_values` equals the mean of `respond` over draws; nothing latent is in `state`; the same seed gives the same world.
    """

    name: str
    surface: Surface
    cohorts: tuple[str, ...]
    objectives: tuple[str, ...]

    def config(self) -> Config:
        """Return the paretune.toml that fits this world's logs."""
        ...

    def arrive(self, n: int, *, day: int, rng: np.random.Generator) -> Requests:
        """Return n requests of one day, each the first of a session."""
        ...

    def true_values(self, requests: Requests, actions: Floats) -> Floats:
        """Return (n, K, M) exact E[min(count_j, 1) | s, a]."""
        ...
