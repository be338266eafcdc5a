"""`paretune import`: all of a run or nothing, whatever ends it; nothing twice; and a log that the other commands accept."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from foreign import ACTIONS, CONFIG, RAW, adf, cb, configured, decisions, dsjson

from paretune.cli import main
from paretune.commands import import_logs
from paretune.logs import staging
from paretune.logs.inspection import check_log
from paretune.logs.parquet import log_days, read_log


class Killed(BaseException):
    """The process is gone."""


def words(folder: Path, *files: str, kind: str = "vw") -> list[str]:
    return ["import", kind, *(str(folder / file) for file in files), "-o", str(folder / "logs"), "-c", str(folder / "paretune.toml")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a configuration and 200 decisions in two files."""
    configured(tmp_path)
    lines = [dsjson(d) for d in decisions(200)]
    (tmp_path / "a.json").write_text("\n".join(lines[:120]) + "\n{torn", encoding="utf-8")
    with gzip.open(tmp_path / "b.json.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines[120:]))
    return tmp_path


def test_packed_files_and_batches_make_one_log_which_check_accepts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_logs, "BATCH", 50)
    assert main([*words(here, "a.json", "b.json.gz"), "--field", "user=User.id"]) == 0
    found = check_log(here / "logs", CONFIG)
    assert (found.good, found.bad, found.explored) == (200, 0, 200)
    assert found.users == len({d.user for d in decisions(200)})
    assert [rule.name for rule in found.rules if not rule.ok and rule.severity == "error"] == []
    (refused,) = (here / "logs" / "_import" / "refused").glob("*.parquet")
    row = pl.read_parquet(refused).row(0, named=True)
    assert (row["source"], row["line"], row["reason"], row["text"]) == ("a.json", 121, "no JSON", "{torn")


