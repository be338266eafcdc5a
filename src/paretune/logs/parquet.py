"""Logs as Parquet folders, one sub-folder per day: reading them in bounded memory, writing them whole or not at all.

An edge: touches files. The rules: only the needed columns are read, a batch of rows at a time; a file that cannot be read, or rows
that mean nothing, stop the reading with the file's name; a reader never sees a half-written file of ours.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from paretune.atomic import write_by
from paretune.config import Config
from paretune.errors import DataError, LogError
from paretune.logs.files import LogFile, log_files
from paretune.logs.layout import day_expression, needed_columns
from paretune.logs.rows import DAY, ROW, Rows, decode_rows
from paretune.logs.rules import judge, row_rules
from paretune.logs.schema import REASON_EXPLORE
from paretune.ports import Progress, silent
from paretune.records import Floats, Ints, Log
from paretune.storage.objects import answered, scanned, write
from paretune.storage.place import Where, where
from paretune.surface.heads import Surface

BATCH_ROWS = 100_000
_EPOCH = date(1970, 1, 1)
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of a file, decoded."""

    file: LogFile
    position: Ints  # (n,) row numbers in the file, from 0
    rows: Rows
    done: float  # share of the file, or of the span that was asked for, read so far


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asks of a file."""

    candidates: bool = False
    weights: bool = False  # read them beside the action, to compare
    labels: bool = False  # read the age of the labels
    explored_only: bool = False
    predicted: bool = False  # compute what the ranker predicted of the served list
    arms: bool = False  # read the arm of the user
    days: tuple[int, ...] | None = None


def log_days(path: str | Where, config: Config) -> list[int]:
    """Return the days of a log that have files (or rows, without day folders), increasing, as days since 1970-01-01.

    Args:
        path: see `log_files`.
        config: names the day column.

    Raises:
        LogError: nothing there, or a file cannot be read.
    """
    days = set()
    for file in log_files(path, config):
        if file.day is not None:
            days.add(file.day)
            continue
        with named(file.path):
            scan = scanned(file.path)
            day = day_expression(scan.collect_schema(), config, source=str(file.path))
            days |= set(scan.select(day.alias(DAY)).unique().collect()[DAY].drop_nulls().to_list())
    return sorted(days)


def read_log(
    path: str | Where,
    config: Config,
    *,
    candidates: bool = False,
    days: Collection[int] | None = None,
    explored_only: bool = False,
    progress: Progress = silent,
) -> Log:
    """Return the rows of a log.

    Args:
        path: see `log_files`.
        config: names of columns, layouts, reward transforms.
        candidates: also read candidate ids and scores; rows without any have none.
        days: only these days since 1970-01-01; None = all.
        explored_only: only rows of reason EXPLORE.
        progress: told the share of files read.

    Returns:
        The log. Without a session column each request is its own session; without a cohort column every row is in cohort ALL.
        Actions are the column's; where it is null or absent, those of the weights. Rows with production's weights that were explored
        carry the grid action with these weights, where there is one.

    Raises:
        LogError: nothing there; a file is unreadable or lacks a column; a row breaks a hard rule (rules.py); no row is left.
    """
    parts = list(scan_log(path, config, candidates=candidates, days=days, explored_only=explored_only, progress=progress))
    if not parts:
        what = "exploration rows" if explored_only else "rows"
        on = "" if days is None else f" on the days {', '.join(day_name(day) for day in sorted(days))}"
        raise LogError(f"{path} has no {what}{on}", hint="check the path, the days asked for, and the reason column")
    return parts[0] if len(parts) == 1 else Log.concat(parts)


def scan_log(
    path: str | Where,
    config: Config,
    *,
    candidates: bool = False,
    days: Collection[int] | None = None,
    explored_only: bool = False,
    predicted: bool = False,
    arms: bool = False,
    progress: Progress = silent,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[Log]:
    """Yield the log in parts of one day and at most `batch_rows` rows; arguments and errors as of `read_log`.

    Days come in order where the log has day folders, else in the order of the files.

    Args:
        path: see `log_files`.
        config: names of columns, layouts, reward transforms.
        candidates: also read candidate ids and scores.
        days: only these.
        explored_only: only rows of reason EXPLORE.
        predicted: rows carry what the ranker's scores of the served items predict (`Log.predicted`).
        arms: rows carry the users' arms.
        progress: told the share of files read.
        batch_rows: largest part.
    """
    chosen = None if days is None else tuple(sorted(days))
    wanted = Wanted(candidates=candidates, explored_only=explored_only, predicted=predicted, arms=arms, days=chosen)
    files = [file for file in log_files(path, config) if file.day is None or wanted.days is None or file.day in wanted.days]
    for index, file in enumerate(files):
        for done, log in sound_rows(file, config, wanted, batch_rows=batch_rows):
            yield log
            progress((index + done) / len(files), "reading logs")


def sound_rows(
    file: LogFile, config: Config, wanted: Wanted, *, span: range | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[float, Log]]:
    """Yield the share read and the rows of a file, or of a span of it, in logs of one day and at most `batch_rows` rows.

    Raises:
        LogError: the file is unreadable or lacks a column, or a row breaks a hard rule.
    """
    surface = config.surface.build()
    for batch in batches(file, config, surface, wanted, span=span, batch_rows=batch_rows):
        _refuse_broken(batch, config, surface)
        log = batch.rows.log
        present = np.unique(log.day)
        for part in [log] if len(present) == 1 else (log.take(log.day == day) for day in present):
            yield batch.done, part


def batches(
    file: LogFile, config: Config, surface: Surface, wanted: Wanted, *, span: range | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Yield a file's rows decoded, broken ones too, in the file's order; empty batches are left out.

    Args:
        file: of a log.
        config: names of columns, layouts, reward transforms.
        surface: of the configuration, built once.
        wanted: columns and rows.
        span: only these rows of the file.
        batch_rows: at a time.

    Raises:
        LogError: the file is unreadable, or lacks a column, or has one of an unreadable type.
    """
    source, names = str(file.path), config.logs.columns
    schema, total = file_schema(file)
    scan = scanned(file.path)
    columns = needed_columns(
        schema, config, source=source, candidates=wanted.candidates, labels=wanted.labels, predicted=wanted.predicted, arms=wanted.arms
    )
    weights_too = names.weights in schema and names.weights not in columns
    day = day_expression(schema, config, source=source) if file.day is None else pl.lit(file.day, dtype=pl.Int32)
    span = range(total) if span is None else span
    for start in range(span.start, min(total, span.stop), batch_rows):
        stop = min(total, span.stop, start + batch_rows)
        part = scan.with_row_index(ROW).slice(start, stop - start).with_columns(day.alias(DAY))
        if wanted.explored_only:
            reason = pl.col(names.reason)
            part = part.filter((reason.cast(pl.String) == REASON_EXPLORE) | reason.is_null())
        if wanted.days is not None and file.day is None:
            part = part.filter(pl.col(DAY).is_in(wanted.days) | pl.col(DAY).is_null())
        with named(file.path):
            frame = part.select(ROW, DAY, *columns).collect()
            if weights_too and (wanted.weights or frame[names.action].null_count()):
                frame = frame.hstack(part.select(names.weights).collect())
        if len(frame):
            yield Batch(file, frame[ROW].to_numpy(), decode_rows(frame, config, surface), (stop - span.start) / len(span))


