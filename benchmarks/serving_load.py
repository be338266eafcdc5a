"""An HTTP client that keeps to a schedule: it asks at a rate whether or not answers come, and measures from when it meant to ask.

`python benchmarks/serving_load.py --port 8077 --rate 3000 --seconds 5 < body` prints one JSON object. It asks 127.0.0.1 alone, and ends by
itself. With `--rate 0` each connection asks again as soon as it is answered (closed loop).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import re
import sys
import time
from collections import Counter, deque
from typing import Any

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
REASON = re.compile(rb"(POLICY|EXPLORE|STATIC|FALLBACK:[a-z ]+)")
PATIENCE_S = 2.0  # after the last question


class Load:
    """Questions to ask, answers that came."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.free: deque[Asking] = deque()
        self.waiting: deque[float] = deque()  # when questions were due that found no free connection
        self.taken: list[float] = []
        self.policy_taken: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.asked = self.lost = 0
        self.until = float("inf")
        self.closed_loop = False

    def due(self, at: float) -> None:
        """Ask now, or as soon as a connection is free."""
        self.asked += 1
        if self.free:
            self.free.popleft().ask(at)
        else:
            self.waiting.append(at)

    def done(self, connection: Asking, at: float, status: bytes, body: bytes) -> None:
        """Take an answer, and give its connection the next question."""
        now = time.perf_counter()
        found = REASON.search(body)
        reason = found[1].decode() if found else "none"
        self.statuses[status.decode()] += 1
        self.reasons[reason] += 1
        self.taken.append(now - at)
        if reason == "POLICY":
            self.policy_taken.append(now - at)
        if self.waiting:
            connection.ask(self.waiting.popleft())
        elif self.closed_loop and now < self.until:
            self.asked += 1
            connection.ask(now)
        else:
            self.free.append(connection)


class Asking(asyncio.Protocol):
    """One connection; one question at a time."""

    def __init__(self, load: Load) -> None:
        self.load, self.at, self.buffer = load, 0.0, b""

    def connection_made(self, transport: Any) -> None:
        """Be free."""
        self.transport = transport
        self.load.free.append(self)

    def ask(self, at: float) -> None:
        """Send the question."""
        self.at = at
        self.transport.write(self.load.message)

    def data_received(self, data: bytes) -> None:
        """Take what came of an answer."""
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        length = LENGTH.search(self.buffer, 0, end) if end >= 0 else None
        if length is None or len(self.buffer) < end + 4 + int(length[1]):
            return
        answer, self.buffer, at, self.at = self.buffer, b"", self.at, 0.0
        self.load.done(self, at, answer[9:12], answer[end + 4 :])

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a question that is not answered any more."""
        if self.at:
            self.load.lost += 1
        with contextlib.suppress(ValueError):
            self.load.free.remove(self)


async def loaded(port: int, message: bytes, *, rate: float, seconds: float, connections: int) -> dict[str, Any]:
    """Return what became of the questions."""
    loop, load = asyncio.get_running_loop(), Load(message)
    for _ in range(connections):
        await loop.create_connection(lambda: Asking(load), "127.0.0.1", port)
    gc.freeze()
    gc.disable()
    start = time.perf_counter()
    if rate > 0:
        late = []
        n, i = int(rate * seconds), 0
        while i < n:
            now = time.perf_counter()
            while i < n and start + i / rate <= now:
                late.append(now - (start + i / rate))
                load.due(start + i / rate)
                i += 1
            await asyncio.sleep(0)  # a timer is no finer than a millisecond
    else:
        late, load.closed_loop, load.until = [0.0], True, start + seconds
        for _ in range(len(load.free)):
            load.due(start)
        await asyncio.sleep(seconds)
    over = time.perf_counter()
    while time.perf_counter() < over + PATIENCE_S and len(load.taken) + load.lost < load.asked:
        await asyncio.sleep(0.01)
    return summary(load, late, over - start)


def summary(load: Load, late: list[float], seconds: float) -> dict[str, Any]:
    """Return counts, rates and quantiles."""
    return {
        "asked": load.asked,
        "answered": len(load.taken),
        "unanswered": load.asked - len(load.taken),
        "statuses": dict(load.statuses),
        "reasons": dict(load.reasons),
        "seconds": seconds,
        "policy_per_s": load.reasons["POLICY"] / seconds,
        "p50_ms": 1e3 * quantile(load.taken, 0.5),
        "p99_ms": 1e3 * quantile(load.taken, 0.99),
        "p999_ms": 1e3 * quantile(load.taken, 0.999),
        "policy_p99_ms": 1e3 * quantile(load.policy_taken, 0.99),
        "client_late_p99_ms": 1e3 * quantile(late, 0.99),
    }


def quantile(values: list[float], share: float) -> float:
    """Return a quantile; NaN of nothing."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def message_of(body: bytes, media: str) -> bytes:
    """Return the question as it travels."""
    head = f"POST /v1/decide HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {media}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--media", default="application/msgpack")
    parser.add_argument("--core", type=int, default=-1)
    words = parser.parse_args()
    if words.core >= 0:
        os.sched_setaffinity(0, {words.core})
    question = message_of(sys.stdin.buffer.read(), words.media)
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    json.dump(asyncio.run(loaded(words.port, question, rate=words.rate, seconds=words.seconds, connections=words.connections)), sys.stdout)
