"""`paretune check`: is this log fit to learn from?

An edge: reads log files, writes the quarantine. The rule: every row read is counted as good or bad, and a bad row is never silently
dropped; the file given is never changed. A log is looked at in parts, each by itself, in any order, by any process: `survey`, then
`request_hashes` of every part, `claims` of each where some id occurs more than once, `check_part`, and `conclude` on the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError, LogError
from paretune.logs import decode
from paretune.logs.checks import LogCheck, Tally
from paretune.logs.files import log_files
from paretune.logs.findings import Findings, Place, conclude, summed, unique_rule
from paretune.logs.layout import needed_columns
from paretune.logs.parquet import Batch, Wanted, batches, day_name, file_schema, request_ids, write_part
from paretune.logs.parts import LogPart, file_parts, raw_rows
from paretune.logs.repeats import Claims, repeated
from paretune.logs.rules import Verdict, judge, row_rules
from paretune.ports import Each, Progress, in_turn, part_of, silent
from paretune.records import Ints
from paretune.storage.objects import parquet_below
from paretune.storage.place import Where, where

BROKEN_RULES = "broken_rules"  # column added to quarantined rows: "rule:column, rule:column"
_FIRST = 3  # rows of a part that it names

Judged = Callable[[Batch, Verdict], None]
"""Called with each batch and what was found of it."""


def check_log(
    path: str | Where,
    config: Config,
    *,
    quarantine: str | Where | None = None,
    clean: str | Where | None = None,
    each: Each = in_turn,
    progress: Progress = silent,
) -> LogCheck:
    """Return whether a log is fit to learn from.

    Args:
        path: of the log, see `log_files`.
        config: what the log should hold.
        quarantine: folder for the bad rows, with all their columns and `broken_rules`; a log layout of its own.
        clean: folder for the good rows, with all their columns: a log that `read_log` accepts.
        each: how the parts of the log are worked on.
        progress: told the share of the work done.

    Returns:
        The check. Of rows that share a request id the first good one, in the order of days and files, is good, the others are bad.
        Files that cannot be read break the rule `readable`; the others are still checked.

    Raises:
        LogError: nothing there, a column is missing or of an unreadable type, or a file changed during the check.
        ConfigError: `quarantine` or `clean` is the log itself, or already holds Parquet files, or both are one folder.
    """
    for target in (quarantine, clean):
        if target is not None:
            _refuse_used(where(target), where(path))
    if quarantine is not None and clean is not None and _resolved(where(quarantine)) == _resolved(where(clean)):
        raise ConfigError(f"{clean} would hold good rows and bad ones", hint="name two folders for --quarantine and --clean")
    unreadable, parts = survey(path, config)
    again, lost = _repeated_requests(parts, config, each, part_of(progress, 0, 0.1))
    parts = [part for part in parts if str(part.file.path) not in lost.unreadable]
    first = Claims.concat([])
    if len(again):
        first = Claims.concat(each(partial(_claimed, config=config, again=again), parts, progress=part_of(progress, 0.1, 0.1))).first()
    job = partial(_checked, config=config, first=first, quarantine=quarantine, clean=clean)
    found = unreadable + lost + summed(each(job, parts, progress=part_of(progress, 0.1, 1)))
    return conclude(found, config, config.surface.build(), quarantined=found.bad if quarantine else 0)


def survey(path: str | Where, config: Config) -> tuple[Findings, list[LogPart]]:
    """Return which files of a log cannot be read, and the parts of those that can, in the order of days, files and rows.

    Raises:
        LogError: nothing there, or a column is missing or of an unreadable type.
    """
    unreadable: dict[str, str] = {}
    parts: list[LogPart] = []
    for place, file in enumerate(log_files(path, config)):
        try:
            schema, total = file_schema(file)
        except LogError as error:
            unreadable[str(file.path)] = error.args[0]
            continue
        needed_columns(schema, config, source=str(file.path), candidates=_wanted(schema, config).candidates, labels=True)
        parts += file_parts(file, place, total)
    return Findings(unreadable=unreadable), parts


def request_hashes(part: LogPart, config: Config) -> Ints:
    """Return the hashes (n,) of a part's request ids, unknown ones left out.

    Raises:
        LogError: the file is unreadable.
    """
    found, known = decode.ids(request_ids(part.file, config, span=part.span))
    return found[known]


def claims(part: LogPart, config: Config, again: Ints) -> Claims:
    """Return the good rows of a part whose request id occurs more than once in the log; none where the part cannot be read.

    Args:
        part: of the log.
        config: what the log should hold.
        again: hashes of those ids, increasing.
    """
    found: list[Claims] = []
    try:
        if np.isin(request_hashes(part, config), again).any():
            for batch in _batches(part, config):
                request, verdict = batch.rows.log.request, _judge(batch, config)
                rows = np.flatnonzero(verdict.good & np.isin(request, again))
                found.append(Claims(request[rows], np.full(len(rows), part.place), batch.position[rows]))
    except LogError:  # `check_part` names the file; what was read before it broke counts
        return Claims.concat(found)
    return Claims.concat(found)


def check_part(part: LogPart, config: Config, first: Claims, *, judged: Judged | None = None, progress: Progress = silent) -> Findings:
    """Return what the rows of a part show.

    Args:
        part: of the log.
        config: what the log should hold.
        first: the row that counts of each request id that occurs more than once, in the log as a whole; see `Claims.first`.
        judged: told of each batch.
        progress: told the share of the part that is read.

    Raises:
        LogError: the file changed during the check.
    """
    found: list[Findings] = []
    try:
        for batch in _batches(part, config):
            verdict = _judge(batch, config)
            again = verdict.good & first.again(batch.rows.log.request, place=part.place, row=batch.position)
            if again.any():
                verdict = Verdict(verdict.good & ~again, verdict.broken | {unique_rule(config).label: again})
            found.append(_findings(batch, verdict, part, config))
            if judged is not None:
                judged(batch, verdict)
            progress(batch.done, "checking rows")
    except LogError as error:
        if str(part.file.path) not in str(error):  # not about this file: the quarantine cannot be written
            raise
        return summed([*found, Findings(unreadable={str(part.file.path): error.args[0]})])
    total = summed(found)
    if total.good + total.bad != part.rows:
        raise LogError(f"{part.file.path} had {part.rows} rows and now has others", hint="check a log that nobody is writing to")
    return total


def _repeated_requests(parts: list[LogPart], config: Config, each: Each, progress: Progress) -> tuple[Ints, Findings]:
    """Return the hashes of request ids that occur more than once, and the files that turned out to be unreadable."""
    unreadable: dict[str, str] = {}
    read = each(partial(_hashed, config=config), parts, progress=progress)
    hashes = (found for found, why in read if not unreadable.update(why))
    return repeated(hashes, rows=sum(part.rows for part in parts)), Findings(unreadable=unreadable)


def _hashed(part: LogPart, progress: Progress, *, config: Config) -> tuple[Ints, dict[str, str]]:
    """Return the hashes of a part's request ids, and why its file cannot be read if it cannot."""
    try:
        found = request_hashes(part, config)
    except LogError as error:
        return np.empty(0, np.uint64), {str(part.file.path): error.args[0]}
    progress(1.0, "reading request ids")
    return found, {}


