"""Following a registry: by polling and by being told, whatever becomes of the database meanwhile."""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_scorer import HEADS, LEVELS, STATIC, load_fake, write_fake_bundle
from msgspec.structs import replace
from registries import ANNA, BERT, document, postgres_schema
from sqlalchemy import text
from wires import Wire

from paretune.errors import ConfigError
from paretune.policy.plan import encode_plan
from paretune.policy.registry import Registry
from paretune.policy.shelf import read_folder
from paretune.serving.decide import Reason, Request
from paretune.serving.registry_source import RegistryFollower, RegistrySource, registry_runtime
from paretune.serving.sources import read_plan

SURFACE = {"heads": list(HEADS), "static": list(STATIC), "objectives": ["saves", "clicks"]}


def publish(registry: Registry, folder: Path, content: str = "fake") -> int:
    """Publish and approve a policy over a fake bundle."""
    write_fake_bundle(folder / content, content)
    files = read_folder(folder / content)
    number = registry.publish(document(files, **SURFACE), files, by=ANNA).number
    registry.approve(number, by=BERT)
    return number


def eventually(holds: Callable[[], bool], *, within_s: float = 5.0) -> float:
    """Wait until something holds and return how long that took."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < within_s, "it never came"
        time.sleep(0.002)
    return time.monotonic() - start


def ask(i: int = 1) -> Request:
    return Request(i, i, {"x": i})


def test_a_service_serves_static_weights_until_a_policy_is_activated_and_again_when_it_is_killed(where: str, tmp_path: Path) -> None:
    registry = Registry(where)
    number = publish(registry, tmp_path / "made")
    runtime, source = registry_runtime(where, tmp_path / "served", static=(HEADS, STATIC), load=load_fake, deadline_s=1.0)
    follower = RegistryFollower(runtime, source, every_s=0.02)
    assert runtime.decide(ask()).weights == STATIC
    assert runtime.state().problems == (), "no plan yet is no problem"
    registry.activate(number, share=1.0, by=ANNA, explore=0.0)
    eventually(lambda: runtime.decide(ask()).reason is Reason.POLICY)
    registry.kill(by=ANNA)
    eventually(lambda: runtime.decide(ask()).reason is Reason.STATIC)
    registry.rollback(by=ANNA)
    eventually(lambda: runtime.decide(ask()).plan == 3)
    assert runtime.decide(ask()).reason is Reason.POLICY
    assert runtime.state().problems == ()
    follower.stop()


def test_what_was_in_force_is_enough_to_start_without_the_registry(tmp_path: Path) -> None:
    where = tmp_path / "paretune.db"
    registry = Registry(where)
    registry.activate(publish(registry, tmp_path / "made"), share=1.0, by=ANNA)
    first, _ = registry_runtime(where, tmp_path / "served", load=load_fake)
    for file in tmp_path.glob("paretune.db*"):
        file.unlink()
    second, source = registry_runtime(where, tmp_path / "served", load=load_fake)
    assert second.decide(ask()).weights == first.decide(ask()).weights
    assert any("cannot be used" in problem for problem in second.state().problems)
    with pytest.raises(ConfigError, match=r"no plan to serve.*cannot be used"):
        registry_runtime(where, tmp_path / "elsewhere")
    assert not where.exists(), "reading makes no registry"
    assert source.poll() is None


def test_a_registry_that_returns_with_an_older_plan_is_not_followed(tmp_path: Path) -> None:
    where, old = tmp_path / "paretune.db", tmp_path / "old.db"
    registry = Registry(where)
    number = publish(registry, tmp_path / "made")
    registry.activate(number, share=0.05, by=ANNA)
    with_backup(registry, old)
    registry.ramp(number, by=ANNA)
    runtime, source = registry_runtime(where, tmp_path / "served", load=load_fake)
    assert runtime.state().plan == 2
    for file in tmp_path.glob("paretune.db*"):
        file.unlink()
    old.rename(where)
    assert source.poll() is None
    assert "plan 1, older than plan 2" in source.problem
    assert read_plan(tmp_path / "served" / "plan.json").version == 2
    assert registry_runtime(where, tmp_path / "served", load=load_fake)[0].state().plan == 2
    again = Registry(where)
    again.ramp(number, by=ANNA)
    again.kill(by=ANNA)
    found = source.poll()
    assert found is not None
    assert (found.version, found.killed) == (3, True)


def test_another_plan_under_the_same_version_is_not_taken_for_the_one_in_force(where: str, tmp_path: Path) -> None:
    registry = Registry(where)
    number = publish(registry, tmp_path / "made")
    registry.activate(number, share=1.0, by=ANNA)
    runtime, source = registry_runtime(where, tmp_path / "served", load=load_fake)
    guards = ("plans_no_update",) if registry.database.is_sqlite else ("plans_fixed ON plans",)
    forged = encode_plan(replace(registry.plan(1), killed=True))
    restored = text("UPDATE plans SET document = :d, fingerprint = :f").bindparams(d=forged, f=hashlib.sha256(forged).hexdigest())
    for statement in (*(text(f"DROP TRIGGER {guard}") for guard in guards), restored):
        registry.database.write(lambda connection, said=statement: connection.execute(said))
    assert source.poll() is None
    assert "another plan 1 than the one that was in force here" in source.problem
    assert runtime.state().killed is False
    registry.release(by=ANNA)
    found = source.poll()
    assert found is not None
    assert (found.version, source.problem) == (2, "")


@pytest.mark.parametrize("loss", ["torn", "gone", "another's"])
def test_a_bundle_that_the_folder_lost_is_brought_again_at_a_start(loss: str, tmp_path: Path) -> None:
    where, served = tmp_path / "r.db", tmp_path / "served"
    registry = Registry(where)
    registry.activate(publish(registry, tmp_path / "made"), share=1.0, by=ANNA)
    RegistrySource(where, served).poll()
    kept = next((served / "bundles").iterdir())
    if loss == "torn":
        (kept / "manifest.json").write_bytes(b"torn")
    else:
        shutil.rmtree(kept)
    if loss == "another's":
        write_fake_bundle(kept, "other")
    runtime, source = registry_runtime(where, served, load=load_fake, deadline_s=1.0)
    assert runtime.decide(ask()).reason is Reason.POLICY
    assert (runtime.state().problems, source.poll()) == ((), None)


def test_a_bundle_that_the_folder_lost_is_brought_once_the_registry_is_back(tmp_path: Path) -> None:
    where, away, served = tmp_path / "r.db", tmp_path / "away.db", tmp_path / "served"
    registry = Registry(where)
    registry.activate(publish(registry, tmp_path / "made"), share=1.0, by=ANNA)
    RegistrySource(where, served).poll()
    shutil.rmtree(next((served / "bundles").iterdir()))
    with_backup(registry, away)
    for file in tmp_path.glob("r.db*"):
        file.unlink()
    runtime, source = registry_runtime(where, served, load=load_fake, deadline_s=1.0)
    assert runtime.decide(ask()).reason is Reason.NO_MODEL
    away.rename(where)
    follower = RegistryFollower(runtime, source, every_s=0.02)
    eventually(lambda: runtime.decide(ask()).reason is Reason.POLICY)
    eventually(lambda: runtime.state().problems == ())
    follower.stop()


def with_backup(registry: Registry, place: Path) -> None:
    """Copy an SQLite registry as it is now."""
    import sqlite3

    with sqlite3.connect(str(registry.database.url.database)) as origin, sqlite3.connect(place) as copy:
        origin.backup(copy)
    origin.close()
    copy.close()


def test_a_bundle_with_one_flipped_bit_in_the_database_is_not_served(where: str, tmp_path: Path) -> None:
    registry = Registry(where)
    first, second = publish(registry, tmp_path / "made", "one"), publish(registry, tmp_path / "made", "two two")
    registry.activate(first, share=1.0, by=ANNA)
    runtime, source = registry_runtime(where, tmp_path / "served", load=load_fake)
    before = runtime.decide(ask()).weights
    registry.activate(second, share=1.0, by=ANNA)
    guard = "bundle_files_no_update" if registry.database.is_sqlite else "bundle_files_fixed ON bundle_files"
    flip = text("UPDATE bundle_files SET content = :c WHERE name = 'manifest.json'").bindparams(c=b"two twp")
    for statement in (text(f"DROP TRIGGER {guard}"), flip):
        registry.database.write(lambda connection, said=statement: connection.execute(said))
    assert source.poll() is None
    assert "manifest.json differs from its checksum" in source.problem
    assert (runtime.decide(ask()).weights, runtime.state().plan) == (before, 1)


def test_only_bundles_of_the_plan_and_the_one_before_are_kept(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.db")
    source = RegistrySource(tmp_path / "r.db", tmp_path / "served")
    for content in ("one", "three", "fives"):
        registry.activate(publish(registry, tmp_path / "made", content), share=1.0, by=ANNA)
        assert source.poll() is not None
    plan = registry.current()
    assert plan is not None
    kept = {folder.name for folder in (tmp_path / "served" / "bundles").iterdir()}
    assert kept == {*plan.bundles, *registry.plan(2).bundles}
    assert len(kept) == 2
    for folder in (tmp_path / "served" / "bundles").iterdir():
        assert load_fake(folder).actions.shape == (len(LEVELS), 3)


def test_a_plan_is_pushed_and_a_database_that_freezes_or_refuses_disturbs_no_decision(tmp_path: Path) -> None:
    with postgres_schema() as url:
        wire = Wire(url)
        registry = Registry(url)
        number = publish(registry, tmp_path / "made")
        registry.activate(number, share=1.0, by=ANNA)
        runtime, source = registry_runtime(wire.url, tmp_path / "served", load=load_fake, database_s=0.3, deadline_s=1.0)
        follower = RegistryFollower(runtime, source, every_s=60)
        listener = follower._listener
        assert listener is not None
        assert listener.listening.wait(5)
        time.sleep(0.3)  # the look that follows listening
        registry.kill(by=ANNA)
        assert eventually(lambda: runtime.state().plan == 2) < 1.0, "pushed: the next look would be in a minute"
        follower.stop()
        follower = RegistryFollower(runtime, source, every_s=0.05)
        for cut in (wire.freeze, wire.refuse):
            cut()
            registry.release(by=ANNA) if cut == wire.freeze else registry.kill(by=ANNA)
            plan, slowest = runtime.state().plan, 0.0
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                start = time.monotonic()
                assert not runtime.decide(ask()).reason.startswith("FALLBACK")
                slowest = max(slowest, time.monotonic() - start)
                time.sleep(0.001)
            assert slowest < 0.25
            assert runtime.state().plan == plan
            assert runtime.state().problems
            wire.restore()
            eventually(lambda: runtime.state().plan == registry.version(), within_s=10)
            eventually(lambda: runtime.state().problems == ())
        follower.stop()
        wire.close()
