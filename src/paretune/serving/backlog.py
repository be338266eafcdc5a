"""Decisions on the local disk, until the stream that they are meant for takes them. An edge: files.

The rules: what `keep` returned from survives a kill -9 (a synced journal); a journal is removed only after all of it was sent, so that a
kill in the middle sends some rows twice, under the same decision id, and loses none; journals of processes that are gone are sent as well,
by whoever locks them first. They are a spool's journals: `paretune serve --spool` on the same folder makes Parquet of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paretune.atomic import sync_folder
from paretune.errors import ConfigError
from paretune.logs.decisions import Schema
from paretune.serving.decision_rows import Row
from paretune.serving.journal import SUFFIX, Journal, read_journal, take_over

_ROWS = 10_000  # of a journal; between two of them what is new is sent
_BATCH = 500  # rows sent at a time
Send = Callable[[Sequence[dict[str, Any]]], None]


class Backlog:
    """Journals in a folder, which several processes may share; one thread of each uses its own `Backlog`."""

    def __init__(self, folder: str | Path, schema: Schema) -> None:
        """Find what processes that are gone have left.

        Args:
            folder: made if missing.
            schema: of rows to come.

        Raises:
            ConfigError: the folder cannot be made.
        """
        self.folder, self._schema = Path(folder), schema
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"no backlog at {folder}: {error}", hint="name a folder that the service may write") from error
        self._journal: Journal | None = None
        self._number = 0
        self._sealed = {path: size for path in sorted(self.folder.glob(f"part-*{SUFFIX}")) if (size := _left(path)) is not None}

    @property
    def waiting_bytes(self) -> int:
        """Bytes that this process has to send."""
        return sum(self._sealed.values()) + (self._journal.size if self._journal else 0)

    def keep(self, rows: Sequence[Row]) -> None:
        """Write rows and sync them.

        Raises:
            OSError: the disk says no; nothing was kept.
        """
        if self._journal is None:
            self._number += 1
            name = f"part-{time.time_ns() // 1000}-{os.getpid()}-{self._number}{SUFFIX}"
            self._journal = Journal(self.folder / name, self._schema)
        self._journal.append(rows)
        if self._journal.rows >= _ROWS:
            self._seal()

    def drain(self, send: Send) -> bool:
        """Send the oldest journal and remove it; return whether another waits.

        Args:
            send: takes rows as column -> cell; an error of it leaves the journal where it is.

        Raises:
            OSError: the journal cannot be read or removed.
            Exception: whatever `send` raises.
        """
        if not self._sealed:
            self._seal()
        if not self._sealed:
            return False
        path = next(iter(self._sealed))
        descriptor = take_over(path)
        if descriptor is not None:
            try:
                found = read_journal(path)
                names = tuple(found.schema)
                for start in range(0, len(found.rows), _BATCH):
                    send([dict(zip(names, row, strict=True)) for row in found.rows[start : start + _BATCH]])
                path.unlink()
                sync_folder(self.folder)
            finally:
                os.close(descriptor)
        del self._sealed[path]
        return bool(self.waiting_bytes)

    def close(self) -> None:
        """Let go of the journal; what waits is sent by the next process."""
        self._seal()

    def _seal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
            self._sealed[journal.path] = journal.size


def _left(path: Path) -> int | None:
    """Return the size of a journal whose process is gone, else None."""
    descriptor = take_over(path)
    if descriptor is None:
        return None
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
