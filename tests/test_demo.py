"""The demo runs end to end, puts the truth beside every estimate, and can be run again."""

import json
from pathlib import Path

import numpy as np
import pytest

from paretune import demo
from paretune.cli import main
from paretune.demo import Demo, Sizes, outcome_table, run_demo
from paretune.errors import ConfigError
from paretune.report.archive import load_run
from paretune.report.contents import report_figures
from paretune.report.tables import MISSING
from paretune.sim.abtest import SUCCESSFUL

pytestmark = pytest.mark.e2e
SMALL = Sizes(6_000, 4_000, 14_000, 8_000, 3_000, 2_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "run"


@pytest.fixture(scope="module")
def found(folder: Path) -> Demo:
    return run_demo(folder, model="ridge", sizes=SMALL, seed=1)


def test_the_report_stands_alone_and_every_picture_is_there(found: Demo, folder: Path) -> None:
    page = found.report.read_text(encoding="utf-8")
    assert found.report == folder / "report.html"
    assert "Offline, online and the truth" in page
    assert "truth" in page
    assert "src=" not in page.split("<body", 1)[1].split("<script", 1)[0]  # nothing is loaded from anywhere
    assert '<link rel="stylesheet"' not in page
    names = {path.name for path in (folder / "figures").iterdir()}
    assert found.findings.front.refusal is not None  # so small a log gives no front to choose from, and the page says so
    assert "Not enough data" in page
    wanted = ("lifts", "contribution", "log", "ranges", "engagement")
    assert names == {f"{name}{ending}" for name in wanted for ending in (".png", ".svg")}


def test_the_run_keeps_online_lifts_and_truth_so_that_its_report_can_be_drawn_again(found: Demo, folder: Path) -> None:
    again = load_run(folder)
    assert again.online is not None
    assert found.findings.online is not None
    np.testing.assert_array_equal(again.online.high, found.findings.online.high)
    np.testing.assert_array_equal(again.truth, found.findings.truth)
    assert "truth" in dict(report_figures(again))["lifts"].to_json()


def test_the_table_has_offline_online_and_truth_for_each_pick_and_the_matched_static_weights(found: Demo) -> None:
    table = outcome_table(found)
    assert [name for name in table.columns if name in {"metric", "truth"}] == ["metric", "truth"]
    metric, offline, online, truth = (
        table.columns.index(name) for name in ("metric", "offline lift (95 % band)", "online lift (simulated A/B)", "truth")
    )
    assert len(table.rows) == 3 * len(found.readout.arms)
    for row in table.rows:
        assert row[online] != MISSING
        assert (row[offline] == MISSING) == (row[truth] == MISSING) == (row[metric] == SUCCESSFUL)
    assert any(row[0].startswith("matched static of knee") for row in table.rows)
    assert "exact average weights (save " in table.note
    assert {label for name in found.readout.arms for label in name.split(", ")} >= {pick.label for pick in found.findings.front.picks}


def test_online_lifts_stand_beside_the_picks_they_are_of(found: Demo) -> None:
    findings, readout = found.findings, found.readout
    assert findings.online is not None
    assert findings.truth is not None
    arms = demo.tested_policies(findings.front)
    for place, pick in enumerate(findings.front.picks):
        arm = list(arms.values()).index(pick.policy)
        np.testing.assert_array_equal(findings.online.estimate[place], readout.lift[arm, :2])
    assert findings.truth.shape == findings.front.lifts.estimate.shape
    np.testing.assert_allclose(findings.truth[0], 0, atol=1e-12)  # production


def test_estimates_agree_with_the_truth_within_their_errors(found: Demo) -> None:
    lifts, truth = found.findings.front.lifts, found.truth
    error = np.hypot(lifts.std_error[1:], truth.std_error[1:-1])
    off = (lifts.estimate[1:] - truth.lift[1:-1]) / error
    assert np.nanmax(np.abs(off)) < 4


def test_stages_are_timed(found: Demo) -> None:
    assert [stage.name for stage in found.stages] == ["world", "simulate", "check, train, sweep", "A/B test", "truth", "report"]
    assert all(stage.wall_s >= 0 and 0.05 < stage.peak_gib < 4 for stage in found.stages)


def test_a_killed_demo_goes_on_and_an_ended_one_is_made_anew(found: Demo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, simulated = folder / "demo.json", []
    monkeypatch.setattr(demo, "publish_demo", lambda *_, **__: None)
    real = demo.write_traffic

    def counted(*args: object, **named: object) -> int:
        simulated.append(1)
        return real(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(demo, "write_traffic", counted)
    ended = json.loads(marker.read_text())
    assert ended["done"] is None
    marker.write_text(json.dumps(ended | {"done": ["simulate"]}))
    again = run_demo(folder, model="ridge", sizes=SMALL, seed=1)
    assert not simulated
    np.testing.assert_array_equal(again.readout.lift, found.readout.lift)
    np.testing.assert_array_equal(again.findings.front.lifts.estimate, found.findings.front.lifts.estimate)
    monkeypatch.setattr(demo, "write_traffic", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_demo(folder, model="ridge", sizes=SMALL, seed=1)
    assert json.loads(marker.read_text())["done"] == []
    assert not (folder / "logs").exists()
    assert not (folder / "model").exists()


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no demo made"):
        run_demo(tmp_path, sizes=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_command_prints_the_table_and_the_path_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "QUICK", SMALL)
    monkeypatch.setattr(demo, "save_figures", lambda *_: ())
    assert main(["demo", "--quick", "--model", "ridge", "--output", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "truth" in printed
    assert "online lift" in printed
    assert f"report: {tmp_path / 'run' / 'report.html'}" in printed


def test_the_command_can_tell_its_result_to_a_program(
    found: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: found)
    assert main(["demo", "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(found.report)
    assert [arm["arm"] for arm in told["tested"]] == list(found.readout.arms)
