"""Training from disk: the same model to the bit, whatever lies in files, and memory that does not grow with the files."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import make_config, make_log

from paretune.config import load_config
from paretune.errors import ArtefactError, DataError, LogError
from paretune.logs import paged
from paretune.logs.paged import Growing, Paged, Scratch
from paretune.logs.parquet import log_days, read_log
from paretune.logs.stored import store_log
from paretune.records import Categorical, Log
from paretune.run import train_model
from paretune.value import features, lessons, replay, replay_net
from paretune.value.lessons import counted, listed_lessons, spread, taught_parts, training_lessons, training_rows
from paretune.value.replay import spread_of
from paretune.value.train import fit

CONFIG = make_config()


def in_files(log: Log, folder: Path, pieces: int) -> Log:
    """The log put on disk in so many parts."""
    return store_log((log.take(part) for part in np.array_split(np.arange(len(log)), pieces)), folder)


def assert_same(one: Log, other: Log) -> None:
    rows = slice(0, len(one))
    for name in ("request", "user", "session", "day", "action", "propensity", "explored", "rewards"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.produced, other.produced)
    mine, theirs = one.state.take(rows), other.state.take(rows)
    for group in ("numeric", "embedding", "sequence"):
        for name, column in getattr(mine, group).items():
            np.testing.assert_array_equal(column, getattr(theirs, group)[name])
            assert column.dtype == getattr(theirs, group)[name].dtype
    for column, same in zip((one.cohort, *mine.categorical.values()), (other.cohort, *theirs.categorical.values()), strict=True):
        words = [[None if code < 0 else c.vocabulary[code] for code in c.codes] for c in (column, same)]
        assert words[0] == words[1]
    assert (one.candidates is None) == (other.candidates is None)
    if one.candidates is not None and other.candidates is not None:
        for name in ("offsets", "ids", "scores"):
            np.testing.assert_array_equal(getattr(one.candidates.take(rows), name), getattr(other.candidates.take(rows), name))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), pieces=st.integers(1, 9))
def test_a_log_put_on_disk_in_parts_is_the_log_that_joining_them_gives(tmp_path_factory, seed, pieces):
    rng = np.random.default_rng(seed)
    log = make_log(60, CONFIG, seed=seed)
    parts = [log.take(part) for part in np.array_split(rng.permutation(60), pieces)]
    for i, part in enumerate(parts):  # every file has a vocabulary and integers of its own
        words = tuple(rng.permutation(part.state.categorical["country"].vocabulary))
        part.state.categorical["country"] = Categorical(rng.integers(-1, 3, len(part)).astype(np.int32), words)
        part.state.sequence["items"] = part.state.sequence["items"].astype(np.int64 if i == pieces // 2 else np.int16)
    if seed % 5 == 0:
        parts[-1] = replace(parts[-1], candidates=None, elected=np.ones(len(parts[-1]), np.bool_))
        parts[:-1] = [replace(part, elected=np.zeros(len(part), np.bool_)) for part in parts[:-1]]
    assert_same(store_log(iter(parts), tmp_path_factory.mktemp("store") / "log"), Log.concat(parts))


@pytest.mark.parametrize(
    ("kind", "student"), [("smooth", "components"), ("ridge", "components"), ("replay", "components"), ("replay", "smooth")]
)
def test_a_model_from_disk_is_the_one_from_memory_to_the_bit(tmp_path, monkeypatch, kind, student):
    config = make_config(max_epochs=2, student=student)
    log = make_log(2_500, config)
    whole = fit(log, config, model=kind, seed=3)
    for module, name in ((features, "_ROWS_ENCODED"), (paged, "MOST_RESIDENT")):
        monkeypatch.setattr(module, name, 700)  # several chunks, and pages given back all the time
    stored = in_files(log, tmp_path / "log", 4)
    assert isinstance(stored.state.numeric["taste"], Paged)
    model = fit(stored, config, model=kind, seed=3, scratch=tmp_path / "scratch")
    assert list((tmp_path / "scratch").glob("*")) == []
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(model.arrays()[name], array)
    assert model.manifest() == whole.manifest()


def test_large_replays_are_the_same_in_chunks(tmp_path, monkeypatch):
    config = make_config(max_epochs=2)
    log = make_log(1_500, config)
    for module in (replay, replay_net):
        monkeypatch.setattr(module, "_ROWS_PER_CHUNK", 400)
    whole = fit(log, config, model="replay")
    model = fit(in_files(log, tmp_path / "log", 3), config, model="replay", scratch=tmp_path / "scratch")
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(model.arrays()[name], array)


@pytest.mark.parametrize(("kind", "explored"), [("smooth", "0.05"), ("smooth", "0.6"), ("ridge", "0.05"), ("auto", "0.6")])
def test_training_on_a_log_reads_it_to_disk_and_gives_the_model_of_the_log_in_memory(tmp_path, monkeypatch, kind, explored):
    from paretune.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "logs", "--days", "2", "--requests", "900", "--explore", explored]) == 0
    config = load_config("paretune.toml")
    config = config.model_copy(update={"training": config.training.model_copy(update={"max_epochs": 2, "model": kind})})
    days = tuple(log_days("logs", config))
    listed = kind == "auto"
    log = read_log("logs", config, days=days, explored_only=listed, candidates=listed)
    whole, model = fit(log, config, seed=1), train_model(Path("logs"), config, Path("model"), days=days, seed=1)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(model.arrays()[name], array)
    assert model.origin.rows == whole.origin.rows
    assert sorted(path.name for path in Path().iterdir()) == ["logs", "model", "paretune.toml"]


def test_a_log_without_exploration_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    from paretune.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "logs", "--days", "1", "--requests", "50", "--explore", "0", "--no-candidates"]) == 0
    config = load_config("paretune.toml")
    with pytest.raises(DataError, match="explored the grid"):
        train_model(Path("logs"), config, Path("model"), days=tuple(log_days("logs", config)))
    assert not list(Path().glob("model*"))
    with pytest.raises(LogError, match="no rows"):
        store_log([], Path("store"))


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(0, 300), share=st.floats(0, 1), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_rows_are_spread_alike_at_once_and_in_pieces(rows, share, cuts):
    wanted = round(rows * share)
    chosen = np.linspace(0, rows - 1, wanted).astype(np.int64) if wanted else np.empty(0, np.int64)
    np.testing.assert_array_equal(spread(rows, wanted), chosen)
    edges = [0, *sorted(cut for cut in cuts if cut <= rows), rows]
    pieces = [spread(rows, wanted, start=a, stop=b) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces), chosen)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_parts_teach_the_rows_that_the_whole_log_teaches(share):
    log = make_log(1_000, CONFIG)
    log = log.take((np.random.default_rng(1).random(len(log)) < share) | ~log.explored)
    parts = [log.take(part) for part in np.array_split(np.arange(len(log)), 7)]
    explored, produced = counted(parts)
    kept = Log.concat(taught_parts(parts, explored=explored, produced=produced))
    assert len(kept) == explored + min(produced, 4 * explored)
    whole, again = training_rows(log, with_production=True), training_rows(kept, with_production=True)
    np.testing.assert_array_equal(again.request, whole.request)


def test_what_listed_rows_teach_is_chosen_as_by_hand():
    log = make_log(400, CONFIG)
    few = log.take((log.explored & (np.arange(400) < 40)) | ~log.explored)
    rows, taught = listed_lessons(few)
    assert taught == few.explored.sum() == training_lessons(few).index.size
    assert few.explored[rows.index[:taught]].all()
    others = np.flatnonzero(~few.explored)
    wanted = min(len(others), lessons.PRODUCTION_PER_EXPLORED * taught)
    np.testing.assert_array_equal(rows.index[taught:], others[np.linspace(0, len(others) - 1, wanted).astype(int)])


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 900), seed=st.integers(0, 10_000))
def test_the_spread_of_columns_is_numpys(n, seed):
    columns = np.random.default_rng(seed).normal(3, 5, (n, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_ROWS_PER_CHUNK", 100)
        np.testing.assert_array_equal(spread_of(columns), columns.std(axis=0))


def test_files_widen_where_arrays_in_memory_would(tmp_path):
    growing = Growing(tmp_path / "ids.bin")
    chunks = [np.arange(5, dtype=np.int16), np.array([2**40]), np.empty(0, np.int8), np.array([1.5], np.float16)]
    for chunk in chunks:
        growing.add(chunk)
    whole = np.concatenate(chunks)
    assert growing.paged().dtype == whole.dtype
    np.testing.assert_array_equal(growing.paged()[:], whole)
    np.testing.assert_array_equal(growing.plain(), whole)
    assert growing.paged()[5] == whole[5]
    with pytest.raises(DataError, match="numbers"):
        growing.add(np.zeros((2, 3)))


@pytest.mark.parametrize("folder", [None, "scratch"])
def test_scratch_space_takes_as_many_rows_as_were_said(tmp_path, folder):
    def scratch():
        return Scratch(None if folder is None else tmp_path / folder)

    chunks = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(scratch().stacked("x", 3, iter([chunks[:2], chunks[2:]]))[:], chunks)
    for rows in (2, 4):
        with pytest.raises(DataError, match="the log changed"):
            scratch().stacked("x", rows, iter([chunks[:2], chunks[2:]]))


def test_a_disk_that_says_no_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtefactError, match="cannot be written"):
        Scratch(tmp_path / "file").stacked("x", 1, iter([np.ones(1)]))
    with pytest.raises(ArtefactError, match="cannot be written"):
        store_log([make_log(10, CONFIG)], tmp_path / "file")


def resident_file_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssFile")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much of a file is resident")
def test_pages_that_were_read_are_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(paged, "MOST_RESIDENT", 2**21)
    growing = Growing(tmp_path / "x.bin")
    for _ in range(16):
        growing.add(np.ones((2**14, 32), np.float32))  # 2 MiB each
    array, before, rng, most = growing.paged(), resident_file_kib(), np.random.default_rng(0), 0
    for start in range(0, len(array), 2**13):
        assert array[start : start + 2**13].sum() == 2**18
        assert array[rng.integers(0, len(array), 64)].sum() == 64 * 32
        most = max(most, resident_file_kib() - before)
    assert most < 8 * 2**10  # of 32 MiB
