"""What goes wrong around a decision: each request still gets weights, in time, with a reason and a propensity that are true."""

import json
import math
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_scorer import FINGERPRINT, GRID, HEADS, LEVELS, STATIC, FakeScorer, everybody, exploring, load_fake, plan_of, write_fake_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretune.errors import ArtefactError
from paretune.policy.plan import Plan, encode_plan
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.limits import Breaker
from paretune.serving.runtime import Runtime
from paretune.serving.scoring import Choice, Inputs
from paretune.serving.sources import BundleFolder, LastKnownGood, PlanFile, follow, read_plan, write_plan
from paretune.value.bundle import verified_files

BUDGET_S = 0.05  # wider than the default, so that a busy machine does not decide the test


def never_open() -> Breaker:
    return Breaker(failures=math.inf)


def in_time(taken: list[float]) -> bool:
    """Whether all but one in a hundred took less than one and a half budgets; a busy machine may hold a caller back now and then."""
    return float(np.quantile(taken, 0.99)) < 1.5 * BUDGET_S and max(taken) < 0.5


def is_sound(decision: Decision, heads: int = len(HEADS)) -> bool:
    """Whether a log could hold this decision."""
    fell = decision.reason.startswith("FALLBACK")
    return (
        len(decision.weights) == heads
        and all(isinstance(weight, float) and math.isfinite(weight) for weight in decision.weights)
        and isinstance(decision.reason, Reason)
        and 0 < decision.propensity <= 1
        and decision.elapsed_s >= 0
        and (not fell or (decision.weights == STATIC and decision.action == 0 and decision.propensity == 1.0))
        and (decision.reason is not Reason.EXPLORE or decision.weights == LEVELS[decision.action or 0])
    )


def test_a_model_that_suddenly_sleeps_is_answered_for_within_one_and_a_half_budgets() -> None:
    def before(x: float) -> None:
        if x % 5 == 0:
            time.sleep(1.0)

    runtime = Runtime({FINGERPRINT: FakeScorer(before=before)}, everybody(), deadline_s=BUDGET_S, threads=64, breaker=never_open)
    taken, reasons = [], []
    for i in range(200):
        start = time.monotonic()
        decision = runtime.decide(Request(i, i, {"x": i}))
        taken.append(time.monotonic() - start)
        reasons.append(decision.reason)
        assert is_sound(decision)
    assert [reason is Reason.TIMEOUT for reason in reasons[::5]] == [True] * 40
    assert in_time(taken)
    assert reasons.count(Reason.POLICY) >= 158  # others keep being served by the model, on other threads


def test_a_model_that_hangs_for_ever_costs_few_budgets_until_the_breaker_opens() -> None:
    gate = threading.Event()
    runtime = Runtime({FINGERPRINT: FakeScorer(before=lambda x: gate.wait() and None)}, everybody(), deadline_s=0.02, threads=3)
    start = time.monotonic()
    reasons = [runtime.decide(Request(i, i, {"x": i})).reason for i in range(1000)]
    assert time.monotonic() - start < 1.5
    assert set(reasons) == {Reason.TIMEOUT, Reason.OVERLOAD}
    assert runtime.state().threads == 3
    gate.set()


class WordlessError(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), MemoryError(), RecursionError(), KeyError(), WordlessError(), SystemExit(1), KeyboardInterrupt(), TimeoutError()],
)
@pytest.mark.parametrize("design", ["none", "stage2"])
def test_a_model_that_raises_ends_in_static_weights(error: BaseException, design: str) -> None:
    def before(x: float) -> None:
        raise error

    plan = everybody(exploration=exploring("stage2")) if design == "stage2" else everybody()
    runtime = Runtime({FINGERPRINT: FakeScorer(before=before)}, plan, deadline_s=1.0, breaker=never_open)
    for i in range(20):
        decision = runtime.decide(Request(i, i, {"x": i}))
        assert decision.reason is Reason.MODEL_ERROR
        assert is_sound(decision)


