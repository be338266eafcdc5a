"""Somebody else's log written as one of ours: all of it or nothing, next to what is there already.

An edge: reads and writes logs. Beside the day folders lies `_import/`: `refused/`, every line that was not taken with its reason,
and `report-N.json` of each run. The rule: a line becomes a row, a refusal, or is counted as left out; a request that the log has already is
refused, so that importing a file twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import LogError
from paretune.exchange.drawn import asked_columns
from paretune.exchange.judged import Calendar, has_days, judged
from paretune.exchange.taken import LINE, REFUSED, TEXT, Taken
from paretune.logs import decode, staging
from paretune.logs.files import log_files
from paretune.logs.parquet import day_name, request_ids, write_part
from paretune.logs.rows import DAY
from paretune.records import Bools, Ints

PLACE = "_import"
STEM = "import"  # of our files in the day folders, so that a join never writes over them
REPEATED = "the request is in the log already"


@dataclass(slots=True)
class Imported:
    """What became of the lines of a run; `lines` is the sum of `rows`, `refused` and `thinned`."""

    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # reason -> lines
    thinned: int = 0
    explored: int = 0  # of the rows
    days: dict[str, int] = field(default_factory=dict)  # day -> rows
    notes: Counter[str] = field(default_factory=Counter)
    files: int = 0

    @property
    def lines(self) -> int:
        """Lines that held something."""
        return self.rows + self.refused.total() + self.thinned


def write_import(
    parts: Iterable[tuple[str, Taken]], output: Path, config: Config, *, calendar: Calendar | None = None, strict: bool = False
) -> Imported:
    """Write what adapters took into a log folder, all of it or nothing, and return what became of every line.

    Args:
        parts: the source of each part, and the part.
        output: folder of the log; days are added to, requests that it holds are not taken again.
        config: what the log holds.
        calendar: where rows without a time are put.
        strict: refuse everything where a line is refused.

    Raises:
        LogError: no line could be taken; with `strict`, a line could not; a column was found in no line; the disk says no.
        ConfigError: another import is writing here.
    """
    with staging.opened(output, PLACE, what="import") as place:
        try:
            run = _Run(output, place, config, calendar)
            for source, part in parts:
                run.add(source, part)
            _refuse_nothing(run, config, strict=strict)
            return run.commit()
        except OSError as error:
            raise LogError(f"{output} cannot be written: {error}", hint="check the free space and the rights of the folder") from error
        finally:
            staging.finish(output, place)


class _Run:
    """One import, prepared beside the log."""

    def __init__(self, output: Path, place: Path, config: Config, calendar: Calendar | None) -> None:
        self.output, self.place, self.config, self.calendar = output, place, config, calendar
        self.surface, self.told, self.found, self.named = config.surface.build(), Imported(), set[str](), set[str]()
        self._seen, self._known, self._before = np.empty(0, dtype=np.uint64), set[int](), 0
        self._number = 1 + max((_number(file) for file in place.glob("report-*.json")), default=0)
        self._moves: list[tuple[str, str]] = []

    def add(self, source: str, part: Taken) -> None:
        told, names = self.told, self.config.logs.columns
        self.found |= part.found
        told.notes.update(part.notes)
        told.thinned += part.thinned
        self._refuse(source, part.refused)
        if not len(part.rows):
            return
        if self.calendar is None and not has_days(part.rows.columns, self.config):
            raise LogError(
                f"{source} does not say when its requests were", hint="give their day with --day, and how many a day with --per-day"
            )
        found = judged(part.rows, self.config, self.surface, calendar=self.calendar, before=self._before)
        self._before += len(part.rows)
        told.notes.update(found.notes)
        self._refuse(source, found.refused)
        again = self._repeats(found.rows)
        if again.any():
            mask = pl.Series(again)
            seen = found.rows[names.request_id].filter(mask)
            columns = {"line": found.rows[LINE].filter(mask), "seen": seen, "text": found.rows[TEXT].filter(mask)}
            self._refuse(source, pl.DataFrame(columns).with_columns(pl.lit(REPEATED).alias("reason")).select(*REFUSED))
        rows = found.rows.filter(pl.Series(~again))
        told.rows += len(rows)
        told.explored += int((found.log.explored & ~again).sum())
        for (day,), of_day in rows.group_by(DAY, maintain_order=True):
            name = day_name(int(str(day)))
            told.days[name] = told.days.get(name, 0) + len(of_day)
            self._write(f"log/{names.day}={name}", f"{names.day}={name}", of_day.drop(DAY, LINE, TEXT))

    def commit(self) -> Imported:
        self.told.files = sum(not target.startswith(PLACE) for _, target in self._moves)
        self.told.days = dict(sorted(self.told.days.items()))
        report = f"report-{self._number}.json"
        staging.write_json(self.place / staging.NEXT / report, {each.name: getattr(self.told, each.name) for each in fields(self.told)})
        staging.come_true(self.output, self.place, [*self._moves, (report, f"{PLACE}/{report}")])
        return self.told

    def _refuse(self, source: str, refused: pl.DataFrame) -> None:
        if len(refused):
            self.told.refused.update(refused["reason"].to_list())
            self._write("refused", f"{PLACE}/refused", refused.with_columns(pl.lit(source).alias("source")).select("source", *REFUSED))

    def _write(self, folder: str, target: str, frame: pl.DataFrame) -> None:
        written = write_part(self.place / staging.NEXT / folder, frame.to_dict(), part=self._next(target), stem=STEM)
        self._moves.append((f"{folder}/{written.name}", f"{target}/{written.name}"))

    def _next(self, target: str) -> int:
        """Return the first number that no file of ours has in a folder."""
        taken = [_number(Path(name)) for _, name in self._moves if name.startswith(f"{target}/")]
        return 1 + max([*taken, *(_number(file) for file in (self.output / target).glob(f"{STEM}-*.parquet"))], default=0)

    def _repeats(self, rows: pl.DataFrame) -> Bools:
        """Mark the rows whose request came before: in this import, or in the days of the log that these rows add to."""
        for day in rows[DAY].unique().to_list():
            if day not in self._known:
                self._known.add(day)
                self._seen = np.union1d(self._seen, _requests(self.output, day, self.config))
        hashes, _ = decode.ids(rows[self.config.logs.columns.request_id])
        _, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), dtype=np.bool_)
        again[first] = False
        again |= np.isin(hashes, self._seen)
        self._seen = np.union1d(self._seen, hashes)
        return again


def _requests(output: Path, day: int, config: Config) -> Ints:
    """Return the hashes of the request ids that the log has on a day."""
    folder = output / f"{config.logs.columns.day}={day_name(day)}"
    hashes = [np.empty(0, dtype=np.uint64)]
    if any(folder.glob("*.parquet")):
        hashes += [decode.ids(request_ids(file, config))[0] for file in log_files(folder, config)]
    return np.concatenate(hashes)


def _refuse_nothing(run: _Run, config: Config, *, strict: bool) -> None:
    told = run.told
    often = "; ".join(f"{count:,} lines: {reason}" for reason, count in told.refused.most_common(3))
    if not told.rows and not told.refused.get(REPEATED):
        raise LogError(
            f"no line could be taken of {told.lines:,}: {often or 'the source is empty'}", hint="nothing was written; mend the first reason"
        )
    if strict and told.refused:
        raise LogError(
            f"{told.refused.total():,} of {told.lines:,} lines cannot be taken: {often}",
            hint="nothing was written; leave out --strict to set them aside",
        )
    lacking = [column for column in asked_columns(config) if column not in run.found]
    if lacking and told.rows:
        raise LogError(
            f"no line says anything of {', '.join(lacking)}",
            hint="nothing was written; say where it is with --field COLUMN=NAME, or take it out of paretune.toml",
        )


def _number(file: Path) -> int:
    number = file.stem.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
