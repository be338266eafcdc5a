"""The join's end of a stream: a killed join loses and doubles nothing, and what the stream itself lost is told."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
import redis
from spooled import CONFIG, START_US, pair

from paretune.cli import main
from paretune.errors import ConfigError
from paretune.serving.stream_reader import Lost, StreamReader
from paretune.serving.streams import StreamSink, place_of
from paretune.template import render_config

LATER = datetime.fromtimestamp(START_US / 1e6 + 10 * 86_400).isoformat()


def add(url: str, first: int, last: int) -> None:
    sink = StreamSink(url, CONFIG)
    for i in range(first, last):
        assert sink.offer(*pair(i))
    sink.close()
    assert sink.counts.written == last - first


def read_all(url: str, *, tell: bool = True) -> tuple[int, Lost]:
    """Rows of one run, acknowledged, and what was lost before."""
    reader = StreamReader(url, CONFIG)
    rows, lost = len(reader.read()), reader.lost
    reader.acknowledge()
    if tell:
        reader.told()
    reader.close()
    return rows, lost


def words(base: Path, url: str) -> list[str]:
    (base / "paretune.toml").write_text(render_config(CONFIG), encoding="utf-8")
    (base / "events").mkdir(exist_ok=True)
    return ["join", url, str(base / "events"), "-o", str(base / "logs"), "-c", str(base / "paretune.toml"), "--now", LATER]


CHILD = """
import os, signal, sys
from redis import Redis
from paretune.cli import main
from paretune.logs import intake, staging
from paretune.serving import stream_reader
words = sys.argv[1:]

def dies(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

def then_dies(what):
    return lambda *args, **options: (what(*args, **options), dies())

def run(moment):
    if moment == "read":
        stream_reader.StreamReader.read = then_dies(stream_reader.StreamReader.read)
    elif moment == "half written":
        staging.write_json = dies
    elif moment == "written":
        intake.commit = then_dies(intake.commit)
    elif moment == "half acknowledged":
        stream_reader._BATCH = 30
        Redis.xack = then_dies(Redis.xack)
    os._exit(main(words))

for line in sys.stdin:  # a process for each, forked before anything was used, so that modules are imported once
    child = os.fork()
    if not child:
        run(line.strip())
    sys.stdout.write(f"ended with {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\\n")
    sys.stdout.flush()
"""


def test_a_join_killed_anywhere_between_stream_and_log_loses_and_doubles_no_row(stream: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, *words(tmp_path, stream)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for i, moment in enumerate(("read", "half written", "written", "half acknowledged", "never")):
            add(stream, 50 * i, 50 * i + 50)
            process.stdin.write(f"{moment}\n")
            told = next(line for line in process.stdout if line.startswith("ended with "))
            assert told == f"ended with {0 if moment == 'never' else -9}\n", moment
        process.stdin.close()
    written = pl.read_parquet(tmp_path / "logs" / "day=*" / "*.parquet", columns=["request_id"])["request_id"].to_list()
    assert sorted(written) == sorted(f"r{i}" for i in range(250))
    assert read_all(stream) == (0, Lost())


def test_entries_that_the_stream_gave_up_unread_are_counted_once(stream: str) -> None:
    add(stream, 0, 300)
    assert read_all(stream) == (300, Lost())
    small = f"{stream}&longest=100"
    add(small, 300, 1300)
    rows, lost = read_all(small)
    assert 100 <= rows < 1000
    assert lost == Lost(trimmed=1000 - rows)
    add(small, 1300, 1310)
    assert read_all(small) == (10, Lost())


def test_what_was_trimmed_before_the_first_run_or_while_it_was_pending_counts_too(stream: str) -> None:
    small = f"{stream}&longest=100"
    add(small, 0, 600)
    reader = StreamReader(small, CONFIG)
    rows = len(reader.read())
    assert reader.lost == Lost(trimmed=600 - rows)
    add(small, 600, 1600)  # what was given, and not acknowledged, goes as well
    again = StreamReader(small, CONFIG)
    left = len(again.read())
    assert again.lost == Lost(trimmed=1600 - left)
    again.acknowledge()
    assert read_all(small, tell=False) == (0, Lost(trimmed=1000 - left + 600 - rows)), "nobody was told yet"
    assert read_all(small)[1].trimmed > 0
    assert read_all(small) == (0, Lost())


def test_join_says_what_the_stream_lost_until_a_run_that_is_no_preview(
    stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = f"{stream}&longest=100"
    add(small, 0, 1000)
    told = []
    for more in (["--immature"], [], []):
        assert main([*words(tmp_path, small), "--json", "--metrics", str(tmp_path / "join.prom"), *more]) == 0
        printed = capsys.readouterr()
        told.append(json.loads(printed.out)["stream"]["trimmed"])
        assert ("gave up" in printed.err) == (told[-1] > 0)
        exported = (tmp_path / "join.prom").read_text(encoding="utf-8")
        assert f'paretune_join_lost{{how="trimmed"}} {float(told[-1])}\n' in exported
    assert told[0] == told[1] > 0
    assert told[2] == 0


def test_a_name_that_holds_something_else_is_refused(stream: str) -> None:
    place = place_of(stream)
    with redis.Redis.from_url(place.url) as client:
        client.set(place.stream, "text")
        with pytest.raises(ConfigError, match="is no stream"):
            StreamReader(stream, CONFIG)


def test_the_password_comes_from_the_environment(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of its own that needs one; the address holds the name alone."""
    place = place_of(stream)
    with redis.Redis.from_url(place.url) as admin:
        name = place.stream.replace("-", "_")
        admin.acl_setuser(name, enabled=True, passwords=["+of the test"], keys=[place.stream], categories=["+@all"])
        try:
            mine = stream.replace("://", f"://{name}@")
            monkeypatch.setenv("REDISCLI_AUTH", "of the test")
            add(mine, 0, 3)
            assert read_all(mine) == (3, Lost())
        finally:
            admin.acl_deluser(name)
