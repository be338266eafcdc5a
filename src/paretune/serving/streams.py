"""Decisions over Redis Streams: a sink; `stream_reader.py` is the other end.

An edge: Redis, threads, the environment. The rules: the decision path only fills a bounded queue; what Redis does not take goes to a
backlog on the local disk and follows when Redis is back, or without a backlog waits in the queue while there is room. An entry may be
there twice after a connection was lost in the middle, under the same decision id; join writes a request once.

    redis://host:6379/0?stream=paretune:decisions&longest=10000000        the password, if any, in REDISCLI_AUTH
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.extras import missing
from paretune.serving.backlog import Backlog
from paretune.serving.decide import Decision, Request
from paretune.serving.decision_rows import Row, RowWriter
from paretune.serving.journal import free_bytes
from paretune.serving.outbox import Entry, Outbox
from paretune.serving.sinks import SinkCounts, SinkHealth

STREAM: Final = "paretune:decisions"
AUTH: Final = "REDISCLI_AUTH"  # environment variable with the password of Redis, as its own tools read it
GROUP, FIELD = "join", b"row"
LONGEST: Final = 10_000_000  # entries that the stream keeps, about
_BATCH: Final = 500
_RETRY_S: Final = 0.5
_CLOSING_S: Final = 5.0  # that a closing sink goes on trying
_TIMEOUT_S: Final = 2.0  # of a call; never on the decision path


@dataclass(frozen=True, slots=True)
class Place:
    """A stream on a server."""

    url: str
    stream: str
    longest: int = LONGEST


def place_of(url: str) -> Place:
    """Return server and stream of an address.

    Raises:
        ConfigError: it is no address of a stream.
    """
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    stream, longest = asked.pop("stream", STREAM), asked.pop("longest", str(LONGEST))
    if parts.scheme not in {"redis", "rediss", "unix"} or not longest.isdecimal() or int(longest) == 0:
        raise ConfigError(f"{shown(url)!r} is no address of Redis", hint="give e.g. redis://127.0.0.1:6379/0?stream=paretune:decisions")
    return Place(urlunsplit(parts._replace(query=urlencode(asked))), stream, int(longest))


class StreamSink:
    """A `DecisionSink` that appends to a stream. Open one per process, after forking."""

    def __init__(
        self,
        url: str,
        config: Config,
        *,
        backlog: str | Path | None = None,
        queue_rows: int = 65_536,
        interval_s: float = 0.05,
        look_s: float = 2.0,
    ) -> None:
        """Open the sink; Redis need not answer yet.

        Args:
            url: see `place_of`.
            config: names columns and features.
            backlog: folder for what Redis does not take; several processes may share it. None has none.
            queue_rows: decisions that wait at most; more are dropped.
            interval_s: how long a queued decision waits.
            look_s: between looks at disk and stream, for `health`.

        Raises:
            ConfigError: the address is none, or the backlog's folder cannot be made.
            MissingExtraError: redis is not installed.
        """
        self.place = place_of(url)
        self._redis, self._error = client_of(self.place), redis_package().RedisError
        self._writer = RowWriter(config)
        self._names = tuple(self._writer.schema)
        self._backlog = None if backlog is None else Backlog(backlog, self._writer.schema)
        self._outbox = Outbox(queue_rows)
        self._interval_s, self._look_s = interval_s, look_s
        self._encode = msgspec.msgpack.Encoder().encode
        self._again = 0.0  # when Redis is asked again, by the monotonic clock
        self._refusals, self._said = 0, ""
        self._health, self._looked = SinkHealth(longest=self.place.longest), 0.0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._write, name="paretune-stream", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> SinkCounts:
        """What became of the decisions offered so far; written ones are in the stream, or in the backlog's journals."""
        return self._outbox.counts

    @property
    def health(self) -> SinkHealth:
        """How disk and stream are."""
        return self._health

    def offer(self, request: Request, decision: Decision) -> bool:
        """Queue a decision, or count it as dropped."""
        return self._outbox.offer(request, decision)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Return True once everything offered before is in the stream or the backlog, False when that took too long."""
        return self._outbox.flush(timeout_s)

    def close(self) -> None:
        """Send what is queued, or leave it in the backlog, and stop; without either it is dropped and counted."""
        self._outbox.close()
        self._leaving.set()
        self._thread.join()
        with suppress(self._error):
            self._redis.close()

    def _write(self) -> None:
        until = None
        while not (self._outbox.closed and not self._outbox.counts.queued):
            self._outbox.wait(self._interval_s)
            try:
                self._deliver()
            except (self._error, OSError) as error:
                self._refused(error)
                if self._outbox.closed:
                    until = until or time.monotonic() + _CLOSING_S
                    if time.monotonic() > until:
                        self._outbox.give_up()
                    time.sleep(0.1)
                elif self._backlog is None:
                    self._leaving.wait(_RETRY_S)
            self._look()
        if self._backlog is not None:
            self._backlog.close()

    def _deliver(self) -> None:
        """Take everything out of the queue: to Redis, or while that does not answer to the backlog, which follows once it does."""
        if self._backlog is None:
            self._empty(self._send)
            return
        try:
            if time.monotonic() >= self._again:
                self._empty(self._send)
                while not self._outbox.closed and self._backlog.drain(self._add):
                    self._empty(self._send)
                self._said = ""
        except self._error as error:
            self._refused(error)
            self._again = time.monotonic() + _RETRY_S
        self._empty(lambda rows: self._backlog.keep(rows) if self._backlog else None)

    def _empty(self, take: Callable[[list[Row]], None]) -> None:
        """Hand everything in the queue to something that takes rows or raises."""
        while entries := self._outbox.peek(_BATCH):
            rows = [row for entry in entries if (row := self._row(entry)) is not None]
            take(rows)
            self._outbox.settle(len(entries), dropped=len(entries) - len(rows))

    def _send(self, rows: list[Row]) -> None:
        self._add([dict(zip(self._names, row, strict=True)) for row in rows])
        if self._backlog is None:
            self._said = ""

    def _add(self, rows: Sequence[dict[str, Any]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for row in rows:
            pipe.xadd(self.place.stream, {FIELD: self._encode(row)}, maxlen=self.place.longest, approximate=True)
        pipe.execute()

    def _row(self, entry: Entry) -> Row | None:
        try:
            return self._writer.row(entry.request, entry.decision, decision_id=entry.decision_id, time_us=entry.time_us)
        except Exception:  # noqa: BLE001  (broad: whatever a caller put into a request must not stop the thread; it is counted as dropped)
            return None

    def _refused(self, error: Exception) -> None:
        self._refusals += 1
        self._said = f"{type(error).__name__}: {error}"

    def _look(self) -> None:
        """See how disk and stream are, every now and then."""
        if time.monotonic() - self._looked < self._look_s:
            return
        self._looked, backlog, unread = time.monotonic(), self._backlog, None
        if not self._said:
            with suppress(self._error):
                unread = unread_of(self._redis, self.place.stream)
        self._health = SinkHealth(
            backlog.waiting_bytes if backlog else 0,
            free_bytes(backlog.folder) if backlog else None,
            self._refusals,
            self._said,
            unread,
            self.place.longest,
        )


def unread_of(client: Any, stream: str) -> int | None:
    """Return how many entries `paretune join` has not read yet, None where Redis does not know.

    Raises:
        RedisError: it does not answer.
    """
    for group in client.xinfo_groups(stream) if client.exists(stream) else ():
        if group["name"] == GROUP.encode():
            return group.get("lag")
    return int(client.xlen(stream))


def shown(url: str) -> str:
    """Return an address without its password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))


def redis_package() -> Any:
    """Return the package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import redis
    except ImportError as error:
        raise missing("redis", "logging decisions to Redis", error, otherwise="log them with --spool") from error
    return redis


def client_of(place: Place) -> Any:
    """Return a client that asks once and waits no longer than `_TIMEOUT_S`; nothing is connected yet.

    Raises:
        MissingExtraError: redis is not installed.
    """
    package = redis_package()
    options: dict[str, Any] = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    if password := os.environ.get(AUTH):
        options["password"] = password  # one in the address comes first
    return package.Redis.from_url(place.url, retry=package.retry.Retry(package.backoff.NoBackoff(), 0), **options)