NUMBERS = np.zeros((GRID + 1, 2))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Choice(1, np.full_like(NUMBERS, np.nan)),
        Choice(2, np.where(NUMBERS == 0, np.inf, 0)),
        Choice(0, NUMBERS),
        Choice(GRID + 1, NUMBERS),
        Choice(-1, NUMBERS),
        Choice(1.5, NUMBERS),  # type: ignore[arg-type]
        Choice("1", NUMBERS),  # type: ignore[arg-type]
        Choice(1, None),  # type: ignore[arg-type]
        Choice(1, np.array(["a"])),
    ],
    ids=["nothing", "NaN", "infinity", "production", "beyond", "negative", "fraction", "text", "no values", "text values"],
)
def test_an_answer_that_is_none_ends_in_static_weights(answer: Any) -> None:
    class Odd(FakeScorer):
        def choose(self, inputs: Inputs, scalarisation: np.ndarray) -> Choice:
            return answer

    runtime = Runtime({FINGERPRINT: Odd()}, everybody(), deadline_s=1.0, breaker=never_open)
    decision = runtime.decide(Request(1, 1, {"x": 1}))
    assert decision.reason is Reason.MODEL_ERROR
    assert is_sound(decision)


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
ODD = (float("nan"), float("inf"), -(2**63) - 1, 2**70, "", "x" * 5000, "\ud800", b"\x00", 1e308, -0.0, None, True, [], {})


def requests_of(junk: list[Any], rng: random.Random) -> list[Request]:
    """Return 40 requests, each field of which may be anything."""
    pool = [*junk, *ODD]

    def some(*sound: Any) -> Any:
        return rng.choice(sound) if sound and rng.random() < 0.5 else rng.choice(pool)

    return [
        Request(some("r", i), some("u", i), some({"x": some(1.5)}, {}, {"y": 1}), cohort=some("new", None), session=some(), time_us=some(i))
        for i in range(40)
    ]


SHARED = {
    design: Runtime(
        {FINGERPRINT: FakeScorer()},
        plan_of(default="policy", exploration=exploring(design, share=0.5), arms=plan_of().arms),
        deadline_s=1.0,
        breaker=never_open,
    )
    for design in ("uniform", "blocked", "stage2")
}


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(junk=st.lists(JUNK, min_size=1, max_size=12), seed=st.integers(0, 2**32), design=st.sampled_from(sorted(SHARED)))
def test_ten_thousand_malformed_requests_get_weights_and_a_reason(junk: list[Any], seed: int, design: str) -> None:
    for request in requests_of(junk, random.Random(seed)):
        decision = SHARED[design].decide(request)
        assert is_sound(decision), decision
        assert decision.request_id is request.request_id


@pytest.mark.parametrize("request_", [None, 7, "x", object()])
def test_what_is_no_request_at_all_gets_weights_too(request_: Any) -> None:
    for runtime in SHARED.values():
        decision = runtime.decide(request_)
        assert decision.reason is Reason.BAD_INPUT
        assert is_sound(decision)


def test_an_id_of_a_hundred_megabytes_is_not_hashed() -> None:
    start = time.monotonic()
    decision = SHARED["uniform"].decide(Request("r", "u" * 10**8, {"x": 1}))
    assert (decision.reason, decision.detail) == (Reason.BAD_INPUT, "ValueError: an id of 100000000 characters")
    assert time.monotonic() - start < 0.5


def test_a_wall_clock_that_steps_neither_prolongs_nor_shortens_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = random.Random(3)
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + steps.uniform(-1e6, 1e6))
    plan = everybody(exploration=exploring("blocked", share=0.5))
    runtime = Runtime(
        {FINGERPRINT: FakeScorer(before=lambda x: time.sleep(1.0 if x % 20 == 0 else 0))},
        plan,
        deadline_s=BUDGET_S,
        threads=64,
        wall=time.time,
    )
    taken = []
    for i in range(200):
        start = time.monotonic()
        decision = runtime.decide(Request(i, i, {"x": i}))
        taken.append(time.monotonic() - start)
        assert is_sound(decision)
        if decision.reason is not Reason.EXPLORE:
            assert decision.reason is (Reason.TIMEOUT if i % 20 == 0 else Reason.POLICY)
    assert in_time(taken)


