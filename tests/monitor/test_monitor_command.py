"""`paretune monitor`: verdicts as exit codes, the page, the kept reference, and what is refused."""

import json
from pathlib import Path

import pytest

from paretune.cli import main
from paretune.commands.monitor import chosen, look
from paretune.config import load_config
from paretune.errors import ConfigError, LogError
from paretune.monitor.reanchor import reanchored
from paretune.monitor.verdict import judge
from paretune.ports import silent
from paretune.report.textfile import ANSWERS
from paretune.run import origin_of, train_model
from paretune.value.bundle import load_model


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two logs of 21 days, one of which has its first tuned head rescaled from day 14 on."""
    folder = tmp_path_factory.mktemp("watched")
    for name, more in (("calm", []), ("rescaled", ["--drift", "rescale"])):
        target = str(folder / name / "logs")
        assert main(["simulate", target, "--requests", "500", "--explore", "0.5", "--seed", "4", *more]) == 0
    return folder


def words(folder: Path, *more: str) -> list[str]:
    return ["monitor", str(folder / "logs"), "-c", str(folder / "paretune.toml"), *more]


def test_an_undisturbed_log_is_served_with_exit_code_0_and_says_nothing_to_cron(watched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(watched / "calm")) == 0
    said = capsys.readouterr().out
    assert "Serve: nothing moved" in said
    assert "What was compared" in said
    assert main(words(watched / "calm", "--once")) == 0
    assert capsys.readouterr().out == ""


def test_a_rescaled_head_exits_4_with_its_reasons_and_leaves_a_page_and_new_weights(
    watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(watched / "rescaled", "--once", "--out", str(tmp_path), "--metrics", str(tmp_path / "drift.prom"))) == 4
    exported = (tmp_path / "drift.prom").read_text(encoding="utf-8")
    assert [f'paretune_drift_verdict{{verdict="{one}"}} {float(one == "re-anchor")}' in exported for one in ANSWERS] == [True] * 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Re-anchor: heads were rescaled" in shown.err
    assert "save: scores are 1.6" in shown.err
    page = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert page.index("Re-anchor: heads were rescaled") < page.index("population stability index")
    assert "http-equiv" in page  # it forbids itself every connection
    numbers = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    old, new = load_config(watched / "rescaled" / "paretune.toml"), load_config(tmp_path / "paretune.reanchored.toml")
    assert new == reanchored(old, numbers["factors"])
    assert new.surface.heads[0].weight == pytest.approx(91.6 / 1.6, rel=0.1)


def test_json_is_one_object_with_verdict_findings_and_windows(watched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(watched / "rescaled", "--json")) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == "re-anchor"
    assert told["causes"] == ["rescaled heads"]
    assert told["windows"]["reference"]["days"] == [f"2026-01-{day:02d}" for day in range(1, 15)]
    assert told["windows"]["current"]["days"] == [f"2026-01-{day:02d}" for day in range(15, 22)]
    assert {"scale", "state", "reward"} <= {each["aspect"] for each in told["findings"] if each["p_value"] <= 1}


def test_a_kept_reference_gives_the_verdict_without_its_days(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(watched / "rescaled", "--out", str(tmp_path), "--json")) == 4
    first = json.loads(capsys.readouterr().out)
    kept = ["--reference", str(tmp_path / "reference.json"), "--current", "15:21"]
    assert main(words(watched / "rescaled", *kept, "--json")) == 4
    again = json.loads(capsys.readouterr().out)
    assert again["sentence"] == first["sentence"]
    assert again["factors"] == pytest.approx(first["factors"])


def test_a_reference_of_other_static_weights_is_refused(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(watched / "rescaled", "--once", "--out", str(tmp_path))) == 4
    capsys.readouterr()
    logs, config = str(watched / "rescaled" / "logs"), str(tmp_path / "paretune.reanchored.toml")
    assert main(["monitor", logs, "-c", config, "--reference", str(tmp_path / "reference.json")]) == 2
    assert "static weights changed" in capsys.readouterr().err


def test_collect_or_retrain_depends_on_the_rows_that_are_wanted(watched: Path) -> None:
    config = load_config(watched / "calm" / "paretune.toml")
    drift, _, _ = look(watched / "calm" / "logs", config, reference="1:7", current="8:14", model=None, psi=0.1, progress=silent)
    assert judge(drift).answer == "serve"
    assert judge(drift).enough == round(drift.reference.exploration_rows / 3)


def test_gains_are_calibrated_where_a_model_is_named(watched: Path, tmp_path: Path) -> None:
    config = load_config(watched / "calm" / "paretune.toml")
    logs = watched / "calm" / "logs"
    config = config.model_copy(update={"training": config.training.model_copy(update={"model": "ridge"})})
    train_model(logs, config, tmp_path / "model", days=tuple(range(20_454, 20_461)))
    drift, gains, policy = look(logs, config, reference="1:14", current="", model=tmp_path / "model", psi=0.1, progress=silent)
    assert policy == "balanced"
    assert gains is not None
    found = [each for each in drift.findings if each.aspect == "gain"]
    assert len(found) == 1
    assert found[0].current == gains.slope
    assert found[0].reference != 1  # measured on days 8 to 14, which did not train


def test_a_re_anchored_model_is_left_beside_the_weights_it_is_for(watched: Path, tmp_path: Path) -> None:
    config = load_config(watched / "rescaled" / "paretune.toml")
    config = config.model_copy(update={"training": config.training.model_copy(update={"model": "ridge"})})
    train_model(watched / "rescaled" / "logs", config, tmp_path / "model", days=tuple(range(20_454, 20_468)))
    assert main(words(watched / "rescaled", "--model", str(tmp_path / "model"), "--once", "--out", str(tmp_path / "out"))) == 4
    kept = load_model(tmp_path / "out" / "model")
    assert origin_of(kept).config.surface == load_config(tmp_path / "out" / "paretune.reanchored.toml").surface


@pytest.mark.parametrize("kind", ["nosuch", "Rescale"])
def test_an_unknown_drift_is_refused(kind: str, tmp_path: Path) -> None:
    assert main(["simulate", str(tmp_path / "logs"), "--drift", kind]) == 2


def test_a_missing_or_broken_reference_is_refused(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(watched / "calm", "--reference", str(tmp_path / "none.json"))) == 2
    assert "no reference at" in capsys.readouterr().err
    (tmp_path / "torn.json").write_text('{"format": 1', encoding="utf-8")
    assert main(words(watched / "calm", "--reference", str(tmp_path / "torn.json"))) == 3


def test_windows_are_whole_weeks_unless_days_are_named() -> None:
    days = list(range(100, 125))
    now, before = chosen(days, "", "", train_days=14)
    assert now == days[-7:]
    assert before == days[4:18]
    assert chosen(days, "", "", train_days=5)[1] == days[:18]  # under a week: whatever is there
    assert chosen(days, "kept.json", "1:3", train_days=14) == ([100, 101, 102], None)
    with pytest.raises(LogError, match="all in the current window"):
        chosen(days[:5], "", "", train_days=14)
    with pytest.raises(ConfigError, match="share 2 days"):
        chosen(days, "1:9", "8:14", train_days=14)


def test_windows_of_other_weekdays_are_warned_of(watched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(watched / "calm", "--reference", "1:7", "--current", "8:10"))
    assert "other days of the week" in capsys.readouterr().err
