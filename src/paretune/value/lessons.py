"""Which rows of a log teach, and in which order; the log may be read part by part, or lie on disk.

The rule: what is chosen depends on the rows of the log alone, so a log that was stored with no other rows teaches what the whole one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from paretune.errors import DataError
from paretune.ports import ALONE, Team
from paretune.records import PRODUCTION, Bools, Floats, Ints, Log, State

PRODUCTION_PER_EXPLORED = 4  # production rows are plenty; beyond this they cost time and teach little


@dataclass(frozen=True, slots=True)
class Lessons:
    """Rows of a log in the order in which they teach; states are taken some at a time, since the log may be larger than memory."""

    log: Log
    index: Ints  # (n,) rows of the log

    def __len__(self) -> int:
        return len(self.index)

    @property
    def user(self) -> Ints:
        """(n,) hashes."""
        return self.log.user[self.index]

    @property
    def action(self) -> Ints:
        """(n,) logged actions."""
        return self.log.action[self.index]

    @property
    def rewards(self) -> Floats:
        """(n, M)."""
        return self.log.rewards[self.index]

    @property
    def day(self) -> Ints:
        """(n,) days since 1970-01-01."""
        return self.log.day[self.index]

    def take(self, rows: Ints | Bools | slice) -> State:
        """Return the states of some of the rows."""
        return self.log.state.take(self.index[rows])

    def rows(self, rows: Ints | Bools | slice = slice(None)) -> Log:
        """Return some of the rows with all they have, candidates too."""
        return self.log.take(self.index[rows])


def training_lessons(log: Log, *, with_production: bool = False, team: Team = ALONE) -> Lessons:
    """Return the rows that teach the value of weights: exploration on the grid.

    Args:
        log: of the training days.
        with_production: then production rows, up to four for each exploration row, spread evenly over the log: they tell nothing of other
            weights, but what a request is worth under the static ones, which is most of what a model must learn.
        team: whose members each have a part of the log, and choose among its rows.

    Raises:
        DataError: there are none, in any member's part, or rewards are not finite.
    """
    index = np.flatnonzero(_on_grid(log))
    explored = np.concatenate(team.each(np.array([len(index)])))
    if explored.any() and not explored.all():
        raise DataError(
            f"{int((explored == 0).sum())} of {team.size} workers have no exploration rows in their part of the log",
            hint="train with fewer workers, or in one process",
        )
    if len(index) == 0:
        raise unexplored(len(log))
    if with_production:
        produced = np.flatnonzero(log.produced)
        wanted = min(len(produced), PRODUCTION_PER_EXPLORED * len(index))
        index = np.concatenate([index, produced[spread(len(produced), wanted)]])
    lessons = Lessons(log, index)
    if not np.isfinite(lessons.rewards).all():
        raise DataError("rewards hold NaN or infinity", hint="quarantine such rows with `paretune check --quarantine`")
    return lessons


def unexplored(rows: int) -> DataError:
    """Return the error that none of so many rows explored the grid."""
    return DataError(
        f"none of {rows} rows explored the grid, so nothing can be learned about other weights",
        hint="serve weights drawn from the grid to a share of requests first, and log them with reason EXPLORE",
    )


def training_rows(log: Log, *, with_production: bool = False, team: Team = ALONE) -> Log:
    """Return `training_lessons` as a log in memory; without candidates where production rows are among them."""
    bare = replace(log, candidates=None) if with_production else log
    return training_lessons(bare, with_production=with_production, team=team).rows()


def spread(rows: int, wanted: int, *, start: int = 0, stop: int | None = None) -> Ints:
    """Return `wanted` of so many rows, spread evenly from the first to the last; of these, those in [start, stop) alone.

    Args:
        rows: to choose from.
        wanted: at most `rows`.
        start: first row that is asked for.
        stop: first row that is no longer asked for; by default all are.
    """
    stop = rows if stop is None else stop
    if wanted <= 1 or start >= stop:
        return np.arange(start, stop)[: wanted if start == 0 else 0]
    step = (rows - 1) / (wanted - 1)
    places = np.arange(max(0, int(start / step) - 1), min(wanted, int(stop / step) + 2))
    chosen = (places * step).astype(np.int64)
    chosen[places == wanted - 1] = rows - 1
    return chosen[(chosen >= start) & (chosen < stop)]


def counted(parts: Iterable[Log]) -> tuple[int, int]:
    """Return how many exploration rows on the grid, and how many production rows, the parts of a log have.

    Raises:
        DataError: no exploration row.
    """
    rows = explored = produced = 0
    for part in parts:
        rows += len(part)
        explored += int(_on_grid(part).sum())
        produced += int(part.produced.sum())
    if not explored:
        raise unexplored(rows)
    return explored, produced


def taught_parts(parts: Iterable[Log], *, explored: int, produced: int) -> Iterator[Log]:
    """Yield of each part of a log the rows that `training_lessons` with production chooses of the whole.

    Args:
        parts: of the log, in its order.
        explored: exploration rows on the grid in the whole log, see `counted`.
        produced: production rows in the whole log.
    """
    met, wanted = 0, min(produced, PRODUCTION_PER_EXPLORED * explored)
    for part in parts:
        own = np.flatnonzero(part.produced)
        chosen = own[spread(produced, wanted, start=met, stop=met + len(own)) - met]
        met += len(own)
        yield part.take(np.sort(np.concatenate([np.flatnonzero(_on_grid(part)), chosen])))


def listed_parts(parts: Iterable[Log]) -> Iterator[Log]:
    """Yield of each part its exploration rows, and of other rows with candidates four for each exploration row so far."""
    explored = others = 0
    for part in parts:
        explored += int(part.explored.sum())
        more = np.flatnonzero(_listed(part) & ~part.explored)[: max(0, PRODUCTION_PER_EXPLORED * explored - others)]
        others += len(more)
        yield part.take(np.sort(np.concatenate([np.flatnonzero(part.explored), more])))


def listed_lessons(log: Log, *, team: Team = ALONE) -> tuple[Lessons, int]:
    """Return the rows with candidates from which `replay` is distilled, and how many of the first of them explored the grid, and so teach.

    Where no exploration row has candidates, all of them are returned.

    Raises:
        DataError: no exploration rows, or rewards are not finite.
    """
    taught, listed = training_lessons(log, team=team).index, _listed(log)
    if listed[taught].any():
        taught = taught[listed[taught]]
    others = np.flatnonzero(listed & ~_on_grid(log))
    others = others[spread(len(others), min(len(others), PRODUCTION_PER_EXPLORED * len(taught)))]
    return Lessons(log, np.concatenate([taught, others])), len(taught)


def _on_grid(log: Log) -> Bools:
    return log.explored & (log.action > PRODUCTION)


def _listed(log: Log) -> Bools:
    return np.zeros(len(log), np.bool_) if log.candidates is None else np.diff(log.candidates.offsets) > 0
