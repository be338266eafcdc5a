"""The side of `paretune join` of decisions over Redis Streams. An edge: Redis.

The rules: what was read is acknowledged only after the join that used it has been committed, so that a killed join reads it again; what the
stream lost before it was read is counted, and told until `told` says that it was. One join reads at a time: two at once read some entries
twice, which the join sorts out. Redis 7 or later: earlier ones do not count what they trim.

    trimmed = entries ever added - entries the group was given - entries it can still be given
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError, UnreachableError
from paretune.logs.decisions import decision_schema
from paretune.serving.decision_rows import Cell, rows_frame
from paretune.serving.streams import FIELD, GROUP, client_of, place_of, redis_package, shown

_CONSUMER: Final = "join"
_BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Lost:
    """Entries of a stream that gave no row."""

    trimmed: int = 0  # taken away by the stream's limit before they were read
    unreadable: int = 0  # hold no decision


class StreamReader:
    """Reads what nobody acknowledged, and acknowledges it when told."""

    def __init__(self, url: str, config: Config) -> None:
        """Open the reader and make its group.

        Args:
            url: see `streams.place_of`.
            config: names columns and features.

        Raises:
            ConfigError: the address is none, or the name is taken by something else than a stream.
            MissingExtraError: redis is not installed.
            UnreachableError: Redis does not answer.
        """
        self.place, self._schema = place_of(url), decision_schema(config)
        self._redis, self._error = client_of(self.place), redis_package().RedisError
        self._read: list[bytes] = []
        self._unreadable = self._gone = self._skipped = 0
        try:
            self._redis.xgroup_create(self.place.stream, GROUP, id="0", mkstream=True, entries_read=0)
        except redis_package().ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise ConfigError(
                    f"{self.place.stream} is no stream of Redis 7: {error}", hint="name another with ?stream=NAME, or a later server"
                ) from error
        except self._error as error:
            raise self._away(error) from error

    @property
    def lost(self) -> Lost:
        """What the entries read so far, and those trimmed before, lack."""
        return Lost(self._gone + self._skipped, self._unreadable)

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
                    found = self._redis.xreadgroup(
                        GROUP, _CONSUMER, {self.place.stream: ">" if new else last}, count=min(_BATCH, most - len(rows))
                    )
                    entries = found[0][1] if found else []
                    if not entries:
                        break
                    last = entries[-1][0]
                    self._read += [name for name, _ in entries]
                    rows += [cells for _, fields in entries if (cells := self._cells(fields)) is not None]
            self._skipped, _ = self._never_given()
        except self._error as error:
            raise self._away(error) from error
        return rows_frame(rows, self._schema)

    def acknowledge(self) -> None:
        """Say that what was read has been used, so that nobody reads it again.

        Raises:
            UnreachableError: Redis does not answer; the next run reads it again, and writes nothing twice.
        """
        try:
            for start in range(0, len(self._read), _BATCH):
                self._redis.xack(self.place.stream, GROUP, *self._read[start : start + _BATCH])
        except self._error as error:
            raise self._away(error) from error
        self._read.clear()

    def told(self) -> None:
        """Say that somebody was told of what is lost, so that the next reader counts from here.

        Raises:
            UnreachableError: Redis does not answer; the next run tells it again.
        """
        try:
            _, group = self._never_given()
            if self._skipped:
                seen = int(group["entries-read"]) + self._skipped
                self._redis.xgroup_setid(self.place.stream, GROUP, group["last-delivered-id"], entries_read=seen)
        except self._error as error:
            raise self._away(error) from error
        self._unreadable = self._gone = self._skipped = 0

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _never_given(self) -> tuple[int, dict[str, Any]]:
        """Return how many entries were trimmed before the group was given them, and what Redis says of the group.

        None, for now, where more entries came meanwhile than can be counted; a later run counts them.
        """
        name = self.place.stream
        group = next(group for group in self._redis.xinfo_groups(name) if group["name"] == GROUP.encode())
        pipe = self._redis.pipeline(transaction=True)
        pipe.xinfo_stream(name)
        pipe.xinfo_groups(name)
        pipe.xrange(name, min=b"(" + group["last-delivered-id"], count=_BATCH)
        about, groups, ahead = pipe.execute()
        now = next(group for group in groups if group["name"] == GROUP.encode())
        known = now["last-delivered-id"] == group["last-delivered-id"] and now["entries-read"] is not None and len(ahead) < _BATCH
        return (max(0, int(about["entries-added"]) - int(now["entries-read"]) - len(ahead)) if known else 0), now

    def _cells(self, fields: dict[bytes, bytes] | None) -> list[Cell] | None:
        """Return the cells of an entry; None, and counted, where it is no decision or was trimmed before it was read."""
        if not fields:  # Redis still knows that the entry was given, and no more what it held
            self._gone += 1
            return None
        try:
            row = msgspec.msgpack.decode(fields[FIELD], type=dict[str, Any])
        except (KeyError, TypeError, msgspec.MsgspecError):
            self._unreadable += 1
            return None
        return [row.get(name) for name in self._schema]

    def _away(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"Redis at {shown(self.place.url)} does not answer: {error}", hint="start it, or name another address")
