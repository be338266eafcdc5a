"""Decisions and events become each row once, whatever way they come; and a log that `check` accepts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spooled import CONFIG, START_US, pair, spooled, write_spool

from paretune.logs.decisions import conformed
from paretune.logs.intake import JoinReport, join_files
from paretune.logs.join import CONFLICT, EVENT_SCHEMA, HOUR_US, Clock, Held, Joined, join, list_schema
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.decision_rows import RowWriter, rows_frame

WRITER = RowWriter(CONFIG)
NO_LISTS = pl.DataFrame(schema=list_schema(CONFIG))
LATER = START_US + 100 * HOUR_US


def decided(*pairs: tuple[Request, Decision], copy: int = 0) -> pl.DataFrame:
    rows = [WRITER.row(request, decision, decision_id=f"{request.request_id}-{copy}", time_us=0) for request, decision in pairs]
    return rows_frame(rows, WRITER.schema)


def happened(*events: dict[str, object]) -> pl.DataFrame:
    return conformed(pl.DataFrame(list(events), infer_schema_length=None), EVENT_SCHEMA) if events else pl.DataFrame(schema=EVENT_SCHEMA)


def event(i: int, name: str = "save", *, after_h: float = 1.0, **more: object) -> dict[str, object]:
    return {"request_id": f"r{i}", "event": name, "ts": START_US + i * 60_000_000 + int(after_h * HOUR_US)} | more


def once(
    decisions: pl.DataFrame, events: pl.DataFrame, *, held: Held | None = None, now: int = LATER, written: list[str] | None = None
) -> Joined:
    ids = pl.Series("request_id", written or [], dtype=pl.String)
    result = join(decisions, events, NO_LISTS, held or Held.nothing(CONFIG), written=ids, config=CONFIG, clock=Clock(now))
    ends = ("written", "waiting", "duplicate", "rejected")
    assert result.decisions["read"] + result.decisions["carried"] == sum(result.decisions[end] for end in ends)
    fates = ("counted", "pending", "duplicate", "outside", "closed", "orphan", "unknown", "rejected")
    assert result.events["read"] + result.events["carried"] == sum(result.events[fate] for fate in fates)
    return result


def test_events_inside_the_window_are_counted_once_and_others_named() -> None:
    events = happened(
        event(0), event(0), event(0, after_h=2.0), event(0, after_h=25.0), event(0, after_h=-1.0), event(1, "events?"),
        event(1, "p2p", count=3), event(1, "p2p", event_id="x"), event(1, "p2p", after_h=5.0, event_id="x"), event(9), {"event": "save"},
    )  # fmt: skip
    result = once(decided(pair(0), pair(1)), events)
    assert result.log.sort("request_id").select("saves", "p2ps").rows() == [(2.0, 0.0), (0.0, 4.0)]
    wanted = {"read": 11, "counted": 4, "duplicate": 2, "outside": 2, "unknown": 1, "pending": 1, "rejected": 1}
    assert +result.events == Counter(wanted)


def test_a_row_waits_for_its_label_and_keeps_the_events_that_came_before() -> None:
    first = once(decided(pair(0)), happened(event(0)), now=START_US + 24 * HOUR_US)
    assert (len(first.log), first.decisions["waiting"]) == (0, 1)
    second = once(decided(), happened(), held=first.held)
    assert second.log["saves"].to_list() == [1.0]
    assert second.log["label_age_h"].to_list() == [100.0]
    third = once(decided(pair(0), copy=1), happened(event(0, after_h=3)), held=second.held, written=["r0"])
    assert (len(third.log), third.decisions["duplicate"], third.events["closed"]) == (0, 1, 1)


def test_the_caller_s_own_report_of_a_fallback_holds_and_other_contradictions_are_rejected() -> None:
    told = once(pl.concat([decided(pair(0)), decided(pair(0, reason=Reason.CLIENT), copy=1)]), happened())
    assert told.log.select("reason", "action", "propensity").rows() == [("FALLBACK:client", 0, 1.0)]
    clash = once(pl.concat([decided(pair(0)), decided(pair(0, reason=Reason.TIMEOUT), copy=1)]), happened())
    assert (len(clash.log), clash.rejected["why"].to_list()) == (0, [CONFLICT, CONFLICT])
    again = once(decided(pair(0), copy=2), happened(), held=clash.held)
    assert again.rejected["why"].to_list() == [CONFLICT]


@pytest.mark.parametrize(
    ("column", "value"),
    [("propensity", 0.0), ("propensity", float("nan")), ("reason", "x"), ("action", 99), ("weights", b"1"), ("user", None)],
)
def test_a_row_that_means_nothing_is_rejected_once_with_its_reason(column: str, value: object) -> None:
    good = decided(pair(0))
    bad = good.with_columns(pl.lit(value, dtype=good.schema[column]).alias(column))
    first = once(bad, happened())
    assert (len(first.log), first.rejected["why"].null_count(), first.decisions["rejected"]) == (0, 0, 1)
    assert once(bad, happened(), held=first.held).decisions["duplicate"] == 1


def test_fallbacks_keep_their_reason_and_propensities_their_bits() -> None:
    reasons = [Reason.TIMEOUT, Reason.EXPLORE, Reason.NO_MODEL]
    pairs = [pair(i, reason=reason) for i, reason in enumerate(reasons)]
    log = once(decided(*pairs), happened()).log.sort("request_id")
    assert log["reason"].to_list() == [reason.value for reason in reasons]
    assert log["propensity"].to_list() == [decision.propensity for _, decision in pairs]


def test_sessions_are_given_or_end_with_half_an_hour_of_silence() -> None:
    times = [0, 20, 49, 80, 200]
    pairs = [pair(5 * i, time_us=START_US + minute * 60_000_000) for i, minute in enumerate(times)]
    log = once(decided(*pairs), happened()).log.sort("ts")
    start = [f"0@{START_US + minute * 60_000_000}" for minute in (0, 0, 0, 80, 200)]
    assert log["session"].to_list() == start
    named = Request("r0", 0, {}, session=7, time_us=START_US)
    assert once(decided((named, pair(0)[1])), happened()).log["session"].to_list() == ["7"]


def run_pieces(decisions: list[pl.DataFrame], events: list[pl.DataFrame], nows: list[int]) -> pl.DataFrame:
    held, logs, written = Held.nothing(CONFIG), [], []
    for now, served, seen in zip(nows, decisions, events, strict=True):
        result = once(served, seen, held=held, now=now, written=written)
        held, written = result.held, written + result.log["request_id"].to_list()
        logs.append(result.log)
    log = pl.concat(logs).sort("request_id")
    return log.drop("decision_id", "label_age_h")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_any_split_order_and_repetition_of_the_input_gives_the_same_log(seed: int, runs: int) -> None:
    rng = np.random.default_rng(seed)
    n = 30
    reasons = [(Reason.EXPLORE, Reason.STATIC, Reason.TIMEOUT)[k] for k in rng.integers(0, 3, n)]
    minutes = np.cumsum(rng.integers(0, 40, n))
    pairs = [pair(i, time_us=START_US + int(minutes[i]) * 60_000_000, reason=reasons[i]) for i in range(n)]
    decisions = pl.concat([decided(*pairs), decided(*pairs[:5], copy=1)])
    of = rng.integers(0, n, 80)
    delays = rng.uniform(-1, 30, 80)
    names = rng.choice(["save", "p2ps", "p2p", "junk"], 80)
    events = happened(
        *(
            {"request_id": f"r{i}", "event": str(e), "ts": START_US + int((minutes[i] / 60 + d) * HOUR_US)}
            for i, d, e in zip(of, delays, names, strict=True)
        )
    )
    whole = run_pieces([decisions], [events], [LATER])
    early = [START_US + int(10 * HOUR_US * k / runs) for k in range(runs - 1)]  # before the first row is written

    def pieces(frame: pl.DataFrame) -> list[pl.DataFrame]:
        twice = pl.concat([frame, frame.filter(pl.Series(rng.random(len(frame)) < 0.3))])
        twice = twice[rng.permutation(len(twice)).tolist()]
        part = pl.Series(rng.integers(0, runs, len(twice)))
        return [twice.filter(part == k) for k in range(runs)]

    split = run_pieces(pieces(decisions), pieces(events), [*early, LATER])
    assert split.equals(whole)
    assert whole["request_id"].n_unique() == len(whole) == n


def write_events(folder: Path, events: list[dict[str, object]], name: str = "a.ndjson") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")


def all_rows(logs: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in sorted(logs.glob("day=*/*.parquet"))])


def run(tmp_path: Path, **more: int) -> JoinReport:
    return join_files(tmp_path / "spool", tmp_path / "events", tmp_path / "logs", CONFIG, **{"now_us": LATER, **more})


def test_lists_come_by_an_event_and_items_are_marked_per_head(tmp_path: Path) -> None:
    write_spool(tmp_path / "spool", [pair(0), pair(1)])
    lists = event(0, "candidates", candidate_ids=[3, 4, 5, 6], candidate_scores=[0.5] * 8, served_ids=[5, 3, 4])
    broken = event(1, "candidates", candidate_ids=[3, 4], candidate_scores=[0.5] * 3)
    write_events(tmp_path / "events", [lists, broken, event(0, "save", item=3), event(0, "p2p", item=3), event(0, "p2p", item=5)])
    report = run(tmp_path)
    assert (report.adds_up, report.lists_left_out, report.decisions["written"]) == (True, 1, 2)
    row = all_rows(tmp_path / "logs").sort("request_id").row(0, named=True)
    assert np.frombuffer(row["served_events"], np.uint8).tolist() == [2, 3, 0]
    assert np.frombuffer(row["served_ids"], "<i4").tolist() == [5, 3, 4]
    assert np.frombuffer(row["candidate_scores"], "<f2").tolist() == [0.5] * 8


def test_running_again_reads_nothing_and_writes_nothing_twice(tmp_path: Path) -> None:
    write_spool(tmp_path / "spool", [pair(i) for i in range(20)])
    write_events(tmp_path / "events", [event(i) for i in range(20)])
    assert run(tmp_path).decisions["written"] == 20
    assert run(tmp_path).decisions == {}
    (copied,) = (tmp_path / "spool").glob("*.parquet")
    copied.rename(copied.with_name("part-copied.parquet"))
    assert run(tmp_path).decisions == {"read": 20, "duplicate": 20}
    assert len(all_rows(tmp_path / "logs")) == 20


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from spooled import CONFIG
from paretune.logs.intake import join_files
base = Path(sys.argv[1])
sys.stdout.write("ready\\n")
sys.stdout.flush()
join_files(base / "spool", base / "events", base / "logs", CONFIG, now_us=int(sys.argv[3]))
sys.stdout.write("done\\n")
"""


