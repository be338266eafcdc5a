"""`paretune guard` on a log of what is served: steps back, ramps, holds, and what it leaves in the record."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from registries import ANNA, BERT, bundle, document

from paretune.cli import main
from paretune.config import Config, load_config
from paretune.errors import ConflictError, ForbiddenError
from paretune.experiment.guarding import Memory
from paretune.experiment.stepping import acted, looked
from paretune.experiment.watch import Step
from paretune.policy.registry import Registry
from paretune.sim import open_world
from paretune.sim.tested import PlayedArm, fixed, write_test
from paretune.template import render_config

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # of the world's first day
DAY_S = 86_400


class Served:
    """A world whose users are served a plan that a registry holds; the arm may favour saves so much that p2p falls."""

    def __init__(self, folder: Path, *, factor: float = 1.0, days: int = 3, **rollout: object) -> None:
        world = open_world("homefeed", setting="demo", seed=5, objectives=3)
        config = world.config()
        settings = {"least_users": 100, "planned_users": 4_000, **rollout}
        self.config = Config.model_validate(config.model_dump(mode="json") | {"rollout": settings})
        (folder / "paretune.toml").write_text(render_config(self.config), encoding="utf-8")
        self.now = START
        self.registry = Registry(folder / "r.db", clock=lambda: self.now)
        heads, static = list(world.surface.names), world.surface.static.tolist()
        served = world.surface.static.copy()
        served[world.objective_heads[0]] *= factor
        files = bundle()
        written = document(None, heads=heads, static=static, weights=served.tolist())
        self.registry.publish(written, files, by=ANNA)
        self.registry.approve(1, by=BERT)
        self.registry.activate(1, share=0.5, control=0.25, by=ANNA)
        arms = [PlayedArm("policy-1", 0.5, fixed(world, served)), PlayedArm("control", 0.25)]
        self.logs = folder / "logs"
        write_test(world, self.logs, arms, days=range(days), requests_per_day=5_000, seed=6)
        self.now = START + days * DAY_S
        self.words = ["guard", str(self.logs), "--registry", str(folder / "r.db"), "-c", str(folder / "paretune.toml")]


def test_a_policy_that_harms_is_killed_with_the_evidence_in_the_trail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = Served(tmp_path, factor=1.9)
    assert main([*served.words, "--dry-run", "--json", "--metrics", str(tmp_path / "guard.prom")]) == 4
    exported = (tmp_path / "guard.prom").read_text(encoding="utf-8")
    for line in ('guard_action{action="kill"} 1.0', 'guardrail_state{guardrail="p2p",state="breached"} 1.0', "guard_plan_version 1.0"):
        assert f"paretune_{line}\n" in exported, line
    told = json.loads(capsys.readouterr().out)
    assert (told["action"], told["became"]) == ("kill", None)
    assert [one["state"] for one in told["guardrails"] if one["name"] == "p2p"] == ["breached"]
    assert served.registry.version() == 1
    assert main(served.words) == 4
    plan, entry = served.registry.current(), served.registry.audit()[-1]
    assert plan is not None
    assert plan.killed
    assert (entry.who, entry.what) == ("guardrails", "kill")
    assert "p2p: −" in json.loads(entry.detail)["note"]
    assert main(served.words) == 0  # nothing more to do
    assert served.registry.version() == 2
    assert served.registry.verify() == []


def test_after_going_back_by_itself_only_a_person_goes_forward_again(tmp_path: Path) -> None:
    served = Served(tmp_path, factor=1.9, on_breach="rollback", hold_hours=0.0)
    served.registry._clock = lambda: START  # the log is of what the second plan served
    served.registry.ramp(1, share=0.6, by=ANNA)
    served.registry._clock = lambda: served.now
    assert main(served.words) == 4
    assert [(one.operation, one.by, one.content_of) for one in served.registry.history(1)] == [("rollback", "guardrails", 1)]
    _, _, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=1.0, now_s=served.now + 60)
    assert step.sentence == "hold: it stepped back by itself; a person says how it goes on"
    assert main([*served.words, "--ramp-to", "100"]) == 4
    assert served.registry.version() == 3
    served.registry.ramp(1, share=0.6, by=ANNA)
    _, _, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=1.0, now_s=served.now + 60)
    assert step.action == "keep"


def test_a_policy_that_harms_nothing_is_ramped_after_its_time_and_not_before(tmp_path: Path) -> None:
    served = Served(tmp_path, factor=1.0, hold_hours=24.0)
    early, number, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=1.0, now_s=START + 3600)
    assert (step.action, number) == ("keep", 1)
    assert early.users > 100
    _, _, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.5, now_s=served.now)
    assert step.action == "keep"  # no further than asked for
    situation, number, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=1.0, now_s=served.now)
    assert step.action == "ramp", step.sentence
    assert acted(served.registry, step, number=number, situation=situation) == 2
    assert [(one.operation, one.by) for one in served.registry.history(1)] == [("ramp", "guardrails")]
    plan = served.registry.current()
    assert plan is not None
    assert [(arm.name, arm.share) for arm in plan.arms] == [("policy-1", 0.75), ("control", 0.25)]  # the next step is 100 %


def test_a_plan_that_came_meanwhile_is_not_touched(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    situation, number, _ = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=served.now)
    with pytest.raises(ConflictError, match="came into force while plan 0 was looked at"):
        acted(served.registry, Step("kill", ("p2p",)), number=number, situation=replace(situation, version=0))
    assert served.registry.version() == 1


def test_fallbacks_lateness_and_silence_are_seen_in_the_spool(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    rows = pl.read_parquet(served.logs / "day=2026-01-01" / "*.parquet")
    mine = pl.col("arm") == "policy-1"
    spool = tmp_path / "spool"
    spool.mkdir()
    told = rows.select("user", "arm", "ts", "reason", "plan").with_columns(
        pl.when(mine & (pl.int_range(pl.len()) % 8 == 0)).then(pl.lit("FALLBACK:timeout")).otherwise("reason").alias("reason"),
        pl.when(mine & (pl.int_range(pl.len()) % 3 == 0)).then(80_000).otherwise(700).alias("elapsed_us"),
    )
    told.write_parquet(spool / "d.parquet")
    situation, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=0.0, now_s=START + DAY_S)
    found = {one.name: one for one in situation.watched}
    assert (found["fallbacks"].state, found["late decisions"].state) == ("breached", "breached")
    assert found["fallbacks"].value == pytest.approx(0.125, abs=0.03)
    assert step.action == "kill"
    silent, _, step = looked(served.logs, served.config, served.registry, spool=tmp_path / "none", ramp_to=0.0, now_s=START + DAY_S)
    assert silent.silent_s == silent.age_s
    assert (step.action, "nobody can see" in step.sentence) == ("kill", True)


def test_nothing_in_force_is_nothing_to_watch(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.db")
    config = open_world("homefeed").config()
    (tmp_path / "paretune.toml").write_text(render_config(config), encoding="utf-8")
    _, _, step = looked(tmp_path, load_config(tmp_path / "paretune.toml"), registry, spool=None, ramp_to=1.0, now_s=0.0)
    assert step.sentence == "keep: no policy is served"


def test_what_goes_wrong_after_many_good_days_is_not_drowned_in_them(tmp_path: Path) -> None:
    served = Served(tmp_path, days=8)
    world = open_world("homefeed", setting="demo", seed=5, objectives=3)
    bad = world.surface.static.copy()
    bad[world.objective_heads[0]] *= 2.5
    arms = [PlayedArm("policy-1", 0.5, fixed(world, bad)), PlayedArm("control", 0.25)]
    write_test(world, served.logs, arms, days=range(8, 9), requests_per_day=5_000, seed=6)
    situation, _, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=START + 9 * DAY_S)
    found = next(one for one in situation.watched if one.name == "p2p")
    assert (found.state, step.action) == ("breached", "kill")
    assert found.value < -0.1  # of the last day alone: over all days it is a tenth of that


def test_stepping_back_never_serves_more_users(tmp_path: Path) -> None:
    served = Served(tmp_path, factor=1.9, on_breach="rollback")
    served.registry._clock = lambda: START  # the log is of what the second plan served
    served.registry.ramp(1, share=0.2, by=ANNA)
    situation, number, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=served.now)
    assert step.action == "kill"  # the plan before serves 50 %
    acted(served.registry, step, number=number, situation=situation)
    plan = served.registry.current()
    assert plan is not None
    assert plan.killed


def test_what_cannot_be_rolled_back_is_killed(tmp_path: Path) -> None:
    served = Served(tmp_path, factor=1.9, on_breach="rollback")
    served.registry._clock = lambda: START
    heads, static = list(served.config.surface.build().names), served.config.surface.build().static.tolist()
    served.registry.publish(document(None, heads=heads, static=static, weights=[2 * one for one in static]), bundle(), by=ANNA)
    served.registry.approve(2, by=BERT)
    served.registry.ramp(1, share=0.0, by=ANNA)
    served.registry.activate(2, share=0.1, by=ANNA)
    served.registry.activate(1, share=0.5, by=ANNA)
    served.registry.ramp(2, share=0.0, by=ANNA)
    served.registry.retire(2, by=BERT)  # the plan before serves it
    _, _, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=served.now)
    assert step.action == "kill"


def test_rows_of_an_arm_that_the_plan_does_not_have_are_not_its_control(tmp_path: Path) -> None:
    served = Served(tmp_path, factor=1.9, days=1)
    served.registry._clock = lambda: START
    served.registry.ramp(1, share=0.5, control=0.0, by=ANNA)  # a service that still follows the plan before logs its control arm
    plan = served.registry.current()
    assert plan is not None
    assert [arm.name for arm in plan.arms if arm.share > 0] == ["policy-1"]
    situation, _, _ = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=served.now)
    assert "p2p" in {one.name for one in situation.watched}  # against the static weights, which the plan has


def test_an_arm_without_a_decision_in_the_spool_is_not_ramped(tmp_path: Path) -> None:
    served = Served(tmp_path, hold_hours=0.0)
    spool = tmp_path / "spool"
    spool.mkdir()
    rows = pl.read_parquet(served.logs / "**" / "*.parquet").select("user", "arm", "ts", "reason")
    rows.filter(pl.col("arm") == "control").write_parquet(spool / "d.parquet")
    _, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=1.0, now_s=served.now)
    assert (step.action, step.reasons) == ("keep", ("no decision of policy-1 in the spool: fallbacks are not seen",))


def test_memory_does_not_grow_with_looks(tmp_path: Path) -> None:
    served, memory = Served(tmp_path, days=2), Memory()
    for _ in range(3):
        for path in served.logs.rglob("*.parquet"):
            path.touch()
        looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=served.now, memory=memory)
    assert len(memory.days) == 2


def test_a_look_that_fails_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served, slept = Served(tmp_path, days=1), []

    def refused(*_: object, **__: object) -> int:
        raise ForbiddenError("policy 1 is not approved", hint="approve it")

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("paretune.experiment.stepping.acted", refused)
    assert main(served.words) == 4  # a single look says so
    monkeypatch.setattr("paretune.commands.guard.time.sleep", sleep)
    main([*served.words, "--every-s", "7"])
    assert slept == [7, 7]
    assert capsys.readouterr().err.count("this look failed, the next is in 7 s: policy 1 is not approved") == 2
