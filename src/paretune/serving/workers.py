"""Threads that a caller waits for no longer than it wants to. An edge: threads, event descriptors.

The rules: a call costs two wake-ups and nothing else (no queue, no condition). A thread that does not come back is left alone: its call is
forgotten, the next one takes another thread, and when it does come back it serves again. No more than `most` threads exist; a call that
finds all of them busy is told so at once.

A caller is woken by an eventfd where there is one: Python lets go of its global lock while it writes one, and holds on to it while it
releases a lock of its own, so that who is woken by a lock must wait a second time. That halves the cost of a call.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

_SLACK_S: Final = 0.0002  # kept back for waking up and answering
_TICK_S: Final = 0.001  # poll, the cheaper call, waits in whole milliseconds; rounded down
_FINE_S: Final = 0.005  # shorter waits are waited with select, to the microsecond
_SELECTABLE: Final = 1024  # descriptors that select can name


class LateError(Exception):
    """The call did not come back in time; it may still be running."""


class BusyError(Exception):
    """Every thread is busy, so the call was not begun."""


class Workers:
    """At most `most` threads; one is started now, others when needed."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._pool = _Pool()
        self._calls: list[_Call] = []  # finished, to be used again; one whose caller left is not
        self._starting = threading.Lock()
        self._end = weakref.finalize(self, self._pool.close)
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
            left_s: how long to wait for it, never longer; from five milliseconds on up to one millisecond less.

        Raises:
            LateError: it did not come back in time.
            BusyError: every thread is busy.
        """
        try:
            worker = self._pool.idle.pop()
        except IndexError:
            worker = self._start()
        call = self._calls.pop() if self._calls else _Call()
        call.work = work
        worker.call = call
        worker.bell.ring()
        if not call.bell.rings_within(left_s - _SLACK_S):
            raise LateError
        result, error = call.result, call.error
        call.work = call.result = call.error = None
        self._calls.append(call)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the threads; those that are stuck end when they come back."""
        self._end()

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


class _Bell:
    """What one thread rings and another waits for."""

    __slots__ = ("_ears", "_fd", "ring", "wait")

    def __init__(self) -> None:
        self.ring: Callable[[], Any]
        self.wait: Callable[[], Any]
        self._fd = -1
        try:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC)
        except (OSError, AttributeError):  # the system has none, or none left: a lock does it too
            lock = threading.Lock()
            lock.acquire()
            self.ring, self.wait = lock.release, lock.acquire
            self._ears: Any = lock
            return
        self.ring, self.wait = partial(os.eventfd_write, self._fd, 1), partial(os.eventfd_read, self._fd)
        self._ears = select.poll()
        self._ears.register(self._fd, select.POLLIN)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def rings_within(self, seconds: float) -> bool:
        """Return whether it rang; it is then silent again."""
        if self._fd < 0:
            return bool(self._ears.acquire(True, max(0.0, seconds)))
        if seconds < _FINE_S and self._fd < _SELECTABLE:
            heard: Any = select.select((self._fd,), (), (), max(0.0, seconds))[0]
        else:
            heard = self._ears.poll(int(seconds / _TICK_S))
        if not heard:
            return False
        self.wait()
        return True


class _Call:
    """The work, its outcome, and the bell that tells its caller."""

    __slots__ = ("bell", "error", "result", "work")

    def __init__(self) -> None:
        self.bell = _Bell()
        self.work: Callable[[], Any] | None = None
        self.result: Any = None
        self.error: Exception | None = None


class _Worker:
    __slots__ = ("bell", "call")

    def __init__(self) -> None:
        self.bell = _Bell()
        self.call: _Call | None = None


class _Pool:
    """What the threads hold on to; they must not hold on to `Workers`, which ends them when nobody uses it any more."""

    __slots__ = ("closed", "idle", "threads")

    def __init__(self) -> None:
        self.idle: list[_Worker] = []
        self.threads = 0
        self.closed = False

    def close(self) -> None:
        self.closed = True
        while self.idle:
            worker = self.idle.pop()
            worker.call = None
            worker.bell.ring()


def _serve(worker: _Worker, pool: _Pool) -> None:
    while True:
        worker.bell.wait()
        call = worker.call
        if call is None or call.work is None:
            return
        try:
            call.result = call.work()
        except Exception as error:  # noqa: BLE001  (broad: a model's error belongs to the caller, and the thread goes on)
            call.error = error
        except BaseException as error:  # noqa: BLE001  (a model that asks the process to exit is a model that failed)
            call.error = RuntimeError(f"the model raised {type(error).__name__}")
        worker.call = None
        pool.idle.append(worker)  # before the bell: the caller's next call finds it
        call.bell.ring()
        del call
        if pool.closed and worker in pool.idle:
            pool.close()
