"""The loop closes: serve, log, join, check, train, sweep, switch, serve; and what is then served is truly better than production."""

from datetime import datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np
import polars as pl
import pytest
from running import running

from paretune.cli import main
from paretune.policy.plan import Exploration, Plan
from paretune.records import PRODUCTION
from paretune.seeds import stream
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.sources import write_plan
from paretune.sim import open_world
from paretune.sim.operated import Operated, operate
from paretune.sim.response import exact_values, pool_candidates
from paretune.sim.traffic import union_candidates
from paretune.sim.world import World
from paretune.surface.lists import top_lists
from paretune.template import render_config

DAYS, SESSIONS = 8, 19_000
BATCH = 500


def over_http(address: str) -> tuple[httpx.Client, object]:
    client = httpx.Client(base_url=address, headers={"content-type": "application/msgpack"}, timeout=30)

    def decide(requests: tuple[Request, ...]) -> list[Decision]:
        decisions: list[Decision] = []
        for start in range(0, len(requests), BATCH):
            asked = [
                {name: getattr(r, name) for name in ("request_id", "user", "features", "cohort", "session", "time_us")}
                for r in requests[start : start + BATCH]
            ]
            answer = client.post("/v1/decide/batch", content=msgspec.msgpack.encode({"requests": asked}))
            for a in msgspec.msgpack.decode(answer.raise_for_status().content)["decisions"]:
                weights = tuple(a["weights"].values())
                decisions.append(Decision(a["request_id"], weights, a["action"], a["arm"], a["plan"], a["propensity"], Reason(a["reason"])))
        return decisions

    return client, decide


def events_of(world: World, wave: Operated) -> list[pl.DataFrame]:
    """Return what users did, and the candidates of explored requests, as a feed would log them."""
    served, ids = wave.served, np.array([request.request_id for request in wave.requests])
    time = pl.Series([request.time_us for request in wave.requests]).cast(pl.Datetime("us"))
    frames = []
    for j, objective in enumerate(world.config().objectives):
        happened = pl.DataFrame({"request_id": ids, "ts": time, "count": served.counts[:, j].astype(np.int64)}).filter(pl.col("count") > 0)
        frames.append(happened.with_columns(pl.lit(objective.column).alias("event"), pl.col("ts") + pl.duration(minutes=2)))
    rows = np.flatnonzero(served.choice.explored)
    pool = pool_candidates(served.arrivals.take(rows), world.catalogue, served.scores[rows])
    union = union_candidates(pool, top_lists(pool, world.surface.actions, world.surface.k))
    bounds = list(zip(union.offsets[:-1], union.offsets[1:], strict=True))
    listed = {
        "request_id": ids[rows],
        "event": ["candidates"] * len(rows),
        "candidate_ids": [union.ids[a:b].astype("<i4").tobytes() for a, b in bounds],
        "candidate_scores": [union.scores[a:b].astype("<f2").tobytes() for a, b in bounds],
    }
    return [*frames, pl.DataFrame(listed)]


@pytest.mark.e2e
def test_served_logged_joined_learned_switched_and_served_again_beats_production_in_truth(tmp_path: Path) -> None:
    world = open_world("homefeed", setting="demo", seed=11)
    config = world.config()
    raw = config.model_dump(mode="json")
    config = type(config).model_validate(raw | {"evaluation": raw["evaluation"] | {"train_days": 4, "hold_out_days": 4}})
    (tmp_path / "paretune.toml").write_text(render_config(config), encoding="utf-8")
    surface = world.surface
    levels = tuple(map(tuple, surface.actions.tolist()))
    plan = Plan(1, surface.names, tuple(surface.static.tolist()), exploration=Exploration(share=0.9, levels=levels))
    (tmp_path / "bundles").mkdir()
    write_plan(plan, tmp_path / "plan.json")
    words = ("--spool", str(tmp_path / "spool"), "--config", str(tmp_path / "paretune.toml"), "--deadline-ms", "5000")
    with running(tmp_path, *words) as (_, address):
        client, decide = over_http(address)
        events: list[pl.DataFrame] = []
        total = 0
        for wave in operate(world, decide, days=range(DAYS), sessions_per_day=SESSIONS, rng=lambda day: stream(11, "loop", day)):  # type: ignore[arg-type]
            events += events_of(world, wave)
            total += len(wave.requests)
        client.close()
    (tmp_path / "events").mkdir()
    pl.concat(events, how="diagonal_relaxed").write_parquet(tmp_path / "events" / "events.parquet")
    toml = ["-c", str(tmp_path / "paretune.toml")]
    now = datetime(2026, 2, 1).isoformat()
    assert main(["join", str(tmp_path / "spool"), str(tmp_path / "events"), "-o", str(tmp_path / "logs"), *toml, "--now", now]) == 0
    logged = pl.read_parquet(tmp_path / "logs" / "day=*" / "*.parquet", columns=["request_id", "reason", "propensity"])
    assert len(logged) == total
    assert main(["check", str(tmp_path / "logs"), *toml]) == 0
    assert main(["sweep", str(tmp_path / "logs"), *toml, "-o", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "balanced", "-o", str(tmp_path / "bundles" / "balanced")]) == 0
    asked = ["plan", "--bundle", str(tmp_path / "bundles" / "balanced"), "--share", "100", "--explore-share", "0"]
    assert main([*asked, "-o", str(tmp_path / "plan.json")]) == 0
    with running(tmp_path, "--deadline-ms", "5000") as (_, address):
        client, decide = over_http(address)
        lift = np.zeros((2, len(world.objectives)))
        reasons: set[str] = set()
        for wave in operate(world, decide, days=range(DAYS, DAYS + 1), sessions_per_day=4_000, rng=lambda day: stream(12, "loop", day)):  # type: ignore[arg-type]
            reasons |= {decision.reason for decision in wave.decisions}
            exact = exact_values(world, wave.served.arrivals, surface.actions)
            lift += np.stack([exact[np.arange(len(exact)), wave.served.choice.action].sum(axis=0), exact[:, PRODUCTION].sum(axis=0)])
        client.close()
    assert reasons == {"POLICY"}
    gain = lift[0] / lift[1] - 1
    print(f"served {total:,} requests; true lifts of what is served now: {gain}")
    assert (gain > 0).all(), gain
    assert gain.sum() > 0.02, gain
