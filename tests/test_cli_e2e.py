"""The commands end to end, as a newcomer types them: a log the worlds did not write, and a simulated one."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paretune.cli import main

EXAMPLE = Path(__file__).parents[1] / "examples" / "bring_your_own_logs"
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads of a small fit wait for each other on a busy machine
PROGRAMS = {"python": [sys.executable], "paretune": [sys.executable, "-m", "paretune"]}

pytestmark = pytest.mark.e2e


def test_the_commands_of_the_bring_your_own_example_end_in_a_report(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "shop")
    block = re.search(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    commands = [shlex.split(line, comments=True) for line in block[1].splitlines() if not line.startswith("cd ")]
    assert len(commands) == 3
    for words in commands:
        done = subprocess.run(
            [*PROGRAMS[words[0]], *words[1:]], cwd=tmp_path / "shop", env=ALONE, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "purchase" in done.stdout
    assert "runs/latest/report.html" in done.stdout
    run = tmp_path / "shop" / "runs" / "latest"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']https?:", page)
    front = json.loads((run / "front.json").read_text(encoding="utf-8"))
    knee = next(pick["policy"] for pick in front["picks"] if pick["label"] == "knee")
    assert front["lifts"]["hits"][knee] >= 100
    assert max(front["lifts"]["estimate"][knee]) > 0
    assert len({*map(tuple, front["mean_weights"])}) > 10  # the policies serve different weights

    for words in (
        ["check", "logs"],
        ["train", "logs", "--model", "ridge", "-o", "runs/ridge"],
        ["report", "runs/latest", "--title", "Shop"],
    ):
        done = subprocess.run(
            [*PROGRAMS["paretune"], *words], cwd=tmp_path / "shop", env=ALONE, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "<title>Shop</title>" in (run / "report.html").read_text(encoding="utf-8")


def test_simulated_logs_pass_the_check_and_their_heads_are_the_ones_that_are_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "logs", "--days", "3", "--requests", "4000", "--explore", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] >= 12_000
    assert main(["check", "logs"]) == 0
    capsys.readouterr()
    assert main(["surface", "logs", "--requests", "1000", "--figures", "pictures", "--json"]) == 0
    heads = json.loads(capsys.readouterr().out)["heads"]
    assert {head["name"] for head in heads if head["tune"]} == {"save", "p2p"}
    assert np.isclose(sum(head["contribution"] for head in heads), 1)
    assert {path.name for path in Path("pictures").iterdir()} >= {"contribution.svg", "ranges.png", "engagement.svg"}
    assert main(["simulate", "logs"]) == 2
