"""Raw cells of text files and JSON as columns of a kind.

The rule: a cell is read as what it is, or not at all: "12abc" is no number, 3.5 no whole number, a time without a zone is UTC. Null, an
empty text and a missing key are null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from math import isfinite
from typing import Literal

import msgspec
import numpy as np
import polars as pl

from paretune.records import Bools

Kind = Literal["text", "number", "integer", "time", "day", "numbers", "integers"]
EARLIEST_US = 10**14  # March 1973; smaller numbers are seconds or milliseconds
LATEST = date(2200, 1, 1)  # larger ones are nanoseconds
_BREAKS = re.compile(r"[\s;|,]+")
_TIMES = ("%+", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%#z")


def cells(values: Sequence[object], kind: Kind) -> tuple[pl.Series, Bools]:
    """Return cells as a column, null where empty, and the mask of those that fit the kind (null fits).

    Args:
        values: (n,) texts, or what JSON holds.
        kind: of the column.
    """
    given = [None if value is None or (isinstance(value, str) and not value.strip()) else value for value in values]
    if kind == "text":
        return pl.Series([_text(value) for value in given], dtype=pl.String), np.array(
            [not isinstance(v, list | dict) for v in given], bool
        )
    if kind in {"numbers", "integers"}:
        lists = [_list(value, _whole if kind == "integers" else _number) for value in given]
        column = pl.Series(lists, dtype=pl.List(pl.Int64 if kind == "integers" else pl.Float64))
    elif all(value is None or isinstance(value, str) for value in given):
        column = _TEXTS[kind](pl.Series(given, dtype=pl.String).str.strip_chars())
    else:
        column = _OBJECTS[kind](given)
    return column, np.array([value is None for value in given], bool) | column.is_not_null().to_numpy()


def _text(value: object) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value) if "_" not in value else None
        except ValueError:
            return None
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value) if abs(value) < 2**63 else None
    number = _number(value)
    if not isinstance(value, str) or number is None or not isfinite(number):
        return None
    return int(value) if value.strip().lstrip("+-").isdigit() and abs(number) < 2**63 else None


def _list(value: object, item: Callable[[object], float | int | None]) -> list[float | int] | None:
    """Return a list of JSON, a text of one, or numbers with blanks, semicolons, bars or commas between; None where one does not fit."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = msgspec.json.decode(text) if text.startswith("[") else [part for part in _BREAKS.split(text) if part]
        except msgspec.DecodeError:
            return None
    if not isinstance(value, list):
        return None
    items = [item(each) for each in value]
    return None if any(each is None for each in items) else [each for each in items if each is not None]


def _numbers(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64, strict=False)


def _integers(column: pl.Series) -> pl.Series:
    whole = column.cast(pl.Int64, strict=False)
    if whole.null_count() == column.null_count():
        return whole
    number = column.cast(pl.Float64, strict=False)  # "3.0" is whole
    fits = number.is_finite() & (number == number.round()) & (number.abs() < 2**53)
    return whole.zip_with(whole.is_not_null() | ~fits.fill_null(False), number.cast(pl.Int64, strict=False))


def _times(column: pl.Series) -> pl.Series:
    numbers = column.cast(pl.Int64, strict=False)
    found = numbers.zip_with((numbers >= EARLIEST_US).fill_null(False), pl.Series([None], dtype=pl.Int64)).cast(pl.Datetime("us"))
    for form in _TIMES:
        if found.null_count() == column.null_count():
            break
        zoned = form.endswith(("+", "z"))
        parsed = column.str.to_datetime(form, time_unit="us", strict=False, time_zone="UTC" if zoned else None)
        found = found.zip_with(found.is_not_null(), parsed.dt.replace_time_zone(None) if zoned else parsed)
    return _known(found)


def _days(column: pl.Series) -> pl.Series:
    return _known(column.str.to_date("%Y-%m-%d", strict=False))


def _known(column: pl.Series) -> pl.Series:
    """Return times or days with null for those that no log is of."""
    plausible = (column.cast(pl.Date) >= date(1970, 1, 1)) & (column.cast(pl.Date) < LATEST)
    return column.zip_with(plausible.fill_null(False), pl.Series([None], dtype=column.dtype))


_TEXTS: dict[Kind, Callable[[pl.Series], pl.Series]] = {"number": _numbers, "integer": _integers, "time": _times, "day": _days}
_OBJECTS: dict[Kind, Callable[[list[object]], pl.Series]] = {
    "number": lambda given: pl.Series([_number(value) for value in given], dtype=pl.Float64),
    "integer": lambda given: pl.Series([_whole(value) for value in given], dtype=pl.Int64),
    "time": lambda given: _times(pl.Series([_text(value) for value in given], dtype=pl.String)),
    "day": lambda given: _days(pl.Series([_text(value) for value in given], dtype=pl.String)),
}
