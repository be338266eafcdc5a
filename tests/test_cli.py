"""The command line: results on standard output, everything else on standard error, and exit codes one can script against."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paretune import cli
from paretune.cli import main
from paretune.config import load_config
from shop import FOUR_AND_TWO, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small log of the example, and its paretune.toml."""
    return make_shop(tmp_path_factory.mktemp("shop"), rows=1000, changes=FOUR_AND_TWO)


@pytest.fixture
def here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shop)
    return shop


def test_init_writes_a_configuration_that_loads_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text('{"save": 91.6, "p2p": 9.1, "hide": -4}', encoding="utf-8")
    assert main(["init", "w.json"]) == 0
    assert "surface.k" in capsys.readouterr().out
    assert [head.weight for head in load_config("paretune.toml").surface.heads] == [91.6, 9.1, -4]
    Path("paretune.toml").write_text("# mine", encoding="utf-8")
    assert main(["init", "w.json"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("paretune.toml").read_text(encoding="utf-8") == "# mine"
    assert main(["init", "w.json", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == "paretune.toml"


@pytest.mark.parametrize(("content", "name"), [("- 1\n- 2", "w.yaml"), ("{save: [", "w.yaml"), ("{'save': 1}", "w.json")])
def test_init_names_a_weights_file_it_cannot_read(tmp_path: Path, content: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert main(["init", str(tmp_path / name), "-o", str(tmp_path / "p.toml")]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "p.toml").exists()


def test_the_examples_columns_are_found(here: Path) -> None:
    config = load_config(here / "paretune.toml")
    assert (config.logs.columns.user, config.logs.columns.weights) == ("user_id", "served_weights")
    assert [o.column for o in config.objectives] == ["purchase_count", "add_to_cart_count"]
    assert len(config.surface.build()) == 65


@pytest.mark.usefixtures("here")
def test_a_good_log_prints_a_table_and_bars_and_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "logs", "--picture", "check.svg"]) == 0
    printed = capsys.readouterr()
    assert "sample ratio" in printed.out
    assert "explored per action" in printed.out
    assert "\x1b" not in printed.out + printed.err
    assert Path("check.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_bad_log_exits_3_naming_file_column_rows_and_remedy(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(here / "logs", tmp_path / "logs")
    file = tmp_path / "logs" / "day=2026-03-02" / "part-0.parquet"
    frame = pl.read_parquet(file)
    propensity = frame["propensity"].to_numpy().copy()
    propensity[[3, 7]] = 1.5
    frame.with_columns(pl.Series("propensity", propensity)).write_parquet(file)
    assert main(["check", str(tmp_path / "logs"), "--quarantine", str(tmp_path / "bad"), "--clean", str(tmp_path / "good")]) == 3
    said = capsys.readouterr().err
    for word in (str(file), "'propensity'", "rows 3, 7", "hint:"):
        assert word in said
    assert sum(len(pl.read_parquet(part)) for part in (tmp_path / "bad").rglob("*.parquet")) == 2
    assert main(["check", str(tmp_path / "good"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["good"] == 5998


@pytest.mark.usefixtures("here")
def test_a_model_is_trained_and_told_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "logs", "--model", "ridge", "-o", "runs/ridge", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["first_day"], told["last_day"]) == ("ridge", "2026-03-01", "2026-03-04")
    assert Path("runs/ridge/manifest.json").exists()
    assert not Path("runs/ridge.checkpoint").exists()


def test_an_option_that_commands_share_is_defined_once() -> None:
    defined: dict[str, list[str]] = {}
    for path in sorted(Path(cli.__file__).parent.glob("commands/*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id.endswith(("Option", "Argument"))
            ):
                defined.setdefault(node.targets[0].id, []).append(path.name)
    assert len(defined) > 8
    assert {name: files for name, files in defined.items() if len(files) > 1} == {}


@pytest.mark.usefixtures("here")
def test_a_sound_log_that_a_sweep_would_refuse_for_its_few_days_is_not_called_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "longer.toml"
    toml.write_text(Path("paretune.toml").read_text(encoding="utf-8").replace("train_days = 4", "train_days = 14"), encoding="utf-8")
    assert main(["check", "logs", "-c", str(toml)]) == 0
    said = capsys.readouterr().err
    assert "warning: logs is sound so far, but too short: 6 days of 14 to train and 2 to hold out; `paretune train` and" in said
    assert "fit to learn from" not in said
    assert main(["sweep", "logs", "-c", str(toml), "-o", str(tmp_path / "run")]) == 3
    assert "the log has 6 days, the split needs 14 to train and 2 to hold out" in capsys.readouterr().err
    assert main(["check", "logs", "-c", str(toml), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["enough_days"] is False
    assert main(["check", "logs"]) == 0
    assert "logs is fit to learn from" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_sweep_of_too_little_data_exits_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "logs", "--model", "ridge", "-o", "runs/tiny"]) == 4
    said = capsys.readouterr().err
    assert re.search(
        r"not enough data: .* takes about [\d,]+ held-out exploration rows in all\n  hint: explore about .* times as many requests", said
    )
    assert "Not enough data" in Path("runs/tiny/report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["check"], 2, "Missing argument"),
        (["chekc", "logs"], 2, "No such command"),
        (["train", "logs", "--seed", "-1"], 2, "--seed"),
        (["check", "logs", "--config", "no.toml"], 2, "no configuration at no.toml"),
        (["train", "logs", "--model", "crystal-ball"], 2, "crystal-ball"),
        (["simulate", "new", "--world", "mars"], 2, "homefeed"),
        (["simulate", "logs"], 2, "already holds Parquet files"),
        (["check", "nowhere"], 3, "no log at nowhere"),
        (["surface", "logs"], 3, "candidate_ids"),
        (["report", "nowhere"], 3, "paretune sweep"),
        (["sweep", "logs", "--bundle", "nowhere"], 3, "nowhere"),
    ],
)
def test_each_kind_of_mistake_has_its_exit_code_and_says_what_to_do(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_an_interrupt_exits_130_and_a_fault_exits_1_with_a_way_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    def broken(**_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "app", interrupted)
    assert main([]) == 130
    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    assert main([]) == 1
    assert "unexpected ZeroDivisionError: by zero" in capsys.readouterr().err
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(ZeroDivisionError):
        main([])


def test_version_names_the_parts_that_decide_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["numpy"] == np.__version__
    assert told["paretune"]


@pytest.mark.parametrize("code", ["import paretune", "from paretune.cli import main; main(['--help'])"])
def test_importing_and_helping_are_quick_and_bring_no_torch(code: str) -> None:
    measure = f"import time, sys; {code}; print('torch' in sys.modules, 'polars' in sys.modules, time.process_time())"
    done = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True)
    torch, polars, seconds = done.stdout.split()[-3:]
    assert (torch, polars) == ("False", "False")
    assert float(seconds) < 0.6


def test_every_public_name_is_there_and_no_other() -> None:
    import paretune

    for name in paretune.__all__:
        assert getattr(paretune, name) is not None
    assert paretune.__version__
    assert set(paretune.__all__) <= set(dir(paretune))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = paretune.no_such_name
