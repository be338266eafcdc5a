"""Which columns of a file are needed, and whether the file has them in a readable type.

The rule: a column that is missing or of an unreadable type is named, together with the file, what the file does hold, and the
configuration key that says where to look instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from paretune.config import Config
from paretune.errors import LogError
from paretune.logs.decisions import ARM

Schema = Mapping[str, pl.DataType]


def needed_columns(
    schema: Schema, config: Config, *, source: str, candidates: bool, labels: bool, predicted: bool = False, arms: bool = False
) -> tuple[str, ...]:
    """Return the columns of a file that a reader wants, each once.

    Args:
        schema: of the file.
        config: names of columns and features.
        source: the file, for messages.
        candidates: candidate ids and scores are wanted, and must be there.
        labels: the age of the labels is wanted where it is there.
        predicted: the head scores of the served items are wanted, and must be there.
        arms: the arm of the user is wanted, and must be there.

    Returns:
        Column names; `weights` only where the file has no `action` column, since actions are trusted.

    Raises:
        LogError: a column is missing, or of a type that cannot be read.
    """
    names = config.logs.columns
    optional = ["session", "cohort", *(["label_age_h"] if labels else [])]
    wanted: list[tuple[str, str, str]] = [  # column, kind, configuration key
        *((getattr(names, fixed), kind, f"logs.columns.{fixed}") for fixed, kind in _fixed(candidates).items()),
        *(((names.served_scores, "vector", "logs.columns.served_scores"),) if predicted else ()),
        *(((ARM, "category", ""),) if arms else ()),
        *((getattr(names, o), _KIND[o], f"logs.columns.{o}") for o in optional if getattr(names, o) in schema),
        *(((names.ts, "time", "logs.columns.ts"),) if names.ts in schema and _is_time(schema[names.ts]) else ()),
        *((objective.column, "number", f"objectives[{objective.name}].column") for objective in config.objectives),
        *((name, "number", "features.numeric") for name in config.features.numeric),
        *((name, "category", "features.categorical") for name in config.features.categorical),
        *((e.name, "vector", "features.embeddings") for e in config.features.embeddings),
        *((s.name, "integers", "features.sequences") for s in config.features.sequences),
    ]
    chosen = ("action", "integer") if names.action in schema else ("weights", "vector")
    wanted.append((getattr(names, chosen[0]), chosen[1], f"logs.columns.{chosen[0]}"))
    listed = {names.candidate_ids, names.candidate_scores}
    for column, kind, key in wanted:
        if column not in schema:
            raise LogError(
                f"{source}: no column {column!r}; the file has {', '.join(sorted(schema))}",
                hint=(f"if the column has another name, say so in paretune.toml under {key}" if key else _ARMS)
                + ("; a log without candidates is read with candidates=False" if column in listed else ""),
            )
        if not _READABLE[kind](schema[column]):
            raise LogError(
                f"{source}: column {column!r} is {schema[column]}, expected {_EXPECTED[kind]}",
                hint="write the column in that type" + (f", or name another one in paretune.toml under {key}" if key else ""),
            )
    return tuple(dict.fromkeys(column for column, _, _ in wanted))


def day_expression(schema: Schema, config: Config, *, source: str) -> pl.Expr:
    """Return the day of each row as int32 days since 1970-01-01, from the `day` column or else from `ts`; null where unknown.

    Raises:
        LogError: the file has neither, or in another type than date, datetime, ISO text or integer (days; microseconds for `ts`).
    """
    names = config.logs.columns
    for fixed in ("day", "ts"):
        column = getattr(names, fixed)
        kind = schema.get(column)
        if kind is None:
            continue
        if kind == pl.Date:
            return pl.col(column).cast(pl.Int32)
        if isinstance(kind, pl.Datetime):
            return pl.col(column).dt.epoch("us").floordiv(86_400_000_000).cast(pl.Int32)
        if kind.is_integer():
            days = pl.col(column) if fixed == "day" else pl.col(column).floordiv(86_400_000_000)
            return days.cast(pl.Int32, strict=False)
        if kind == pl.String and fixed == "day":
            return pl.col(column).str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32)
        raise LogError(
            f"{source}: column {column!r} is {kind}, expected a date, a datetime or an integer",
            hint=f"write the column in that type, or name another one in paretune.toml under logs.columns.{fixed}",
        )
    raise LogError(
        f"{source}: the day of a row is unknown: no folder day=YYYY-MM-DD, no column {names.day!r} or {names.ts!r}; "
        f"the file has {', '.join(sorted(schema))}",
        hint="write one folder day=YYYY-MM-DD per day, or name the time column in paretune.toml under logs.columns.ts",
    )


def _fixed(candidates: bool) -> dict[str, str]:
    fixed = {"request_id": "id", "user": "id", "propensity": "number", "reason": "text"}
    return fixed | ({"candidate_ids": "integers", "candidate_scores": "vector"} if candidates else {})


def _items(dtype: pl.DataType) -> pl.DataType | None:
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None
    return inner() if isinstance(inner, type) else inner


def _is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)


def _is_time(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or isinstance(dtype, pl.Datetime)


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)


_ARMS = "log the arm of each request's user as a text; `paretune join` does so for decisions of `paretune serve`"
_KIND = {"session": "id", "cohort": "category", "label_age_h": "number"}
_READABLE: dict[str, Callable[[pl.DataType], bool]] = {
    "id": lambda d: d.is_integer() or _is_text(d) or d == pl.Binary,
    "text": _is_text,
    "number": _is_number,
    "integer": lambda d: d.is_integer() or d == pl.Null,
    "time": _is_time,
    "category": lambda d: d.is_numeric() or _is_text(d) or d in (pl.Boolean, pl.Null),
    "vector": lambda d: d == pl.Binary or ((inner := _items(d)) is not None and inner.is_numeric()),
    "integers": lambda d: d == pl.Binary or ((inner := _items(d)) is not None and inner.is_integer()),
}
_EXPECTED = {
    "id": "text or integers",
    "text": "text",
    "number": "a number",
    "integer": "integers",
    "time": "a datetime or integer microseconds",
    "category": "text, a number or a boolean",
    "vector": "lists of numbers or binary cells",
    "integers": "lists of integers or binary cells",
}
