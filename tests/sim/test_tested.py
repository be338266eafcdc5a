"""The log of a simulated test is one that service and join could have written."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from paretune.cli import main
from paretune.sim import open_world
from paretune.sim.tested import PlayedArm, fixed, write_test
from paretune.sim.world import World
from paretune.template import render_config


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("homefeed", setting="demo", seed=6)


@pytest.fixture(scope="module")
def log(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = world.surface.static.copy()
    weights[0] *= 1.7  # off the grid
    folder = tmp_path_factory.mktemp("log")
    write_test(
        world, folder, [PlayedArm("control", 0.3), PlayedArm("new", 0.5, fixed(world, weights))],
        days=range(3), before=1, requests_per_day=2_000, explore_share=0.1, seed=6,
    )  # fmt: skip
    return folder


def test_it_passes_the_checks_of_a_log(world: World, log: Path, tmp_path: Path) -> None:
    (tmp_path / "paretune.toml").write_text(render_config(world.config()), encoding="utf-8")
    assert main(["check", str(log), "-c", str(tmp_path / "paretune.toml")]) == 0


def test_users_stay_in_their_arm_and_arms_begin_with_the_test(log: Path) -> None:
    rows = pl.read_parquet(log / "day=*" / "*.parquet", hive_partitioning=True)
    days = rows["day"].cast(pl.String)
    assert set(rows.filter(days == "2026-01-01")["arm"]) == {""}
    test = rows.filter(days > "2026-01-01")
    assert (test.group_by("user").agg(pl.col("arm").n_unique())["arm"] == 1).all()
    shares = dict(test.group_by("arm").agg(pl.col("user").n_unique()).iter_rows())
    whole = sum(shares.values())
    assert {arm: round(n / whole, 1) for arm, n in shares.items()} == {"control": 0.3, "new": 0.5, "static": 0.2}
    explored = dict(test.group_by("arm").agg((pl.col("reason") == "EXPLORE").mean()).iter_rows())
    assert all(0.06 < share < 0.14 for share in explored.values())
    assert set(test.filter(pl.col("arm") == "new")["reason"]) == {"POLICY", "EXPLORE"}
    assert set(test.filter(pl.col("arm") != "new")["reason"]) == {"STATIC", "EXPLORE"}
    assert test.filter(pl.col("reason") == "POLICY")["action"].is_null().all()
