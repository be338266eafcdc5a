"""docs/exchange.md: its Python runs as it stands and says what its comments say, and its table is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from foreign import RAW, configured

from paretune.cli import main
from paretune.exchange.weights_table import decode_table
from paretune.policy.plan import Arm, Plan, encode_plan

PAGE = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs_and_prints_what_its_comments_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openfeature.contrib.provider.flagd")
    monkeypatch.chdir(tmp_path)
    configured(tmp_path, {"features": {"numeric": ["x0", "x1"]}})
    (table,) = blocks("json")
    Path("weights_table.json").write_text(table, encoding="utf-8")
    plan = Plan(version=1, heads=("save", "p2p", "hide"), static=(91.6, 9.1, -4.0), arms=(Arm("bold", 0.05, weights=(150.0, 9.1, -4.0)),))
    Path("plan.json").write_bytes(encode_plan(plan))
    assert main(["convert", "plan.json", "--to", "flagd"]) == 0
    capsys.readouterr()
    for block in blocks("python"):
        exec(compile(block, "exchange.md", "exec"), {})  # noqa: S102
        promised = re.findall(r"^print\(.*\)  # (.+)$", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == promised
    assert len(blocks("python")) == 4


def test_the_commands_of_the_page_are_commands_with_these_options(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split("  #")[0].split() for block in blocks("sh") for line in block.splitlines() if line.startswith("paretune")]
    assert len(lines) == 9
    for words in lines:
        assert main([words[1], "--help"]) == 0
        told = capsys.readouterr().out
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", told))


def test_the_table_of_the_page_is_one() -> None:
    (table,) = blocks("json")
    assert len(decode_table(table.encode()).rows) == 2
    assert json.loads(table)["heads"] == [head["name"] for head in RAW["surface"]["heads"]]
