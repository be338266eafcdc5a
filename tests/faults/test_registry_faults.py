"""kill -9 amid every operation of the registry: one plan is in force, the trail is whole, and work goes on."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from registries import ANNA, BERT, bundle, document, postgres_schema
from running import ask, running
from sqlalchemy import event, text

from paretune.errors import ParetuneError
from paretune.policy.registry import Registry
from paretune.policy.states import Rules

Operation = Callable[[Registry], object]


def publish(registry: Registry) -> object:
    content = f"model {len(registry.policies())} {os.urandom(4).hex()}"
    return registry.publish(document(bundle(content)), bundle(content), by=ANNA)


def latest(registry: Registry) -> int:
    return registry.policies()[-1].number


def activate(registry: Registry) -> object:
    return registry.activate(latest(registry), share=0.05, by=ANNA, explore=0.0125, key=os.urandom(8).hex())


def ramp(registry: Registry) -> object:
    plan = registry.current()
    if plan is None or not plan.arms:
        return None
    arm = plan.arms[-1]
    share = 0.01 if arm.share > 0.2 else arm.share + 0.07
    return registry.ramp(int(arm.name.removeprefix("policy-")), share=share, by=ANNA)


OPERATIONS: dict[str, Operation] = {
    "publish": publish,
    "approve": lambda registry: registry.approve(latest(registry), by=BERT),
    "activate": activate,
    "ramp": ramp,
    "rollback": lambda registry: registry.rollback(by=ANNA),
    "kill": lambda registry: registry.kill(by=ANNA),
    "release": lambda registry: registry.release(by=ANNA),
    "rules": lambda registry: registry.set_rules(Rules(evidence_days=random.randint(1, 99)), by=ANNA),
}


def sound(registry: Registry) -> None:
    """One version is in force, everything that was written is whole, and the next operation works."""
    assert registry.verify() == []
    assert registry.database.read(lambda connection: connection.execute(text("SELECT count(*) FROM in_force")).scalar()) == 1
    versions = [activation.version for activation in registry.history()]
    assert versions == list(range(registry.version(), 0, -1))
    changes = [entry for entry in registry.audit() if entry.subject.startswith("plan ")]
    assert [entry.subject for entry in changes] == [f"plan {version}" for version in reversed(versions)]


def in_a_child(where: str, operation: Operation, prepare: Callable[[Registry], None] = lambda registry: None) -> tuple[int, int]:
    """Begin an operation in a process of its own, and return the process and a pipe that tells when it begins."""
    ear, mouth = os.pipe()
    child = os.fork()
    if child:
        os.close(mouth)
        return child, ear
    try:
        registry = Registry(where)
        prepare(registry)
        os.write(mouth, b"!")
        operation(registry)
        os._exit(0)
    except ParetuneError:
        os._exit(3)  # not applicable as things stand
    finally:
        os._exit(9)


def killed_at_random_points(where: str, points: int, *, seed: int) -> tuple[int, int]:
    """Return how many operations were killed before they ended, and how many operations had changed something nevertheless or ended."""
    rng = random.Random(seed)
    registry = Registry(where)
    publish(registry)
    registry.approve(1, by=BERT)
    registry.activate(1, share=0.05, by=ANNA)
    killed, changed, longest_s = 0, 0, 0.02
    for point in range(points):
        name = list(OPERATIONS)[point % len(OPERATIONS)]
        before = len(registry.audit())
        child, ear = in_a_child(where, OPERATIONS[name])
        os.read(ear, 1)
        time.sleep(rng.uniform(0, longest_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(ear)
        killed += os.WIFSIGNALED(status)
        longest_s *= 1.1 if os.WIFSIGNALED(status) else 0.85  # as long as operations take on this machine
        changed += len(registry.audit()) > before
        sound(registry)
        assert len(registry.audit()) - before in {0, 1}
    return killed, changed


def test_a_hundred_kills_at_random_points_leave_one_plan_in_force_and_the_trail_whole(tmp_path: Path) -> None:
    killed, changed = killed_at_random_points(str(tmp_path / "r.db"), 100, seed=5)
    assert killed >= 30, "many operations are to be interrupted"
    assert changed >= 10, "and many to come through"


def test_kills_at_random_points_on_postgresql_too() -> None:
    with postgres_schema() as url:
        killed, _ = killed_at_random_points(url, 24, seed=6)
        assert killed >= 6


@pytest.mark.slow
def test_a_thousand_kills_on_both_databases(tmp_path: Path) -> None:
    killed_at_random_points(str(tmp_path / "r.db"), 1000, seed=7)
    with postgres_schema() as url:
        killed_at_random_points(url, 300, seed=8)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_before_any_one_statement_undoes_the_whole_operation(name: str, tmp_path: Path) -> None:
    where = str(tmp_path / "r.db")
    registry = Registry(where)
    publish(registry)
    registry.approve(1, by=BERT)
    if name != "activate":
        registry.activate(1, share=0.05, by=ANNA)
        registry.ramp(1, by=ANNA)
    if name == "release":
        registry.kill(by=ANNA)
    if name == "approve":
        publish(registry)
    before, statement = len(registry.audit()), 0
    while True:

        def die(registry: Registry, at: int = statement) -> None:
            seen = [0]

            @event.listens_for(registry.database._engine, "before_cursor_execute")
            def count(*_: object) -> None:
                seen[0] += 1
                if seen[0] > at:
                    os.kill(os.getpid(), signal.SIGKILL)

        child, ear = in_a_child(where, OPERATIONS[name], die)
        _, status = os.waitpid(child, 0)
        os.close(ear)
        sound(registry)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            break
        assert len(registry.audit()) == before
        statement += 1
    assert statement >= 4
    assert len(registry.audit()) == before + 1


def test_a_writer_that_is_stopped_amid_its_transaction_holds_up_the_others_only_for_a_time() -> None:
    with postgres_schema() as url:
        registry = Registry(url, deadline_s=1.0)
        publish(registry)
        registry.approve(1, by=BERT)
        stuck = Registry(url, deadline_s=1.0)

        def stop(connection: object) -> None:
            time.sleep(2.5)

        with pytest.raises(ParetuneError):
            stuck.database.write(stop)
        deadline = time.monotonic() + 5
        while True:
            try:
                registry.activate(1, share=0.05, by=ANNA)
                break
            except ParetuneError:
                assert time.monotonic() < deadline
        sound(registry)


def test_a_running_service_follows_the_registry_and_outlives_it(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.db")
    registry.publish(document(None), by=ANNA)
    registry.approve(1, by=BERT)
    registry.activate(1, share=1.0, by=ANNA)

    def weights(address: str) -> list[float]:
        answer = httpx.post(f"{address}/v1/decide", content=ask(1), headers={"content-type": "application/json"}, timeout=5)
        assert answer.status_code == 200
        found: list[float] = list(answer.json()["weights"].values())
        return found

    def becomes(address: str, wanted: list[float]) -> None:
        until = time.monotonic() + 5
        while weights(address) != wanted:
            assert time.monotonic() < until
            time.sleep(0.02)

    served, static = [80.0, 9.1, -4.0], [91.6, 9.1, -4.0]
    words = ("--registry", str(tmp_path / "r.db"), "--mirror", str(tmp_path / "served"))
    with running(tmp_path, *words) as (_, address):
        assert weights(address) == served
        registry.kill(by=ANNA)
        becomes(address, static)
        registry.rollback(by=ANNA)
        becomes(address, served)
        for file in tmp_path.glob("r.db*"):
            file.unlink()
        time.sleep(0.5)
        assert weights(address) == served
    with running(tmp_path, *words) as (_, address):
        assert weights(address) == served
