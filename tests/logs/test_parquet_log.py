from __future__ import annotations

from dataclasses import fields

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretune.config import Config
from paretune.errors import DataError, LogError
from paretune.logs.parquet import binary, log_days, ragged_binary, read_log, scan_log, write_day
from paretune.records import Candidates, Categorical, Log, State

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def words(column: Categorical) -> list[str | None]:
    return [None if code < 0 else column.vocabulary[code] for code in column.codes]


def flat(record: object) -> dict[str, np.ndarray]:
    """Return every array of a log by its path; categoricals as words, so that vocabularies may differ."""
    found = {}
    for field in fields(record):
        value = getattr(record, field.name)
        for name, part in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(part, Categorical):
                found[field.name + name] = np.array(words(part), dtype=object)
            elif isinstance(part, State | Candidates):
                found |= {f"{field.name}.{key}": inner for key, inner in flat(part).items()}
            elif part is not None:
                found[field.name + name] = np.asarray(part)
    return found


def assert_same(a: Log, b: Log) -> None:
    left, right = flat(a), flat(b)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@FEW
@given(n=st.integers(1, 60), seed=st.integers(0, 999), lists=st.booleans())
def test_what_is_written_is_what_is_read(tmp_path_factory, config, rows_of, n, seed, lists):
    folder = tmp_path_factory.mktemp("log")
    columns = rows_of(n, seed, lists=lists)
    write_day(folder, 20_000, columns)
    log = read_log(folder, config, candidates=True)
    raw = rows_of(n, seed)  # binary cells, decoded here by hand
    assert (log.day == 20_000).all()
    assert (log.action == columns["action"]).all()
    assert (log.propensity == columns["propensity"]).all()
    assert (log.explored == (columns["reason"] == "EXPLORE")).all()
    assert words(log.cohort) == columns["cohort"].tolist()
    assert words(log.state.categorical["device"]) == columns["device"].tolist()
    np.testing.assert_array_equal(log.rewards[:, 0], np.minimum(columns["saves"], 1))
    np.testing.assert_allclose(log.rewards[:, 1], np.log1p(columns["p2ps"]), rtol=1e-6)
    np.testing.assert_array_equal(log.state.numeric["age"], columns["age"].astype(np.float32))
    np.testing.assert_array_equal(log.state.embedding["emb"], np.frombuffer(b"".join(raw["emb"]), "<f2").reshape(n, 4))
    np.testing.assert_array_equal(log.state.sequence["seq"], np.frombuffer(b"".join(raw["seq"]), "<i2").reshape(n, 5))
    np.testing.assert_array_equal(log.candidates.ids, np.frombuffer(b"".join(raw["candidate_ids"]), "<i4"))
    np.testing.assert_array_equal(log.candidates.scores.ravel(), np.frombuffer(b"".join(raw["candidate_scores"]), "<f2"))
    assert len(np.unique(log.request)) == n
    assert len(np.unique(log.user)) == len(np.unique(columns["user"]))


def test_binary_and_list_columns_read_the_same(tmp_path, config, rows_of):
    write_day(tmp_path / "binary", 20_000, rows_of(50, 3))
    write_day(tmp_path / "lists", 20_000, rows_of(50, 3, lists=True))
    assert_same(read_log(tmp_path / "binary", config, candidates=True), read_log(tmp_path / "lists", config, candidates=True))


def test_day_folders_a_flat_folder_and_one_file_read_the_same(tmp_path, config, rows_of):
    frames = []
    for day in range(3):
        columns = rows_of(20, day)
        columns["ts"] = np.datetime64("2026-01-01T12:00:00", "us") + np.timedelta64(day, "D") + np.arange(20).astype("timedelta64[s]")
        write_day(tmp_path / "days", 20_454 + day, columns)
        frames.append(pl.DataFrame(columns))
    (tmp_path / "flat").mkdir()
    for day, frame in enumerate(frames):
        frame.write_parquet(tmp_path / "flat" / f"{day}.parquet")
    pl.concat(frames).sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "one.parquet")
    by_day = read_log(tmp_path / "days", config)
    assert_same(by_day, read_log(tmp_path / "flat", config))
    one = read_log(tmp_path / "one.parquet", config)
    assert_same(by_day.take(np.argsort(by_day.request)), one.take(np.argsort(one.request)))
    for path in ("days", "flat", "one.parquet"):
        assert log_days(tmp_path / path, config) == [20_454, 20_455, 20_456]
        assert set(read_log(tmp_path / path, config, days=[20_455]).day.tolist()) == {20_455}


