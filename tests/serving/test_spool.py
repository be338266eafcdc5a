"""The spool keeps what it acknowledged: through kill -9, rotation, full disks and requests that are anything."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from spooled import ACTIONS, CONFIG, pair, spooled

from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.journal import Journal, read_journal
from paretune.serving.outbox import Outbox
from paretune.serving.spool import Spool


def test_decisions_come_back_with_weights_and_propensity_to_the_bit(tmp_path: Path) -> None:
    spool = Spool(tmp_path, CONFIG, rotate_rows=40)
    for i in range(100):
        assert spool.offer(*pair(i))
    spool.close()
    frame = spooled(tmp_path).sort("ts")
    assert frame["request_id"].to_list() == [f"r{i}" for i in range(100)]
    assert (frame["propensity"] == 1 / 9).all()
    weights = np.frombuffer(b"".join(frame["weights"].to_list()), "<f4").reshape(100, -1)
    np.testing.assert_array_equal(weights, ACTIONS[frame["action"].to_numpy()].astype("<f4"))
    assert (frame["cohort"].to_list()[0], frame["device"].to_list()[0], frame["age"].to_list()[3]) == ("CORE", "phone", 1.5)
    assert np.frombuffer(frame["seq"].to_list()[7], "<i2").tolist() == [7, 1]
    assert spool.counts.add_up
    assert spool.counts.written == 100
    assert not list(tmp_path.glob("*.journal"))
    assert len(list(tmp_path.glob("part-*.parquet"))) == 1  # one batch, above the rotation


@pytest.mark.parametrize("bad", [float("inf"), 1e308, "x", None, [1], object(), b"\x01", {"a": 1}, 10**400, "\ud800", np.nan])
def test_a_feature_that_is_anything_never_loses_the_row(tmp_path: Path, bad: object) -> None:
    spool = Spool(tmp_path, CONFIG)
    features = dict.fromkeys(("age", "device", "emb", "seq", "cohort"), bad)
    spool.offer(Request("r", "u", features, time_us=1), Decision("r", (1.0, 2.0), 0, "", 0, 1.0, Reason.BAD_INPUT))
    spool.close()
    row = spooled(tmp_path).row(0, named=True)
    assert (row["age"], row["emb"], row["reason"]) == (None, None, "FALLBACK:bad input")


def test_a_full_queue_drops_and_counts_and_a_closed_one_too() -> None:
    box = Outbox(3)
    assert [box.offer(*pair(i)) for i in range(5)] == [True, True, True, False, False]
    box.settle(2, dropped=1)
    assert box.counts.add_up
    assert (box.counts.offered, box.counts.written, box.counts.dropped, box.counts.queued) == (5, 1, 3, 1)
    box.close()
    assert not box.offer(*pair(9))
    assert box.counts.add_up


def test_a_torn_end_is_left_out_and_all_before_it_kept(tmp_path: Path) -> None:
    path = tmp_path / "part-1-1-1.journal"
    journal = Journal(path, Spool(tmp_path / "other", CONFIG)._writer.schema)
    rows = [("a", *[None] * 17), ("b", *[None] * 17)]
    journal.append(rows[:1])
    whole = journal.size
    journal.append(rows[1:])
    journal.close()
    data = path.read_bytes()
    for end in range(whole, len(data)):
        path.write_bytes(data[:end])
        found = read_journal(path)
        assert ([row[0] for row in found.rows], found.torn_bytes) == (["a"], end - whole)
    flipped = bytearray(data)
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    assert [row[0] for row in read_journal(path).rows] == ["a"]


def test_a_disk_that_is_full_for_a_while_loses_nothing_that_was_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.serving.spool._RETRY_S", 0.01)
    write, full = os.write, [False]

    def refusing(descriptor: int, data: bytes) -> int:
        if full[0] and len(data) > 40:
            write(descriptor, bytes(data[: len(data) // 2]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("paretune.serving.journal.os.write", refusing)
    spool = Spool(tmp_path, CONFIG, queue_rows=50, interval_s=0.005)
    assert spool.offer(*pair(0))
    assert spool.flush()
    full[0] = True
    taken = [i for i in range(1, 100) if spool.offer(*pair(i))]
    assert not spool.flush(0.1)
    assert spool.counts.add_up
    assert len(taken) == 50
    assert "No space" in spool.state.error
    full[0] = False
    assert spool.flush()
    spool.close()
    assert sorted(spooled(tmp_path)["request_id"].to_list()) == sorted(["r0", *(f"r{i}" for i in taken)])
    assert spool.counts.written == 51


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from spooled import CONFIG, pair
from paretune.serving.spool import Spool
spool = Spool(sys.argv[1], CONFIG, interval_s=0.001, rotate_rows=20, rotate_s=0.01)
first = int(sys.argv[3])
for i in range(first, first + 100_000):
    spool.offer(*pair(i))
    if i % 7 == 0 and spool.flush():
        sys.stdout.write(f"{i}\\n")
        sys.stdout.flush()
"""


def test_kill_9_at_30_moments_loses_no_acknowledged_decision_and_writes_none_twice(tmp_path: Path) -> None:
    rng, acknowledged = np.random.default_rng(0), []
    for round_ in range(30):
        words = [sys.executable, "-c", CHILD, str(tmp_path), str(Path(__file__).parent), str(round_ * 1_000_000)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            acknowledged.append(range(round_ * 1_000_000, int(child.stdout.readline()) + 1))
            time.sleep(float(rng.uniform(0, 0.08)))
            child.send_signal(signal.SIGKILL)
            lines = child.stdout.read().split("\n")[:-1]
            if lines:
                acknowledged[-1] = range(round_ * 1_000_000, int(lines[-1]) + 1)
    Spool(tmp_path, CONFIG).close()
    ids = spooled(tmp_path)["request_id"]
    assert ids.n_unique() == len(ids)
    assert {f"r{i}" for span in acknowledged for i in span} <= set(ids.to_list())
    assert not list(tmp_path.glob("*.journal"))
