"""What can be plugged in: one Protocol per port, with the laws its contract suite holds every adapter to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paretune.records import Floats, State

Progress = Callable[[float, str], None]
"""Called with (share done in [0, 1], what is being done); must not raise."""


def silent(share: float, doing: str) -> None:
    """Report progress to nobody."""


class Team(Protocol):
    """Processes that do one job together, each on its own share of the rows.

    Laws: all members call the same methods in the same order; all get the same answer, to the bit; the order of ranks is fixed, and with
    it the order in which numbers are added.
    """

    @property
    def rank(self) -> int:
        """Number of this member, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def total(self, array: Floats) -> Floats:
        """Return the sum of the members' arrays, which have one shape and type."""
        ...

    def each(self, array: Floats) -> list[Floats]:
        """Return the members' arrays in the order of ranks; shapes may differ."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """A team of one: what it has is the whole."""

    rank: int = 0
    size: int = 1

    def total(self, array: Floats) -> Floats:
        """Return the array."""
        return array

    def each(self, array: Floats) -> list[Floats]:
        """Return the array as the only one."""
        return [array]


ALONE: Team = Alone()


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
