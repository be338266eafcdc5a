"""A log in parts: rows of one file that one process reads by itself, a batch at a time, wherever the others are read.

An edge: reads logs. The rule: the parts of a log hold each row once, and what a stage keeps of a part adds up (`+`) with that of the
others, in any order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.logs.files import LogFile, log_files
from paretune.logs.parquet import Wanted, file_schema, named, sound_rows
from paretune.records import Ints, Log
from paretune.storage.objects import scanned
from paretune.storage.place import Where

PART_ROWS = 500_000  # at most; a part is read in batches, so it may be larger than what fits


@dataclass(frozen=True, slots=True)
class LogPart:
    """Consecutive rows of a file."""

    file: LogFile
    place: int  # of the file in the log, in the order of days and names
    first: int  # row of the file
    rows: int

    @property
    def span(self) -> range:
        """The rows of the file."""
        return range(self.first, self.first + self.rows)


def log_parts(path: str | Where, config: Config, *, days: Collection[int] | None = None, rows: int = PART_ROWS) -> list[LogPart]:
    """Return the parts of a log, in the order of days, files and rows.

    Args:
        path: see `log_files`.
        config: names the day column.
        days: leave out files of other days; a file without a day folder stays, since only its rows say.
        rows: of a part, at most.

    Raises:
        LogError: nothing there, or a file is unreadable.
    """
    return [
        part
        for place, file in enumerate(log_files(path, config))
        if days is None or file.day is None or file.day in days
        for part in file_parts(file, place, file_schema(file)[1], rows=rows)
    ]


def file_parts(file: LogFile, place: int, total: int, *, rows: int = PART_ROWS) -> list[LogPart]:
    """Return the parts of one file of `total` rows, about equally large."""
    cuts = np.linspace(0, total, 1 + -(-total // rows)).astype(np.int64).tolist()
    return [LogPart(file, place, start, stop - start) for start, stop in pairwise(cuts)]


def log_share(path: str | Where, config: Config, *, days: Collection[int] | None, rank: int, size: int) -> list[LogPart]:
    """Return the rank-th of `size` equal runs of rows of every file: shares hold each row once, and every share has rows of every day.

    Args:
        path: see `log_files`.
        config: names the day column.
        days: leave out files of other days.
        rank: which share, from 0.
        size: how many there are.

    Raises:
        LogError: nothing there, or a file is unreadable.
    """
    whole = log_parts(path, config, days=days, rows=2**62)
    cuts = [(part, part.rows * rank // size, part.rows * (rank + 1) // size) for part in whole]
    return [LogPart(part.file, part.place, start, stop - start) for part, start, stop in cuts if stop > start]


def has_candidates(path: str | Where, config: Config) -> bool:
    """Say whether the first file of a log has candidate columns."""
    schema, _ = file_schema(log_files(path, config)[0])
    names = config.logs.columns
    return names.candidate_ids in schema and names.candidate_scores in schema


def scan_part(
    part: LogPart,
    config: Config,
    *,
    candidates: bool = False,
    days: Collection[int] | None = None,
    explored_only: bool = False,
) -> Iterator[Log]:
    """Yield a part's rows in batches of one day each; arguments and errors as of `read_log`."""
    if part.file.day is not None and days is not None and part.file.day not in days:
        return
    chosen = None if days is None else tuple(sorted(days))
    wanted = Wanted(candidates=candidates, explored_only=explored_only, days=chosen)
    for _, log in sound_rows(part.file, config, wanted, span=part.span):
        yield log


def raw_rows(file: LogFile, position: Ints) -> pl.DataFrame:
    """Return rows of a file as they are, with all columns.

    Args:
        file: of the log.
        position: (n,) row numbers in the file, increasing.

    Raises:
        LogError: the file is unreadable.
    """
    with named(file.path):
        first = int(position[0])
        scan = scanned(file.path)
        return scan.slice(first, int(position[-1]) - first + 1).collect()[(position - first).tolist()]
