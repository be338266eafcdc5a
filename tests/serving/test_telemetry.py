"""What the service says of itself: one number for each thing an alert or a panel asks for."""

import math
from pathlib import Path

import pytest
from fake_scorer import FINGERPRINT, FakeScorer, everybody, exploring
from prometheus_client.parser import text_string_to_metric_families

from paretune.policy.plan import Plan, encode_plan
from paretune.serving.app import DecisionApp
from paretune.serving.runtime import Runtime
from paretune.serving.sinks import SinkCounts, SinkHealth
from paretune.serving.sources import PlanFile, follow
from paretune.serving.telemetry import Telemetry


def told(app: DecisionApp) -> dict[str, float]:
    """Series without labels, by name."""
    app.hand_over()
    families = text_string_to_metric_families(app.telemetry.text().decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


class Wall:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def app_of(plan: Plan, wall: Wall) -> DecisionApp:
    return DecisionApp(Runtime({FINGERPRINT: FakeScorer()}, plan, deadline_s=0.5), telemetry=Telemetry(wall=wall))


def test_the_plan_says_its_version_since_when_and_what_it_means_to_explore() -> None:
    wall = Wall()
    app = app_of(everybody(3, exploration=exploring(share=0.25)), wall)
    began = wall.now
    assert told(app)["paretune_planned_explore_share"] == 0.25
    wall.now += 60
    found = told(app)
    assert (found["paretune_plan_version"], found["paretune_plan_since_timestamp_seconds"], found["paretune_killed"]) == (3, began, 0)
    app.runtime.switch(everybody(4, exploration=exploring(share=0.25), killed=True))
    found = told(app)
    assert (found["paretune_plan_version"], found["paretune_plan_since_timestamp_seconds"]) == (4, began + 60)
    assert (found["paretune_killed"], found["paretune_planned_explore_share"]) == (1, 0)


def test_what_is_not_known_is_nan_and_not_zero() -> None:
    found = told(app_of(everybody(), Wall()))
    for name in ("disk_free_bytes", "stream_unread", "stream_longest", "source_heard_timestamp_seconds"):
        assert math.isnan(found[f"paretune_{name}"]), name


def test_problems_and_threads_are_counted() -> None:
    app = app_of(everybody(), Wall())
    assert (told(app)["paretune_problems"], told(app)["paretune_model_threads"], told(app)["paretune_busy_model_threads"]) == (0, 1, 0)
    app.runtime.note("read plan.json", "torn")
    assert (told(app)["paretune_problems"], told(app)["paretune_ready"]) == (1, 1)


def test_a_sink_s_counters_only_grow_and_its_gauges_follow() -> None:
    telemetry = Telemetry()
    telemetry.hand_over_sink(SinkCounts(10, 7, 1, 2), SinkHealth(512, 2**30, 3, "away", 40, 1000))
    telemetry.hand_over_sink(SinkCounts(20, 19, 1, 0), SinkHealth(0, 4096, 3, "", None, 1000))
    text = telemetry.text().decode()
    for line in (
        'paretune_logged_decisions_total{outcome="written"} 19.0',
        'paretune_logged_decisions_total{outcome="dropped"} 1.0',
        "paretune_sink_refusals_total 3.0",
        "paretune_backlog_bytes 0.0",
        f"paretune_disk_free_bytes {float(4096)}",
        "paretune_stream_unread 40.0",
        "paretune_stream_longest 1000.0",
    ):
        assert f"\n{line}\n" in text, line


@pytest.mark.parametrize("broken", [False, True])
def test_a_plan_s_source_is_heard_while_it_can_be_read(broken: bool, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(b"{torn" if broken else encode_plan(everybody(2)))
    runtime = Runtime({FINGERPRINT: FakeScorer()}, everybody(), deadline_s=0.5)
    follower = follow(runtime, PlanFile(file), every_s=1000)
    assert follower.heard_s == 0
    follower.look()
    follower.stop()
    assert (follower.heard_s == 0) is broken
    app = DecisionApp(runtime, heard=lambda: follower.heard_s)
    assert told(app)["paretune_source_heard_timestamp_seconds"] == follower.heard_s
    assert told(app)["paretune_problems"] == int(broken)


def test_the_release_is_a_label() -> None:
    app = DecisionApp(Runtime({FINGERPRINT: FakeScorer()}, everybody(), deadline_s=0.5), version="7.1")
    app.hand_over()
    assert 'paretune_info{version="7.1"} 1.0' in app.telemetry.text().decode()
