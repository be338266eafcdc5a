"""Plain CSV as rows of a log: a header, then a row per request, in RFC 4180 quoting.

The rule: columns are those that the configuration names; where the file has none of that name, what `paretune init` would take for it
(template.py), and that is said. A line that does not fit is refused with its number, which counts lines, not rows: a quoted cell may span
several.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paretune.config import Config
from paretune.errors import LogError
from paretune.exchange.judged import has_days
from paretune.exchange.taken import Reading, Refusals, Taken, Unusable, column_kinds, feature_names, typed, whole_text
from paretune.template import guessed_columns, outcome_columns

Record = tuple[int, str, list[str] | Unusable]  # number of its first line, its text, its cells or why it has none


@dataclass(frozen=True, slots=True)
class Header:
    """Where the columns of a log stand in a file."""

    names: tuple[str, ...]  # of the file
    places: dict[str, int]  # column of the log -> place in a row
    guessed: dict[str, str]  # column of the log -> column of the file that was taken for it


def read_header(names: Sequence[str], config: Config, fields: Mapping[str, str], *, dated: bool, source: str) -> Header:
    """Return where the columns of a log stand.

    Args:
        names: the first row.
        config: which columns the log has.
        fields: column of the log -> column of the file, as a person said.
        dated: rows without a time have a day all the same.
        source: the file, for messages.

    Raises:
        LogError: a name stands twice, or a column that a log needs is missing.
    """
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice or not names:
        raise LogError(f"{source}, line 1: " + (f"columns {twice} stand twice" if twice else "no header"), hint="name each column once")
    at, kinds, columns = {name: place for place, name in enumerate(names)}, column_kinds(config), config.logs.columns
    found = {column: fields.get(column, column) for column in kinds if fields.get(column, column) in at}
    alike = {getattr(columns, fixed): name for fixed, name in guessed_columns(names).items()}
    for objective in config.objectives:
        likeliest = next((name for name in outcome_columns(objective.name) if name in at), None)
        alike |= {} if likeliest is None else {objective.column: likeliest}
    guessed = {
        column: name for column, name in alike.items() if column not in found and column not in fields and name not in found.values()
    }
    found |= guessed
    needed = [columns.request_id, columns.user, columns.propensity, columns.reason]
    needed += [*(o.column for o in config.objectives), *feature_names(config)]
    missing = [column for column in needed if column not in found]
    if not found.keys() & {columns.action, columns.weights}:
        missing.append(f"{columns.action} or {columns.weights}")
    missing += [name for name in fields.values() if name not in at]
    if missing:
        raise LogError(
            f"{source}, line 1: no column for {', '.join(missing)}; the file has {', '.join(names)}",
            hint="say where it is with --field COLUMN=NAME, or under logs.columns, objectives or features in paretune.toml",
        )
    if not dated and not has_days(list(found), config):
        raise LogError(
            f"{source}, line 1: no column {columns.ts!r} or {columns.day!r}",
            hint="say where it is with --field, or give one day with --day",
        )
    return Header(tuple(names), {column: at[name] for column, name in found.items()}, guessed)


def records(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the rows of a CSV, the header too; one that cannot be parsed says why."""
    kept: list[str] = []

    def remembered() -> Iterator[str]:
        for line in lines:
            kept.append(line)
            yield line

    reader, before = csv.reader(remembered(), strict=True), 0
    while True:
        try:
            row: list[str] | Unusable = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = Unusable("the quoting is broken", error)
        text = "".join(kept).rstrip("\r\n")
        if text.strip():
            yield before + 1, text, row
        before = reader.line_num
        kept.clear()


def taken(rows: Iterable[Record], header: Header, reading: Reading) -> Taken:
    """Return rows of a CSV as rows of a log.

    Args:
        rows: from `records`, without the header.
        header: from `read_header`.
        reading: what the log is to hold.
    """
    refusals, good = Refusals(), []
    for number, text, row in rows:
        try:
            good.append((number, text, _whole(text, row, header)))
        except Unusable as why:
            refusals.add(number, text, why)
    cells = {column: [row[place] for _, _, row in good] for column, place in header.places.items()}
    kinds = column_kinds(reading.config)
    frame = typed(cells, kinds, [number for number, _, _ in good], [text for _, text, _ in good], refusals)
    return Taken(frame, refusals.frame(), frozenset(header.places))


def _whole(text: str, row: list[str] | Unusable, header: Header) -> list[str]:
    if isinstance(row, Unusable):
        raise row
    if len(row) != len(header.names):
        raise Unusable(f"another number of cells than the header's {len(header.names)}", f"{len(row)} cells")
    whole_text(text)
    return row
