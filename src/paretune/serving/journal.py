"""A write-ahead journal of rows: what was synced survives a kill -9, a torn end is found and left out.

An edge: files. Layout, integers little-endian: the magic, then records of `length u32, crc32 u32, payload`; the first payload is the
schema, every other one a row, both MessagePack. The rules: a live journal is locked (flock), so a journal that can be locked belonged to a
process that is gone; a record counts only when its checksum holds and all before it do; an append that failed half-way is cut off again,
so that later records never follow torn ones.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from paretune.atomic import sync_folder
from paretune.logs.decisions import Schema
from paretune.serving.decision_rows import Cell, Row

MAGIC = b"paretune-journal-1\n"
SUFFIX = ".journal"
_HEAD = struct.Struct("<II")
_LONGEST = 64 * 2**20  # bytes of a record; a length beyond it is a torn one
_TYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "time": pl.Datetime("us"),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "binary": pl.Binary(),
    "tokens": pl.List(pl.Int64()),
}


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal holds."""

    schema: dict[str, pl.DataType]
    rows: list[list[Cell]]
    torn_bytes: int  # of the end that was being written when the process died


class Journal:
    """A journal being written, locked for as long as it is open."""

    def __init__(self, path: Path, schema: Schema) -> None:
        """Create the journal, locked from its first moment.

        Raises:
            OSError: the disk says no; nothing is left behind.
        """
        self.path = path
        self.rows = 0
        self._encoder = msgspec.msgpack.Encoder()
        temporary = path.with_name(f".{path.name}.tmp")
        self._file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            head = MAGIC + _record(self._encoder.encode([[name, _name_of(kind)] for name, kind in schema.items()]))
            _write_all(self._file, head)
            os.fsync(self._file)
            temporary.rename(path)
            sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            temporary.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        self.size = len(head)

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows and sync them: when this returns they survive the process.

        Raises:
            OSError: the disk says no; the journal is then as it was before.
            TypeError, ValueError, OverflowError: a row that cannot be encoded; nothing was written.
        """
        data = b"".join([_record(self._encoder.encode(row)) for row in rows])
        try:
            _write_all(self._file, data)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self.size)
            os.lseek(self._file, self.size, os.SEEK_SET)
            raise
        self.size += len(data)
        self.rows += len(rows)

    def close(self) -> None:
        """Give the lock back; the file stays."""
        os.close(self._file)


def read_journal(path: Path) -> Recovered:
    """Return the rows of a journal up to the first record that does not hold.

    Raises:
        OSError: the file cannot be read.
    """
    data = memoryview(path.read_bytes())
    if bytes(data[: len(MAGIC)]) != MAGIC:
        return Recovered({}, [], len(data))
    at, payloads = len(MAGIC), []
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        if length > _LONGEST or len(payload) < length or zlib.crc32(payload) != checksum:
            break
        payloads.append(payload)
        at += _HEAD.size + length
    if not payloads:
        return Recovered({}, [], len(data))
    schema = {name: _TYPES[kind] for name, kind in msgspec.msgpack.decode(payloads[0], type=list[tuple[str, str]])}
    decoder = msgspec.msgpack.Decoder(list[Any])
    return Recovered(schema, [decoder.decode(payload) for payload in payloads[1:]], len(data) - at)


def take_over(path: Path) -> int | None:
    """Return a locked descriptor of a journal whose process is gone; None where it lives, or another took it over."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:  # turned into Parquet and removed between the two calls
        os.close(descriptor)
        return None
    return descriptor


def free_bytes(folder: Path) -> int | None:
    """Return what the folder's disk has left for this process, None where it does not say."""
    try:
        about = os.statvfs(folder)
    except OSError:
        return None
    return about.f_bavail * about.f_frsize


def _record(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _name_of(kind: pl.DataType) -> str:
    return next(name for name, known in _TYPES.items() if known == kind)
