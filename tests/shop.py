"""A small log of the example of one's own logs, and its paretune.toml, for tests that type commands."""

import runpy
from pathlib import Path

import numpy as np

from paretune.cli import main

EXAMPLE = Path(__file__).parents[1] / "examples" / "bring_your_own_logs"
FOUR_AND_TWO = {"train_days = 14": "train_days = 4", "hold_out_days = 7": "hold_out_days = 2"}
QUICK = {**FOUR_AND_TWO, "min_hits = 100": "min_hits = 5", 'model = "auto"': 'model = "ridge"', "replicates = 1000": "replicates = 100"}


def make_shop(folder: Path, *, rows: int, changes: dict[str, str]) -> Path:
    """Write six days of logs and a configuration for them, and return the folder.

    Args:
        folder: gets logs/ and paretune.toml.
        rows: of a day.
        changes: lines of paretune.toml and what stands there instead.
    """
    traffic = runpy.run_path(str(EXAMPLE / "make_logs.py"))["day_of_traffic"]
    for day in range(6):
        target = folder / "logs" / f"day=2026-03-{day + 1:02d}"
        target.mkdir(parents=True)
        traffic(np.random.default_rng(day), rows).write_parquet(target / "part-0.parquet")
    assert main(["init", str(EXAMPLE / "weights.yaml"), "--logs", str(folder / "logs"), "-o", str(folder / "paretune.toml")]) == 0
    text = (folder / "paretune.toml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "paretune.toml").write_text(text, encoding="utf-8")
    return folder
