"""Promises and outcomes as entries of a ledger: those that the registry keeps, or a CSV file of one's own.

The rule: one promise counts once. Of several readouts of the same evidence the latest counts, since an earlier one was part of it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from math import isfinite, nan
from typing import TYPE_CHECKING

from paretune.errors import DataError
from paretune.experiment.ledger import Entry, Lift

if TYPE_CHECKING:  # brings SQLAlchemy
    from paretune.policy.outcomes import Outcome

NEEDED = ("release", "objective", "predicted_pct", "seen_pct")
OPTIONAL = ("predicted_error_pct", "seen_error_pct", "minimised", "test")
_YES, _NO = {"1", "true", "yes"}, {"", "0", "false", "no"}


def latest_of(outcomes: Sequence[Outcome]) -> tuple[Entry, ...]:
    """Return the latest outcome of each promise, the oldest promise first.

    Args:
        outcomes: the oldest first.
    """
    found = {(outcome.number, outcome.revision, outcome.objective): outcome for outcome in outcomes}
    return tuple(_entry(outcome) for _, outcome in sorted(found.items(), key=lambda pair: pair[0][:2]))


def entries_in(text: str, *, source: str) -> tuple[Entry, ...]:
    """Return the entries of a CSV text whose first line names its columns; lifts in per cent.

    Args:
        text: columns `NEEDED` and any of `OPTIONAL`; an empty cell is unknown.
        source: named in errors.

    Raises:
        DataError: a column is missing or unknown, or a cell is no number.
    """
    rows = csv.DictReader(StringIO(text))
    columns = [name.strip() for name in rows.fieldnames or ()]
    missing = [name for name in NEEDED if name not in columns]
    unknown = [name for name in columns if name not in {*NEEDED, *OPTIONAL}]
    if missing or unknown:
        what = f"lacks the columns {missing}" if missing else f"has columns that mean nothing here: {unknown}"
        raise DataError(f"{source} {what}", hint=f"columns are {', '.join(NEEDED)}; and if you have them {', '.join(OPTIONAL)}")
    return tuple(_row({(name or "").strip(): cell for name, cell in row.items()}, f"{source}, line {rows.line_num}") for row in rows)


def _entry(outcome: Outcome) -> Entry:
    predicted = (outcome.predicted, outcome.predicted_error, outcome.predicted_low, outcome.predicted_high)
    seen = (outcome.seen, outcome.seen_error, outcome.seen_low, outcome.seen_high)
    one, other = (Lift(*(nan if number is None else number for number in numbers)) for numbers in (predicted, seen))
    name = f"policy-{outcome.number}" + (f", evidence {outcome.revision}" if outcome.revision > 1 else "")
    return Entry(name, outcome.objective, one, other, outcome.minimised, outcome.readout)


def _row(row: Mapping[str, object], where: str) -> Entry:
    cells = {name: str(value or "").strip() for name, value in row.items()}
    predicted, seen, predicted_error, seen_error = (
        _number(cells.get(name, ""), f"{where}: {name}", needed=name in NEEDED)
        for name in ("predicted_pct", "seen_pct", "predicted_error_pct", "seen_error_pct")
    )
    minimised = cells.get("minimised", "").lower()
    if minimised not in _YES | _NO:
        raise DataError(f"{where}: minimised is {minimised!r}", hint="write yes or no")
    if "" in cells or not (cells["release"] and cells["objective"]):
        raise DataError(f"{where}: a cell too many, or a release or objective without a name", hint="one cell per column")
    return Entry(
        cells["release"],
        cells["objective"],
        Lift(predicted, predicted_error),
        Lift(seen, seen_error),
        minimised in _YES,
        cells.get("test", ""),
    )


def _number(word: str, where: str, *, needed: bool) -> float:
    try:
        value = float(word) / 100 if word or needed else nan
    except ValueError:
        value = nan
    if (word or needed) and not isfinite(value):
        raise DataError(f"{where} is {word!r}, no number", hint="write per cent: 1.46, or leave an unknown error empty")
    return value