def test_a_day_more_is_added_and_nothing_is_taken_twice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(here, "a.json")) == 0
    capsys.readouterr()
    first = sorted(here.glob("logs/day=*/*.parquet"))
    before = {file: file.read_bytes() for file in first}
    assert main([*words(here, "a.json", "b.json.gz"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 80
    assert told["refused"]["the request is in the log already"] == 120
    assert {file: file.read_bytes() for file in first} == before
    log = read_log(here / "logs", CONFIG)
    assert len(log) == len(np.unique(log.request)) == 200


def test_an_import_that_ends_at_any_moment_happened_or_did_not(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for name, made in (("few.json", decisions(30)[:12]), ("more.json", decisions(30)[12:])):
        lines = [dsjson(d, Timestamp=f"2026-03-0{1 + d.number % 2}T10:00:00Z") for d in made]
        (here / name).write_text("\n".join(lines), encoding="utf-8")
    assert main(words(here, "few.json")) == 0
    (here / "logs").rename(here / "before")
    for moment in range(60):
        shutil.rmtree(here / "logs", ignore_errors=True)
        shutil.copytree(here / "before", here / "logs")
        left = [moment]

        def alive(real: Any) -> Any:
            def step(*args: Any, **options: Any) -> Any:
                if left[0] <= 0:  # noqa: B023
                    raise Killed
                left[0] -= 1  # noqa: B023
                return real(*args, **options)

            return step

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", alive(Path.rename))
            patch.setattr(Path, "replace", alive(Path.replace))
            patch.setattr(Path, "unlink", alive(Path.unlink))
            patch.setattr(staging.shutil, "rmtree", alive(shutil.rmtree))
            try:
                main(words(here, "more.json"))
                finished = True
            except Killed:
                finished = False
        with staging.opened(here / "logs", "_import", what="import"):
            pass  # whoever comes next finishes or removes it
        log = read_log(here / "logs", CONFIG)
        ends.append(len(log))
        assert len(log) == len(np.unique(log.request))
        assert not list((here / "logs").rglob("*.tmp"))
        if finished:
            break
    assert finished
    assert set(ends) == {12, 30}
    assert ends == sorted(ends)  # there is one moment at which it becomes true


def test_two_imports_at_once_are_refused_and_a_join_may_write_beside_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with staging.opened(here / "logs", "_import", what="import"):
        assert main(words(here, "a.json")) == 2
    assert "another import is writing" in capsys.readouterr().err
    with staging.opened(here / "logs", "_join", what="join"):
        assert main(words(here, "a.json")) == 0
    assert all(file.name.startswith("import-") for file in (here / "logs").glob("day=*/*"))


def test_a_full_disk_leaves_the_log_as_it_was(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(here, "b.json.gz")) == 0

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        assert main(words(here, "a.json")) == 3
    assert "No space left" in capsys.readouterr().err
    assert len(read_log(here / "logs", CONFIG)) == 80
    assert not (here / "logs" / "_import" / "next").exists()


@pytest.mark.parametrize(("form", "write"), [("cb", cb), ("adf", adf)])
def test_text_without_times_needs_a_day_and_is_spread_in_its_order(here: Path, form: str, write: Any, capsys: Any) -> None:
    text = "\n".join(write(d) for d in decisions(100)) if form == "cb" else "".join(write(d) for d in decisions(100))
    (here / "t.dat").write_text(text, encoding="utf-8")
    assert main(words(here, "t.dat")) == 3
    assert "--day" in capsys.readouterr().err
    assert not list((here / "logs").rglob("*.parquet"))
    assert main([*words(here, "t.dat"), "--per-day", "30"]) == 2
    assert main([*words(here, "t.dat"), "--day", "2026-03-01", "--per-day", "30"]) == 0
    log = read_log(here / "logs", CONFIG)
    assert np.unique(log.day, return_counts=True)[1].tolist() == [30, 30, 30, 10]
    order = np.argsort(log.day, kind="stable")
    assert log.action[order].tolist() == [d.action + 1 for d in decisions(100)]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--actions", "1,2,x"], 2, "no list of numbers"),
        (["--actions", "1,1"], 2, "stand for two of theirs"),
        (["--actions", "1,99"], 2, "not among 0 to 9"),
        (["--actions", "1,2"], 3, "another number of actions than the 2"),
        (["--field", "propensity=x"], 2, "names no column"),
        (["--field", "age=User.height"], 3, "no line says anything of age"),
        (["--form", "cb"], 3, "no label"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(here: Path, options: list[str], code: int, said: str, capsys: Any) -> None:
    assert main([*words(here, "a.json"), *options]) == code
    assert said in capsys.readouterr().err
    assert not list((here / "logs").rglob("*.parquet"))


def test_a_file_that_is_not_there_or_broken_leaves_nothing_behind(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "torn.json.gz").write_bytes((here / "b.json.gz").read_bytes()[:200])
    for name in ("none.json", "torn.json.gz"):
        assert main(words(here, name)) == 3
        assert f"{name} cannot be read" in capsys.readouterr().err
        assert not (here / "logs").exists()


def test_what_check_will_say_is_told_when_rows_are_brought_in(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(here, {"exploration": {"design": "uniform"}})
    assert main(words(here, "a.json")) == 0
    said = capsys.readouterr().out
    assert "120 rows break propensity_design" in said
    assert 'exploration.design = "logged"' in said
    assert "120 lines name no user" in said


def test_a_model_is_trained_on_imported_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [dsjson(d, Timestamp=f"2026-03-{1 + d.number // 150:02d}T10:00:00Z") for d in decisions(900, seed=5)]
    (here / "many.json").write_text("\n".join(lines), encoding="utf-8")
    configured(here, {"evaluation": {"train_days": 4, "hold_out_days": 2, "min_hits": 5, "replicates": 100}})
    assert main([*words(here, "many.json"), "--field", "user=User.id"]) == 0
    assert len(log_days(here / "logs", CONFIG)) == 6
    capsys.readouterr()
    trained = ["train", str(here / "logs"), "-c", str(here / "paretune.toml"), "--model", "ridge", "-o", str(here / "model"), "--json"]
    assert main(trained) == 0
    assert json.loads(capsys.readouterr().out)["last_day"] == "2026-03-04"


def test_the_configuration_of_the_tests_has_as_many_actions_as_their_bandit() -> None:
    assert len(CONFIG.surface.build()) == ACTIONS + 1
    assert RAW["exploration"]["design"] == "logged"
