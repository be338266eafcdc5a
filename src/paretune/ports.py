"""What can be plugged in: one Protocol per port, with the laws its contract suite holds every adapter to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paretune.records import Floats, State

Progress = Callable[[float, str], None]
"""Called with (share done in [0, 1], what is being done); must not raise."""


def silent(share: float, doing: str) -> None:
    """Report progress to nobody."""


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """Return a progress that moves the given one from start to end."""
    return lambda share, doing: progress(start + (end - start) * share, doing)


class Each(Protocol):
    """How the parts of a log are worked on: one after the other, or side by side in other processes.

    Laws: results come in the order of the parts, each once; an error of ours comes when its part's turn does; the job and the parts may be
    sent elsewhere, so that a job is a function of a module with its arguments (`functools.partial`), never a closure.
    """

    def __call__(self, job: Callable[[Any, Progress], Any], parts: Sequence[Any], *, progress: Progress) -> Iterator[Any]:
        """Yield what the job returns of each part; it is also told how to report the share of the part that is done."""
        ...


def in_turn(job: Callable[[Any, Progress], Any], parts: Sequence[Any], *, progress: Progress) -> Iterator[Any]:
    """Yield what a job returns of each part, in this process; see `Each`."""
    for index, part in enumerate(parts):
        yield job(part, part_of(progress, index / len(parts), (index + 1) / len(parts)))


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
