"""Plans from a file, bundles from folders, and the last known good copy: what is torn, missing or older never takes effect."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_scorer import HEADS, LEVELS, STATIC, load_fake, write_fake_bundle

from paretune.errors import ArtefactError, ConfigError
from paretune.policy.plan import Arm, Plan, encode_plan
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.runtime import Runtime
from paretune.serving.sources import BundleFolder, PlanFile, follow, read_plan, write_plan


def plan_on(fingerprint: str, version: int = 1, **changes: object) -> Plan:
    arms = (Arm("policy", 1.0, bundle=fingerprint, scalarisation=(1.0, 0.5)),)
    return Plan(**{"version": version, "heads": HEADS, "static": STATIC, "arms": arms} | changes)  # type: ignore[arg-type]


def some_decisions(runtime: Runtime) -> list[tuple[object, ...]]:
    decisions = [runtime.decide(Request(i, f"u{i}", {"x": i / 3}), received=time.monotonic() + 1) for i in range(50)]
    return [(d.weights, d.action, d.arm, d.plan, d.reason, d.propensity) for d in decisions]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with two bundles and a plan on the first."""
    first = write_fake_bundle(tmp_path / "bundles" / "one", "one")
    write_fake_bundle(tmp_path / "bundles" / "three", "three")
    write_plan(plan_on(first), tmp_path / "plan.json")
    return tmp_path


def load(store: Path, **options: object) -> Runtime:
    options = {"state_dir": store / "state", "load": load_fake, "deadline_s": 0.5} | options
    return Runtime.load(store / "bundles", store / "plan.json", **options)  # type: ignore[arg-type]


def eventually(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.01)
    return False


def test_a_plan_file_tells_a_plan_once_and_again_when_it_changes(tmp_path: Path) -> None:
    source = PlanFile(tmp_path / "plan.json")
    assert source.poll() is None
    assert "cannot be read" in source.problem
    plan = Plan(1, HEADS, STATIC)
    write_plan(plan, source.path)
    assert (source.poll(), source.problem) == (plan, "")
    assert source.poll() is None
    os.utime(source.path, (1, 1))
    assert (source.poll(), source.problem) == (None, "")  # the same content again
    write_plan(Plan(2, HEADS, STATIC), source.path)
    assert source.poll() == Plan(2, HEADS, STATIC)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        encode_plan(Plan(3, HEADS, STATIC))[:-20],
        b"[]",
        b'"plan"',
        b"\xff\xfe",
        b'{"version": "three"}',
        b"{}" * 10,
        b"[" * 10_000,
    ],
    ids=["empty", "brace", "torn", "list", "text", "bytes", "wrong type", "twice", "deep"],
)
def test_a_file_that_is_no_plan_changes_nothing_and_says_so_until_it_is_mended(store: Path, content: bytes) -> None:
    runtime, source = load(store), PlanFile(store / "plan.json")
    before = some_decisions(runtime)
    follower = follow(runtime, source, every_s=60)
    follower.look()
    source.path.write_bytes(content)
    follower.look()
    assert "is not a plan" in runtime.state().problems[0]
    assert some_decisions(runtime) == before
    source.path.unlink()
    follower.look()
    assert "cannot be read" in runtime.state().problems[0]
    assert runtime.state().ready  # the plan in force is followed whole
    assert some_decisions(runtime) == before
    write_plan(plan_on(runtime.state().bundles[0], 2), source.path)
    follower.look()
    follower.stop()
    assert (runtime.state().plan, runtime.state().problems) == (2, ())


