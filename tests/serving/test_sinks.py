"""One suite for every sink: the counts add up, nothing blocks, what was acknowledged is there; and Redis going away and coming back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
import redis
from spooled import CONFIG, START_US, pair, spooled

from paretune.cli import main
from paretune.errors import ConfigError, UnreachableError
from paretune.serving.sinks import DecisionSink
from paretune.serving.spool import Spool
from paretune.serving.stream_reader import Lost, StreamReader
from paretune.serving.streams import StreamSink, place_of
from paretune.template import render_config


@dataclass(frozen=True)
class Store:
    """A sink's store, and how to read it."""

    sink: Callable[[], DecisionSink]
    rows: Callable[[], pl.DataFrame]


@pytest.fixture(params=["spool", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "spool":
        return Store(lambda: Spool(tmp_path, CONFIG), lambda: spooled(tmp_path))
    url = request.getfixturevalue("stream")
    return Store(lambda: StreamSink(url, CONFIG), lambda: StreamReader(url, CONFIG).read())


def test_what_is_offered_is_written_counted_and_the_same(store: Store) -> None:
    sink = store.sink()
    for i in range(1200):
        assert sink.offer(*pair(i))
        assert sink.counts.add_up
    assert sink.flush(10)
    assert sink.counts.written == 1200
    sink.close()
    rows = store.rows().sort("ts")
    assert rows["request_id"].to_list() == [f"r{i}" for i in range(1200)]
    assert (rows["propensity"] == 1 / 9).all()
    assert rows["decision_id"].n_unique() == 1200


def test_offering_never_blocks_and_a_closed_sink_drops_and_counts(store: Store) -> None:
    sink = store.sink()
    started = time.perf_counter()
    for i in range(3000):
        sink.offer(*pair(i))
    assert time.perf_counter() - started < 2
    sink.close()
    assert not sink.offer(*pair(1))
    assert sink.counts.add_up
    assert sink.counts.queued == 0
    assert (sink.counts.offered, sink.counts.dropped) == (3001, 1)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_without_redis_decisions_go_on_are_kept_while_there_is_room_and_counted_when_not() -> None:
    sink = StreamSink(f"redis://127.0.0.1:{free_port()}/0", CONFIG, queue_rows=10)
    started = time.perf_counter()
    assert [sink.offer(*pair(i)) for i in range(15)] == [True] * 10 + [False] * 5
    assert time.perf_counter() - started < 0.5
    assert not sink.flush(0.2)
    assert sink.counts.add_up
    sink.close()
    assert (sink.counts.written, sink.counts.dropped) == (0, 15)


def test_entries_are_read_again_until_they_are_acknowledged(stream: str) -> None:
    sink = StreamSink(stream, CONFIG)
    for i in range(30):
        sink.offer(*pair(i))
    sink.close()
    assert len(StreamReader(stream, CONFIG).read()) == 30, "a run that dies before it acknowledges"
    reader = StreamReader(stream, CONFIG)
    assert len(reader.read()) == 30
    reader.acknowledge()
    assert len(StreamReader(stream, CONFIG).read()) == 0


def test_an_entry_that_is_no_decision_is_counted_and_stops_nobody(stream: str) -> None:
    place, sink = place_of(stream), StreamSink(stream, CONFIG)
    client = redis.Redis.from_url(place.url)
    client.xadd(place.stream, {"row": b"\xc1"})
    client.xadd(place.stream, {"other": b"1"})
    sink.offer(*pair(3))
    sink.close()
    client.close()
    reader = StreamReader(stream, CONFIG)
    assert (len(reader.read()), reader.lost) == (1, Lost(unreadable=2))


def test_join_reads_a_stream_once_and_writes_a_request_once(stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "paretune.toml").write_text(render_config(CONFIG), encoding="utf-8")
    (tmp_path / "events").mkdir()
    words = [stream, str(tmp_path / "events"), "-o", str(tmp_path / "logs"), "-c", str(tmp_path / "paretune.toml")]
    words += ["--now", datetime.fromtimestamp(START_US / 1e6 + 10 * 86_400).isoformat()]
    for repeated in (0, 50):
        sink = StreamSink(stream, CONFIG)
        for i in range(200 + repeated):
            sink.offer(*pair(i))
        sink.close()
        assert main(["join", *words]) == 0
    rows = pl.read_parquet(tmp_path / "logs" / "day=*" / "*.parquet", columns=["request_id"])
    assert len(rows) == rows["request_id"].n_unique() == 250
    assert "duplicate 200" in capsys.readouterr().out


def test_an_address_that_is_none_and_a_server_that_is_away_say_so_without_the_password() -> None:
    with pytest.raises(ConfigError, match="no address of Redis") as refused:
        place_of("http://user:hunter2@x")
    assert "hunter2" not in str(refused.value)
    assert place_of("rediss://x/1?ssl_cert_reqs=none&stream=s").url == "rediss://x/1?ssl_cert_reqs=none"
    with pytest.raises(UnreachableError, match="does not answer") as error:
        StreamReader(f"redis://user:hunter2@127.0.0.1:{free_port()}/0", CONFIG)
    assert "hunter2" not in str(error.value)
    assert error.value.exit_code == 5
