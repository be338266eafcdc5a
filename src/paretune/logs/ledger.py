"""The folder that a join writes: the log, what it holds back, what it rejected, and which files it has read.

An edge: files. Beside the day folders lies `_join/`: `state-G/` (held rows after run G), `rejected/`, `current.json`. The log's own
request ids are the ledger of what was written, so that ledger and log cannot disagree. The rule: a run happens or does not (staging.py);
readers never see half a file, nor a request twice.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import polars as pl

from paretune.config import Config
from paretune.errors import LogError
from paretune.logs import staging
from paretune.logs.decisions import conformed, decision_schema
from paretune.logs.files import has_days, log_files
from paretune.logs.join import EVENT_SCHEMA, REFUSED_SCHEMA, TAIL_SCHEMA, Held, Joined, list_schema
from paretune.logs.parquet import day_name, request_ids, write_part
from paretune.storage.place import Where

PLACE = "_join"
_DAY = "__day"


@dataclass(frozen=True, slots=True)
class Progressed:
    """What the folder knows between runs."""

    run: int  # of the last one; 0 = none
    lists: bool | None  # whether the log has candidate columns; None = nothing written yet
    read: frozenset[str]  # marks of the files that were read
    held: Held


@contextmanager
def opened(output: Path) -> Iterator[Path]:
    """Lock the folder, finish or remove what a killed run left, and give its `_join` folder.

    Raises:
        ConfigError: another join is writing here, or the folder cannot be made.
    """
    with staging.opened(output, PLACE, what="join") as place:
        yield place


def progress_of(place: Path, config: Config) -> Progressed:
    """Return what the last run left.

    Raises:
        LogError: the state cannot be read.
    """
    current = place / "current.json"
    if not current.exists():
        return Progressed(0, None, frozenset(), Held.nothing(config))
    try:
        told = json.loads(current.read_text(encoding="utf-8"))
        state = place / f"state-{told['run']}"
        schemas = (decision_schema(config), EVENT_SCHEMA, list_schema(config), TAIL_SCHEMA, REFUSED_SCHEMA)
        names = [field.name for field in fields(Held)]
        frames = [conformed(pl.read_parquet(state / name / "part-0.parquet"), schema) for name, schema in zip(names, schemas, strict=True)]
        return Progressed(told["run"], told["lists"], frozenset(told["read"]), Held(*frames))
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise LogError(
            f"the state of the join in {place} cannot be read: {error}",
            hint="restore it, or join all decisions and events into a new folder",
        ) from error


def written_ids(output: Where, config: Config, first_day: int | None, last_day: int | None) -> pl.Series:
    """Return the request ids that the log has on these days (since 1970-01-01, both included), as text."""
    ids = [pl.Series("request_id", [], dtype=pl.String)]
    if first_day is not None and last_day is not None and has_days(output, config):
        files = [file for file in log_files(output, config) if file.day is not None and first_day <= file.day <= last_day]
        ids += [request_ids(file, config).cast(pl.String).alias("request_id") for file in files]
    return pl.concat(ids)


def commit(output: Path, config: Config, before: Progressed, joined: Joined, *, read: frozenset[str]) -> int:
    """Make a run true and return the number of log files it wrote.

    Raises:
        LogError: the disk says no; the run did not happen.
    """
    place, names, run = output / PLACE, config.logs.columns, before.run + 1
    upcoming = place / staging.NEXT
    moves: list[tuple[str, str]] = []
    keep_lists = before.lists
    if keep_lists is None and len(joined.log):
        keep_lists = joined.log[names.candidate_ids].is_not_null().any()
    log = joined.log if keep_lists else joined.log.drop(names.candidate_ids, names.candidate_scores)
    try:
        dated = log.with_columns(pl.col(names.ts).dt.epoch("d").cast(pl.Int64).alias(_DAY))
        for (day,), rows in dated.group_by(_DAY, maintain_order=True):
            folder = f"{names.day}={day_name(int(str(day)))}"
            write_part(upcoming / "log" / folder, rows.drop(_DAY).to_dict(), part=run)
            moves.append((f"log/{folder}/part-{run}.parquet", f"{folder}/part-{run}.parquet"))
        for kind, frame in (("decisions", joined.rejected), ("events", joined.rejected_events)):
            if len(frame):
                write_part(upcoming / "rejected" / kind, frame.to_dict(), part=run)
                moves.append((f"rejected/{kind}/part-{run}.parquet", f"{PLACE}/rejected/{kind}/part-{run}.parquet"))
        for field in fields(Held):
            write_part(upcoming / "state" / field.name, getattr(joined.held, field.name).to_dict(), part=0)
        told = {"run": run, "lists": keep_lists, "read": sorted(before.read | read)}
        staging.write_json(upcoming / "current.json", told)
        staging.come_true(output, place, [*moves, ("state", f"{PLACE}/state-{run}"), ("current.json", f"{PLACE}/current.json")])
        _forget(place)
    except OSError as error:
        raise LogError(f"{output} cannot be written: {error}", hint="check the free space; the next run goes on from here") from error
    return len({target for _, target in moves if not target.startswith(f"{PLACE}/")})


def add_up(decisions: Counter[str], events: Counter[str]) -> bool:
    """Say whether every decision and every event of a run is accounted for."""
    ends = ("written", "waiting", "duplicate", "rejected")
    fates = ("counted", "pending", "duplicate", "outside", "closed", "orphan", "unknown", "rejected")
    return decisions["read"] + decisions["carried"] == sum(decisions[end] for end in ends) and events["read"] + events["carried"] == sum(
        events[fate] for fate in fates
    )


def _forget(place: Path) -> None:
    """Remove the states that a later run has replaced."""
    current = place / "current.json"
    if current.exists():
        kept = f"state-{json.loads(current.read_text(encoding='utf-8'))['run']}"
        for old in place.glob("state-*"):
            if old.name != kept:
                shutil.rmtree(old, ignore_errors=True)
