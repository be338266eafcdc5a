"""Served traffic of the simulated world, spooled, joined with what its users did, is the log that the world would have written."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paretune.cli import main
from paretune.logs.parquet import read_log, write_day
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.spool import Spool
from paretune.sim import open_world
from paretune.sim.traffic import EPOCH_DAY, explore_uniformly, log_columns, sessions
from paretune.template import render_config


@pytest.mark.e2e
def test_served_spooled_and_joined_traffic_passes_check_with_the_world_s_rewards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = open_world("homefeed")
    config, rng = world.config(), np.random.default_rng(1)
    (tmp_path / "paretune.toml").write_text(render_config(config), encoding="utf-8")
    spool = Spool(tmp_path / "spool", config, rotate_rows=5_000)
    direct, happened, total, late = [], [], 0, 0
    for served in sessions(world, 9_000, day=0, choose=explore_uniformly(world, 0.3), rng=rng):
        frame = pl.DataFrame(log_columns(world, served, first_session=0, first_request=total, candidates=True))
        direct.append(frame)
        sent = frame.select(
            *config.features.numeric, *config.features.categorical, "user_embedding", *(s.name for s in config.features.sequences)
        )
        fixed = frame.select("request_id", "user", "cohort", "session", pl.col("ts").dt.epoch("us"), "action", "propensity", "reason")
        weights = served.choice.weights.tolist()
        for row, features, vector in zip(fixed.iter_rows(), sent.iter_rows(named=True), weights, strict=True):
            request_id, user, cohort, session, time_us, action, propensity, reason = row
            request = Request(request_id, user, features, cohort, session, time_us)
            decision = Decision(request_id, tuple(vector), action, "", 0, propensity, Reason(reason))
            while not spool.offer(request, decision):
                late += 1
                spool.flush()
        counts = frame.select("request_id", "ts", *(o.column for o in config.objectives)).unpivot(
            index=["request_id", "ts"], variable_name="event", value_name="count"
        )
        happened.append(counts.filter(pl.col("count") > 0).with_columns(pl.col("ts") + pl.duration(minutes=3)))
        listed = frame.filter(pl.col("candidate_ids").bin.size() > 0)
        happened.append(listed.select("request_id", pl.lit("candidates").alias("event"), "candidate_ids", "candidate_scores", "served_ids"))
        total += len(frame)
    spool.close()
    assert spool.counts.written == total == spool.counts.offered - late
    (tmp_path / "events").mkdir()
    pl.concat(happened, how="diagonal_relaxed").sample(fraction=1.0, shuffle=True, seed=0).write_parquet(
        tmp_path / "events" / "events.parquet"
    )
    words = [str(tmp_path / "spool"), str(tmp_path / "events"), "-o", str(tmp_path / "logs"), "-c", str(tmp_path / "paretune.toml")]
    assert main(["join", *words, "--now", datetime(2026, 1, 4).isoformat()]) == 0
    assert f"written {total:,}" in capsys.readouterr().out
    assert main(["join", *words, "--now", datetime(2026, 1, 4).isoformat(), "--json"]) == 0  # again: nothing is written twice
    assert json.loads(capsys.readouterr().out)["decisions"]["written"] == 0
    assert main(["check", str(tmp_path / "logs"), "-c", str(tmp_path / "paretune.toml")]) == 0
    write_day(tmp_path / "direct", EPOCH_DAY, pl.concat(direct).with_columns(pl.col("user", "session").cast(pl.String)).to_dict())
    joined, wanted = (read_log(tmp_path / name, config, candidates=True) for name in ("logs", "direct"))
    order, other = np.argsort(joined.request), np.argsort(wanted.request)
    for field in ("request", "user", "session", "action", "propensity", "explored", "rewards", "day", "time_us"):
        np.testing.assert_array_equal(getattr(joined, field)[order], getattr(wanted, field)[other], err_msg=field)
    for kind in ("numeric", "embedding", "sequence"):
        for name, values in getattr(joined.state, kind).items():
            np.testing.assert_array_equal(values[order], getattr(wanted.state, kind)[name][other], err_msg=name)
    a, b = joined.take(order).candidates, wanted.take(other).candidates
    assert a is not None
    assert b is not None
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.scores, b.scores)
