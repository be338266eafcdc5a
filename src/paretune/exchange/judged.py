"""Rows of somebody else's log, judged by the rules that our own logs keep: what is written is what `read_log` accepts.

The rule: a row that breaks a hard rule (logs/rules.py) is refused with that rule and what was seen; rules that only `paretune check` holds
are counted and told, since most of them speak of the configuration rather than of the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.exchange.taken import LINE, REFUSED, TEXT
from paretune.logs.rows import DAY, decode_rows
from paretune.logs.rules import RowRule, judge, row_rules
from paretune.records import Bools, Ints, Log
from paretune.surface.heads import Surface

_DAY_US = 86_400_000_000
_LONGEST = 200  # characters of a cell that a refusal quotes


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which day rows without a time are put on: in their order, so many a day."""

    first: int  # days since 1970-01-01
    per_day: int | None = None  # rows; None = all on the first day


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows that our rules have judged."""

    rows: pl.DataFrame  # (n,) good ones: columns of the log, DAY, LINE and TEXT
    log: Log  # the same, decoded
    refused: pl.DataFrame  # (k,) REFUSED
    notes: Counter[str]


def judged(rows: pl.DataFrame, config: Config, surface: Surface, *, calendar: Calendar | None = None, before: int = 0) -> Judged:
    """Return which rows a log of ours may hold.

    Args:
        rows: n >= 1 rows under the config's names, with LINE and TEXT.
        config: what the log holds.
        surface: of the config, built once.
        calendar: where rows without a time are put; None = they are refused.
        before: rows that came before these.
    """
    dated = rows.with_columns(_days(rows, config, calendar, before).alias(DAY))
    decoded = decode_rows(_complete(dated, config), config, surface)
    rules = row_rules(config, surface, tuple(decoded.facts.columns))
    verdict = judge(decoded.facts, rules)
    hard = {rule.label: rule for rule in rules if rule.hard}
    bad = np.zeros(len(rows), dtype=np.bool_)
    for label in hard.keys() & verdict.broken.keys():
        bad |= verdict.broken[label]
    notes = Counter({_told(rule): int((verdict.broken[rule.label] & ~bad).sum()) for rule in rules if _is_soft(rule, verdict.broken)})
    kept = dated if not bad.any() else dated.filter(pl.Series(~bad))
    names = config.logs.columns
    written = kept.drop(names.day) if names.day in kept else kept
    log = decoded.log if not bad.any() else decoded.log.take(~bad)
    return Judged(written, log, _refused(dated, np.flatnonzero(bad), hard, verdict.broken), +notes)


def has_days(columns: Mapping[str, pl.DataType] | list[str], config: Config) -> bool:
    """Whether rows of these columns say on which day they were."""
    return config.logs.columns.day in columns or config.logs.columns.ts in columns


def _days(rows: pl.DataFrame, config: Config, calendar: Calendar | None, before: int) -> pl.Expr:
    names, known = config.logs.columns, []
    if names.day in rows:
        known.append(pl.col(names.day).cast(pl.Int32))
    if names.ts in rows:
        known.append(pl.col(names.ts).dt.epoch("us").floordiv(_DAY_US).cast(pl.Int32))
    if calendar is not None:
        spread = 0 if calendar.per_day is None else (before + pl.int_range(pl.len())) // calendar.per_day
        known.append((pl.lit(calendar.first, dtype=pl.Int32) + spread).cast(pl.Int32))
    return pl.coalesce(known) if known else pl.lit(None, dtype=pl.Int32)


def _complete(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Return rows that have an action column, as every log of ours has one or weights."""
    names = config.logs.columns
    return rows if names.action in rows or names.weights in rows else rows.with_columns(pl.lit(None, dtype=pl.Int32).alias(names.action))


def _refused(rows: pl.DataFrame, bad: Ints, hard: Mapping[str, RowRule], broken: Mapping[str, Bools]) -> pl.DataFrame:
    found = []
    for row in bad.tolist():
        rule = next(rule for label, rule in hard.items() if label in broken and broken[label][row])
        seen = repr(rows[rule.column][row])[:_LONGEST] if rule.column in rows else "nothing"
        found.append((rows[LINE][row], f"{rule.column} is not {rule.expected}", seen, rows[TEXT][row]))
    return pl.DataFrame(found, schema=REFUSED, orient="row")


def _is_soft(rule: RowRule, broken: Mapping[str, Bools]) -> bool:
    return not rule.hard and rule.label in broken


def _told(rule: RowRule) -> str:
    return f"rows break {rule.name} of `paretune check` ({rule.column}: {rule.expected}); {rule.remedy}"
