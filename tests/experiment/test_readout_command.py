"""`paretune readout`: tables, JSON, page and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from registries import ANNA, published
from simulated import SHARES

from paretune.cli import main
from paretune.commands.readout import parse_margins, parse_shares
from paretune.errors import ConfigError
from paretune.policy.changes import arm_name
from paretune.policy.plan import Arm, Plan
from paretune.policy.registry import Registry
from paretune.serving.sources import write_plan


def words(tested: Path, *more: str) -> list[str]:
    return ["readout", str(tested), "-c", str(tested.parent / "paretune.toml"), "--days", "3:6", *more]


def test_json_is_one_object_with_a_sentence_per_arm(tested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tested, "--shares", SHARES, "--planned-days", "4", "--pre-days", "1:2", "--by", "cohort", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["basis"] == "fixed horizon"
    assert found["sentences"][0].startswith("saver: harms p2p")
    saver = found["arms"]["saver"]
    assert saver["answer"] == "harms"
    assert set(saver["metrics"]) == {"save", "p2p", "hide", "successful sessions"}
    low, high = saver["metrics"]["p2p"]["band"]
    assert low < saver["metrics"]["p2p"]["lift"] < high < 0
    assert found["sample_ratio"]["p_value"] > 0.001
    assert len(found["looks"]["days"]) == 4
    assert len(found["cohorts"]["names"]) == 3
    assert found["variance_explained_by_before"]["save"] > 0


def test_a_split_that_is_not_the_plan_s_exits_4_and_says_which(tested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tested, "--shares", "control=50%,saver=30%,static=20%")) == 4
    printed = capsys.readouterr()
    assert "✗ Sample ratio" in printed.out
    assert "Blocked: the split is not the planned one" in printed.err
    assert "harms" not in printed.out + printed.err


def test_a_test_that_cannot_tell_exits_4_and_says_how_many_users_it_needs(tested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = [word for metric in ("save", "p2p", "successful sessions") for word in ("--margin", f"{metric}=60")]
    assert main(words(tested, "--shares", SHARES, "--margin", "hide=0.5%", *wide)) == 4
    told = capsys.readouterr().err
    assert "saver: cannot tell; hide may still rise by more than 0.5 %; needs about " in told
    assert "day 4 is before the planned last day, 14" in told


def test_margins_decide_what_is_harm(tested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = [word for metric in ("save", "p2p", "hide", "successful sessions") for word in ("--margin", f"{metric}=60")]
    assert main(words(tested, "--shares", SHARES, "--planned-days", "4", *wide)) == 0
    assert "saver: not inferior" in capsys.readouterr().out


def test_the_page_holds_tables_and_both_pictures(tested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tested, "--shares", SHARES, "--by", "cohort", "--out", str(tmp_path / "page"))) == 0
    page = (tmp_path / "page" / "readout.html").read_text(encoding="utf-8")
    for heading in ("What the test says", "Is the split as planned?", "Lifts", "Look by look", "Power", "Cohorts"):
        assert f"{heading}</h2>" in page
    for caption in ("Sample ratio", "Lifts", "What the test can see", "Lifts by cohort"):
        assert f"<caption>{caption}<" in page
    assert "http://" not in page.split("<script")[0]
    assert {path.name for path in (tmp_path / "page" / "figures").iterdir()} == {"lifts.png", "lifts.svg", "looks.png", "looks.svg"}
    assert "saver: harms" in capsys.readouterr().out


def test_shares_come_from_a_plan_file_and_from_the_one_that_is_there(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(tested)) == 2
    assert "planned shares of the arms are not known" in capsys.readouterr().err
    plan = Plan(7, ("a",), (1.0,), arms=(Arm("control", 0.4), Arm("saver", 0.4)))
    write_plan(plan, tmp_path / "other.json")
    assert main(words(tested, "--plan", str(tmp_path / "other.json"), "--json")) == 0
    named = json.loads(capsys.readouterr().out)
    write_plan(plan, tmp_path / "plan.json")
    assert main(words(tested, "--json")) == 0
    assert json.loads(capsys.readouterr().out) == named
    assert named["sample_ratio"]["expected"]["static"] == pytest.approx(0.2 * sum(named["sample_ratio"]["seen"].values()))


def test_shares_come_from_the_registry(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry("paretune.db", create=True)
    assert main(words(tested)) == 2
    assert "no plan in force" in capsys.readouterr().err
    number = published(registry)
    registry.activate(number, share=0.4, control=0.4, by=ANNA)
    shutil.copytree(tested, tmp_path / "logs")
    for file in (tmp_path / "logs").glob("*/*.parquet"):
        pl.read_parquet(file).with_columns(pl.col("arm").replace("saver", arm_name(number))).write_parquet(file)
    asked = ["readout", "logs", "-c", str(tested.parent / "paretune.toml"), "--days", "3:6"]
    for more in ([], ["--version", "1"], ["--registry", str(tmp_path / "paretune.db")]):
        assert main([*asked, *more, "--json"]) == 0
        expected = json.loads(capsys.readouterr().out)["sample_ratio"]["expected"]
        assert {arm: round(n / sum(expected.values()), 6) for arm, n in expected.items()} == {
            "policy-1": 0.4,
            "control": 0.4,
            "static": 0.2,
        }
    registry.ramp(number, share=0.6, by=ANNA)
    assert main(asked) == 4
    assert main([*asked, "--version", "1"]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shares", "control"], "no name with a number"),
        (["--shares", "control=0.5,control=0.5"], "two shares"),
        (["--shares", "control=0.5,saver=0.5"], "no share is known of ['static']"),
        (["--shares", SHARES, "--margin", "nothing=1"], "no metric"),
        (["--shares", SHARES, "--control", "x"], "nobody is in arm 'x'"),
        (["--shares", SHARES, "--pre-days", "2:4"], "do not lie before"),
    ],
)
def test_what_is_asked_wrongly_exits_2_and_says_what(tested: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tested, *more)) == 2
    assert said in capsys.readouterr().err


def test_shares_and_margins_are_read_as_they_are_written() -> None:
    assert parse_shares("a=0.5, b=50%") == {"a": 0.5, "b": 0.5}
    assert parse_margins(["hide=0.5%", "save=1,p2p=2"]) == pytest.approx({"hide": 0.005, "save": 0.01, "p2p": 0.02})
    with pytest.raises(ConfigError, match="no name with a number"):
        parse_margins(["hide=much"])
