"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

from paretune.config import dump_config
from paretune.sim import open_world
from paretune.sim.traffic import write_logs

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.e2e
def test_every_python_block_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    world = open_world("homefeed", seed=4)
    write_logs(world, tmp_path / "logs", days=range(21), requests_per_day=1200, explore_share=0.7, seed=4)
    config = world.config()
    quick = config.model_copy(
        update={
            "training": config.training.model_copy(update={"max_epochs": 2}),
            "evaluation": config.evaluation.model_copy(update={"min_hits": 10}),
        }
    )
    (tmp_path / "paretune.toml").write_text(dump_config(quick), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})  # noqa: S102
    assert "knee" in capsys.readouterr().out


def test_the_readme_starts_short():
    text = README.read_text(encoding="utf-8")
    before, first = text.split("```", 2)[:2]
    assert len(before.split()) <= 120
    assert len(first.splitlines()) <= 16