@settings(FEW, max_examples=6)
@given(batch_rows=st.integers(1, 40))
def test_batches_of_any_size_add_up_to_the_log(tmp_path_factory, config, rows_of, batch_rows):
    folder = tmp_path_factory.mktemp("log")
    for day in range(2):
        write_day(folder, 20_000 + day, rows_of(30, day))
    parts = list(scan_log(folder, config, candidates=True, batch_rows=batch_rows))
    assert max(len(part) for part in parts) <= batch_rows
    assert all(len(np.unique(part.day)) == 1 for part in parts)
    assert_same(Log.concat(parts), read_log(folder, config, candidates=True))


def test_exploration_rows_can_be_read_alone(tmp_path, config, rows_of):
    write_day(tmp_path, 20_000, rows_of(80))
    everything = read_log(tmp_path, config)
    assert_same(read_log(tmp_path, config, explored_only=True), everything.take(everything.explored))


def test_a_log_needs_no_session_no_cohort_and_no_action(tmp_path, config, rows_of):
    columns = rows_of(40)
    write_day(tmp_path / "full", 20_000, columns)
    write_day(tmp_path / "bare", 20_000, {k: v for k, v in columns.items() if k not in {"session", "cohort", "action", "ts"}})
    log = read_log(tmp_path / "bare", config)
    assert (log.session == log.request).all()
    assert words(log.cohort) == ["ALL"] * 40
    assert (log.action == read_log(tmp_path / "full", config).action).all()


def test_the_action_column_is_trusted_and_its_nulls_come_from_the_weights(tmp_path, config, surface, rows_of):
    columns = rows_of(6)
    weights = surface.actions[[1, 2, 3, 4, 5, 6]]
    weights[5] += 1
    columns |= {"weights": binary(weights.astype(np.float32)), "action": pl.Series([7, None, 3, None, 5, None], dtype=pl.Int32)}
    write_day(tmp_path, 20_000, columns)
    assert read_log(tmp_path, config).action.tolist() == [7, 2, 3, 4, 5, -1]


def test_an_explored_draw_of_the_production_weights_keeps_its_grid_action(tmp_path, config, rows_of):
    raw = config.model_dump()
    raw["surface"]["heads"][0]["weight"] = 105.0
    raw["surface"]["heads"][1]["weight"] = 15.5  # the middle of the 3 x 3 grid
    twin = Config.model_validate(raw)
    columns = rows_of(2) | {"reason": ["EXPLORE", "STATIC"]}
    columns["weights"] = binary(np.tile(twin.surface.build().static, (2, 1)).astype(np.float32))
    write_day(tmp_path, 20_000, {k: v for k, v in columns.items() if k != "action"})
    assert read_log(tmp_path, twin).action.tolist() == [5, 0]


def test_a_policys_choice_of_production_and_a_fallback_are_no_production_rows(tmp_path, config, rows_of):
    columns = rows_of(5) | {"reason": ["STATIC", "POLICY", "FALLBACK(timeout)", "FALLBACK", "EXPLORE"]}
    columns |= {"action": np.array([0, 0, 0, 0, 3]), "weights": pl.Series([None] * 5, dtype=pl.Binary)}
    write_day(tmp_path, 20_000, columns)
    log = read_log(tmp_path, config)
    assert log.produced.tolist() == [True, False, False, False, False]
    assert log.explored.tolist() == [False, False, False, False, True]
    assert len(log) == 5


