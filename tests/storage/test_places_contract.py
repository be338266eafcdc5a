"""What every place keeps: a folder on disk, a store in memory, and a bucket of a real S3 server.

What was written is read back, whole or not at all; only the rows and columns asked for; of two who write over the same, one succeeds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from spooled import CONFIG, START_US, pair, write_spool

from paretune.errors import ConflictError, LogError
from paretune.logs.files import log_files
from paretune.logs.inspection import check_log
from paretune.logs.intake import join_files
from paretune.logs.join import HOUR_US
from paretune.logs.parquet import log_days, read_log, write_part
from paretune.run import files_taught
from paretune.storage.objects import copied, listed, looked_up, parquet_below, read_bytes, read_seen, removed, scanned, write, write_over
from paretune.storage.place import Place, Where

LATER = START_US + 100 * HOUR_US


def put(where: Where, content: bytes) -> None:
    if isinstance(where, Place):
        write(where, content)
    else:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content)


def joined(tmp_path: Path, output: Where, **how: Any) -> None:
    if not (tmp_path / "spool").exists():
        write_spool(tmp_path / "spool", [pair(i, time_us=START_US + i * HOUR_US) for i in range(60)])
        (tmp_path / "events").mkdir()
        events = [{"request_id": f"r{i}", "event": "save", "ts": START_US + (i + 1) * HOUR_US} for i in range(0, 60, 3)]
        (tmp_path / "events" / "0.ndjson").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    join_files(tmp_path / "spool", tmp_path / "events", output, CONFIG, **{"now_us": LATER, **how})


def test_a_part_is_read_back_as_it_was_written_and_only_what_is_asked_for(folder: Where) -> None:
    frame = pl.DataFrame({"a": range(200_000), "text": ["x" * (i % 7) for i in range(200_000)]})
    path = write_part(folder, frame.to_dict(), part=3)
    assert path == folder / "part-3.parquet"
    assert scanned(path).collect().equals(frame)
    some = scanned(path).with_row_index("i").slice(150_000, 3).select("i", "a").collect()
    assert some.rows() == [(150_000, 150_000), (150_001, 150_001), (150_002, 150_002)]
    write_part(folder, {"a": [1]}, part=3)  # in place of the other
    assert scanned(path).collect().rows() == [(1,)]
    assert parquet_below(folder) == [path]


def test_bytes_are_read_back_and_missing_files_and_folders_are_told(folder: Where) -> None:
    put(folder / "a b%41" / "ä#1.bin", b"\x00content")
    assert read_bytes(folder / "a b%41" / "ä#1.bin") == b"\x00content"
    with pytest.raises((LogError, FileNotFoundError)):
        read_bytes(folder / "missing")
    assert parquet_below(folder / "nothing") == []
    with pytest.raises(LogError):
        log_files(folder / "nothing", CONFIG)


def test_the_files_of_a_log_are_those_of_its_folder_and_its_day_folders(folder: Where) -> None:
    days = ("day=2026-02-15", "day=2026-02-16")
    for name in (
        *(f"{day}/part-0.parquet" for day in days),
        f"{days[0]}/.hidden.parquet",
        f"{days[0]}/_note.parquet",
        f"{days[0]}/notes.txt",
    ):
        put(folder / name, b"x")
    put(folder / "_join/rejected/part-1.parquet", b"x")
    put(folder / "loose.parquet", b"x")
    found = log_files(folder, CONFIG)
    assert [(file.path, file.day) for file in found] == [
        (folder / days[0] / "part-0.parquet", 20_499),
        (folder / days[1] / "part-0.parquet", 20_500),
        (folder / "loose.parquet", None),
    ]
    assert [(file.path, file.day) for file in log_files(folder / days[1] / "part-0.parquet", CONFIG)] == [(found[1].path, 20_500)]
    assert [file.day for file in log_files(folder / days[1], CONFIG)] == [20_500]
    put(folder / days[0] / "hour=1" / "a.parquet", b"x")
    with pytest.raises(LogError, match="deeper"):
        log_files(folder, CONFIG)


def test_a_file_that_changed_has_another_stamp(folder: Where) -> None:
    write_part(folder / "day=2026-02-16", {"a": [1]}, part=0)
    before = files_taught(folder, CONFIG, (20_500,))
    assert files_taught(folder, CONFIG, (20_500,)) == before
    write_part(folder / "day=2026-02-16", {"a": [2]}, part=0)
    assert files_taught(folder, CONFIG, (20_500,)) != before


def test_a_file_that_is_no_parquet_is_named_and_does_not_stop_the_check(folder: Where, tmp_path: Path) -> None:
    joined(tmp_path, folder)
    put(folder / "day=2026-02-17" / "part-9.parquet", b"no parquet at all, as everybody can see")
    check = check_log(folder, CONFIG)
    unreadable = next(rule for rule in check.rules if rule.name == "readable")
    assert not unreadable.ok
    assert f"{folder / 'day=2026-02-17' / 'part-9.parquet'}" in unreadable.where
    assert check.good == 60
    with pytest.raises(LogError, match="cannot be read as Parquet"):
        read_log(folder, CONFIG)


def test_a_joined_log_is_the_same_everywhere_and_joining_again_adds_nothing(folder: Where, tmp_path: Path) -> None:
    joined(tmp_path, folder, now_us=START_US + 40 * HOUR_US)  # only some rows are ripe
    some = len(read_log(folder, CONFIG))
    assert 0 < some < 60
    joined(tmp_path, folder)
    for now_us in (START_US + 40 * HOUR_US, LATER):
        joined(tmp_path, tmp_path / "other", now_us=now_us)
    assert parquet_log(folder).equals(parquet_log(tmp_path / "other"))
    before = sorted(map(str, parquet_below(folder)))
    joined(tmp_path, folder)
    assert len(read_log(folder, CONFIG)) == 60
    assert [name for name in sorted(map(str, parquet_below(folder))) if "_join" not in name] == [
        name for name in before if "_join" not in name
    ]
    assert log_days(folder, CONFIG) == [20_500, 20_501, 20_502]


def test_spool_and_events_are_read_from_everywhere_and_once(folder: Where, tmp_path: Path) -> None:
    joined(tmp_path, tmp_path / "other")
    for kind in ("spool", "events"):
        for file in (tmp_path / kind).iterdir():
            if not file.name.startswith((".", "_")) and file.is_file():
                put(folder / kind / file.name, file.read_bytes())
    put(folder / "events" / "deeper" / "1.jsonl", b"")
    first = join_files(folder / "spool", folder / "events", folder / "logs", CONFIG, now_us=LATER)
    assert first.adds_up
    assert first.decisions["written"] == 60
    assert parquet_log(folder / "logs").equals(parquet_log(tmp_path / "other"))
    again = join_files(folder / "spool", folder / "events", folder / "logs", CONFIG, now_us=LATER)
    assert "read" not in again.decisions
    with pytest.raises(LogError):  # a wrong name is no silence
        join_files(folder / "spool", folder / "evnets", folder / "logs", CONFIG, now_us=LATER)


def test_bad_rows_and_good_rows_are_parted_between_places(folder: Where, tmp_path: Path) -> None:
    joined(tmp_path, folder / "logs")
    bad = next(iter(log_files(folder / "logs", CONFIG)))
    write_part(bad.path.parent, scanned(bad.path).collect().with_columns(propensity=pl.lit(7.0)).to_dict(), part=1)
    found = check_log(folder / "logs", CONFIG, quarantine=folder / "bad", clean=folder / "good")
    assert found.bad
    assert sum(scanned(file).collect().height for file in parquet_below(folder / "bad")) == found.bad == found.quarantined
    assert check_log(folder / "good", CONFIG).bad == 0
    assert len(read_log(folder / "good", CONFIG)) == found.good


def parquet_log(folder: Where) -> pl.DataFrame:
    return pl.concat([scanned(file.path).collect() for file in log_files(folder, CONFIG)]).sort("request_id")


def test_objects_are_listed_copied_and_removed(place: Place) -> None:
    for name in ("b/2", "a", "b/1"):
        write(place / name, name.encode())
    assert [(item.place, item.size) for item in listed(place)] == [(place / "a", 1), (place / "b/1", 3), (place / "b/2", 3)]
    assert [item.place for item in listed(place / "b")] == [place / "b/1", place / "b/2"]
    assert listed(place / "bb") == []
    copied(place / "a", place / "c")
    removed([place / "a", place / "nothing", place / "b/1"])
    assert [item.place for item in listed(place)] == [place / "b/2", place / "c"]
    assert looked_up(place / "a") is None
    assert read_bytes(place / "c") == b"a"


def test_a_large_file_is_sent_in_parts_and_is_whole(place: Place, tmp_path: Path) -> None:
    content = bytes(range(256)) * (35 << 12)  # 35 MiB: three parts
    (tmp_path / "large").write_bytes(content)
    write(place / "large", tmp_path / "large")
    assert read_bytes(place / "large") == content


def test_of_two_who_write_over_the_same_object_one_succeeds(place: Place) -> None:
    write_over(place, b"1", seen=None)
    with pytest.raises(ConflictError):
        write_over(place, b"2", seen=None)
    content, seen = read_seen(place) or (b"", None)
    assert content == b"1"
    write_over(place, b"3", seen=seen)
    with pytest.raises(ConflictError):
        write_over(place, b"4", seen=seen)
    assert read_bytes(place) == b"3"