def test_what_is_no_plain_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    source = PlanFile(tmp_path)
    assert source.poll() is None
    assert "not a plain file" in source.problem
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a plain file"):
        read_plan(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(ConfigError, match="too large"):
        read_plan(tmp_path / "large")


def test_bundles_are_found_by_fingerprint_also_when_the_folder_is_one(store: Path) -> None:
    runtime = load(store)
    fingerprint = runtime.state().bundles[0]
    for folder in (store / "bundles", store / "bundles" / "one"):
        assert BundleFolder(folder, load=load_fake)(fingerprint).fingerprint == fingerprint
    for folder in (store / "bundles" / "three", store / "nowhere"):
        with pytest.raises(ArtefactError, match="no bundle"):
            BundleFolder(folder, load=load_fake)(fingerprint)


def test_a_following_runtime_picks_up_plans_waits_for_bundles_and_never_goes_back(store: Path) -> None:
    runtime = load(store)
    source = PlanFile(store / "plan.json")
    follower = follow(runtime, source, every_s=0.01)
    later = write_fake_bundle(store / "later", "a later bundle")
    write_plan(plan_on(later, 2), source.path)
    assert eventually(lambda: any("plan 2 waits" in problem for problem in runtime.state().problems))
    assert runtime.state().plan == 1
    (store / "later").rename(store / "bundles" / "later")
    assert eventually(lambda: runtime.state().plan == 2)
    assert runtime.state().problems == ()
    write_plan(plan_on(later, 1), source.path)
    assert eventually(lambda: any("not newer" in problem for problem in runtime.state().problems))
    assert runtime.state().plan == 2
    write_plan(plan_on(later, 3), source.path)
    assert eventually(lambda: runtime.state().plan == 3)
    assert eventually(lambda: runtime.state().problems == ())
    follower.stop()


def test_a_start_without_source_serves_the_last_known_good_bit_for_bit(store: Path) -> None:
    before = some_decisions(load(store))
    assert {reason for *_, reason, _ in before} == {Reason.POLICY}
    shutil.rmtree(store / "bundles")
    (store / "plan.json").unlink()
    runtime = load(store)
    assert some_decisions(runtime) == before
    assert "cannot be read" in runtime.state().problems[0]


@pytest.mark.parametrize("harm", ["plan", "bundle", "older"])
def test_a_start_with_a_harmed_source_serves_the_last_known_good(store: Path, harm: str) -> None:
    before = some_decisions(load(store))
    three = write_fake_bundle(store / "bundles" / "four", "bad four")
    if harm == "plan":
        (store / "plan.json").write_bytes(b"{")
    elif harm == "bundle":
        write_plan(plan_on(three, 2), store / "plan.json")
    else:
        first = load(store).state().bundles[0]
        runtime = load(store)
        assert runtime.switch(plan_on(first, 5))
        write_plan(plan_on(first, 4), store / "plan.json")
        before = some_decisions(runtime)
    runtime = load(store)
    assert some_decisions(runtime) == before
    assert runtime.state().problems


def test_a_corrupt_bundle_without_last_known_good_costs_its_arm_only(store: Path) -> None:
    (store / "bundles" / "one" / "manifest.json").write_bytes(b"on")
    runtime = load(store, state_dir=None)
    assert {(d[0], d[4]) for d in some_decisions(runtime)} == {(STATIC, Reason.NO_MODEL)}
    assert not runtime.state().ready
    assert any("differs from its checksum" in problem for problem in runtime.state().problems)


def test_a_start_with_nothing_at_all_asks_for_a_plan_or_serves_the_given_static_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no plan to serve"):
        load(tmp_path)
    runtime = load(tmp_path, static=(HEADS, STATIC))
    assert runtime.decide(Request(1, 1)).reason is Reason.NO_PLAN


def test_the_last_known_good_keeps_what_its_plan_needs_and_no_more(store: Path) -> None:
    runtime = load(store)
    first = runtime.state().bundles[0]
    second = next(scorer.fingerprint for scorer in map(load_fake, (store / "bundles").iterdir()) if scorer.fingerprint != first)
    assert [each.name for each in (store / "state" / "bundles").iterdir()] == [first]
    assert runtime.switch(plan_on(second, 2))
    assert [each.name for each in (store / "state" / "bundles").iterdir()] == [second]
    assert runtime.switch(plan_on(second, 3, killed=True))
    assert read_plan(store / "state" / "plan.json").killed
    assert [each.name for each in (store / "state" / "bundles").iterdir()] == [second]  # for the way back


def test_a_full_disk_under_the_last_known_good_stops_no_switch(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = load(store)

    def full(plan: Plan, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paretune.serving.sources.write_plan", full)
    assert runtime.switch(plan_on(runtime.state().bundles[0], 2))
    assert runtime.state().plan == 2
    assert "No space left" in runtime.state().problems[0]


def test_a_kill_needs_no_bundle(store: Path) -> None:
    runtime = load(store)
    shutil.rmtree(store / "bundles")
    assert runtime.switch(plan_on("e" * 64, 2, killed=True))
    decision: Decision = runtime.decide(Request(1, 1, {"x": 1}))
    assert (decision.reason, decision.weights) == (Reason.STATIC, LEVELS[0])