def test_columns_are_found_under_the_names_of_the_configuration(tmp_path, config, rows_of):
    raw = config.model_dump()
    raw["logs"]["columns"] |= {"request_id": "rid", "propensity": "mu", "candidate_ids": "items", "day": "dt"}
    renamed = Config.model_validate(raw)
    new = {"request_id": "rid", "propensity": "mu", "candidate_ids": "items"}
    path = write_day(tmp_path / "log", 20_000, {new.get(k, k): v for k, v in rows_of(10).items()})
    path.parent.rename(tmp_path / "log" / "dt=2024-10-04")
    write_day(tmp_path / "plain", 20_000, rows_of(10))
    assert_same(read_log(tmp_path / "log", renamed, candidates=True), read_log(tmp_path / "plain", config, candidates=True))


def test_missing_values_are_nan_minus_one_or_padding(tmp_path, config, rows_of):
    columns = rows_of(3, lists=True)
    columns |= {
        "age": [None, float("nan"), 1.0],
        "device": pl.Series([None, "web", None], dtype=pl.String),
        "emb": pl.Series([None, [1.0, None, 2.0, 3.0], [0.0] * 4], dtype=pl.List(pl.Float32)),
        "seq": pl.Series([None, [7], [1, 2, 3, 4, 5, 6, 7]], dtype=pl.List(pl.Int64)),
    }
    write_day(tmp_path, 20_000, columns)
    state = read_log(tmp_path, config).state
    np.testing.assert_array_equal(state.numeric["age"], [np.nan, np.nan, 1])
    assert words(state.categorical["device"]) == [None, "web", None]
    np.testing.assert_array_equal(state.embedding["emb"], [[np.nan] * 4, [1, np.nan, 2, 3], [0] * 4])
    assert state.sequence["seq"].tolist() == [[-1] * 5, [-1, -1, -1, -1, 7], [3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("propensity", 0.0, r"\(0, 1\]"),
        ("propensity", 1.5, r"\(0, 1\]"),
        ("propensity", float("nan"), r"\(0, 1\]"),
        ("propensity", None, r"\(0, 1\]"),
        ("saves", float("nan"), "finite number >= 0"),
        ("saves", -1.0, "finite number >= 0"),
        ("p2ps", float("inf"), "finite number >= 0"),
        ("age", float("inf"), "finite or missing"),
        ("age", 1e300, "finite or missing"),
        ("user", None, "an id"),
        ("reason", None, "EXPLORE"),
        ("action", 10, "from -1"),
        ("action", -7, "from -1"),
        ("emb", np.array([1, np.inf, 0, 0], "<f2").tobytes(), "4 finite numbers"),
        ("emb", b"abc", "4 finite numbers"),
        ("seq", np.array([-2] * 5, "<i2").tobytes(), "whole numbers >= -1"),
        ("seq", b"abc", "whole numbers >= -1"),
        ("candidate_scores", np.ones(4, "<f2").tobytes(), "3 finite scores"),
        ("candidate_scores", b"", "3 finite scores"),
    ],
)
def test_a_row_that_means_nothing_is_refused_by_file_column_row_and_remedy(tmp_path, config, rows_of, column, value, expected):
    columns = rows_of(30)
    series = pl.Series(column, columns[column])
    changed = series.cast(pl.Float64).to_list() if isinstance(value, float) else series.to_list()
    changed[7] = value
    path = write_day(tmp_path, 20_000, columns | {column: changed})
    with pytest.raises(LogError, match=rf"1 of 30 rows.*column '{column}': 1 rows \(first: 7\), expected .*{expected}") as caught:
        read_log(tmp_path, config, candidates=True)
    assert str(path) in str(caught.value)
    assert "--quarantine" in caught.value.hint