def test_a_plan_that_is_written_slowly_deleted_and_restored_is_never_half_in_force(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(plan_of(1, static=(1.0, 0.0, 0.0)), path)
    runtime = Runtime({FINGERPRINT: FakeScorer()}, read_plan(path), deadline_s=1.0)
    follower = follow(runtime, PlanFile(path), every_s=0.0005)
    seen: list[Decision] = []
    stop = threading.Event()

    def load() -> None:
        i = 0
        while not stop.is_set():
            seen.append(runtime.decide(Request(i, i, {"x": i})))
            i += 1

    thread = threading.Thread(target=load)
    thread.start()
    for version in range(2, 40):
        document = encode_plan(plan_of(version, static=(float(version), 0.0, 0.0)))
        with path.open("wb", buffering=0) as file:  # as somebody without `write_plan` would
            for start in range(0, len(document), 100):
                file.write(document[start : start + 100])
                time.sleep(0.0005)
        if version % 5 == 0:
            path.unlink()
            time.sleep(0.002)
            path.write_bytes(document)
    until = time.monotonic() + 5
    while runtime.state().plan != 39 and time.monotonic() < until:
        time.sleep(0.005)
    stop.set()
    thread.join()
    follower.stop()
    assert runtime.state().plan == 39
    assert runtime.state().problems == ()
    for decision in seen:
        assert not decision.reason.startswith("FALLBACK")
        if decision.reason is Reason.STATIC and decision.arm == "static":
            assert decision.weights == (float(decision.plan), 0.0, 0.0)


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "sums", "bad golden"])
def test_a_bundle_that_is_corrupted_during_the_switch_is_refused_and_the_old_one_serves_on(tmp_path: Path, harm: str) -> None:
    first = write_fake_bundle(tmp_path / "bundles" / "one", "one")
    second = write_fake_bundle(tmp_path / "bundles" / "two", "bad two" if harm == "bad golden" else "two two")

    def load(folder: Path) -> FakeScorer:
        if folder.name == "two":  # found whole, harmed before it is read
            file = folder / ("SHA256SUMS" if harm == "sums" else "manifest.json")
            content = file.read_bytes()
            if harm == "delete":
                file.unlink()
            elif harm == "truncate":
                file.write_bytes(content[:-1])
            elif harm != "bad golden":
                file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        return load_fake(folder)

    def on(fingerprint: str, version: int) -> Plan:
        return plan_of(version, arms=(plan_of().arms[0].__class__("policy", 1.0, bundle=fingerprint, scalarisation=(1.0, 0.5)),))

    write_plan(on(first, 1), tmp_path / "plan.json")
    runtime = Runtime.load(tmp_path / "bundles", tmp_path / "plan.json", state_dir=tmp_path / "state", load=load, deadline_s=1.0)
    before = [runtime.decide(Request(i, i, {"x": i})).weights for i in range(50)]
    with pytest.raises(ArtefactError):
        runtime.switch(on(second, 2))
    after = [runtime.decide(Request(i, i, {"x": i})) for i in range(50)]
    assert [decision.weights for decision in after] == before
    assert {(decision.plan, decision.reason) for decision in after} == {(1, Reason.POLICY)}
    assert LastKnownGood(tmp_path / "state", tmp_path).plan() == on(first, 1)


