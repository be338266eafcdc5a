"""Served decisions as Parquet files in a folder: a bounded queue, a journal that survives kill -9, rotation.

An edge: files, threads, the clock. The way of a decision: queue -> journal (synced every `interval_s`) -> `part-<ts>-<pid>-<n>.parquet`
(temporary name, fsync, rename) when the journal has `rotate_rows` rows or is `rotate_s` old. A journal and its part share their name, so
that a journal whose part exists was converted and is only removed: a kill at any moment leaves each row in exactly one of the two. The next
spool in the folder converts journals of processes that are gone. A full disk keeps what is queued and what is journalled; both go on
when space returns, and what does not fit the queue meanwhile is dropped and counted (the laws of sinks.py).
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from paretune.atomic import sync_folder
from paretune.config import Config
from paretune.errors import ConfigError
from paretune.serving.decide import Decision, Request
from paretune.serving.decision_rows import Row, RowWriter, rows_frame
from paretune.serving.journal import SUFFIX, Journal, Recovered, free_bytes, read_journal, take_over
from paretune.serving.outbox import Entry, Outbox
from paretune.serving.sinks import SinkCounts, SinkHealth

_BATCH = 2_000  # decisions journalled at a time
_SLICE = 256  # rows worked on before other threads get a turn
_RETRY_S = 0.5  # between attempts on a disk that says no
_HEALTH_S = 1.0  # between looks at the disk


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What health checks want to know of a spool."""

    counts: SinkCounts
    parts: int  # Parquet files written by this process, recovered ones too
    recovered: int  # rows of journals of processes that are gone
    torn_bytes: int  # of their ends; never of acknowledged rows
    disk_errors: int  # attempts that the disk refused
    unconverted: int  # journals waiting to become Parquet
    error: str  # the last refusal, empty after a success


