"""The bounded queue between the decision path and a sink's writing thread; every decision in it is accounted for.

An edge: threads, the clock. The rules: offering takes a lock for a few instructions and nothing else; entries leave the queue only when
they are written or given up; a writer that fails keeps its batch, so that a store that comes back finds everything the queue still holds.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice

from paretune.serving.decide import Decision, Request
from paretune.serving.sinks import SinkCounts


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision in the queue."""

    request: Request
    decision: Decision
    decision_id: str
    time_us: int  # when it was offered


class Outbox:
    """A bounded queue of decisions, with counts that add up."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: deque[Entry] = deque()
        self._change = threading.Condition(threading.Lock())
        self._urgent = threading.Event()  # somebody waits, or the queue is half full
        self._token = os.urandom(6).hex()
        self._offered = self._written = 0
        self._refused = self._given_up = 0  # dropped at the door, dropped from the queue
        self._closed = False

    @property
    def counts(self) -> SinkCounts:
        """What became of the decisions offered so far."""
        with self._change:
            return SinkCounts(self._offered, self._written, self._refused + self._given_up, len(self._queue))

    @property
    def closed(self) -> bool:
        """Whether nothing is taken in any more."""
        return self._closed

    def offer(self, request: Request, decision: Decision) -> bool:
        """Queue a decision, or count it as dropped."""
        now = time.time_ns() // 1000
        with self._change:
            self._offered += 1
            waiting = len(self._queue)
            if self._closed or waiting >= self._most:
                self._refused += 1
                return False
            self._queue.append(Entry(request, decision, f"{self._token}-{self._offered}", now))
        if 2 * waiting >= self._most:
            self._urgent.set()
        return True

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or sooner when there is reason to hurry."""
        self._urgent.wait(seconds)
        self._urgent.clear()

    def peek(self, most: int) -> list[Entry]:
        """Return the oldest entries without taking them out; only the writing thread does that."""
        with self._change:
            return list(islice(self._queue, most))

    def settle(self, entries: int, *, dropped: int = 0) -> None:
        """Take the oldest entries out: written, but for those that were given up."""
        with self._change:
            for _ in range(entries):
                self._queue.popleft()
            self._written += entries - dropped
            self._given_up += dropped
            self._change.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Return True once everything offered before has left the queue, False when that took too long."""
        with self._change:
            goal = self._written + self._given_up + len(self._queue)
            self._urgent.set()
            return self._change.wait_for(lambda: self._written + self._given_up >= goal, timeout_s)

    def close(self) -> None:
        """Take nothing in any more."""
        with self._change:
            self._closed = True
        self._urgent.set()

    def give_up(self) -> None:
        """Count everything that is still queued as dropped."""
        with self._change:
            left = len(self._queue)
        self.settle(left, dropped=left)