def test_more_callers_than_threads_are_answered_at_once() -> None:
    runtime = Runtime(
        {FINGERPRINT: FakeScorer(before=lambda x: time.sleep(0.03))}, everybody(), deadline_s=0.2, threads=2, breaker=never_open
    )
    decisions: list[Decision] = []

    def load(k: int) -> None:
        decisions.extend(runtime.decide(Request(f"{k} {i}", i, {"x": i})) for i in range(20))

    callers = [threading.Thread(target=load, args=(k,)) for k in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(decisions) == 160
    turned_away = [decision for decision in decisions if decision.reason is Reason.OVERLOAD]
    assert {decision.reason for decision in decisions} <= {Reason.OVERLOAD, Reason.POLICY}
    assert len(turned_away) > 40
    assert np.median([decision.elapsed_s for decision in turned_away]) < 0.01


def test_a_forked_process_decides_with_threads_and_blocks_of_its_own() -> None:
    plan = everybody(exploration=exploring("blocked", share=0.5))
    runtime = Runtime({FINGERPRINT: FakeScorer()}, plan, deadline_s=1.0)

    def answers() -> list[tuple[str, int | None]]:
        decisions = [runtime.decide(Request(i, i, {"x": i}, time_us=0)) for i in range(100)]
        return [(decision.reason.value, decision.action) for decision in decisions]

    answers()
    ear, mouth = os.pipe()
    child = os.fork()
    if not child:
        os.write(mouth, json.dumps(answers()).encode())
        os._exit(0)
    os.close(mouth)
    with os.fdopen(ear) as file:
        heard = [tuple(each) for each in json.load(file)]
    os.waitpid(child, 0)
    mine = answers()
    assert [reason for reason, _ in heard] == [reason for reason, _ in mine]
    assert {reason for reason, _ in heard} == {"EXPLORE", "POLICY"}
    explored = [(a, b) for (reason, a), (_, b) in zip(heard, mine, strict=True) if reason == "EXPLORE"]
    assert any(a != b for a, b in explored)


WRITER = """
    import itertools, sys
    from pathlib import Path
    from fake_scorer import plan_of
    from paretune.policy.plan import Arm
    from paretune.serving.sources import LastKnownGood, write_plan

    folder, start, prints = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    kept = LastKnownGood(folder / "state", folder / "bundles")
    print("ready", flush=True)
    for version in itertools.count(start):
        arm = Arm("policy", 1.0, bundle=prints[version % 2], scalarisation=(1.0, 0.5))
        plan = plan_of(version, arms=(arm,), note="x" * 20_000)
        write_plan(plan, folder / "plan.json")
        kept.keep(plan)
"""


def test_thirty_kills_amid_writing_and_keeping_leave_a_whole_plan_with_its_bundles(tmp_path: Path) -> None:
    prints = [write_fake_bundle(tmp_path / "bundles" / name, name * 50) for name in ("one", "two")]
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER), encoding="utf-8")
    wait, version, good, kept = random.Random(5), 1, 0, LastKnownGood(tmp_path / "state", tmp_path / "bundles")
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    for _ in range(30):
        command = [sys.executable, str(script), str(tmp_path), str(version), *prints]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=paths) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(wait.uniform(0.0, 0.08))
            writer.kill()
        if (tmp_path / "plan.json").exists():
            written = read_plan(tmp_path / "plan.json")
            assert written.version >= version - 1
            version = written.version + 1
        if kept.file.exists():
            plan = read_plan(kept.file)
            assert good <= plan.version < version
            good = plan.version
            for fingerprint in plan.bundles:
                verified_files(kept.bundles / fingerprint)
                assert BundleFolder(kept.bundles, load=load_fake)(fingerprint).fingerprint == fingerprint
    assert version > 15
    runtime = Runtime.load(tmp_path / "nowhere", tmp_path / "nowhere", state_dir=tmp_path / "state", load=load_fake)
    assert runtime.state().plan == good > 5
    runtime.switch(runtime.plan.__class__(version + 1, HEADS, STATIC))  # type: ignore[union-attr]
    leftovers: Callable[[Path], list[Path]] = lambda folder: list(folder.glob(".*"))  # noqa: E731
    assert leftovers(tmp_path / "state") == leftovers(kept.bundles) == []
