"""A join that writes to object storage: true or not at all, whatever breaks and whoever else joins."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from spooled import CONFIG, START_US, pair, write_spool

from paretune.errors import ConflictError, LogError, UnreachableError
from paretune.logs import bucket_ledger
from paretune.logs.files import log_files
from paretune.logs.intake import JoinReport, join_files
from paretune.logs.join import HOUR_US
from paretune.storage.objects import listed, read_bytes, scanned, write
from paretune.storage.place import Place

LATER = START_US + 100 * HOUR_US
SPLIT_US = START_US + 40 * HOUR_US
CHANGES = ("write", "write_over", "copied", "removed")
STEPS = ("listed", "read_bytes", "read_seen", "looked_up", *CHANGES)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_spool(folder / "spool", [pair(i, time_us=START_US + i * HOUR_US) for i in range(60)])
    (folder / "events").mkdir()
    events = [{"request_id": f"r{i}", "event": "save", "ts": START_US + (i + 1) * HOUR_US} for i in range(0, 60, 3)]
    (folder / "events" / "0.ndjson").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    return folder


@pytest.fixture
def output() -> Place:
    return Place("memory", uuid.uuid4().hex, "logs")


def join_to(output: Place, given: Path, *, now_us: int = LATER) -> JoinReport:
    report = join_files(given / "spool", given / "events", output, CONFIG, now_us=now_us)
    assert report.adds_up
    return report


def rows(output: Place) -> list[tuple[Any, ...]]:
    """What a reader of the log sees."""
    try:
        files = log_files(output, CONFIG)
    except LogError:
        return []
    parts = [scanned(file.path).collect() for file in files]
    return sorted(pl.concat(parts).select("request_id", "saves", "reason", "session").rows())


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, *, gone: int = -1, after: bool = False) -> Iterator[list[str]]:
    """Note what is asked of the storage, and let it be gone from a question on; with `after`, that one is still carried out, unanswered."""
    asked: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **how: Any) -> Any:
            asked.append(name)
            here = len(asked) - 1
            if here == gone and after:
                real(*args, **how)
            if 0 <= gone <= here:
                raise UnreachableError(f"{name} is gone", hint="wait")
            return real(*args, **how)

        return call

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(bucket_ledger, name, wrapped(name, getattr(bucket_ledger, name)))
        yield asked


def copy_of(place: Place) -> Place:
    copy = Place("memory", uuid.uuid4().hex, "logs")
    for item in listed(place):
        write(copy / "/".join(item.place.below(place)), read_bytes(item.place))
    return copy


def test_a_join_that_breaks_at_any_step_is_finished_or_undone_by_the_next(
    given: Path, output: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody cuts this machine's power
    join_to(output, given, now_us=SPLIT_US)
    first, whole = rows(output), copy_of(output)
    with watched(monkeypatch) as asked:
        join_to(whole, given)
    both = rows(whole)
    assert len(both) == 60 > len(first) > 0
    told: set[str] = set()
    runs = [list(run) for _, run in groupby(range(len(asked)), key=asked.__getitem__)]  # of the same question, one after the other
    steps = sorted({step for run in runs for step in (run[0], run[-1])})
    for gone, after in product(steps, (False, True)):
        if after and asked[gone] not in CHANGES:
            continue
        broken = copy_of(output)
        with watched(monkeypatch, gone=gone, after=after), pytest.raises(UnreachableError) as error:
            join_to(broken, given)
        told.add(str(error.value).splitlines()[0].rpartition("; ")[2])
        seen = rows(broken)
        assert len(seen) == len(set(seen))
        assert set(first) <= set(seen) <= set(both)  # no row twice, none changed, none lost
        join_to(broken, given)
        assert rows(broken) == both
        kinds = Counter(item.place.below(broken / "_join")[0].partition("-")[0] for item in listed(broken / "_join"))
        assert kinds == {"current.json": 1, "state": 5}  # of the last run; nothing staged is left
    assert {
        "nothing of this join happened",
        "whether this join happened is not known",
        "the join happened, and the next one finishes it",
    } <= told


def test_of_two_joins_at_once_one_happens_and_the_other_says_so(given: Path, output: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bucket_ledger.write_over

    def beaten(*args: Any, **how: Any) -> None:
        monkeypatch.setattr(bucket_ledger, "write_over", real)
        join_to(output, given, now_us=SPLIT_US)  # the other, faster one
        real(*args, **how)

    monkeypatch.setattr(bucket_ledger, "write_over", beaten)
    with pytest.raises(ConflictError, match="nothing of this one happened"):
        join_to(output, given)
    assert 0 < len(rows(output)) < 60
    left = 60 - len(rows(output))
    assert join_to(output, given).decisions["written"] == left
    assert len(rows(output)) == 60
    assert [item for item in listed(output) if "/next-" in item.place.key] == []


def test_a_join_that_began_later_is_left_alone_by_one_that_finishes(given: Path, output: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    join_to(output, given, now_us=SPLIT_US)
    later = output / "_join" / "next-2-of-somebody-else" / "day=2026-02-18" / "part-2.parquet"
    write(later, b"being sent")
    bucket_ledger._finish(output, bucket_ledger._current(output) or pytest.fail("no run"))
    assert read_bytes(later) == b"being sent"
    join_to(output, given)  # becomes run 2, so that the other cannot
    assert later not in [item.place for item in listed(output)]


def test_a_log_that_was_joined_on_disk_and_copied_to_a_bucket_goes_on_there(given: Path, output: Place, tmp_path: Path) -> None:
    join_files(given / "spool", given / "events", tmp_path / "logs", CONFIG, now_us=SPLIT_US)
    for file in (tmp_path / "logs").rglob("*"):
        if file.is_file():
            write(output / file.relative_to(tmp_path / "logs").as_posix(), file)
    # the marks of read files name paths, which are the same; requests that were written are known from the log itself
    report = join_to(output, given)
    assert len(rows(output)) == 60
    assert report.decisions.get("duplicate", 0) == 0


def test_a_state_that_cannot_be_read_is_named(given: Path, output: Place) -> None:
    write(output / "_join" / "current.json", b"{")
    with pytest.raises(LogError, match=r"current\.json cannot be read"):
        join_to(output, given)
