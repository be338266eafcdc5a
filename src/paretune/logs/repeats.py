"""Request ids that occur more than once, and which of their rows counts.

An edge: writes temporary files. The rule: of rows that share an id the first good one, in the order of days, files and rows, is kept,
whichever part was read first. Hashes of ids wait on disk, in files by their leading bits, so that only one file's are in memory at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from paretune.records import Bools, Ints

HASHES_AT_ONCE = 2**22  # in memory while the repeated ones are found


@dataclass(frozen=True, slots=True)
class Claims:
    """Good rows whose request id occurs more than once."""

    request: Ints  # (r,) uint64 hashes
    place: Ints  # (r,) of the file in the log
    row: Ints  # (r,) of the file

    @staticmethod
    def concat(parts: Iterable[Claims]) -> Claims:
        """Return the rows of all parts; of none, no rows."""
        parts = [Claims(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)), *parts]
        return Claims(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Claims)))

    def first(self) -> Claims:
        """Return the first row of each id, ids increasing."""
        order = np.lexsort((self.row, self.place, self.request))
        request = self.request[order]
        kept = order[np.append(True, request[1:] != request[:-1])] if len(order) else order
        return Claims(self.request[kept], self.place[kept], self.row[kept])

    def again(self, request: Ints, *, place: int, row: Ints) -> Bools:
        """Mark the rows whose request id belongs to another row; of the first rows of all ids (see `first`).

        Args:
            request: (n,) hashes.
            place: of the file in the log.
            row: (n,) of the file.
        """
        if not len(self.request):
            return np.zeros(len(request), dtype=np.bool_)
        at = np.searchsorted(self.request, request).clip(max=len(self.request) - 1)
        claimed = self.request[at] == request
        return claimed & ~((self.place[at] == place) & (self.row[at] == row))


def repeated(hashes: Iterable[Ints], *, rows: int, at_once: int = HASHES_AT_ONCE) -> Ints:
    """Return the hashes that occur more than once, increasing.

    Args:
        hashes: (n,) uint64 of some rows each.
        rows: about how many there are in all.
        at_once: how many may be in memory; more wait on disk.
    """
    ranges = max(1, -(-rows // at_once))
    if ranges == 1:
        return _repeated(np.concatenate([np.empty(0, np.uint64), *hashes]))
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(ranges)]
        for part in hashes:
            for file, inside in zip(files, _by_range(part, ranges), strict=True):
                inside.tofile(file)
        found = []
        for file in files:
            file.seek(0)
            found.append(_repeated(np.fromfile(file, dtype=np.uint64)))
        return np.concatenate(found)


def _by_range(hashes: Ints, ranges: int) -> Iterator[Ints]:
    """Yield the hashes of each of so many equal ranges of all 64 bits."""
    ordered = np.sort(hashes)
    edges = np.array([2**64 * i // ranges for i in range(1, ranges)], dtype=np.uint64)
    cuts = [0, *np.searchsorted(ordered, edges).tolist(), len(ordered)]
    return (ordered[start:stop] for start, stop in pairwise(cuts))


def _repeated(hashes: Ints) -> Ints:
    ordered = np.sort(hashes)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