class Spool:
    """A `DecisionSink` that writes a folder. Open one per process, after forking; several may share the folder."""

    def __init__(
        self,
        folder: str | Path,
        config: Config,
        *,
        queue_rows: int = 65_536,
        interval_s: float = 0.05,
        rotate_rows: int = 50_000,
        rotate_s: float = 60.0,
    ) -> None:
        """Open the spool and recover journals of processes that are gone.

        Args:
            folder: made if missing.
            config: names columns and features.
            queue_rows: decisions that wait at most; more are dropped.
            interval_s: how long a queued decision waits for its journal.
            rotate_rows: of a journal before it becomes Parquet.
            rotate_s: age of a journal, with rows in it, before it becomes Parquet.

        Raises:
            ConfigError: the folder cannot be made, or a feature has the name of a decision's column.
        """
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"no spool at {folder}: {error}", hint="name a folder that the service may write") from error
        self._writer = RowWriter(config)
        self._outbox = Outbox(queue_rows)
        self._interval_s, self._rotate_rows, self._rotate_s = interval_s, rotate_rows, rotate_s
        self._journal: Journal | None = None
        self._journal_since = 0.0
        self._number = self._parts = self._recovered = self._torn = self._refusals = 0
        self._error = ""
        self._leaving = threading.Event()
        self._sealed: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._waiting: dict[Path, int] = {}  # journals to become Parquet, and their bytes
        self._health, self._looked = SinkHealth(), 0.0
        for path in sorted(self.folder.glob(f"part-*{SUFFIX}")):
            with suppress(FileNotFoundError):  # another process has just made Parquet of it
                self._seal(path, path.stat().st_size)
        self._threads = (
            threading.Thread(target=self._write_journals, name="paretune-journal", daemon=True),
            threading.Thread(target=self._write_parts, name="paretune-spool", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    @property
    def counts(self) -> SinkCounts:
        """What became of the decisions offered so far; written ones are in a synced journal or in Parquet."""
        return self._outbox.counts

    @property
    def state(self) -> SpoolState:
        """Return counts and the health of the disk."""
        return SpoolState(self.counts, self._parts, self._recovered, self._torn, self._refusals, len(self._waiting), self._error)

    @property
    def health(self) -> SinkHealth:
        """How the disk is; journals are its backlog."""
        return self._health

    def offer(self, request: Request, decision: Decision) -> bool:
        """Queue a decision, or count it as dropped."""
        return self._outbox.offer(request, decision)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Return True once everything offered before is in a synced journal, False when that took too long."""
        return self._outbox.flush(timeout_s)

    def close(self) -> None:
        """Write everything as Parquet and stop; what the disk refuses stays in journals for the next spool, or is dropped and counted."""
        self._outbox.close()
        self._leaving.set()
        for thread in self._threads:
            thread.join()

    def _write_journals(self) -> None:
        while not (self._outbox.closed and not self._outbox.counts.queued):
            self._look()
            self._outbox.wait(self._interval_s)
            try:
                while entries := self._outbox.peek(_BATCH):
                    self._append(entries)
                self._rotate(last=False)
                self._error = ""
            except OSError as error:
                self._refused(error)
                if self._outbox.closed:
                    self._outbox.give_up()
                self._leaving.wait(_RETRY_S)
        self._rotate(last=True)
        self._sealed.put(None)

    def _append(self, entries: list[Entry]) -> None:
        rows: list[Row] = []
        for start in range(0, len(entries), _SLICE):
            rows += [row for entry in entries[start : start + _SLICE] if (row := self._row(entry)) is not None]
            time.sleep(0)  # the decisions' threads come first
        if self._journal is None:
            self._journal, self._journal_since = self._new_journal(), time.monotonic()
        self._journal.append(rows)
        self._outbox.settle(len(entries), dropped=len(entries) - len(rows))
        self._rotate(last=False)

    def _row(self, entry: Entry) -> Row | None:
        try:
            return self._writer.row(entry.request, entry.decision, decision_id=entry.decision_id, time_us=entry.time_us)
        except Exception:  # noqa: BLE001  whatever a caller put into a request must not stop the thread; the row is counted as dropped
            return None

    def _new_journal(self) -> Journal:
        self._number += 1
        path = self.folder / f"part-{time.time_ns() // 1000}-{os.getpid()}-{self._number}{SUFFIX}"
        return Journal(path, self._writer.schema)

    def _rotate(self, *, last: bool) -> None:
        journal = self._journal
        if journal is None or not journal.rows:
            return
        if last or journal.rows >= self._rotate_rows or time.monotonic() - self._journal_since >= self._rotate_s:
            self._journal = None
            journal.close()
            self._seal(journal.path, journal.size)

    def _seal(self, path: Path, size: int) -> None:
        self._waiting[path] = size
        self._sealed.put(path)

    def _look(self) -> None:
        """See how the disk is, once a second."""
        if time.monotonic() - self._looked < _HEALTH_S:
            return
        self._looked = time.monotonic()
        backlog = sum(list(self._waiting.values())) + (self._journal.size if self._journal else 0)
        self._health = SinkHealth(backlog, free_bytes(self.folder), self._refusals, self._error)

    def _write_parts(self) -> None:
        refused: list[Path] = []
        while True:
            try:
                path = self._sealed.get(timeout=_RETRY_S if refused else None)
            except queue.Empty:
                path = refused.pop(0)
            if path is None:
                break
            if not self._convert(path):
                refused.append(path)
        for path in refused:
            self._convert(path)  # once more; what the disk still refuses is left to the next spool

    def _convert(self, journal: Path) -> bool:
        """Turn a journal into Parquet and remove it; False when the disk refused."""
        try:
            own = f"-{os.getpid()}-" in journal.name
            descriptor = take_over(journal)
            if descriptor is not None:
                try:
                    self._write_part(journal, recovered=not own)
                finally:
                    os.close(descriptor)
            del self._waiting[journal]
        except Exception as error:  # noqa: BLE001  a journal that cannot be turned stays as it is, and must not stop the thread
            self._refused(error)
            return False
        return True

    def _write_part(self, journal: Path, *, recovered: bool) -> None:
        part = journal.with_suffix(".parquet")
        if not part.exists():
            found = read_journal(journal)
            if recovered:
                self._recovered += len(found.rows)
            self._torn += found.torn_bytes
            if found.rows:
                write_parquet(part, _frame(found))
                self._parts += 1
        journal.unlink()
        sync_folder(journal.parent)

    def _refused(self, error: Exception) -> None:
        self._refusals += 1
        self._error = str(error)


def _frame(found: Recovered) -> pl.DataFrame:
    """Return a journal's rows as a table, made in slices so that no decision waits for the whole of it."""
    slices = []
    for start in range(0, len(found.rows), _SLICE):
        slices.append(rows_frame(found.rows[start : start + _SLICE], found.schema))
        time.sleep(0)
    return pl.concat(slices)


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file whole or not at all.

    Raises:
        OSError: the disk says no; nothing is left behind.
    """
    temporary, content = path.with_name(f".{path.name}.tmp"), io.BytesIO()
    frame.write_parquet(content, compression="zstd", compression_level=1)
    try:
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
