"""Whether the first rows of a log make sense; `paretune check` reads all of them. An edge: reads logs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from paretune.config import Config
from paretune.doctor.finding import OK, WARNING, WRONG, Finding, failed
from paretune.errors import LogError, ParetuneError
from paretune.logs.files import LogFile, log_files
from paretune.logs.layout import needed_columns
from paretune.logs.parquet import Wanted, batches, day_name, file_schema
from paretune.logs.rules import judge, row_rules

SAMPLE_ROWS = 1000  # of the first file and of the last
_DAY_S = 86_400
_CHECK = "`paretune check` looks at every row, names files and rows, and says what to do"


def log(path: Path, config: Config) -> list[Finding]:
    """Return how a log looks: its days and files, and the first rows of its first and last file.

    Args:
        path: see `paretune.logs.parquet.log_files`.
        config: what the log should hold.
    """
    try:
        files = log_files(path, config)
        found = list(_days(path, files, config))
        for file in dict.fromkeys((files[0], files[-1])):
            found.append(_first_rows(file, config))
    except ParetuneError as error:
        return [failed("log", str(path), error)]
    return found


def _days(path: Path, files: list[LogFile], config: Config) -> Iterator[Finding]:
    days = sorted({file.day for file in files if file.day is not None})
    if not days:
        yield Finding("log", str(path), OK, f"{len(files)} files, days by the rows")
        return
    said = f"{len(days)} days from {day_name(days[0])} to {day_name(days[-1])}, {len(files)} files"
    wanted = config.evaluation.train_days + config.evaluation.hold_out_days
    if days[-1] > time.time() // _DAY_S:
        yield Finding("log", str(path), WARNING, f"{said}: the last day has not begun", "days of logs are UTC's; see which clock named it")
    elif len(days) < wanted:
        hint = "collect more days, or lower evaluation.train_days and evaluation.hold_out_days in paretune.toml"
        yield Finding("log", str(path), WARNING, f"{said}; a sweep needs {wanted} days", hint)
    else:
        yield Finding("log", str(path), OK, said)


def _first_rows(file: LogFile, config: Config) -> Finding:
    schema, total = file_schema(file)
    names, surface = config.logs.columns, config.surface.build()
    wanted = Wanted(candidates=names.candidate_ids in schema and names.candidate_scores in schema, weights=True, labels=True)
    needed_columns(schema, config, source=str(file.path), candidates=wanted.candidates, labels=True)
    batch = next(batches(file, config, surface, wanted, batch_rows=SAMPLE_ROWS), None)
    name = Path(str(file.path)).name if file.day is None else f"{day_name(file.day)}/{file.path.name}"
    if batch is None:
        return failed("log", name, LogError("it has no rows", hint="leave empty files out of the log"))
    facts = batch.rows.facts
    broken = judge(facts, row_rules(config, surface, tuple(facts.columns))).broken
    if broken:
        rows = "; ".join(f"{label} on {int(mask.sum()):,}" for label, mask in broken.items())
        return Finding("log", name, WRONG, f"of the first {len(facts):,} rows, rules are broken: {rows}", _CHECK, LogError.exit_code)
    return Finding("log", name, OK, f"its first {len(facts):,} of {total:,} rows keep every rule")
