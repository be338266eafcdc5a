"""What an adapter makes of somebody else's log: rows under our names, and the lines that could not be taken, each with its reason.

The rule: every line ends in exactly one of the two; a propensity is copied, never computed. Cells that do not fit their column's type are
a reason, not a null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.exchange.cells import Kind, cells
from paretune.logs.decisions import ARM
from paretune.records import Ints
from paretune.surface.heads import Surface

LINE, TEXT = "__line", "__text"  # number of the line, from 1, and the line itself
REFUSED = {"line": pl.Int64, "reason": pl.String, "seen": pl.String, "text": pl.String}
_LONGEST = 200  # characters of a cell that a refusal quotes


@dataclass(frozen=True, slots=True)
class Reading:
    """How a foreign log is to be read."""

    config: Config
    surface: Surface
    source: str  # name of the file, for ids of lines that have none
    numbering: Ints  # (n,) our action for each of theirs, in their order
    fields: Mapping[str, str] = field(default_factory=dict)  # column of our log -> where theirs has it
    keep: float = 1.0  # share of the traffic that every line is to stand for; see vw_dsjson.thinned


@dataclass(frozen=True, slots=True)
class Taken:
    """Lines, read."""

    rows: pl.DataFrame  # (n,) columns of the log under the config's names, LINE and TEXT
    refused: pl.DataFrame  # (k,) REFUSED
    found: frozenset[str] = frozenset()  # columns of the log that a line held
    notes: Counter[str] = field(default_factory=Counter)  # what a person should know -> lines it is true of
    thinned: int = 0  # lines left out so that all stand for the same share of the traffic


class Unusable(Exception):
    """A line that cannot be taken, and what was seen there."""

    def __init__(self, reason: str, seen: object = "") -> None:
        super().__init__(reason)
        self.reason, self.seen = reason, str(seen)[:_LONGEST]


@dataclass(slots=True)
class Refusals:
    """Collects the lines that cannot be taken."""

    rows: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, line: int, text: str, why: Unusable) -> None:
        """Refuse a line."""
        self.rows.append((line, why.reason, _plain(why.seen), _plain(text)))

    def frame(self) -> pl.DataFrame:
        """Return the refused lines."""
        return pl.DataFrame(self.rows, schema=REFUSED, orient="row")


def column_kinds(config: Config) -> dict[str, Kind]:
    """Return the columns that a log may have, each with what its cells are; a feature of a fixed column's name is that column."""
    names, features = config.logs.columns, config.features
    fixed: dict[str, Kind] = {
        names.request_id: "text",
        names.user: "text",
        names.session: "text",
        names.ts: "time",
        names.day: "day",
        names.cohort: "text",
        names.action: "integer",
        names.weights: "numbers",
        names.propensity: "number",
        names.reason: "text",
        names.plan: "text",
        names.label_age_h: "number",
        names.candidate_ids: "integers",
        names.candidate_scores: "numbers",
        names.served_scores: "numbers",
        ARM: "text",
    }
    asked: dict[str, Kind] = {
        **dict.fromkeys((o.column for o in config.objectives), "number"),
        **dict.fromkeys(features.numeric, "number"),
        **dict.fromkeys(features.categorical, "text"),
        **dict.fromkeys((e.name for e in features.embeddings), "numbers"),
        **dict.fromkeys((s.name for s in features.sequences), "integers"),
    }
    return fixed | {name: kind for name, kind in asked.items() if name not in fixed}


def feature_names(config: Config) -> tuple[str, ...]:
    """Return the features of a configuration in its order: numbers, texts, vectors, sequences."""
    features = config.features
    return (*features.numeric, *features.categorical, *(e.name for e in features.embeddings), *(s.name for s in features.sequences))


def typed(
    raw: Mapping[str, Sequence[object]], kinds: Mapping[str, Kind], lines: Sequence[int], texts: Sequence[str], refusals: Refusals
) -> pl.DataFrame:
    """Return raw cells as columns of their kinds, without the lines of which a cell does not fit.

    Args:
        raw: column -> (n,) cells as they were read; None and empty text are null.
        kinds: of every column in `raw`.
        lines: (n,) number of each line.
        texts: (n,) the lines.
        refusals: told the lines that do not fit, with the first column that is why.
    """
    good = np.ones(len(lines), dtype=np.bool_)
    columns: dict[str, pl.Series] = {}
    for name, values in raw.items():
        columns[name], fits = cells(values, kinds[name])
        for row in np.flatnonzero(good & ~fits).tolist():
            refusals.add(lines[row], texts[row], Unusable(f"{name} is no {_CALLED[kinds[name]]}", repr(values[row])))
        good &= fits
    frame = pl.DataFrame({LINE: pl.Series(lines, dtype=pl.Int64), TEXT: pl.Series(texts, dtype=pl.String), **columns})
    return frame if good.all() else frame.filter(pl.Series(good))


def whole_text(text: str) -> None:
    """Refuse a line that is not UTF-8, of which the bytes that are not were read as lone surrogates.

    Raises:
        Unusable: it is not.
    """
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Unusable("not UTF-8", ascii(text))


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_CALLED: dict[Kind, str] = {
    "text": "text",
    "number": "number",
    "integer": "whole number",
    "time": "time (ISO 8601, or microseconds since 1970)",
    "day": "day (YYYY-MM-DD)",
    "numbers": "list of numbers",
    "integers": "list of whole numbers",
}
