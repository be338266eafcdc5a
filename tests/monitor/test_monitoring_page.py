"""docs/monitoring.md: its Python runs as it stands and says what it says, and its marks are the program's."""

import re
from pathlib import Path

import pytest

from paretune.monitor import finding
from paretune.monitor.drift import LEVEL, SMALLEST_SHARE
from paretune.monitor.psi import MODERATE

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs_and_prints_what_its_comments_say(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = BLOCK.findall(PAGE)
    exec(compile(block, "monitoring.md", "exec"), {})  # noqa: S102
    promised = re.findall(r"^print\(.*\)  # (.+)$", block, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == promised


@pytest.mark.parametrize(
    ("aspect", "mark"),
    [
        ("state", f"{MODERATE:g} beyond"),
        ("scale", f"{finding.SCALED:g} times"),
        ("segments", f"{finding.SEGMENTS_SD:g} beyond"),
        ("contribution", f"{100 * finding.SHARE_POINTS:g} points"),
        ("reward", f"{100 * finding.REWARD_CHANGE:g} %"),
        ("calibration", f"{finding.CALIBRATION:g} times"),
        ("exploration", f"{100 * finding.OFF_PROPENSITY:g} %"),
        ("gain", f"{finding.SLOPE:g} where"),
    ],
)
def test_the_marks_of_the_page_are_those_of_the_program(aspect: str, mark: str) -> None:
    (row,) = re.findall(rf"^\| {aspect} \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    assert mark in row


def test_the_level_and_the_smallest_head_of_the_page_are_those_of_the_program() -> None:
    assert f"at {100 * LEVEL:g} %" in PAGE
    assert f"under {100 * SMALLEST_SHARE:g} %" in PAGE
    assert "MEASURED" not in PAGE
