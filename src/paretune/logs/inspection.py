"""`paretune check`: is this log fit to learn from?

An edge: reads log files, writes the quarantine. The rule: every row read is counted as good or bad, and a bad row is never silently
dropped; the file given is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError, LogError
from paretune.logs import decode
from paretune.logs.checks import LogCheck, RuleResult, Tally, days_rules, mean_weights, whole_log_rules
from paretune.logs.files import LogFile, log_files
from paretune.logs.layout import needed_columns
from paretune.logs.parquet import Batch, Wanted, batches, day_name, file_schema, raw_rows, request_ids, write_part
from paretune.logs.rules import RowRule, Verdict, judge, row_rules
from paretune.ports import Progress, silent
from paretune.records import Bools, Ints
from paretune.storage.objects import parquet_below
from paretune.storage.place import Where, where
from paretune.surface.heads import Surface

BROKEN_RULES = "broken_rules"  # column added to quarantined rows: "rule:column, rule:column"
_PLACES = 3  # files, and rows of a file, that a result names


@dataclass(slots=True)
class _Findings:
    """What the pass over the files has seen so far."""

    rules: dict[str, RowRule] = field(default_factory=dict)  # label -> rule
    rows: dict[str, int] = field(default_factory=dict)  # label -> rows that break it
    places: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # label -> file -> first rows
    tally: Tally | None = None
    good: int = 0
    bad: int = 0
    days: dict[int, tuple[int, int]] = field(default_factory=dict)  # day -> good exploration rows, good production rows
    unreadable: dict[str, str] = field(default_factory=dict)  # file -> why

    def note(self, batch: Batch, verdict: Verdict) -> None:
        self.good += int(verdict.good.sum())
        self.bad += int((~verdict.good).sum())
        for label, mask in verdict.broken.items():
            self.rows[label] = self.rows.get(label, 0) + int(mask.sum())
            files = self.places.setdefault(label, {})
            if str(batch.file.path) in files or len(files) < _PLACES:
                first = files.setdefault(str(batch.file.path), [])
                first += batch.position[mask][: _PLACES - len(first)].tolist()


@dataclass(slots=True)
class _Repeats:
    """Finds the rows whose request id an earlier good row already had."""

    repeated: Ints  # hashes that occur more than once in the log, sorted
    seen: set[int] = field(default_factory=set)

    def mark(self, request: Ints, good: Bools) -> Bools:
        mask = np.zeros(len(request), dtype=np.bool_)
        for row in np.flatnonzero(np.isin(request, self.repeated) & good).tolist():
            key = int(request[row])
            mask[row] = key in self.seen
            self.seen.add(key)
        return mask


def check_log(
    path: str | Where,
    config: Config,
    *,
    quarantine: str | Where | None = None,
    clean: str | Where | None = None,
    progress: Progress = silent,
) -> LogCheck:
    """Return whether a log is fit to learn from.

    Args:
        path: of the log, see `log_files`.
        config: what the log should hold.
        quarantine: folder for the bad rows, with all their columns and `broken_rules`; a log layout of its own.
        clean: folder for the good rows, with all their columns: a log that `read_log` accepts.
        progress: told the share of the work done.

    Returns:
        The check. Of rows that share a request id the first good one, in the order of days and files, is good, the others are bad.
        Files that cannot be read break the rule `readable`; the others are still checked.

    Raises:
        LogError: nothing there, a column is missing or of an unreadable type, or a file changed during the check.
        ConfigError: `quarantine` or `clean` is the log itself, or already holds Parquet files, or both are one folder.
    """
    files = log_files(path, config)
    for target in (quarantine, clean):
        if target is not None:
            _refuse_used(where(target), where(path))
    if quarantine is not None and clean is not None and _resolved(where(quarantine)) == _resolved(where(clean)):
        raise ConfigError(f"{clean} would hold good rows and bad ones", hint="name two folders for --quarantine and --clean")
    surface, findings = config.surface.build(), _Findings()
    readable = list(_readable(files, config, findings))
    repeats = _Repeats(_repeated(readable, config, findings))
    progress(0.1, "reading request ids")
    labelled = listed = False
    for index, (file, wanted, total) in enumerate(readable):
        if str(file.path) in findings.unreadable:
            continue
        before = findings.good + findings.bad
        try:
            for batch in batches(file, config, surface, wanted):
                verdict = _judge(batch, config, surface, repeats, findings)
                findings.note(batch, verdict)
                _learn(batch, verdict, len(surface), findings)
                labelled |= "label_age_h" in batch.rows.facts
                listed |= wanted.candidates
                _write(batch, verdict, config, quarantine=quarantine, clean=clean)
                progress(0.1 + 0.9 * (index + batch.done) / len(readable), "checking rows")
        except LogError as error:
            if str(file.path) not in str(error):  # not about this file: the quarantine cannot be written
                raise
            findings.unreadable[str(file.path)] = error.args[0]
            continue
        if findings.good + findings.bad - before != total:
            raise LogError(f"{file.path} had {total} rows and now has others", hint="check a log that nobody is writing to")
    return _conclude(findings, config, surface, labelled=labelled, listed=listed, quarantined=findings.bad if quarantine else 0)


def _readable(files: list[LogFile], config: Config, findings: _Findings) -> Iterator[tuple[LogFile, Wanted, int]]:
    names = config.logs.columns
    for file in files:
        try:
            schema, total = file_schema(file)
        except LogError as error:
            findings.unreadable[str(file.path)] = error.args[0]
            continue
        wanted = Wanted(candidates=names.candidate_ids in schema and names.candidate_scores in schema, weights=True, labels=True)
        needed_columns(schema, config, source=str(file.path), candidates=wanted.candidates, labels=True)
        yield file, wanted, total


def _repeated(readable: list[tuple[LogFile, Wanted, int]], config: Config, findings: _Findings) -> Ints:
    hashes = [np.empty(0, dtype=np.uint64)]
    for file, _, _ in readable:
        try:
            found, known = decode.ids(request_ids(file, config))
        except LogError as error:
            findings.unreadable[str(file.path)] = error.args[0]
            continue
        hashes.append(found[known])
    ordered = np.sort(np.concatenate(hashes))
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _judge(batch: Batch, config: Config, surface: Surface, repeats: _Repeats, findings: _Findings) -> Verdict:
    facts = batch.rows.facts
    rules = row_rules(config, surface, tuple(facts.columns))
    unique = RowRule(
        "request_unique",
        config.logs.columns.request_id,
        pl.lit(True),
        "each request once",
        False,
        "keep one row per request; the quarantine keeps the first, in the order of days and files",
    )
    findings.rules |= {rule.label: rule for rule in (*rules, unique)}
    verdict = judge(facts, rules)
    again = repeats.mark(batch.rows.log.request, verdict.good)
    if not again.any():
        return verdict
    return Verdict(verdict.good & ~again, verdict.broken | {unique.label: again})


def _learn(batch: Batch, verdict: Verdict, n_actions: int, findings: _Findings) -> None:
    log = batch.rows.log if verdict.good.all() else batch.rows.log.take(verdict.good)
    for day in np.unique(log.day).tolist():
        rows = log.day == day
        explored, production = findings.days.get(day, (0, 0))
        findings.days[day] = (explored + int((rows & log.explored).sum()), production + int((rows & log.produced).sum()))
    tally = Tally.of(log, n_actions)
    findings.tally = tally if findings.tally is None else findings.tally + tally


def _write(batch: Batch, verdict: Verdict, config: Config, *, quarantine: str | Where | None, clean: str | Where | None) -> None:
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
            write_part(folder, part.drop("__day").to_dict(), part=len(parquet_below(folder)))


def _refuse_used(target: Where, log: Where) -> None:
    if _resolved(target) == _resolved(log):
        raise ConfigError(f"{target} is the log itself", hint="name another folder for --quarantine and --clean")
    if parquet_below(target):
        raise ConfigError(f"{target} already holds Parquet files", hint="name an empty folder, so that no earlier rows mix in")


def _resolved(target: Where) -> Where:
    return target.resolve() if isinstance(target, Path) else target


def _conclude(findings: _Findings, config: Config, surface: Surface, *, labelled: bool, listed: bool, quarantined: int) -> LogCheck:
    tally, days = findings.tally, tuple(sorted(findings.days))
    unreadable = RuleResult(
        "readable",
        not findings.unreadable,
        "error",
        f"{len(findings.unreadable)} unreadable files",
        "none",
        "; ".join(findings.unreadable.values()),
        remedy="write the files again (to a temporary name, then rename), or move them out of the log",
    )
    labels = RuleResult(
        "label_mature",
        False,
        "warning",
        f"no column {config.logs.columns.label_age_h!r}",
        f">= {config.logs.reward_window_h:g} h, the reward window",
        remedy="log the hours between a request and the reading of its events, so that unripe rewards can be told",
    )
    whole = () if tally is None else whole_log_rules(tally, config, surface, has_candidates=listed)
    empty = tally is None or tally.rows == 0
    some = RuleResult(
        "rows", not empty, "error", f"{findings.good:,} good rows", "at least one", remedy="check the path and the rules above"
    )
    none = np.zeros(len(surface), dtype=np.int64)
    return LogCheck(
        rules=(unreadable, *_row_results(findings), *(() if labelled else (labels,)), some, *whole, *days_rules(days, config)),
        rows=findings.good + findings.bad,
        good=findings.good,
        bad=findings.bad,
        users=0 if tally is None else len(tally.users),
        days=days,
        explored_per_day=np.array([findings.days[day][0] for day in days], dtype=np.int64),
        production_per_day=np.array([findings.days[day][1] for day in days], dtype=np.int64),
        explored=0 if tally is None else tally.explored,
        production=0 if tally is None else tally.production,
        per_action=none if tally is None else tally.count,
        mean_weight=np.full(len(none), np.nan) if tally is None else mean_weights(tally),
        quarantined=quarantined,
    )


def _row_results(findings: _Findings) -> Iterator[RuleResult]:
    for name in dict.fromkeys(rule.name for rule in findings.rules.values()):
        rules = [rule for rule in findings.rules.values() if rule.name == name]
        broken = [rule for rule in rules if rule.label in findings.rows]
        places = [
            f"{file}: column {rule.column!r}, row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"
            for rule in broken
            for file, rows in findings.places[rule.label].items()
        ]
        yield RuleResult(
            name,
            not broken,
            "error",
            "; ".join(f"{findings.rows[rule.label]:,} rows in {rule.column}" for rule in broken) or "0 rows",
            "; ".join(dict.fromkeys(rule.expected for rule in (broken or rules))),
            "; ".join(places),
            sum(findings.rows[rule.label] for rule in broken),
            "; ".join(dict.fromkeys(rule.remedy for rule in (broken or rules))),
        )