def test_a_join_killed_at_30_moments_leaves_a_whole_log_and_the_next_run_completes_it(tmp_path: Path) -> None:
    rng, finished = np.random.default_rng(0), 0
    for round_ in range(30):
        write_spool(tmp_path / "spool", [pair(i, time_us=START_US + i * HOUR_US) for i in range(40 * round_, 40 * round_ + 40)])
        write_events(
            tmp_path / "events",
            [event(i) | {"ts": START_US + (i + 1) * HOUR_US} for i in range(40 * round_, 40 * round_ + 40)],
            f"{round_}.ndjson",
        )
        words = [sys.executable, "-c", CHILD, str(tmp_path), str(Path(__file__).parent), str(LATER + 2000 * HOUR_US)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.6)))
            child.send_signal(signal.SIGKILL)
            finished += "done" in child.stdout.read()
        if list((tmp_path / "logs").glob("day=*/*.parquet")):
            ids = all_rows(tmp_path / "logs")["request_id"]
            assert ids.n_unique() == len(ids)
    run(tmp_path, now_us=LATER + 2000 * HOUR_US)
    log = all_rows(tmp_path / "logs")
    assert sorted(log["request_id"].to_list()) == sorted(spooled(tmp_path / "spool")["request_id"].to_list())
    assert (log["saves"] == 1).all()
    assert 0 < finished < 30
