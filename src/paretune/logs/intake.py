"""Files of decisions and events, read into the columns that the join takes; and a whole run from files to files.

An edge: files, the clock. The rules: a file is read once (name, size and time of change are remembered); a file that cannot be read stops
the run with its name, and nothing of the run happened; lists come as lists or as binary cells, and those that do not fit are left out.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import LogError
from paretune.logs import decode
from paretune.logs.bucket_ledger import checked_out
from paretune.logs.decisions import conformed, decision_schema
from paretune.logs.join import EVENT_SCHEMA, Clock, join, list_schema
from paretune.logs.ledger import add_up, commit, opened, progress_of, written_ids
from paretune.logs.parquet import ragged_binary
from paretune.logs.schema import IDS_DTYPE, PER_ITEM
from paretune.storage.objects import listed, read_bytes
from paretune.storage.place import Place, Where

LISTS = "candidates"  # name of the event that brings lists
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What a run did."""

    decisions: dict[str, int]
    events: dict[str, int]
    lists_left_out: int  # ids and scores that do not fit together
    files: int  # of the log, written
    adds_up: bool


def join_files(
    decisions: Where | pl.DataFrame,
    events: Where,
    output: Where,
    config: Config,
    *,
    now_us: int | None = None,
    settle_h: float = 1.0,
    immature: bool = False,
) -> JoinReport:
    """Join what is new in two folders into a log folder, all of it or nothing, and return what became of it.

    Args:
        decisions: folder of a spool, or decisions read elsewhere.
        events: folder of Parquet or NDJSON files: request_id, event, ts, and optionally item, count, event_id; an event named
            `candidates` brings candidate_ids, candidate_scores, served_ids, served_scores.
        output: folder of the log.
        config: names, objectives, reward window.
        now_us: time of the run, microseconds since 1970; None = now.
        settle_h: hours after the reward window before a row is written.
        immature: write unripe rows too.

    Raises:
        LogError: a file cannot be read or written.
        ConfigError: another join is writing there.
        ConflictError: another join wrote to object storage meanwhile.
        UnreachableError: the storage does not answer.
    """
    with checked_out(output) as folder, opened(folder) as place:
        before = progress_of(place, config)
        asked, marks = ([], frozenset()) if isinstance(decisions, pl.DataFrame) else _new_files(decisions, ("*.parquet",), before.read)
        told, event_marks = _new_files(events, ("**/*.parquet", "**/*.ndjson", "**/*.jsonl"), before.read)
        schema = decision_schema(config)
        served = (
            [conformed(decisions, schema)] if isinstance(decisions, pl.DataFrame) else [conformed(_read(file), schema) for file in asked]
        )
        frame = pl.concat([pl.DataFrame(schema=schema), *served])
        happened, lists, left_out = _events([_read(file) for file in told], config)
        clock = Clock(time.time_ns() // 1000 if now_us is None else now_us, settle_h, immature)
        days = pl.concat([frame[config.logs.columns.ts], happened["ts"], before.held.events["ts"]]).drop_nulls().dt.epoch("us") // _DAY_US
        reach = int(np.ceil(config.logs.reward_window_h / 24)) + 2
        first, last = (None, None) if days.is_empty() else (int(days.to_numpy().min()) - reach, int(days.to_numpy().max()) + 1)
        written = written_ids(output, config, first, last)
        joined = join(frame, happened, lists, before.held, written=written, config=config, clock=clock)
        files = commit(folder, config, before, joined, read=marks | event_marks)
    return JoinReport(_told(joined.decisions), _told(joined.events), left_out, files, add_up(joined.decisions, joined.events))


def _new_files(folder: Where, patterns: Sequence[str], read: frozenset[str]) -> tuple[list[Where], frozenset[str]]:
    marks = _marks(folder, patterns) if isinstance(folder, Path) else _object_marks(folder, patterns)
    new = [file for file in marks if marks[file] not in read]
    return new, frozenset(marks[file] for file in new)


def _marks(folder: Path, patterns: Sequence[str]) -> dict[Where, str]:
    """Return the files of a folder, sorted, each with what says whether it was read."""
    if not folder.is_dir():
        raise LogError(f"no folder at {folder}", hint="name the folder that the spool, or the tracker, writes its files to")
    there = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    found = sorted(file for file in there if not file.name.startswith((".", "_")))
    return {file: f"{file.absolute()}|{(stat := file.stat()).st_size}|{stat.st_mtime_ns}" for file in found}


def _object_marks(folder: Place, patterns: Sequence[str]) -> dict[Where, str]:
    """Do the same on object storage, where an empty folder is none: a wrong name would look like users who did nothing."""
    there = listed(folder)
    if not there:
        raise LogError(f"there is nothing at {folder}", hint="check the name; where nothing happened yet, put an empty object there")
    found = [item for item in there if not item.place.name.startswith((".", "_"))]
    wanted = [item for item in found if any(_fits(item.place.below(folder), pattern) for pattern in patterns)]
    return {item.place: f"{item.place}|{item.size}|{item.tag}" for item in wanted}


def _fits(parts: Sequence[str], pattern: str) -> bool:
    deep, _, ending = pattern.rpartition("*")
    return parts[-1].endswith(ending) and (len(parts) == 1 or bool(deep))


def _read(file: Where) -> pl.DataFrame:
    try:
        source: Path | io.BytesIO
        if isinstance(file, Path):
            source, size = file, file.stat().st_size
        else:
            content = read_bytes(file)
            source, size = io.BytesIO(content), len(content)
        if file.name.endswith(".parquet"):
            return pl.read_parquet(source, glob=False, hive_partitioning=False)
        return pl.read_ndjson(source, infer_schema_length=None) if size else pl.DataFrame()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LogError(f"{file} cannot be read: {reason}", hint="write it whole (temporary name, then rename), or move it away") from error


def _events(frames: list[pl.DataFrame], config: Config) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    schema, names = list_schema(config), config.logs.columns
    happened, lists, left_out = [pl.DataFrame(schema=EVENT_SCHEMA)], [pl.DataFrame(schema=schema)], 0
    for frame in frames:
        plain = conformed(frame, EVENT_SCHEMA)
        brings = (plain["event"] == LISTS).fill_null(False)
        happened.append(plain.filter(~brings))
        part = frame.filter(brings)
        if not len(part):
            continue
        dtype = "<f2" if config.logs.candidate_scores_dtype == "float16" else "<f4"
        heads = len(config.surface.heads)
        pairs = ((names.candidate_ids, names.candidate_scores), (PER_ITEM[0], names.served_scores))
        columns: dict[str, pl.Series] = {"request_id": conformed(part, EVENT_SCHEMA)["request_id"]}
        for ids, scores in pairs:
            known, n_known, items = _cells(part, ids, IDS_DTYPE, 1)
            scored, n_scored, finite = _cells(part, scores, dtype, heads)
            fits = items & finite & ((n_known == n_scored) | (n_scored == 0))
            left_out += int((~fits).sum())
            keep = pl.Series(fits)
            columns[ids] = known.zip_with(keep & pl.Series(n_known > 0), pl.Series([None] * len(part), dtype=pl.Binary))
            columns[scores] = scored.zip_with(keep & pl.Series(n_scored > 0), pl.Series([None] * len(part), dtype=pl.Binary))
        lists.append(conformed(pl.DataFrame(columns), schema).filter(pl.col("request_id").is_not_null()))
    return pl.concat(happened), pl.concat(lists), left_out


def _cells(frame: pl.DataFrame, name: str, dtype: str, stride: int) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Return binary cells of a column of lists, the number of items in each, and which are whole and finite."""
    n = len(frame)
    if name not in frame or frame.schema[name] == pl.Null:
        return pl.Series([None] * n, dtype=pl.Binary), np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.bool_)
    offsets, flat, whole = decode.ragged(frame[name], dtype, stride=stride)
    flat = np.asarray(flat).astype(dtype)
    lengths = np.diff(offsets)
    strange = np.repeat(np.arange(n), lengths)[~np.isfinite(flat.astype(np.float64))]
    whole = whole.copy()
    whole[strange] = False
    return ragged_binary(flat, offsets), lengths // stride, whole


def _told(tally: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in sorted(tally.items()) if count}