def file_schema(file: LogFile) -> tuple[pl.Schema, int]:
    """Return the columns of a file with their types, and its number of rows.

    Raises:
        LogError: the file is unreadable.
    """
    with named(file.path):
        scan = scanned(file.path)
        return scan.collect_schema(), int(scan.select(pl.len()).collect().item())


def request_ids(file: LogFile, config: Config, *, span: range | None = None) -> pl.Series:
    """Return the request ids of a file, or of a span of it, and nothing else.

    Raises:
        LogError: the file is unreadable.
    """
    with named(file.path):
        ids = scanned(file.path).select(config.logs.columns.request_id)
        return (ids if span is None else ids.slice(span.start, len(span))).collect().to_series()


def day_name(day: int) -> str:
    """Return a day since 1970-01-01 as YYYY-MM-DD."""
    return (_EPOCH + timedelta(days=int(day))).isoformat()


def write_day(folder: str | Where, day: int, columns: Mapping[str, Any], *, part: int = 0) -> Where:
    """Write one partition file, `day=YYYY-MM-DD/part-N.parquet`, whole or not at all, and return its path.

    An existing file of the same day and part is replaced in one step.

    Args:
        folder: of the log; made if missing.
        day: days since 1970-01-01.
        columns: name -> (n,) values, (n, d) array (becomes a fixed-size array column), or polars series; see `binary`.
        part: number of the file within the day.

    Raises:
        LogError: columns differ in length, or the file cannot be written.
    """
    return write_part(where(folder) / f"day={day_name(day)}", columns, part=part)


