"""`paretune doctor` as typed: it changes nothing, shows no secret, and its exit code says what to mend first."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from paretune.cli import main
from shop import QUICK, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shop(tmp_path_factory.mktemp("shop"), rows=300, changes=QUICK)


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["doctor", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def levels(found: dict[str, Any], part: str) -> list[str]:
    return [each["level"] for each in found["findings"] if each["part"] == part]


def test_an_empty_folder_is_fine_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARETUNE_REGISTRY", raising=False)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr()
    assert "✓ versions" in printed.out
    assert "hint: write one with `paretune init WEIGHTS`" in printed.out
    assert "\x1b" not in printed.out + printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_good_log_and_its_configuration_are_said_to_be_so(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop)
    found = told(capsys, "logs", code=0)
    assert found["ok"] is True
    assert levels(found, "configuration") == ["ok"]
    assert levels(found, "log") == ["ok", "ok", "ok"]


def test_a_log_with_bad_rows_exits_3(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop)
    frame = pl.read_parquet(shop / "logs" / "day=2026-03-01" / "part-0.parquet")
    place = tmp_path / "logs" / "day=2026-03-01"
    place.mkdir(parents=True)
    frame.with_columns(propensity=pl.lit(1.5)).write_parquet(place / "part-0.parquet")
    found = told(capsys, str(tmp_path / "logs"), code=3)
    assert levels(found, "log") == ["warning", "wrong"]  # too few days, and the rows
    assert "propensity_range:propensity on 300" in found["findings"][-1]["seen"]
    assert told(capsys, str(tmp_path / "nowhere"), code=3)["findings"][-1]["seen"].startswith("no log at")


def test_days_that_have_not_begun_are_noticed(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "day=2999-01-01").symlink_to(shop / "logs" / "day=2026-03-01")
    found = told(capsys, str(tmp_path / "logs"), code=0)
    assert "the last day has not begun" in found["findings"][-2]["seen"]


def test_a_broken_configuration_exits_2_and_the_log_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("paretune.toml").write_text("[surfaces]\n", encoding="utf-8")
    found = told(capsys, "logs", code=2)
    assert levels(found, "configuration") == ["wrong"]
    assert levels(found, "log") == ["wrong"]
    assert told(capsys, "--config", "other.toml", code=2)["exit_code"] == 2


def test_servers_that_do_not_answer_exit_5_and_no_password_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--registry", "postgresql://anna:hunter2@127.0.0.1:9/x?sslpassword=hunter3", "--redis", "redis://:hunter4@127.0.0.1:9/0"]
    words += ["--service", "http://token5@127.0.0.1:9", "--timeout-s", "1"]
    assert main(["doctor", *words]) == 5
    printed = capsys.readouterr()
    assert printed.out.count("✗") == 3
    assert not any(secret in printed.out + printed.err for secret in ("hunter", "token5"))
    found = told(capsys, *words, code=5)
    assert levels(found, "registry") + levels(found, "redis") + levels(found, "service") == ["wrong"] * 3
    assert not any(secret in json.dumps(found) for secret in ("hunter", "token5"))
