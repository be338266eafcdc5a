"""The folder that a join writes: the log, what it holds back, what it rejected, and which files it has read.

An edge: files. Beside the day folders lies `_join/`: `state-G/` (held rows after run G), `rejected/`, `current.json`. The log's own
request ids are the ledger of what was written, so that ledger and log cannot disagree. The rule: a run is prepared in `_join/next/`,
becomes true by the renaming of one file, `commit.json`, and is then moved into place; whoever opens the folder after a kill finishes a run
that became true and removes one that did not. Readers never see half a file, nor a request twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError, LogError
from paretune.logs.decisions import conformed, decision_schema
from paretune.logs.files import has_days, log_files
from paretune.logs.join import EVENT_SCHEMA, REFUSED_SCHEMA, TAIL_SCHEMA, Held, Joined, list_schema
from paretune.logs.parquet import day_name, request_ids, write_part
from paretune.storage.place import Where

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
    place = output / "_join"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"no log can be written to {output}: {error}", hint="name a folder that may be written") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another join is writing to {output}", hint="wait for it, or name another --output") from None
        _finish(output)
        yield place
    finally:
        os.close(lock)


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
    place, names, run = output / "_join", config.logs.columns, before.run + 1
    upcoming = place / "next"
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
                moves.append((f"rejected/{kind}/part-{run}.parquet", f"_join/rejected/{kind}/part-{run}.parquet"))
        for field in fields(Held):
            write_part(upcoming / "state" / field.name, getattr(joined.held, field.name).to_dict(), part=0)
        told = {"run": run, "lists": keep_lists, "read": sorted(before.read | read)}
        _write_json(upcoming / "current.json", told)
        _write_json(upcoming / "commit.json", {"run": run, "moves": moves})
        _finish(output)
    except OSError as error:
        raise LogError(f"{output} cannot be written: {error}", hint="check the free space; the next run goes on from here") from error
    return len({target for _, target in moves if not target.startswith("_join/")})


def add_up(decisions: Counter[str], events: Counter[str]) -> bool:
    """Say whether every decision and every event of a run is accounted for."""
    ends = ("written", "waiting", "duplicate", "rejected")
    fates = ("counted", "pending", "duplicate", "outside", "closed", "orphan", "unknown", "rejected")
    return decisions["read"] + decisions["carried"] == sum(decisions[end] for end in ends) and events["read"] + events["carried"] == sum(
        events[fate] for fate in fates
    )


def _finish(output: Path) -> None:
    """Move a run that became true into place; remove one that did not. Every step may be done twice."""
    place = output / "_join"
    upcoming = place / "next"
    if not (upcoming / "commit.json").exists():
        shutil.rmtree(upcoming, ignore_errors=True)
        return
    told = json.loads((upcoming / "commit.json").read_text(encoding="utf-8"))
    for source, target in [*told["moves"], ("state", f"_join/state-{told['run']}"), ("current.json", "_join/current.json")]:
        if (upcoming / source).exists():
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            (upcoming / source).rename(output / target)
            _sync((output / target).parent)
    (upcoming / "commit.json").unlink()
    _sync(upcoming)
    shutil.rmtree(upcoming, ignore_errors=True)
    for old in place.glob("state-*"):
        if old.name != f"state-{told['run']}":
            shutil.rmtree(old, ignore_errors=True)


def _write_json(path: Path, value: object) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