def write_part(target: Where, columns: Mapping[str, Any], *, part: int, stem: str = "part") -> Where:
    """Write `part-N.parquet`, or another stem, into a folder as `write_day` does."""
    try:
        frame = pl.DataFrame({name: value if isinstance(value, pl.Series) else pl.Series(name, value) for name, value in columns.items()})
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise LogError(f"{target}: the columns make no table: {error}", hint="give every column the same number of rows") from error
    path = target / f"{stem}-{part}.parquet"
    if isinstance(path, Path):
        _write_on_disk(frame, path)
    else:
        content = io.BytesIO()
        _write_parquet(frame, content)
        write(path, content.getvalue())
    return path


def _write_parquet(frame: pl.DataFrame, file: IO[bytes]) -> None:
    frame.write_parquet(file, compression="zstd", compression_level=1, row_group_size=65_536)


def _write_on_disk(frame: pl.DataFrame, path: Path) -> None:
    try:
        write_by(partial(_write_parquet, frame), path)
    except OSError as error:
        raise LogError(f"{path} cannot be written: {error}", hint="check the free space and the rights of the folder") from error


def binary(array: Floats | Ints) -> pl.Series:
    """Return (n, d) numbers as a binary column, one little-endian cell of fixed size per row; reads faster than lists.

    Raises:
        DataError: not 2-D.
    """
    if array.ndim != 2:
        raise DataError(f"a binary column needs a 2-D array, got shape {array.shape}", hint="give one row per request")
    rows = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    width = rows.shape[1] * rows.itemsize
    if width == 0 or len(rows) == 0:
        return pl.Series([b""] * len(rows), dtype=pl.Binary)
    return pl.Series(rows.view(f"V{width}").ravel().tolist(), dtype=pl.Binary)


def ragged_binary(flat: Floats | Ints, offsets: Ints) -> pl.Series:
    """Return ragged numbers as a binary column, row-major and little-endian.

    Args:
        flat: (T,) or (T, m) numbers.
        offsets: (n + 1,) row i holds flat[offsets[i]:offsets[i + 1]].

    Raises:
        DataError: the offsets do not fit.
    """
    if len(offsets) < 1 or offsets[0] < 0 or offsets[-1] > len(flat) or (np.diff(offsets) < 0).any():
        raise DataError(f"offsets do not cut {len(flat)} items into rows", hint="give increasing offsets from 0 to the number of items")
    cells = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("<"))
    data = cells.tobytes()
    at = (np.asarray(offsets, dtype=np.int64) * (cells.itemsize * int(np.prod(cells.shape[1:])))).tolist()
    return pl.Series([data[start:stop] for start, stop in pairwise(at)], dtype=pl.Binary)


def _refuse_broken(batch: Batch, config: Config, surface: Surface) -> None:
    facts = batch.rows.facts
    rules = tuple(rule for rule in row_rules(config, surface, tuple(facts.columns)) if rule.hard)
    verdict = judge(facts, rules)
    if verdict.good.all():
        return
    problems = []
    for rule in rules:
        if (mask := verdict.broken.get(rule.label)) is not None:
            first = ", ".join(str(row) for row in batch.position[mask][:3])
            problems.append(f"column {rule.column!r}: {int(mask.sum())} rows (first: {first}), expected {rule.expected}")
    span = f"rows {batch.position[0]} to {batch.position[-1]}"
    raise LogError(
        f"{batch.file.path}: {int((~verdict.good).sum())} of {len(facts)} rows cannot be used ({span}); {'; '.join(problems)}",
        hint="set them aside with `paretune check LOGS --quarantine DIR --clean DIR` and read the clean folder",
    )


@contextmanager
def named(path: Where) -> Iterator[None]:
    """Let what goes wrong inside be a LogError that names the file; that a storage does not answer is no fault of the file."""
    try:
        with answered(path, "read"):
            yield
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "the file is half-written or damaged: write it again (to a temporary name, then rename), or move it out of the log"
        raise LogError(f"{path} cannot be read as Parquet: {reason}", hint=hint) from error
