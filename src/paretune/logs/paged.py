"""Arrays larger than memory: files that are mapped, of which copies are taken.

An edge: files, memory maps. The rules: whoever indexes gets a plain array of the same bits that memory would have held; pages that were
read are given back, so that resident memory is bounded whatever the size of the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paretune.errors import ArtefactError, DataError
from paretune.records import Floats

MOST_RESIDENT = 2**27  # bytes of a file, before its pages are given back
_AROUND = 2**16  # bytes that Linux maps around a page that is asked for
_AT_ONCE = 2**18  # rows of a file that is rewritten wider


class Paged:
    """An array (n, ...) in a file; `paged[rows]` is a copy in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any) -> None:
        """Map a file of numbers, row-major and without a header."""
        self.shape, self.dtype, self._resident = shape, np.dtype(dtype), 0
        self._map = np.memmap(path, dtype=self.dtype, mode="r", shape=shape) if 0 not in shape else None
        self._array = np.empty(shape, self.dtype) if self._map is None else np.asarray(self._map)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Floats:
        taken = np.array(self._array[rows])
        scattered = 0 if isinstance(rows, slice) else _AROUND * np.size(rows)
        self._resident += taken.nbytes + scattered
        if self._resident > MOST_RESIDENT:
            self._give_back()
        return taken

    def _give_back(self) -> None:
        self._resident = 0
        pages = None if self._map is None else self._map.base
        if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)  # the map is read-only: nothing is lost, what is asked for again comes from the file


class Growing:
    """A file of rows that grows by chunks; narrower types give way to wider ones, as they do where arrays are joined in memory."""

    def __init__(self, path: Path) -> None:
        """Begin with an empty file."""
        self._path, self._rows, self._dtype = path, 0, np.dtype(np.bool_)
        self._inner: tuple[int, ...] | None = None
        with writing(path), path.open("wb"):
            pass

    def add(self, chunk: Floats) -> None:
        """Append rows (r, ...).

        Raises:
            DataError: rows of another shape than the first.
            ArtefactError: the disk says no.
        """
        if self._inner is None:
            self._inner, self._dtype = chunk.shape[1:], chunk.dtype
        if chunk.shape[1:] != self._inner:
            raise DataError(
                f"{self._path.stem} has rows of {self._inner} and of {chunk.shape[1:]} numbers", hint="give every file one layout"
            )
        wider = np.result_type(self._dtype, chunk.dtype)
        with writing(self._path):
            if wider != self._dtype and self._rows:
                self._widen(wider)
            self._dtype = wider
            with self._path.open("ab") as file:
                _append(file, chunk.astype(wider, copy=False))
        self._rows += len(chunk)

    def paged(self) -> Paged:
        """Return what was added, end to end."""
        return Paged(self._path, (self._rows, *(self._inner or ())), self._dtype)

    def plain(self) -> Floats:
        """Return what was added as an array that is mapped and not read: for narrow columns."""
        shape = (self._rows, *(self._inner or ()))
        return np.asarray(np.memmap(self._path, dtype=self._dtype, mode="r", shape=shape)) if self._rows else np.empty(shape, self._dtype)

    def _widen(self, dtype: Any) -> None:
        before, wider = self.paged(), self._path.with_suffix(".wider")
        with wider.open("wb") as file:
            for start in range(0, len(before), _AT_ONCE):
                _append(file, before[start : start + _AT_ONCE].astype(dtype))
        wider.replace(self._path)


class Scratch:
    """Where the large arrays of a fit are made: in memory, or in a folder that whoever made it removes."""

    def __init__(self, folder: Path | None = None) -> None:
        """Begin; None is memory."""
        self._folder = folder

    def stacked(self, name: str, rows: int, chunks: Iterable[Floats]) -> Floats:
        """Return chunks end to end, (rows, ...) in all: an array, or a `Paged` that is indexed like one.

        Raises:
            DataError: the chunks have another number of rows.
            ArtefactError: the disk says no.
        """
        if self._folder is None:
            return _in_memory(name, rows, chunks)
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        growing = Growing(self._folder / f"{name}.bin")
        for chunk in chunks:
            growing.add(chunk)
        stacked: Any = growing.paged()
        if len(stacked) != rows:
            raise DataError(f"{len(stacked)} rows of {name}, {rows} expected", hint="the log changed while it was read; read it again")
        return stacked


def _in_memory(name: str, rows: int, chunks: Iterable[Floats]) -> Floats:
    whole, at = np.empty(0), 0
    for chunk in chunks:
        if at == 0:
            whole = np.empty((rows, *chunk.shape[1:]), dtype=chunk.dtype)
        if at + len(chunk) > rows:
            raise DataError(f"more than {rows} rows of {name}", hint="the log changed while it was read; read it again")
        whole[at : at + len(chunk)] = chunk
        at += len(chunk)
    if at != rows:
        raise DataError(f"{at} rows of {name}, {rows} expected", hint="the log changed while it was read; read it again")
    return whole


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let a disk that says no be an ArtefactError that names the place.

    Raises:
        ArtefactError: the disk is full, or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be written: {error}",
            hint="training puts its rows beside the model, 1 kB each or 3 with candidates: free as much, or use another folder",
        ) from error


def _append(file: BinaryIO, chunk: Floats) -> None:
    np.ascontiguousarray(chunk).tofile(file)
