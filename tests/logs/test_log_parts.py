"""A log in parts: each row once, and what parts show adds up to what the log shows, in any order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretune.logs.findings import conclude, summed
from paretune.logs.inspection import check_log, check_part, claims, request_hashes, survey
from paretune.logs.parquet import read_log, write_day
from paretune.logs.parts import LogPart, file_parts, log_parts, scan_part
from paretune.logs.repeats import Claims, repeated
from paretune.records import Log


def in_parts(path, config, rng, *, rows):
    """Check a log part by part, every step in another random order, as processes that know nothing of each other would."""
    unreadable, whole = survey(path, config)
    parts = [part for large in whole for part in cut(large, rows)]

    def shuffled():
        return (parts[i] for i in rng.permutation(len(parts)))

    again = repeated((request_hashes(part, config) for part in shuffled()), rows=1)
    first = Claims.concat(claims(part, config, again) for part in shuffled()).first()
    found = summed([unreadable, *(check_part(part, config, first) for part in shuffled())])
    return conclude(found, config, config.surface.build())


def cut(part: LogPart, rows: int) -> list[LogPart]:
    return [LogPart(part.file, part.place, small.first, small.rows) for small in file_parts(part.file, part.place, part.rows, rows=rows)]


def test_every_row_is_in_one_part_and_large_files_are_cut(tmp_path, config, rows_of):
    for day, n in ((20_000, 70), (20_001, 25)):
        write_day(tmp_path, day, rows_of(n, seed=day))
    parts = log_parts(tmp_path, config, rows=30)
    assert [(part.place, part.first, part.rows) for part in parts] == [(0, 0, 23), (0, 23, 23), (0, 46, 24), (1, 0, 25)]
    assert log_parts(tmp_path, config, days=[20_001], rows=30) == parts[3:]
    whole = read_log(tmp_path, config, candidates=True)
    pieces = Log.concat([log for part in parts for log in scan_part(part, config, candidates=True)])
    np.testing.assert_array_equal(pieces.request, whole.request)
    np.testing.assert_array_equal(pieces.candidates.scores, whole.candidates.scores)
    explored = [log for part in parts for log in scan_part(part, config, days=[20_000], explored_only=True)]
    assert sum(map(len, explored)) == (whole.explored & (whole.day == 20_000)).sum()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_parts_in_any_order_give_the_check_of_the_whole_log(tmp_path_factory, config, rows_of, seed, rows):
    rng, path = np.random.default_rng(seed), tmp_path_factory.mktemp("log")
    for day in (20_000, 20_001):
        for part in range(2):
            columns = rows_of(40, seed=int(rng.integers(1_000)))
            columns["request_id"] = rng.integers(0, 120, 40)  # many ids twice and more
            columns["propensity"] = np.where(rng.random(40) < 0.2, -1.0, columns["propensity"])  # and the first of them often a bad row
            columns["saves"] = np.where(rng.random(40) < 0.1, np.nan, columns["saves"])
            write_day(path, day, columns, part=part)
    whole, parts = check_log(path, config), in_parts(path, config, rng, rows=rows)
    for name in ("rules", "rows", "good", "bad", "users", "days", "explored", "production"):
        assert getattr(parts, name) == getattr(whole, name), name
    for name in ("explored_per_day", "production_per_day", "per_action"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_allclose(parts.mean_weight, whole.mean_weight, rtol=1e-12)


def test_of_repeated_ids_the_first_good_row_counts_by_the_definition(tmp_path, config, rows_of):
    rng = np.random.default_rng(3)
    frames = []
    for day in (20_000, 20_001):
        columns = rows_of(60, seed=day)
        columns["request_id"] = rng.integers(0, 50, 60)
        columns["propensity"] = np.where(rng.random(60) < 0.3, 2.0, columns["propensity"])
        write_day(tmp_path, day, columns)
        frames.append(pl.DataFrame({"id": columns["request_id"], "good": columns["propensity"] <= 1}))
    rows, seen, kept = pl.concat(frames), set(), 0
    for row in rows.iter_rows(named=True):
        kept += row["good"] and row["id"] not in seen
        seen |= {row["id"]} if row["good"] else set()
    check = check_log(tmp_path, config)
    assert (check.good, check.bad) == (kept, 120 - kept)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), at_once=st.integers(1, 200), pieces=st.integers(1, 5))
def test_hashes_on_disk_repeat_as_those_in_memory_do(seed, at_once, pieces):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 150, dtype=np.uint64)[rng.integers(0, 150, 200)]
    hashes = np.concatenate([hashes, np.array([0, 0, 2**64 - 1, 2**64 - 1], np.uint64)])
    values, counts = np.unique(hashes, return_counts=True)
    found = repeated(np.array_split(hashes, pieces), rows=len(hashes), at_once=at_once)
    np.testing.assert_array_equal(found, values[counts > 1])


@pytest.mark.parametrize("parts", range(9))
def test_parts_are_summed_each_once_and_in_their_order(tmp_path, config, rows_of, parts):
    write_day(tmp_path, 20_000, rows_of(45, seed=1))
    found = [check_part(part, config, Claims.concat([])) for part in log_parts(tmp_path, config, rows=5)[:parts]]
    total = summed(iter(found))
    assert total.good == 5 * parts
    assert (total.tally is None) == (parts == 0)
    assert total.tally is None or total.tally.rows == 5 * parts
