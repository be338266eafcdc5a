"""Threads that a caller waits for no longer than it wants to. An edge: threads.

The rules: a call costs two wake-ups and nothing else (a job carries its own lock; there is no queue and no condition). A thread that does
not come back is left alone: its job is forgotten, the next call takes another thread, and when it does come back it serves again. No more
than `most` threads exist; a call that finds all of them busy is told so at once.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

_SLACK_S: Final = 0.0005  # kept back for waking up and answering


class LateError(Exception):
    """The call did not come back in time; it may still be running."""


class BusyError(Exception):
    """Every thread is busy, so the call was not begun."""


class Workers:
    """At most `most` threads; one is started now, others when needed."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._pool = _Pool()
        self._starting = threading.Lock()
        self._last = weakref.finalize(self, self._pool.close)
        self._pool.idle.append(self._start())

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._pool.threads

    @property
    def busy(self) -> int:
        """How many of them are in a call, or stuck in one."""
        return max(0, self._pool.threads - len(self._pool.idle))

    def call(self, work: Callable[[], Any], left_s: float) -> Any:
        """Return what `work()` returns on another thread; an error of it is raised here.

        Args:
            work: the call.
            left_s: how long to wait for it, less half a millisecond where that leaves most of it.

        Raises:
            LateError: it did not come back in time.
            BusyError: every thread is busy.
        """
        try:
            worker = self._pool.idle.pop()
        except IndexError:
            worker = self._start()
        job = _Job(work)
        worker.job = job
        worker.wake.release()
        if not job.done.acquire(True, max(0.0, left_s - _SLACK_S if left_s > 4 * _SLACK_S else 0.875 * left_s)):
            raise LateError
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """End the threads; those that are stuck end when they come back."""
        self._last()

    def _start(self) -> _Worker:
        with self._starting:
            if self._pool.threads >= self.most or self._pool.closed:
                raise BusyError
            worker = _Worker()
            try:
                threading.Thread(target=_serve, args=(worker, self._pool), name="paretune-model", daemon=True).start()
            except RuntimeError as error:  # the system has no thread left
                raise BusyError from error
            self._pool.threads += 1
            return worker


class _Job:
    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.done = threading.Lock()
        self.done.acquire()


class _Worker:
    __slots__ = ("job", "wake")

    def __init__(self) -> None:
        self.job: _Job | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class _Pool:
    """What the threads hold on to; they must not hold on to `Workers`, which ends them when nobody uses it any more."""

    __slots__ = ("__weakref__", "closed", "idle", "threads")

    def __init__(self) -> None:
        self.idle: list[_Worker] = []
        self.threads = 0
        self.closed = False

    def close(self) -> None:
        self.closed = True
        while self.idle:
            worker = self.idle.pop()
            worker.job = None
            worker.wake.release()


def _serve(worker: _Worker, pool: _Pool) -> None:
    while True:
        worker.wake.acquire()
        job = worker.job
        if job is None:
            return
        try:
            job.result = job.work()
        except Exception as error:  # noqa: BLE001  (broad: a model's error belongs to the caller, and the thread goes on)
            job.error = error
        except BaseException as error:  # noqa: BLE001  (a model that asks the process to exit is a model that failed)
            job.error = RuntimeError(f"the model raised {type(error).__name__}")
        worker.job = None
        pool.idle.append(worker)
        job.done.release()
        del job
        if pool.closed and worker in pool.idle:
            pool.close()
