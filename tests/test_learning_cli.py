"""The commands that look into what was learned, as typed: isolate, distil and continuous on a small log of the example."""

import json
from pathlib import Path

import numpy as np
import pytest

from paretune.cli import main
from shop import QUICK, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shop(tmp_path_factory.mktemp("shop"), rows=3000, changes=QUICK)


@pytest.fixture
def here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shop)
    return shop


@pytest.mark.usefixtures("here")
def test_isolate_compares_groups_on_the_same_rows_and_draws_them(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["isolate", "logs", "--group", "taste=basket_value,user_vector", "--group", "place=country"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [group["group"] for group in told["groups"]] == ["all features", "taste", "place"]
    everything, taste, _ = (group["gain"] for group in told["groups"])
    assert everything > 0
    assert told["groups"][1]["gap"] == pytest.approx(taste - everything)
    assert Path("runs/isolation/isolation.svg").exists()
    assert main(words) == 0  # models are reused, the table is printed
    printed = capsys.readouterr().out
    assert "basket_value, user_vector" in printed
    assert "isolation.png" in printed


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("group", ["taste", "taste=", "taste=nothing"])
def test_a_group_that_is_none_exits_2(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isolate", "logs", "--group", group]) == 2
    assert "taste" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_training_the_best_kind_prints_what_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("paretune.toml").read_text(encoding="utf-8")
    for old, new in (("candidates = []", 'candidates = ["ridge", "smooth"]'), ("max_epochs = 30", "max_epochs = 2")):
        assert old in text
        text = text.replace(old, new)
    Path("best.toml").write_text(text, encoding="utf-8")
    words = ["train", "logs", "--config", "best.toml", "--model", "best", "-o", "runs/best"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in told["r_losses"]} == {"ridge", "smooth"}
    assert told["kind"] == told["r_losses"][0]["name"]
    assert not any("R-loss" in name for name in told["losses"])


@pytest.mark.usefixtures("here")
def test_distil_and_calibrate_say_what_rules_lose_and_whether_gains_come_true(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("paretune.run.publish_report", lambda *_: None)  # drawing is tested with the report
    assert main(["sweep", "logs", "-o", "runs/monday"]) == 4  # too little to choose from; its policies can be looked into all the same
    capsys.readouterr()
    assert main(["distil", "runs/monday", "logs", "--depth", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["comparison"]["gap"][0] == [0, 0]
    policy = json.loads(Path(told["tree"]).read_text(encoding="utf-8"))
    assert policy["fallback"]["weights"]["purchase"] == 40
    assert {"if", "then", "else"} == policy["policy"].keys()
    assert policy["about"]["objectives"]["purchase"]["against_policy"] == told["comparison"]["gap"][1][0]
    assert main(["distil", "runs/monday", "logs", "--pick", "knee"]) == 0
    assert "if " in capsys.readouterr().out
    assert main(["distil", "runs/monday", "logs", "--pick", "best"]) == 2
    assert "knee" in capsys.readouterr().err
    assert main(["distil", "runs/nowhere", "logs"]) == 3
    assert main(["calibrate", "runs/monday", "logs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["calibration"]["predicted"]) == 10
    assert np.isfinite(told["calibration"]["slope"])
    assert Path("runs/monday/figures/calibration.svg").exists()
    assert main(["calibrate", "runs/monday", "logs"]) == 0
    assert "Slope" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_continuous_judges_weights_between_the_levels_and_refuses_a_model_that_mixes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "logs", "-o", "runs/between"]) in {0, 4}
    capsys.readouterr()
    assert main(["continuous", "runs/between", "logs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = told["continuous"]
    assert len(told["picks"]) == len(told["policies"]) == len(found["off_grid"])
    assert any("knee" in labels for labels in told["picks"])
    assert np.shape(found["estimate"]) == (3, len(told["picks"]), 2)
    assert max(found["off_grid"]) > 0.1
    assert main(["continuous", "runs/between", "logs"]) == 0
    assert "between the levels" in capsys.readouterr().out

    from paretune.value.ridge import Ridge

    monkeypatch.setattr(Ridge, "name", "replay")
    assert main(["continuous", "runs/between", "logs"]) == 2
    assert "training.student" in capsys.readouterr().err
