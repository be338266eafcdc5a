"""One served decision as the cells of a log row, in the layouts of the configuration; and such rows as a table.

The rule: a row can always be written. A feature that is absent or malformed (the decision was a fallback, then) is null, never a reason to
lose the row and never a cell that would make the log unreadable; numbers that float32 cannot hold count as malformed. Propensity and
weights are the decision's own, bit for bit (weights as float32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.logs.decisions import WIDEST_TOKEN, decision_schema
from paretune.logs.schema import SEQUENCE_DTYPE, WEIGHTS_DTYPE
from paretune.serving.decide import Decision, Request

Cell = str | int | float | bytes | list[int] | None
Row = tuple[Cell, ...]

_FLOAT32 = float(np.finfo(np.float32).max)
_INT64 = 2**63


class RowWriter:
    """Turns decisions into rows of `decision_schema(config)`."""

    def __init__(self, config: Config) -> None:
        self.schema = decision_schema(config)
        names, features = config.logs.columns, config.features
        self._cohort = names.cohort
        cells: dict[str, Callable[[Any], Cell]] = {
            **dict.fromkeys(features.numeric, number),
            **dict.fromkeys(features.categorical, category),
            **{e.name: _embedding(e.size, "<f2" if e.dtype == "float16" else "<f4") for e in features.embeddings},
            **{s.name: _tokens(s.length, s.vocabulary) for s in features.sequences},
        }
        self._cells = tuple((name, cells[name]) for name in self.schema if name in cells and name not in _fixed(config))

    def row(self, request: Request, decision: Decision, *, decision_id: str, time_us: int) -> Row:
        """Return the cells of a decision, in the order of the schema.

        Args:
            request: as it was sent; its features may be anything.
            decision: what was served.
            decision_id: unique for ever.
            time_us: of the decision; used where the request has no time of its own.
        """
        features = request.features if isinstance(request.features, Mapping) else {}
        cohort = request.cohort if request.cohort is not None else features.get(self._cohort)
        time = request.time_us if request.time_us is not None else time_us
        return (
            decision_id,
            text(request.request_id),
            text(request.user),
            text(request.session),
            integer(time),
            category(cohort),
            integer(decision.action),
            np.asarray(decision.weights, dtype=np.float64).astype(WEIGHTS_DTYPE).tobytes(),
            float(decision.propensity),
            str(decision.reason.value),
            integer(decision.plan),
            text(decision.arm),
            integer(decision.elapsed_s * 1e6),
            *[cell(features.get(name)) for name, cell in self._cells],
        )


def rows_frame(rows: Sequence[Sequence[Cell]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return rows as a table of these columns; cells that do not fit the type become null."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    series = []
    for (name, kind), values in zip(schema.items(), columns, strict=True):
        plain = pl.Int64() if isinstance(kind, pl.Datetime | pl.Int32) else kind
        series.append(pl.Series(name, values, dtype=plain).cast(kind, strict=False))
    return pl.DataFrame(series)


def text(value: Any) -> str | None:
    """Return an id as text; null where there is none."""
    if value is None:
        return None
    found = value if isinstance(value, str) else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return found if found.isascii() else found.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be stored


def integer(value: Any) -> int | None:
    """Return a number as an integer that 64 bits hold, or null."""
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return whole if -_INT64 <= whole < _INT64 else None


def number(value: Any) -> float | None:
    """Return a number that float32 can hold, or null."""
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) and abs(found) <= _FLOAT32 else None


def category(value: Any) -> str | None:
    """Return a category as text, as a column of that type would be read; null where it is no text, number or boolean."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return text(value) if isinstance(value, str | int | float | np.integer | np.floating) else None


def _fixed(config: Config) -> frozenset[str]:
    names = config.logs.columns
    ids = (names.request_id, names.user, names.session, names.ts, names.cohort)
    return frozenset((*ids, names.action, names.weights, names.propensity, names.reason, names.plan))


def _array(value: Any, dtype: str) -> np.ndarray[Any, np.dtype[Any]] | None:
    """Return one row of numbers, or nothing where it is none."""
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return np.frombuffer(value, dtype=dtype)
        found = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.ndim == 1 and found.dtype.kind in "fiu" else None


def _embedding(size: int, dtype: str) -> Callable[[Any], bytes | None]:
    largest = float(np.finfo(np.dtype(dtype)).max)

    def cell(value: Any) -> bytes | None:
        found = None if value is None else _array(value, dtype)
        if found is None or len(found) != size or not (np.abs(found) <= largest).all():
            return None
        return found.astype(dtype, copy=False).tobytes()

    return cell


def _tokens(length: int, vocabulary: int) -> Callable[[Any], bytes | list[int] | None]:
    small = vocabulary - 1 <= WIDEST_TOKEN

    def cell(value: Any) -> bytes | list[int] | None:
        found = None if value is None else _array(value, SEQUENCE_DTYPE)
        if found is None or (len(found) and (found.dtype.kind == "f" or found.min() < -1)):
            return None
        found = found[-length:]
        if not small:
            return [int(token) for token in found]
        if len(found) and found.max() > WIDEST_TOKEN:
            found = np.where(found < 0, found, found % vocabulary)  # readers share buckets by the same remainder
        return found.astype(SEQUENCE_DTYPE).tobytes()

    return cell
