"""`paretune guard` on a log of what is served: steps back, ramps, holds, and what it leaves in the record."""

import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from registries import ANNA, BERT, bundle, document
from served_plan import DAY_S, START, Served

from paretune.cli import main
from paretune.config import Rollout, load_config
from paretune.errors import ConflictError
from paretune.experiment.guarding import Memory
from paretune.experiment.stepping import acted, looked
from paretune.experiment.watch import Step
from paretune.policy.registry import Registry
from paretune.sim import open_world
from paretune.sim.tested import PlayedArm, fixed, write_test
from paretune.template import render_config


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
    served.registry.ramp(1, share=0.6, by=ANNA)
    for action in ("kill", "rollback", "ramp"):
        with pytest.raises(ConflictError, match="plan 2 came into force meanwhile, where plan 1 was"):
            acted(served.registry, Step(action, ("p2p",)), number=number, situation=replace(situation, next_share=1.0))  # type: ignore[arg-type]
    assert served.registry.version() == 2


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


def spooled(served: Served, *, keep: pl.Expr) -> Path:
    """The spool of a service, of which some rows are missing."""
    spool = served.logs.with_name("spool")
    spool.mkdir(exist_ok=True)
    rows = pl.read_parquet(served.logs / "**" / "*.parquet").select("user", "arm", "ts", "reason")
    rows.filter(keep).write_parquet(spool / "d.parquet")
    return spool


def test_an_arm_that_falls_silent_is_stepped_back_from_however_much_the_others_say(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    two_hours_before = pl.lit(int(1e6 * (served.now - 7200))).cast(pl.Datetime("us"))
    spool = spooled(served, keep=(pl.col("arm") != "policy-1") | (pl.col("ts") < two_hours_before))
    found, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=0.0, now_s=served.now)
    assert found.silent_s == pytest.approx(7200, abs=120)
    assert step.action == "kill"
    assert re.fullmatch(r"no row of policy-1 for 12\d minutes: nobody can see what it does", step.reasons[0])
    served.config = served.config.model_copy(update={"rollout": Rollout(silent_min=90.0)})
    _, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=0.0, now_s=served.now)
    assert step.action == "hold"
    assert re.fullmatch(r"no row of policy-1 for 12\d minutes", step.reasons[0])


def test_a_clock_that_is_ahead_hides_no_silence_and_is_reported(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    spool = spooled(served, keep=pl.lit(value=True))
    ahead = pl.read_parquet(spool / "d.parquet").head(3).with_columns(pl.col("ts") + pl.duration(days=4))
    ahead.write_parquet(spool / "e.parquet")
    found, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=0.0, now_s=served.now + 3600)
    assert found.silent_s == pytest.approx(3600, abs=120)
    assert any(doubt.startswith("3 rows are from the future") for doubt in found.doubts)
    assert step.action == "kill"
    _, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=1.0, now_s=served.now)
    assert step.action == "keep"
    assert "some clock is wrong" in step.sentence


def test_a_plan_of_tomorrow_is_doubted(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    found, _, _ = looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=START - 3600)
    assert (found.age_s, found.doubts[0]) == (0.0, "plan 1 came into force 60 minutes from now: some clock is wrong")


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
    rows = pl.read_parquet(served.logs / "**" / "*.parquet").filter(pl.col("arm") == "control")["ts"].sort()
    spool = spooled(served, keep=(pl.col("arm") == "control") & (pl.col("ts") >= rows[-5]))  # too few to call it no chance
    _, _, step = looked(served.logs, served.config, served.registry, spool=spool, ramp_to=1.0, now_s=served.now)
    assert (step.action, step.reasons) == ("keep", ("no decision of policy-1 in the spool: fallbacks are not seen",))


@pytest.fixture
def everybody(tmp_path: Path) -> Served:
    """A plan that serves a policy to everybody."""
    served = Served(tmp_path, days=1)
    served.registry._clock = lambda: START
    served.registry.ramp(1, share=1.0, control=0.0, by=ANNA)
    served.registry._clock = lambda: served.now
    return served


def test_objectives_that_nobody_can_compare_are_said_to_be_unwatched(everybody: Served, capsys: pytest.CaptureFixture[str]) -> None:
    told = "the objectives of policy-1: nobody is served the static weights, so there is nobody to compare with"
    assert main([*everybody.words, "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["action"], found["unwatched"]) == ("keep", [told])
    assert [one["name"] for one in found["guardrails"]] == ["fallbacks"]
    assert main([*everybody.words, "--allow-unwatched"]) == 0
    shown = capsys.readouterr()
    assert f"unwatched {told}" in shown.out
    assert "keep some users on the static weights" in shown.err
    noted = [entry for entry in everybody.registry.audit() if entry.what == "unwatched"]
    assert [(entry.who, entry.subject, json.loads(entry.detail)) for entry in noted] == [("guardrails", "plan 2", {"what": [told]})]
    assert everybody.registry.verify() == []


def test_a_dry_run_notes_nothing(everybody: Served) -> None:
    before = len(everybody.registry.audit())
    assert main([*everybody.words, "--dry-run"]) == 4
    assert len(everybody.registry.audit()) == before


def test_no_step_is_taken_by_itself_that_leaves_nobody_to_compare_with(tmp_path: Path) -> None:
    served = Served(tmp_path, hold_hours=0.0)
    served.registry._clock = lambda: START
    served.registry.ramp(1, share=0.5, control=0.0, by=ANNA)  # the other half is served the static weights
    situation, _, step = looked(served.logs, served.config, served.registry, spool=None, ramp_to=1.0, now_s=served.now)
    assert situation.next_share is None
    assert (step.action, "100% would leave nobody to compare with" in step.sentence) == ("keep", True)


def test_memory_does_not_grow_with_looks(tmp_path: Path) -> None:
    served, memory = Served(tmp_path, days=2), Memory()
    for _ in range(3):
        for path in served.logs.rglob("*.parquet"):
            path.touch()
        looked(served.logs, served.config, served.registry, spool=None, ramp_to=0.0, now_s=served.now, memory=memory)
    assert len(memory.days) == 2