@pytest.mark.parametrize("cut", [0, 3, 0.5, 0.99])
def test_a_half_written_file_is_named(tmp_path, config, rows_of, cut):
    write_day(tmp_path, 20_000, rows_of(30, 1))
    path = write_day(tmp_path, 20_001, rows_of(30, 2))
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data)) if isinstance(cut, float) else cut])
    with pytest.raises(LogError, match=r"day=2024-10-05/part-0.parquet cannot be read as Parquet") as caught:
        read_log(tmp_path, config)
    assert "half-written" in caught.value.hint


def test_zeroed_data_pages_are_named(tmp_path, config, rows_of):
    path = write_day(tmp_path, 20_000, rows_of(3000))
    data = bytearray(path.read_bytes())
    data[64 : len(data) // 2] = bytes(len(data) // 2 - 64)
    path.write_bytes(bytes(data))
    with pytest.raises(LogError, match=r"part-0.parquet"):
        read_log(tmp_path, config)


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("propensity", "logs.columns.propensity"),
        ("saves", r"objectives\[save\].column"),
        ("seq", "features.sequences"),
        ("user", "logs.columns.user"),
    ],
)
def test_a_missing_or_wrongly_typed_column_names_the_key_that_says_where_to_look(tmp_path, config, rows_of, column, key):
    columns = rows_of(5)
    write_day(tmp_path / "missing", 20_000, {k: v for k, v in columns.items() if k != column})
    write_day(tmp_path / "typed", 20_000, columns | {column: pl.Series([{"a": 1}] * 5)})
    with pytest.raises(LogError, match=rf"part-0.parquet: no column '{column}'; the file has action, age.*\n.*{key}"):
        read_log(tmp_path / "missing", config)
    with pytest.raises(LogError, match=rf"part-0.parquet: column '{column}' is Struct.*\n.*{key}"):
        read_log(tmp_path / "typed", config)


def test_an_empty_place_and_days_without_rows_are_refused(tmp_path, config, rows_of):
    with pytest.raises(LogError, match="no log at"):
        read_log(tmp_path / "nowhere", config)
    with pytest.raises(LogError, match="holds no Parquet files"):
        read_log(tmp_path, config)
    write_day(tmp_path, 20_000, rows_of(5))
    with pytest.raises(LogError, match="no rows on the days 2024-10-05"):
        read_log(tmp_path, config, days=[20_001])
    (tmp_path / "day=soon").mkdir()
    (tmp_path / "day=soon" / "a.parquet").touch()
    with pytest.raises(LogError, match="'soon' is no date"):
        read_log(tmp_path, config)


def test_writing_again_replaces_the_part_and_leaves_no_temporary_file(tmp_path, config, rows_of):
    for seed in range(2):
        path = write_day(tmp_path, 20_000, rows_of(5, seed))
    assert [file.name for file in path.parent.iterdir()] == ["part-0.parquet"]
    with pytest.raises(LogError, match="no table"):
        write_day(tmp_path, 20_000, {"a": [1, 2], "b": [1, 2, 3]})
    assert len(read_log(tmp_path, config)) == 5


def test_binary_cells_hold_the_bytes_of_their_rows():
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert binary(array).to_list() == [row.tobytes() for row in array]
    assert binary(array[:0]).to_list() == []
    assert ragged_binary(array, np.array([0, 2, 2, 3])).to_list() == [array[:2].tobytes(), b"", array[2:].tobytes()]
    assert ragged_binary(np.arange(3, dtype=np.int16), np.array([0, 3])).to_list() == [np.arange(3, dtype="<i2").tobytes()]
    with pytest.raises(DataError, match="offsets"):
        ragged_binary(array, np.array([0, 4]))
    with pytest.raises(DataError, match="2-D"):
        binary(array[0])


def test_files_deeper_than_their_day_folder_are_refused_instead_of_overlooked(tmp_path, config, rows_of):
    file = write_day(tmp_path, 20_500, rows_of(30, seed=0))
    (file.parent / "hour=07").mkdir()
    (file.parent / "hour=07" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(LogError, match="deeper than its day folder"):
        read_log(tmp_path, config)
