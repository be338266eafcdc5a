"""One run over a folder of logs: what is reused, what is refused, what is left behind."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from teams import together

from paretune import run
from paretune.cli import main
from paretune.config import Config, load_config, parse_config
from paretune.errors import ArtefactError, ConfigError, LogError
from paretune.logs.inspection import check_log
from paretune.logs.parquet import log_days, read_log
from paretune.report.archive import load_run, save_run
from paretune.report.contents import Findings, report_sections
from paretune.run import Window, anchor_of, checked_bundle, earlier_model, sweep_logs, train_model, window
from paretune.scale import crew
from paretune.value.reading import training_log

EXAMPLE = Path(__file__).parents[1] / "examples" / "bring_your_own_logs"
COLUMNS = {"request_id": "impression_id", "user": "user_id", "cohort": "segment", "weights": "served_weights"}
RANGES = {"purchase": (10.0, 80.0), "add_to_cart": (3.0, 24.0), "margin": (1.0, 10.0)}
WEIGHTS = {"purchase": 40.0, "add_to_cart": 12.0, "margin": 5.0, "click": 1.0}


def shop_config(**evaluation: int) -> Config:
    heads = [
        {"name": name, "weight": weight}
        | ({"tune": {"low": RANGES[name][0], "high": RANGES[name][1], "levels": 4}} if name in RANGES else {})
        for name, weight in WEIGHTS.items()
    ]
    return parse_config(
        {
            "surface": {"k": 20, "heads": heads},
            "objectives": [{"name": name, "column": f"{name}_count", "head": name} for name in ("purchase", "add_to_cart")],
            "features": {"numeric": ["basket_value"], "categorical": ["country"], "embeddings": [{"name": "user_vector", "size": 6}]},
            "logs": {"columns": COLUMNS},
            "training": {"model": "ridge"},
            "evaluation": {"train_days": 2, "hold_out_days": 1, "min_hits": 5, "replicates": 100} | evaluation,
        }
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "logs"
    traffic = runpy.run_path(str(EXAMPLE / "make_logs.py"))["day_of_traffic"]
    for day in range(4):
        target = folder / f"day=2026-03-{day + 1:02d}"
        target.mkdir(parents=True)
        traffic(np.random.default_rng(day), 2500).write_parquet(target / "part-0.parquet")
    return folder


@pytest.fixture(scope="module")
def swept(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Path]:
    folder = tmp_path_factory.mktemp("swept") / "monday"
    with pytest.MonkeyPatch.context() as patch:  # drawing is tested with the report
        patch.setattr(run, "publish_report", lambda *_: None)
        return sweep_logs(logs, shop_config(), folder), folder


def test_the_held_out_days_are_the_last_ones(logs: Path) -> None:
    split = window(logs, shop_config())
    assert (len(split.train), len(split.hold_out)) == (2, 1)
    assert max(split.train) < min(split.hold_out)


def test_a_run_leaves_everything_its_report_needs(swept: tuple[Findings, Path]) -> None:
    findings, folder = swept
    left = {path.name for path in folder.iterdir()}
    assert {"config.toml", "front.json", "front.parquet", "curve.parquet", "replicates.npy", "check.json", "model"} <= left
    again = load_run(folder)
    assert again.config == findings.config
    assert again.check is not None
    assert findings.check is not None
    assert again.check.rules == findings.check.rules
    np.testing.assert_array_equal(again.check.mean_weight, findings.check.mean_weight)
    np.testing.assert_array_equal(again.front.lifts.estimate, findings.front.lifts.estimate)
    assert [section.heading for section in report_sections(again)] == [section.heading for section in report_sections(findings)]


def test_head_contributions_are_kept_where_the_log_has_candidates(swept: tuple[Findings, Path], tmp_path: Path) -> None:
    findings, _ = swept
    assert findings.contribution is None
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    save_run(Findings(findings.config, findings.front, None, shares), tmp_path)
    again = load_run(tmp_path)
    assert again.contribution is not None
    np.testing.assert_array_equal(again.contribution, shares)
    assert again.check is None
    assert "Heads" in [section.heading for section in report_sections(again)]


def test_a_second_sweep_reuses_the_model_and_finds_the_same_front(
    swept: tuple[Findings, Path], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, folder = swept
    monkeypatch.setattr(run, "publish_report", lambda *_: None)
    monkeypatch.setattr(run, "train_model", lambda *_, **__: pytest.fail("trained again"))
    again = sweep_logs(logs, shop_config(), folder)
    np.testing.assert_array_equal(again.front.lifts.estimate, findings.front.lifts.estimate)


def test_a_model_of_other_settings_seed_or_days_is_not_reused(swept: tuple[Findings, Path], logs: Path) -> None:
    _, folder = swept
    config, model = shop_config(), folder / "model"
    days = window(logs, config)
    assert earlier_model(model, logs, config, days, seed=0) is not None
    assert earlier_model(model, logs, config, days, seed=1) is None
    assert earlier_model(model, logs, shop_config(min_hits=6), days, seed=0) is None
    assert earlier_model(model, logs, config, Window(days.train[1:], days.hold_out), seed=0) is None
    assert earlier_model(folder / "nowhere", logs, config, days, seed=0) is None


def test_a_model_of_another_log_is_not_reused(swept: tuple[Findings, Path], logs: Path, tmp_path: Path) -> None:
    _, folder = swept
    config, model = shop_config(), folder / "model"
    copied = shutil.copytree(logs, tmp_path / "logs")  # keeps the files' times
    assert earlier_model(model, copied, config, window(copied, config), seed=0) is not None
    first = next(copied.glob("day=2026-03-02/*.parquet"))
    pl.read_parquet(first).reverse().write_parquet(first)
    assert earlier_model(model, copied, config, window(copied, config), seed=0) is None


def test_a_bundle_that_saw_the_held_out_days_or_another_surface_is_refused(logs: Path, tmp_path: Path) -> None:
    config = shop_config()
    days = window(logs, config)
    train_model(logs, config, tmp_path / "late", days=days.hold_out)
    with pytest.raises(ConfigError, match="held-out days begin on 2026-03-04"):
        checked_bundle(tmp_path / "late", config, days)
    train_model(logs, config, tmp_path / "early", days=days.train)
    assert checked_bundle(tmp_path / "early", config, days).objectives == ("purchase", "add_to_cart")
    wider = config.model_copy(update={"surface": config.surface.model_copy(update={"k": 30})})
    with pytest.raises(ConfigError, match="another surface"):
        checked_bundle(tmp_path / "early", wider, days)
    with pytest.raises(ArtefactError):
        checked_bundle(tmp_path / "nowhere", config, days)


def test_a_bundle_can_be_swept_choosing_on_one_half_of_the_users(
    swept: tuple[Findings, Path], logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = swept
    monkeypatch.setattr(run, "publish_report", lambda *_: None)
    halved = sweep_logs(logs, shop_config(), tmp_path / "halves", bundle=folder / "model", halves=True)
    assert not (tmp_path / "halves" / "model").exists()
    assert {pick.label for pick in halved.front.picks} >= {"knee", "constrained"}
    assert 0.35 < halved.front.lifts.n_rows / whole.front.lifts.n_rows < 0.65


def test_the_anchor_takes_the_latest_days_first_and_stops_when_it_has_enough(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = shop_config()
    days = window(logs, config).train
    read: list[int] = []
    scan = run.scan_log
    monkeypatch.setattr(run, "scan_log", lambda *args, days, **rest: (read.extend(days), scan(*args, days=days, **rest))[1])
    monkeypatch.setattr(run, "ANCHOR_ROWS", 100)
    anchor_of(logs, config, days=days)
    assert read == [days[-1]]


def test_a_log_that_is_not_fit_stops_the_run_before_anything_is_made(logs: Path, tmp_path: Path) -> None:
    config = shop_config()
    wrong = config.model_copy(
        update={"surface": config.surface.model_copy(update={"heads": config.surface.heads[:2] + config.surface.heads[3:]})}
    )
    with pytest.raises(LogError, match="not fit to learn from"):
        sweep_logs(logs, wrong, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    assert not check_log(logs, wrong).ok


def test_other_rows_with_candidates_are_read_too_but_not_more_than_four_for_each_explored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "logs", "--days", "2", "--requests", "600", "--explore", "0.1"]) == 0
    config, logs = load_config("paretune.toml"), Path("logs")
    days = tuple(log_days(logs, config))
    explored_rows = int(read_log(logs, config, days=days).explored.sum())
    assert len(training_log(logs, config, tmp_path / "few", days=days)) == explored_rows
    for file in sorted(logs.rglob("*.parquet")):
        table, explored = pl.read_parquet(file, hive_partitioning=False), pl.col("reason") == "EXPLORE"
        some = table.filter(explored).head(1)
        filled = [
            pl.when(explored).then(pl.col(name)).otherwise(pl.lit(some[name][0], dtype=table.schema[name])).alias(name)
            for name in ("candidate_ids", "candidate_scores")
        ]
        table.with_columns(*filled).write_parquet(file)
    read = training_log(logs, config, tmp_path / "more", days=days)
    assert int(read.explored.sum()) == explored_rows
    assert len(read) == 5 * explored_rows
    assert read.candidates is not None
    assert (np.diff(read.candidates.offsets) > 0).all()
    read_by = []
    monkeypatch.setattr(crew, "fit", lambda log, *_, **__: read_by.append(len(log)))
    monkeypatch.setattr(run, "save_model", lambda *_, **__: None)
    train_model(logs, config, tmp_path / "model", days=days)
    assert read_by == [len(read)]
    shares = together(3, lambda team: training_log(logs, config, tmp_path / f"share-{team.rank}", days=days, team=team))
    everybody = np.concatenate([part.request for part in shares])
    assert len(np.unique(everybody)) == len(everybody)  # no row is read twice
    assert sum(int(part.explored.sum()) for part in shares) == explored_rows
    assert all({*part.day.tolist()} == {*days} for part in shares)  # every member sees every day
