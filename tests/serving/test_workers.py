"""Calls on another thread: in time or not at all, and nothing of one call ever reaches another."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from paretune.serving.workers import BusyError, LateError, Workers


@pytest.fixture(params=["eventfd", "lock"])
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Workers:
    if request.param == "lock":
        monkeypatch.delattr(os, "eventfd")
    return Workers(4)


def test_a_call_returns_what_the_work_returns_and_raises_what_it_raises(workers: Workers) -> None:
    assert workers.call(lambda: threading.current_thread().name, 1.0) == "paretune-model"
    with pytest.raises(ZeroDivisionError):
        workers.call(lambda: 1 // 0, 1.0)
    with pytest.raises(RuntimeError, match="SystemExit"):
        workers.call(lambda: sys.exit(1), 1.0)
    assert workers.call(lambda: 7, 1.0) == 7
    assert workers.threads == 1


@pytest.mark.parametrize("left_s", [0.0, 0.0007, 0.003, 0.01, 0.05])
def test_a_caller_waits_no_longer_than_it_has(workers: Workers, left_s: float) -> None:
    before = time.monotonic()
    with pytest.raises(LateError):
        workers.call(lambda: time.sleep(0.2), left_s)
    assert time.monotonic() - before < left_s + 0.05


def test_a_short_wait_still_hears_a_quick_answer(workers: Workers) -> None:
    heard = 0
    for _ in range(50):
        try:
            heard += workers.call(lambda: 1, 0.0015)
        except LateError:
            time.sleep(0.01)
    assert heard > 25


def test_a_stuck_thread_is_replaced_and_serves_again_when_it_comes_back(workers: Workers) -> None:
    gate = threading.Event()
    for _ in range(4):
        with pytest.raises(LateError):
            workers.call(gate.wait, 0.005)
    assert (workers.threads, workers.busy) == (4, 4)
    with pytest.raises(BusyError):
        workers.call(lambda: 1, 1.0)
    gate.set()
    time.sleep(0.05)
    assert workers.busy == 0
    assert [workers.call(lambda i=i: i, 1.0) for i in range(50)] == list(range(50))
    assert workers.threads == 4


def test_answers_reach_their_own_callers_also_when_some_come_late(workers: Workers) -> None:
    def work(i: int) -> int:
        if i % 50 == 0:
            time.sleep(0.02)
        return i

    def ask(i: int) -> bool:
        try:
            return bool(workers.call(lambda: work(i), 0.012) == i)
        except (LateError, BusyError):
            return True

    with ThreadPoolExecutor(6) as callers:
        assert all(callers.map(ask, range(3000)))


def test_threads_end_with_their_workers(workers: Workers) -> None:
    def model_threads() -> int:
        return sum(thread.name == "paretune-model" for thread in threading.enumerate())

    workers.call(lambda: 1, 1.0)
    before = model_threads()
    workers.close()
    time.sleep(0.05)
    assert model_threads() < before
    with pytest.raises(BusyError):
        workers.call(lambda: 1, 1.0)


def test_workers_that_nobody_holds_leave_neither_threads_nor_descriptors() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    before = descriptors()
    for _ in range(20):
        Workers(2).call(lambda: 1, 1.0)
    time.sleep(0.1)
    assert descriptors() <= before + 2
