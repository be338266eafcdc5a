"""Decisions over Redis Streams, for services without a disk of their own: a sink, and the reader of `paretune join`.

An edge: Redis, threads. The rules: the decision path only fills a bounded queue; what Redis refuses is kept and tried again while the queue
has room. An entry may be there twice after a connection was lost in the middle; join writes a request once. The reader acknowledges what
it read only after the join that used it has been committed, so that a killed join reads it again.

    redis://host:6379/0?stream=paretune:decisions
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError, UnreachableError
from paretune.extras import missing
from paretune.logs.decisions import decision_schema
from paretune.serving.decide import Decision, Request
from paretune.serving.decision_rows import Cell, RowWriter, rows_frame
from paretune.serving.outbox import Entry, Outbox
from paretune.serving.sinks import SinkCounts

STREAM: Final = "paretune:decisions"
GROUP, CONSUMER, FIELD = "join", "join", b"row"
_BATCH: Final = 500
_RETRY_S: Final = 0.5
_CLOSING_S: Final = 5.0  # that a closing sink goes on trying
_TIMEOUT_S: Final = 2.0  # of a call; never on the decision path


@dataclass(frozen=True, slots=True)
class Place:
    """A stream on a server."""

    url: str
    stream: str


def place_of(url: str) -> Place:
    """Return server and stream of an address.

    Raises:
        ConfigError: it is no address of a stream.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ConfigError(f"{_shown(url)!r} is no address of Redis", hint="give e.g. redis://127.0.0.1:6379/0?stream=paretune:decisions")
    asked = dict(parse_qsl(parts.query))
    stream = asked.pop("stream", STREAM)
    return Place(urlunsplit(parts._replace(query=urlencode(asked))), stream)


class StreamSink:
    """A `DecisionSink` that appends to a stream. Open one per process, after forking."""

    def __init__(self, url: str, config: Config, *, queue_rows: int = 65_536, interval_s: float = 0.05, longest: int = 10_000_000) -> None:
        """Open the sink; Redis need not answer yet.

        Args:
            url: see `place_of`.
            config: names columns and features.
            queue_rows: decisions that wait at most; more are dropped.
            interval_s: how long a queued decision waits.
            longest: entries that the stream keeps at most, about; the oldest go first.

        Raises:
            ConfigError: the address is none.
            MissingExtraError: redis is not installed.
        """
        self.place = place_of(url)
        self._redis, self._error = _client(self.place), _redis().RedisError
        self._writer = RowWriter(config)
        self._names = tuple(self._writer.schema)
        self._outbox = Outbox(queue_rows)
        self._interval_s, self._longest = interval_s, longest
        self._encode = msgspec.msgpack.Encoder().encode
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._write, name="paretune-stream", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> SinkCounts:
        """What became of the decisions offered so far; written ones are in the stream."""
        return self._outbox.counts

    def offer(self, request: Request, decision: Decision) -> bool:
        """Queue a decision, or count it as dropped."""
        return self._outbox.offer(request, decision)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Return True once everything offered before is in the stream, False when that took too long."""
        return self._outbox.flush(timeout_s)

    def close(self) -> None:
        """Send what is queued, as far as Redis answers, and stop."""
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
                while entries := self._outbox.peek(_BATCH):
                    self._send(entries)
            except (self._error, OSError):
                if self._outbox.closed:
                    until = until or time.monotonic() + _CLOSING_S
                    if time.monotonic() > until:
                        self._outbox.give_up()
                    time.sleep(0.1)
                else:
                    self._leaving.wait(_RETRY_S)

    def _send(self, entries: list[Entry]) -> None:
        cells = [cell for entry in entries if (cell := self._cell(entry)) is not None]
        pipe = self._redis.pipeline(transaction=False)
        for cell in cells:
            pipe.xadd(self.place.stream, {FIELD: cell}, maxlen=self._longest, approximate=True)
        pipe.execute()
        self._outbox.settle(len(entries), dropped=len(entries) - len(cells))

    def _cell(self, entry: Entry) -> bytes | None:
        try:
            row = self._writer.row(entry.request, entry.decision, decision_id=entry.decision_id, time_us=entry.time_us)
            return self._encode(dict(zip(self._names, row, strict=True)))
        except Exception:  # noqa: BLE001  (broad: whatever a caller put into a request must not stop the thread; it is counted as dropped)
            return None


class StreamReader:
    """The side of `paretune join`: reads what nobody acknowledged, and acknowledges it when told."""

    def __init__(self, url: str, config: Config) -> None:
        """Open the reader and make its group.

        Raises:
            ConfigError: the address is none.
            MissingExtraError: redis is not installed.
            UnreachableError: Redis does not answer.
        """
        self.place, self._schema = place_of(url), decision_schema(config)
        self._redis, self._error = _client(self.place), _redis().RedisError
        self._read: list[bytes] = []
        self.lost = 0  # entries that hold no decision, or were trimmed before they were read
        try:
            self._redis.xgroup_create(self.place.stream, GROUP, id="0", mkstream=True)
        except _redis().ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise ConfigError(f"{self.place.stream} is no stream: {error}", hint="name another with ?stream=NAME") from error
        except self._error as error:
            raise self._away(error) from error

    def read(self, most: int = 1_000_000) -> pl.DataFrame:
        """Return decisions that were not acknowledged yet, those of an earlier run that died first.

        Args:
            most: entries at most.

        Raises:
            UnreachableError: Redis does not answer.
        """
        rows: list[list[Cell]] = []
        try:
            for new in (False, True):
                last: Any = "0"
                while len(rows) < most:
                    start = ">" if new else last
                    found = self._redis.xreadgroup(GROUP, CONSUMER, {self.place.stream: start}, count=min(10_000, most - len(rows)))
                    entries = found[0][1] if found else []
                    if not entries:
                        break
                    last = entries[-1][0]
                    self._read += [name for name, _ in entries]
                    rows += [cells for _, fields in entries if (cells := self._cells(fields)) is not None]
        except self._error as error:
            raise self._away(error) from error
        return rows_frame(rows, self._schema)

    def acknowledge(self) -> None:
        """Say that what was read has been used, so that nobody reads it again.

        Raises:
            UnreachableError: Redis does not answer; the next run reads it again, and writes nothing twice.
        """
        try:
            for start in range(0, len(self._read), 10_000):
                self._redis.xack(self.place.stream, GROUP, *self._read[start : start + 10_000])
        except self._error as error:
            raise self._away(error) from error
        self._read.clear()

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _cells(self, fields: dict[bytes, bytes]) -> list[Cell] | None:
        """Return the cells of an entry; None, and counted, where it is no decision or was trimmed before it was read."""
        try:
            row = msgspec.msgpack.decode(fields[FIELD], type=dict[str, Any])
        except (KeyError, TypeError, msgspec.MsgspecError):
            self.lost += 1
            return None
        return [row.get(name) for name in self._schema]

    def _away(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"Redis at {_shown(self.place.url)} does not answer: {error}", hint="start it, or name another address")


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))  # without a password


def _redis() -> Any:
    try:
        import redis
    except ImportError as error:
        raise missing("redis", "logging decisions to Redis", error, otherwise="log them with --spool") from error
    return redis


def _client(place: Place) -> Any:
    options: dict[str, Any] = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    return _redis().Redis.from_url(place.url, **options)
