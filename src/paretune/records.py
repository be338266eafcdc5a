"""What passes between the stages: plain frozen records over arrays.

The rule: a record holds what a log row, a request or a result *is*, never how it was stored or how it is drawn. n requests, m heads,
K actions (production first, the grid after it), M objectives, P policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # the aliases name the kind for the reader; numpy's dtype algebra is left to the tests
Ints = NDArray[Any]
Bools = NDArray[Any]

PRODUCTION = 0  # index of the static weights among the actions
OFF_GRID = -1  # index of weights that are no action
NO_TIME = -(2**63)  # time of a row that has none


@dataclass(frozen=True, slots=True)
class Categorical:
    """A dictionary-encoded column."""

    codes: Ints  # (n,) int32 into vocabulary, -1 = missing
    vocabulary: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Ints | Bools | slice) -> Categorical:
        """Return the rows asked for."""
        return Categorical(self.codes[rows], self.vocabulary)

    @staticmethod
    def concat(parts: Iterable[Categorical]) -> Categorical:
        """Join columns whose vocabularies may differ."""
        parts = list(parts)
        vocabulary = tuple(dict.fromkeys(word for part in parts for word in part.vocabulary))
        index = {word: code for code, word in enumerate(vocabulary)}
        remapped = []
        for part in parts:
            table = np.array([*(index[word] for word in part.vocabulary), -1], dtype=np.int32)
            remapped.append(table[part.codes])
        return Categorical(np.concatenate(remapped) if remapped else np.empty(0, np.int32), vocabulary)


@dataclass(frozen=True, slots=True)
class State:
    """What is known when a request arrives (the paper's s); never item scores."""

    numeric: dict[str, Floats]  # name -> (n,) float32, NaN = missing
    categorical: dict[str, Categorical]
    embedding: dict[str, Floats]  # name -> (n, d) float32, NaN = missing
    sequence: dict[str, Ints]  # name -> (n, L) integer tokens, newest last, -1 = padding

    def __len__(self) -> int:
        for group in (self.numeric, self.categorical, self.embedding, self.sequence):
            for column in group.values():
                return len(column)
        return 0

    def take(self, rows: Ints | Bools | slice) -> State:
        """Return the rows asked for."""
        return State(
            {name: column[rows] for name, column in self.numeric.items()},
            {name: column.take(rows) for name, column in self.categorical.items()},
            {name: column[rows] for name, column in self.embedding.items()},
            {name: column[rows] for name, column in self.sequence.items()},
        )

    @staticmethod
    def concat(parts: Iterable[State]) -> State:
        """Join batches of the same columns."""
        parts = list(parts)
        first = parts[0]
        return State(
            {name: np.concatenate([part.numeric[name] for part in parts]) for name in first.numeric},
            {name: Categorical.concat(part.categorical[name] for part in parts) for name in first.categorical},
            {name: np.concatenate([part.embedding[name] for part in parts]) for name in first.embedding},
            {name: np.concatenate([part.sequence[name] for part in parts]) for name in first.sequence},
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Per row, the items that can reach a top-k under any action, with their head scores (ragged)."""

    offsets: Ints  # (n + 1,) int64; row i holds items offsets[i]:offsets[i + 1], in candidate order
    ids: Ints  # (T,) int64 or int32
    scores: Floats  # (T, m) float16 or float32

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Ints | Bools | slice) -> Candidates:
        """Return the rows asked for."""
        index = np.arange(len(self))[rows]
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        item = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], lengths)
        return Candidates(offsets, self.ids[item], self.scores[item])

    @staticmethod
    def concat(parts: Iterable[Candidates]) -> Candidates:
        """Join batches."""
        parts = list(parts)
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return Candidates(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Log:
    """Rows of a log as arrays: what was known, what was done with which probability, what came of it."""

    request: Ints  # (n,) uint64 hash of the request id
    user: Ints  # (n,) uint64 hash of the user id
    session: Ints  # (n,) uint64 hash of the session id
    day: Ints  # (n,) int32 days since 1970-01-01
    cohort: Categorical
    action: Ints  # (n,) int32, 0 = production, OFF_GRID = -1
    propensity: Floats  # (n,) float64 in (0, 1]; probability of the action that was really served
    explored: Bools  # (n,) reason == EXPLORE
    rewards: Floats  # (n, M) float32, after the config's transform
    state: State
    candidates: Candidates | None = None
    elected: Bools | None = None  # (n,) reason POLICY or FALLBACK: the request itself decided what it was served; None = no row
    predicted: Floats | None = (
        None  # (n, M) reward of the served list as the ranker's own scores predict it, NaN = unknown; None = not read
    )
    time_us: Ints | None = None  # (n,) int64 microseconds since 1970-01-01 UTC, NO_TIME where missing; None = the log has no times
    arm: Categorical | None = None  # (n,) arm of the user, as it was logged; None = not read

    def __len__(self) -> int:
        return len(self.user)

    @property
    def produced(self) -> Bools:
        """(n,) rows under the static weights whatever the request was; a policy's choice of them, or a fallback, is a selected sample."""
        served = ~self.explored & (self.action == PRODUCTION)
        return served if self.elected is None else served & ~self.elected

    def take(self, rows: Ints | Bools | slice) -> Log:
        """Return the rows asked for."""

        def rows_of(column: Any) -> Any:
            if column is None:
                return None
            return column[rows] if isinstance(column, np.ndarray) else column.take(rows)

        return Log(**{field.name: rows_of(getattr(self, field.name)) for field in fields(self)})

    @staticmethod
    def concat(parts: Iterable[Log]) -> Log:
        """Join batches of the same columns; candidates are kept only where every batch has them."""
        parts = list(parts)

        def join(name: str) -> Any:
            columns = [getattr(part, name) for part in parts]
            if any(column is None for column in columns):
                return None
            return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else type(columns[0]).concat(columns)

        return Log(**{field.name: join(field.name) for field in fields(Log)})

    def exploration(self) -> Log:
        """Return the exploration rows that lie on the grid."""
        return self.take(self.explored & (self.action > PRODUCTION))

    def production(self) -> Log:
        """Return the rows that say what the static weights are worth: see `produced`."""
        return self.take(self.produced)