def _claimed(part: LogPart, progress: Progress, *, config: Config, again: Ints) -> Claims:
    found = claims(part, config, again)
    progress(1.0, "looking for request ids that occur more than once")
    return found


def _checked(
    part: LogPart, progress: Progress, *, config: Config, first: Claims, quarantine: str | Where | None, clean: str | Where | None
) -> Findings:
    def write(batch: Batch, verdict: Verdict) -> None:
        _write(batch, verdict, part, config, quarantine=quarantine, clean=clean)

    return check_part(part, config, first, judged=write, progress=progress)


def _wanted(schema: pl.Schema, config: Config) -> Wanted:
    names = config.logs.columns
    return Wanted(candidates=names.candidate_ids in schema and names.candidate_scores in schema, weights=True, labels=True)


def _batches(part: LogPart, config: Config) -> Iterator[Batch]:
    wanted = _wanted(file_schema(part.file)[0], config)
    return batches(part.file, config, config.surface.build(), wanted, span=part.span)


def _judge(batch: Batch, config: Config) -> Verdict:
    facts = batch.rows.facts
    return judge(facts, row_rules(config, config.surface.build(), tuple(facts.columns)))


def _findings(batch: Batch, verdict: Verdict, part: LogPart, config: Config) -> Findings:
    log = batch.rows.log if verdict.good.all() else batch.rows.log.take(verdict.good)
    days = {}
    for day in np.unique(log.day).tolist():
        rows = log.day == day
        days[day] = int((rows & log.explored).sum()), int((rows & log.produced).sum())
    path = str(batch.file.path)
    return Findings(
        facts=frozenset(batch.rows.facts.columns),
        broken={label: int(mask.sum()) for label, mask in verdict.broken.items()},
        places={label: (Place(part.place, path, tuple(batch.position[mask][:_FIRST].tolist())),) for label, mask in verdict.broken.items()},
        tally=Tally.of(log, len(config.surface.build())),
        good=int(verdict.good.sum()),
        bad=int((~verdict.good).sum()),
        days=days,
    )


def _write(
    batch: Batch, verdict: Verdict, source: LogPart, config: Config, *, quarantine: str | Where | None, clean: str | Where | None
) -> None:
    """Write the bad and the good rows of a batch, in files named for where they come from: a part that is read twice is written once."""
    day = batch.rows.facts["day"]
    for target, mask in ((quarantine, ~verdict.good), (clean, verdict.good)):
        if target is None or not mask.any():
            continue
        frame = raw_rows(batch.file, batch.position[mask])
        if target is quarantine:
            labels = [", ".join(label for label, broken in verdict.broken.items() if broken[row]) for row in np.flatnonzero(mask)]
            frame = frame.with_columns(pl.Series(BROKEN_RULES, labels, dtype=pl.String))
        for (value,), part in frame.with_columns(day.filter(pl.Series(mask)).alias("__day")).group_by("__day", maintain_order=True):
            name = "unknown" if value is None else day_name(int(str(value)))
            folder = where(target) / f"{config.logs.columns.day}={name}"
            write_part(folder, part.drop("__day").to_dict(), part=int(batch.position[0]), stem=f"part-{source.place:05d}")


def _refuse_used(target: Where, log: Where) -> None:
    if _resolved(target) == _resolved(log):
        raise ConfigError(f"{target} is the log itself", hint="name another folder for --quarantine and --clean")
    if parquet_below(target):
        raise ConfigError(f"{target} already holds Parquet files", hint="name an empty folder, so that no earlier rows mix in")


def _resolved(target: Where) -> Where:
    return target.resolve() if isinstance(target, Path) else target
