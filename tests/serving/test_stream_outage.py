"""Redis away, frozen, or coming and going: no decision is lost, none is late, and what waited on the disk follows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spooled import CONFIG, pair, spooled
from wires import Wire

from paretune.errors import ConfigError
from paretune.serving.backlog import Backlog
from paretune.serving.journal import Journal
from paretune.serving.spool import Spool
from paretune.serving.stream_reader import StreamReader
from paretune.serving.streams import StreamSink


@pytest.fixture
def wire(stream: str) -> Iterator[Wire]:
    cut = Wire(stream)
    yield cut
    cut.close()


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, "it never came"
        time.sleep(0.01)


def served(url: str) -> list[str]:
    """Request ids in the stream, in order."""
    reader = StreamReader(url, CONFIG)
    ids: list[str] = sorted(reader.read()["request_id"].to_list())
    reader.close()
    return ids


def ids(n: int) -> list[str]:
    return sorted(f"r{i}" for i in range(n))


@pytest.mark.parametrize("how", ["refuse", "freeze"])
def test_what_redis_does_not_take_is_kept_on_the_disk_and_follows(how: str, wire: Wire, stream: str, tmp_path: Path) -> None:
    sink = StreamSink(wire.url, CONFIG, backlog=tmp_path, queue_rows=500, look_s=0.1)
    for i in range(100):
        sink.offer(*pair(i))
    assert sink.flush()
    getattr(wire, how)()
    for start in range(100, 2100, 400):  # several times what the queue holds
        for i in range(start, start + 400):
            assert sink.offer(*pair(i))
        assert sink.flush(10), "acknowledged: it survives the process although Redis is away"
        assert sink.counts.add_up
    assert list(tmp_path.glob("part-*.journal"))
    until(lambda: sink.health.backlog_bytes > 0)
    assert sink.health.error
    assert sink.health.free_bytes
    wire.restore()
    if how == "freeze":  # what hung is broken off, as a server that comes back does
        wire.refuse()
        wire.restore()
    until(lambda: not list(tmp_path.iterdir()))
    sink.offer(*pair(2100))
    assert sink.flush()
    until(lambda: (sink.health.backlog_bytes, sink.health.error, sink.health.unread) == (0, "", 2101))
    sink.close()
    assert sink.counts.dropped == 0
    assert sorted(set(served(stream))) == ids(2101)


def test_a_redis_that_comes_and_goes_gets_everything(wire: Wire, stream: str, tmp_path: Path) -> None:
    sink = StreamSink(wire.url, CONFIG, backlog=tmp_path)
    for round_ in range(12):
        wire.refuse() if round_ % 2 else wire.restore()
        for i in range(50 * round_, 50 * round_ + 50):
            sink.offer(*pair(i))
        time.sleep(0.03)
    wire.restore()
    until(lambda: sink.flush(1) and not list(tmp_path.iterdir()))
    sink.close()
    assert sink.counts.dropped == 0
    assert sorted(set(served(stream))) == ids(600)


CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from spooled import CONFIG, pair
from paretune.serving.streams import StreamSink
sink = StreamSink("redis://127.0.0.1:1/0", CONFIG, backlog=Path(sys.argv[2]))
for i in range(300):
    sink.offer(*pair(i))
assert sink.flush(10)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_service_killed_while_redis_was_away_loses_nothing_that_was_acknowledged(stream: str, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path)], check=False, timeout=60)
    assert killed.returncode == -9
    (journal,) = tmp_path.glob("part-*.journal")
    journal.write_bytes(journal.read_bytes() + b"\x20\x00\x00\x00torn")  # a row that was being written
    sink = StreamSink(stream, CONFIG, backlog=tmp_path)
    until(lambda: not list(tmp_path.iterdir()))
    sink.close()
    assert served(stream) == ids(300)


def test_a_stopped_service_leaves_its_backlog_to_the_next_or_to_a_spool(tmp_path: Path) -> None:
    sink = StreamSink("redis://127.0.0.1:1/0", CONFIG, backlog=tmp_path)
    for i in range(40):
        sink.offer(*pair(i))
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 3, "a disk is at hand, so nobody waits for Redis"
    assert (sink.counts.written, sink.counts.dropped) == (40, 0)
    Spool(tmp_path, CONFIG).close()
    assert sorted(spooled(tmp_path)["request_id"].to_list()) == ids(40)


def test_with_redis_away_and_the_disk_full_decisions_wait_in_the_queue(
    wire: Wire, stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(journal: Journal, rows: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    wire.refuse()
    sink = StreamSink(wire.url, CONFIG, backlog=tmp_path, queue_rows=100)
    assert [sink.offer(*pair(i)) for i in range(120)] == [True] * 100 + [False] * 20
    assert not sink.flush(0.3)
    assert sink.counts.add_up
    wire.restore()
    assert sink.flush(10)
    sink.close()
    assert (sink.counts.written, sink.counts.dropped) == (100, 20)
    assert served(stream) == ids(100)


def test_a_journal_is_sent_whole_before_it_is_removed(tmp_path: Path) -> None:
    first = Backlog(tmp_path, StreamSink("redis://127.0.0.1:1/0", CONFIG)._writer.schema)
    rows = [(f"d{i}", f"r{i}", *[None] * (len(first._schema) - 2)) for i in range(1200)]
    first.keep(rows)
    assert first.waiting_bytes > 0
    sent: list[str] = []

    def breaks(batch: object) -> None:
        if sent:
            raise ConnectionError("in the middle")
        sent.extend(row["request_id"] for row in batch)  # type: ignore[attr-defined]

    with pytest.raises(ConnectionError):
        first.drain(breaks)
    assert len(sent) == 500
    first.close()
    again, later = Backlog(tmp_path, first._schema), list[str]()
    assert again.drain(lambda batch: later.extend(row["request_id"] for row in batch)) is False
    assert later == [f"r{i}" for i in range(1200)]
    assert (list(tmp_path.iterdir()), again.waiting_bytes) == ([], 0)


def test_a_backlog_needs_a_folder_that_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no backlog"):
        StreamSink("redis://127.0.0.1:1/0", CONFIG, backlog=tmp_path / "file" / "in it")
