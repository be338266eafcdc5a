"""The control surface: ordered heads with static weights; tuned heads have levels (§3 of the paper).

The rule: production (the static weights) is always action 0, the Cartesian grid follows in row-major order, first tuned head slowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from paretune.errors import SurfaceError
from paretune.records import OFF_GRID, Floats, Ints

_GAPS_AT_ONCE = 2**22  # numbers of memory while weights are looked up


@dataclass(frozen=True, slots=True)
class Head:
    """One predicted outcome and the weight it has in production."""

    name: str
    weight: float
    levels: tuple[float, ...] = ()  # candidate weights, increasing; empty = not tuned

    def __post_init__(self) -> None:
        if not np.isfinite([self.weight, *self.levels]).all():
            raise SurfaceError(
                f"head {self.name!r} has a weight that is not finite: {self.weight}, levels {self.levels}", hint="give finite numbers"
            )
        if len(self.levels) == 1 or any(high <= low for low, high in zip(self.levels, self.levels[1:], strict=False)):
            raise SurfaceError(f"levels of head {self.name!r} do not increase: {self.levels}", hint="give at least two increasing weights")
        if self.levels and (self.levels[0] <= 0 or self.weight <= 0):
            raise SurfaceError(
                f"tuned head {self.name!r} has a weight that is not positive: {self.weight}, levels {self.levels}",
                hint="tune heads with positive weights; for a negative head, negate its score",
            )


@dataclass(frozen=True, slots=True)
class Surface:
    """Heads in score order, and the list length they decide."""

    heads: tuple[Head, ...]
    k: int  # items served per request

    def __post_init__(self) -> None:
        names = [head.name for head in self.heads]
        if len(set(names)) != len(names):
            raise SurfaceError(f"head names repeat: {names}", hint="name each head once")
        if not any(head.levels for head in self.heads):
            raise SurfaceError("no head is tuned", hint="give levels to at least one head")
        if self.k < 1:
            raise SurfaceError(f"k is {self.k}", hint="serve at least one item")

    @property
    def names(self) -> tuple[str, ...]:
        """Head names, in score order."""
        return tuple(head.name for head in self.heads)

    @property
    def static(self) -> Floats:
        """(m,) production weights."""
        return np.array([head.weight for head in self.heads])

    @property
    def tuned(self) -> tuple[int, ...]:
        """Indices of the tuned heads."""
        return tuple(i for i, head in enumerate(self.heads) if head.levels)

    @property
    def actions(self) -> Floats:
        """(K, m) full weight vectors; row 0 is production, the grid follows."""
        tuned = self.tuned
        grid = list(product(*(self.heads[i].levels for i in tuned)))
        actions = np.tile(self.static, (1 + len(grid), 1))
        actions[1:, list(tuned)] = grid
        return actions

    def __len__(self) -> int:
        """K, production included."""
        return 1 + int(np.prod([len(self.heads[i].levels) for i in self.tuned]))

    def index(self, weights: Floats, *, tolerance: float = 1e-4) -> Ints:
        """Return the action of each weight vector, OFF_GRID where it is none.

        Args:
            weights: (n, m) full weight vectors.
            tolerance: largest relative difference, per head, that still counts as equal (float32 logs).

        Returns:
            (n,) int32. A grid action that equals production is reported as production.

        Raises:
            SurfaceError: weights have another number of heads.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[1] != len(self.heads):
            raise SurfaceError(
                f"weights have shape {weights.shape}, the surface has {len(self.heads)} heads", hint="log one weight per head, in order"
            )
        unique, inverse = np.unique(weights, axis=0, return_inverse=True)
        actions, found = self.actions, np.empty(len(unique), dtype=np.int32)
        at_once = max(1, _GAPS_AT_ONCE // actions.size)
        for start in range(0, len(unique), at_once):
            gap = np.abs(unique[start : start + at_once, None] - actions) / np.maximum(np.abs(actions), 1e-12)  # (u, K, m)
            close = (gap <= tolerance).all(axis=2)
            found[start : start + at_once] = np.where(close.any(axis=1), close.argmax(axis=1), OFF_GRID)
        return found[inverse.ravel()]
