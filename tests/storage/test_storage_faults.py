"""What is said, and what is left behind, where storage is wrong, closed, silent, or gone in the middle."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bucket_server import BUCKET, KEY, SECRET, BucketServer, Line, free_ports
from spooled import CONFIG, START_US, pair, write_spool

from paretune.cli import main
from paretune.config import dump_config
from paretune.errors import ConfigError, LogError, MissingExtraError, NotFoundError, UnreachableError
from paretune.logs.files import log_files
from paretune.logs.intake import join_files
from paretune.logs.join import HOUR_US
from paretune.logs.parquet import read_log, write_part
from paretune.storage import objects
from paretune.storage.copies import fetched, kept
from paretune.storage.objects import answered, listed, read_bytes, scanned, write
from paretune.storage.place import Place

LATER = START_US + 100 * HOUR_US
Reach = Callable[..., None]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    (folder / "paretune.toml").write_text(dump_config(CONFIG), encoding="utf-8")
    write_spool(folder / "spool", [pair(i, time_us=START_US + i * HOUR_US) for i in range(60)])
    (folder / "events").mkdir()
    (folder / "events" / "0.ndjson").write_text(
        json.dumps({"request_id": "r0", "event": "save", "ts": START_US + HOUR_US}), encoding="utf-8"
    )
    return folder


@pytest.fixture
def logs(bucket: Place, given: Path) -> Place:
    join_files(given / "spool", given / "events", bucket / "logs", CONFIG, now_us=LATER)
    return bucket / "logs"


def check(logs: Place | str, given: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["check", str(logs), "-c", str(given / "paretune.toml")])
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    return code, said.err


def test_a_wrong_secret_a_missing_bucket_and_a_dead_server_have_their_own_words(
    logs: Place, given: Path, reach: Reach, server: BucketServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = check(f"s3://nowhere-{uuid.uuid4().hex}/logs", given, capsys)
    assert (code, "there is no bucket 'nowhere-" in said) == (3, True)
    code, said = check(f"{logs}-not", given, capsys)
    assert (code, f"{logs}-not holds no Parquet files" in said) == (3, True)
    reach(server.url, secret=f"not-{SECRET}")
    code, said = check(logs, given, capsys)
    assert (code, "access is denied" in said, "AWS_SECRET_ACCESS_KEY" in said) == (2, True, True)
    reach(f"http://{KEY}:{SECRET}@127.0.0.1:{free_ports(1)[0]}")  # some write credentials there
    code, said = check(logs, given, capsys)
    assert (code, f"{logs} could not be listed: the storage does not answer" in said, "hint: check the network" in said) == (5, True, True)


@pytest.mark.parametrize("mute", [False, True])
def test_a_server_that_stops_in_the_middle_of_a_log_is_exit_5_and_no_bad_log(
    logs: Place,
    given: Path,
    reach: Reach,
    server: BucketServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mute: bool,
) -> None:
    whole = Line(server.port)
    reach(whole.url)
    assert check(logs, given, capsys)[0] == 0
    if mute:
        for name in ("SILENT_S", "RETRY_S", "RETRIES"):
            monkeypatch.setattr(objects, name, 1)
    for share in (0.3, 0.8):
        line = Line(server.port, most_down=share * whole.down, mute=mute)
        reach(line.url)
        code, said = check(logs, given, capsys)
        assert (code, "does not answer" in said) == (5, True), said
        assert "damaged" not in said


def test_a_join_whose_server_stops_says_so_and_leaves_nothing_half_written(
    bucket: Place, given: Path, reach: Reach, server: BucketServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["join", str(given / "spool"), str(given / "events"), "--now", "2026-03-01", "-c", str(given / "paretune.toml"), "-o"]
    whole = Line(server.port)
    reach(whole.url)
    assert main([*words, str(bucket / "whole")]) == 0
    sent = whole.up
    wanted = sorted(read_log(bucket / "whole", CONFIG).request.tolist())
    assert len(wanted) == 60
    for share in (0.1, 0.5, 0.9):
        output = bucket / f"logs-{share}"
        reach(Line(server.port, most_up=share * sent).url)
        capsys.readouterr()
        assert main([*words, str(output)]) == 5
        said = capsys.readouterr().err
        assert "nothing of this join happened" in said or "the join happened, and the next one finishes it" in said or "not known" in said
        assert SECRET not in said
        reach(server.url)
        try:
            seen = read_log(output, CONFIG).request.tolist()  # whatever is there can be read
        except LogError:
            seen = []
        assert set(seen) <= set(wanted)
        assert main([*words, str(output)]) == 0
        assert sorted(read_log(output, CONFIG).request.tolist()) == wanted


def test_what_could_not_be_sent_is_kept_on_disk_and_what_is_there_is_never_a_mixture(
    bucket: Place, reach: Reach, server: BucketServer
) -> None:
    def made(mark: bytes) -> None:
        with kept(bucket / "run", last="front.json") as folder:
            for name in ("a/1", "b", "front.json"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(mark * 50_000)

    made(b"1")
    line = Line(server.port, most_up=120_000)
    reach(line.url)
    with pytest.raises(UnreachableError, match="what was made is kept in ") as lost:
        made(b"2")
    reach(server.url)
    there = {item.place.name: read_bytes(item.place)[:1] for item in listed(bucket / "run")}
    assert "front.json" not in there  # so that nobody takes it for a run
    kept_in = Path(str(lost.value).rpartition("kept in ")[2])
    assert {path.name: path.read_bytes()[:1] for path in kept_in.rglob("*") if path.is_file()} == {"1": b"2", "b": b"2", "front.json": b"2"}
    made(b"3")
    assert {read_bytes(item.place)[:1] for item in listed(bucket / "run")} == {b"3"}


def test_only_what_changed_is_sent_and_what_is_gone_is_removed(bucket: Place) -> None:
    with kept(bucket / "run", last="front.json") as folder:
        for name in ("front.json", "curve", "model"):
            (folder / name).write_text("1", encoding="utf-8")
    before = {item.place.name: item for item in listed(bucket / "run")}
    write(bucket / "run" / "front.json", b"somebody else's")
    with kept(bucket / "run", last="front.json") as folder:
        (folder / "curve").unlink()
        (folder / "page").write_text("2", encoding="utf-8")
    after = {item.place.name: item for item in listed(bucket / "run")}
    assert after.keys() == {"front.json", "model", "page"}
    assert after["model"] == before["model"]
    assert read_bytes(bucket / "run" / "front.json") == b"somebody else's"

    def fail() -> None:
        with kept(bucket / "run", last="front.json") as folder:
            (folder / "page").write_text("3", encoding="utf-8")
            raise LogError("the work failed")

    with pytest.raises(LogError, match="the work failed"):
        fail()
    assert read_bytes(bucket / "run" / "page") == b"2"  # nothing of work that failed


def test_errors_of_a_copy_name_the_place(bucket: Place) -> None:
    write(bucket / "run" / "a", b"")
    with pytest.raises(LogError, match=f"^{bucket / 'run'}/x is bad"), fetched(bucket / "run") as folder:
        raise LogError(f"{folder / 'x'} is bad", hint="mend it")
    for there in (fetched(bucket / "nothing"), kept(bucket / "nothing", last="x", there=True)):
        with pytest.raises(NotFoundError, match="there is nothing at s3://feed/"), there:
            pass


def test_a_column_of_a_large_file_is_read_without_the_others(bucket: Place, reach: Reach, server: BucketServer) -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    path = write_part(bucket, {"small": np.arange(n) // 1000, "large": [rng.bytes(40) for _ in range(n)]}, part=0)
    assert isinstance(path, Place)
    line = Line(server.port)
    reach(line.url)
    with answered(path, "read"):
        rows = scanned(path).with_row_index("row").slice(70_000, 1000).select("row", "small").collect()
    assert rows["small"].to_list() == [(70_000 + i) // 1000 for i in range(1000)]
    assert line.down < 0.05 * listed(bucket)[0].size


def test_a_missing_extra_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    for scheme, extra in (("s3", "s3"), ("gs", "gcs")):
        with pytest.raises(MissingExtraError, match=rf'pip install "paretune\[{extra}\]"'):
            log_files(f"{scheme}://{BUCKET}/logs", CONFIG)


def test_a_machine_without_credentials_or_a_role_says_so(monkeypatch: pytest.MonkeyPatch, reach: Reach, server: BucketServer) -> None:
    reach(server.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.url)  # which knows of no roles
    with pytest.raises(ConfigError, match="there are no credentials for s3://feed"):
        listed(Place("s3", BUCKET, "logs"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["simulate", "s3://feed/logs"], "logs"),
        (["headroom", "s3://feed/logs", "--figures", "gs://feed/pictures"], "--figures"),
        (["monitor", "logs", "--out", "s3://feed/drift"], "--output"),
        (["worth", "s3://feed/runs/a"], "source"),
    ],
)
def test_a_command_that_works_on_disk_says_so_and_makes_no_folder_of_the_url(
    words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = main(words), capsys.readouterr()
    assert (code, f"{named} of `paretune {words[0]}` is on disk" in said.err) == (2, True), said.err
    assert list(tmp_path.iterdir()) == []


def test_polars_is_asked_with_the_same_patience(reach: Reach) -> None:
    reach(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(UnreachableError), answered(Place("s3", BUCKET, "a.parquet"), "read"):
        scanned(Place("s3", BUCKET, "a.parquet")).select(pl.len()).collect()
