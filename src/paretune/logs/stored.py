"""A log on disk as arrays: rows put there part by part, then read as a `Log` whose columns are mapped.

An edge: files, memory maps. The rule: the rows, and every number of them, are those that joining the same parts in memory gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paretune.errors import LogError
from paretune.logs.paged import Growing, writing
from paretune.records import Candidates, Categorical, Floats, Log, State

_NARROW = ("request", "user", "session", "day", "action", "propensity", "explored", "rewards", "elected")


def store_log(parts: Iterable[Log], folder: Path) -> Log:
    """Return the rows of all parts as one log on disk, without times, arms and predictions.

    What is narrow (ids, actions, rewards) is mapped as it is; states and candidates are `Paged`, of which rows are copied when taken.

    Args:
        parts: of the same columns.
        folder: new; removed by whoever asked.

    Raises:
        LogError: there are no rows.
        ArtefactError: the disk says no.
    """
    with writing(folder):
        folder.mkdir(parents=True)
    store = _Store(folder)
    for part in parts:
        if len(part):
            store.add(part)
    return store.log()


class _Store:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._columns: dict[str, Growing] = {}
        self._words: dict[str, dict[str, int]] = {}  # categorical -> word -> code
        self._first: Log | None = None
        self._listed = True  # so far; candidates are kept only where every part has them, as `Log.concat` does
        self._items = 0

    def add(self, log: Log) -> None:
        if self._first is None:
            self._first = log.take(slice(0, 0))
        for name in _NARROW:
            value = getattr(log, name)
            self._append(name, np.zeros(len(log), np.bool_) if value is None else value)
        self._append_words("cohort", log.cohort)
        for group in ("numeric", "embedding", "sequence"):
            for name, column in getattr(log.state, group).items():
                self._append(f"{group}-{name}", column)
        for name, categorical in log.state.categorical.items():
            self._append_words(f"categorical-{name}", categorical)
        self._listed &= log.candidates is not None
        if log.candidates is not None and self._listed:
            offsets = log.candidates.offsets
            self._append("offsets", self._items + offsets[1:] - offsets[0])
            self._append("ids", log.candidates.ids)
            self._append("scores", log.candidates.scores)
            self._items += int(offsets[-1] - offsets[0])

    def log(self) -> Log:
        if self._first is None:
            raise LogError("the days to learn from have no rows", hint="check the path, the days asked for, and the reason column")
        state, columns = self._first.state, self._columns
        paged: Any = {name: column.paged() for name, column in columns.items() if "-" in name or name in {"ids", "scores"}}
        narrow: dict[str, Any] = {name: columns[name].plain() for name in _NARROW}
        candidates = None
        if self._listed:
            candidates = Candidates(np.append(np.int64(0), columns["offsets"].plain()), paged["ids"], paged["scores"])
        return Log(
            **narrow,
            cohort=Categorical(columns["cohort"].plain(), tuple(self._words["cohort"])),
            state=State(
                {name: paged[f"numeric-{name}"] for name in state.numeric},
                {name: Categorical(paged[f"categorical-{name}"], tuple(self._words[f"categorical-{name}"])) for name in state.categorical},
                {name: paged[f"embedding-{name}"] for name in state.embedding},
                {name: paged[f"sequence-{name}"] for name in state.sequence},
            ),
            candidates=candidates,
        )

    def _append(self, name: str, column: Floats) -> None:
        if name not in self._columns:
            self._columns[name] = Growing(self._folder / f"{len(self._columns)}.bin")  # names of features are no names of files
        self._columns[name].add(column)

    def _append_words(self, name: str, column: Categorical) -> None:
        """Append codes into a vocabulary that grows, as `Categorical.concat` joins them."""
        known = self._words.setdefault(name, {})
        table = np.array([*(known.setdefault(word, len(known)) for word in column.vocabulary), -1], dtype=np.int32)
        self._append(name, table[column.codes])
