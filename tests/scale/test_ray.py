"""The passes over a log on a small cluster of two worker processes: the same results as in one process, also where workers are killed."""

import json
import os
import runpy
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from paretune.cli import main
from paretune.config import load_config
from paretune.errors import DataError
from paretune.logs.inspection import check_log
from paretune.scale.cluster import connected
from paretune.scale.ray_crew import RayCrew
from paretune.scale.spread import WITNESS, Spread

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray warns itself of its own settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "bring_your_own_logs"
TRAFFIC = runpy.run_path(str(EXAMPLE / "make_logs.py"))["day_of_traffic"]
ROWS, DAYS, FILES = 200_000, 4, 2


def processes_of(folder: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended
            continue
    return [line for line in found if folder in line]


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    with connected(workers=2) as cores:
        folder = ray.get_runtime_context().get_temp_dir()
        yield cores
    until = time.monotonic() + 30
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.2)
    assert processes_of(folder) == []
    assert not Path(folder).exists()


def write_log(folder: Path, rows: int) -> None:
    each = rows // (DAYS * FILES)
    for day in range(DAYS):
        target = folder / f"day=2026-03-{day + 1:02d}"
        target.mkdir(parents=True)
        for part in range(FILES):
            TRAFFIC(np.random.default_rng(100 * day + part), each).write_parquet(target / f"part-{part}.parquet")


def write_config(folder: Path) -> None:
    assert main(["init", str(EXAMPLE / "weights.yaml"), "--logs", str(folder / "logs"), "-o", str(folder / "paretune.toml")]) == 0
    text = (folder / "paretune.toml").read_text(encoding="utf-8")
    for old, new in (
        ("train_days = 14", "train_days = 2"),
        ("hold_out_days = 7", "hold_out_days = 2"),
        ('model = "auto"', 'model = "ridge"'),
        ("replicates = 1000", "replicates = 100"),
        ("max_epochs = 30", "max_epochs = 4"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "paretune.toml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_log(folder / "logs", ROWS)
    write_config(folder)
    return folder


@pytest.fixture(autouse=True)
def _here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    monkeypatch.setattr("paretune.run.publish_report", lambda *_: None)  # drawing is tested with the report


@pytest.fixture(scope="module")
def bundle(shop: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        assert main(["train", "logs", "-o", "model"]) == 0
    return shop / "model"


def sweep(output: str, bundle: Path, *words: str) -> None:
    assert main(["sweep", "logs", "--bundle", str(bundle), "-o", output, *words]) == 0


def on_ray(*words: str) -> list[str]:
    return [*words, "--engine", "ray", "--workers", "2"]


@pytest.fixture(scope="module")
def swept(cluster: int, shop: Path, bundle: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        patch.setattr("paretune.run.publish_report", lambda *_: None)
        sweep("ray", bundle, *on_ray())
    return shop / "ray"


@contextmanager
def killing(job: str, work: str) -> Iterator[list[int]]:
    """Kill the process that begins a piece of work of a job first, once it has begun; give its number."""
    killed: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02) and not killed:
            for actor in [a for a in ray.util.list_named_actors() if a.startswith(f"{WITNESS}-{job}-")]:
                try:
                    witness = ray.get_actor(actor)
                    begun = [w for w in ray.get(witness.news.remote()).begun if work in w]
                    pids = ray.get(witness.pids.remote(begun[0])) if begun else []
                except (ValueError, ray.exceptions.RayActorError):  # it ended meanwhile
                    continue
                if pids:
                    os.kill(pids[0], signal.SIGKILL)
                    killed.append(pids[0])
                    break

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def largest_difference(one: Any, other: Any) -> float:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((largest_difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list):
        assert len(one) == len(other)
        return max(map(largest_difference, one, other), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    assert one == other
    return 0.0


def front_of(run: Path) -> Any:
    return json.loads((run / "front.json").read_text(encoding="utf-8"))


def test_a_cluster_finds_the_front_of_one_process_on_200_k_rows(
    swept: Path, shop: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    sweep("local", bundle, "--json")
    alone = json.loads(capsys.readouterr().out)
    assert alone["requests"] > 50_000
    assert largest_difference(front_of(shop / "local"), front_of(swept)) < 1e-9
    one, other = (pl.read_parquet(run / "curve.parquet") if (run / "curve.parquet").is_file() else None for run in (shop / "local", swept))
    assert (one is None) == (other is None)
    assert json.loads((shop / "local" / "check.json").read_text()) == json.loads((swept / "check.json").read_text().replace(f"{shop}/", ""))


def test_a_worker_killed_in_the_middle_of_a_sweep_changes_nothing_but_a_warning(
    swept: Path, shop: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with killing("swept", "day=2026-03-04/part-0") as killed:
        sweep("killed", bundle, *on_ray("--json"))
    told = capsys.readouterr()
    assert len(killed) == 1
    assert "warning: a worker was lost with rows 0 to 24,999 of day=2026-03-04/part-0.parquet; it was done again" in told.err
    json.loads(told.out)  # and nothing else on standard output
    for name in ("front.json", "replicates.npy", "check.json"):
        assert (shop / "killed" / name).read_bytes() == (swept / name).read_bytes()


@pytest.mark.usefixtures("cluster")
def test_a_cluster_finds_in_a_log_what_one_process_finds_and_parts_its_rows_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    previous = TRAFFIC(rng, 500)
    for day in range(2):
        target = tmp_path / "logs" / f"day=2026-03-{day + 1:02d}"
        target.mkdir(parents=True)
        for part in range(2):
            rows = TRAFFIC(rng, 500)
            if part:  # request ids of the file before, and a propensity that cannot be
                rows = rows.with_columns(
                    pl.Series("impression_id", [*previous["impression_id"][:3], *rows["impression_id"][3:]]),
                    propensity=pl.when(pl.int_range(pl.len()) == 10).then(2.0).otherwise(pl.col("propensity")),
                )
            rows.write_parquet(target / f"part-{part}.parquet")
            previous = rows
    (tmp_path / "logs" / "day=2026-03-02" / "part-9.parquet").write_bytes(b"torn")
    config, log = load_config("paretune.toml"), tmp_path / "logs"
    crew = RayCrew(2, 2, pytest.fail)
    found = crew.check(log, config, quarantine=tmp_path / "bad", clean=tmp_path / "good")
    alone = check_log(log, config, quarantine=tmp_path / "bad-alone", clean=tmp_path / "good-alone")
    assert found.bad == 8
    assert repr(found) == repr(alone)
    for kind in ("bad", "good"):
        files, others = (sorted((tmp_path / folder).rglob("*.parquet")) for folder in (kind, f"{kind}-alone"))
        assert [file.relative_to(tmp_path / kind) for file in files] == [file.relative_to(tmp_path / f"{kind}-alone") for file in others]
        for file, other in zip(files, others, strict=True):
            assert pl.read_parquet(file).equals(pl.read_parquet(other))


def refused(part: int, progress: Any) -> int:
    if part == 1:
        raise DataError(f"part {part} is wrong", hint="mend it")
    return part


@pytest.mark.usefixtures("cluster")
def test_an_error_of_ours_comes_when_its_part_does_and_is_not_tried_again() -> None:
    results = Spread(2, pytest.fail)(refused, range(4), progress=lambda *_: None)
    assert next(results) == 0
    with pytest.raises(DataError, match="part 1 is wrong") as caught:
        next(results)
    assert caught.value.hint == "mend it"


def origin_of(model: Path) -> Any:
    return json.loads((model / "manifest.json").read_text(encoding="utf-8"))["origin"]


@pytest.mark.usefixtures("cluster")
def test_a_team_on_the_cluster_learns_as_well_as_one_process_and_a_killed_member_changes_nothing(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = []
    for seed in range(3):
        assert main(["train", "logs", "--model", "smooth", "-o", f"alone-{seed}", "--seed", str(seed)]) == 0
        losses.append(origin_of(shop / f"alone-{seed}")["losses"]["validation"])
    assert main(["train", "logs", "--model", "smooth", "-o", "team", *on_ray()]) == 0
    together = origin_of(shop / "team")
    assert together["rows"] == origin_of(shop / "alone-0")["rows"]
    assert abs(together["losses"]["validation"] - np.mean(losses)) < max(4 * np.std(losses, ddof=1), 1e-3 * np.mean(losses))
    capsys.readouterr()
    with killing("training", "rank 1") as killed:
        assert main(["train", "logs", "--model", "smooth", "-o", "team-killed", *on_ray("--json")]) == 0
    told = capsys.readouterr()
    assert len(killed) == 1
    assert "warning: a worker was lost while training" in told.err
    assert json.loads(told.out)["losses"] == together["losses"]
    with np.load(shop / "team" / "arrays.npz") as one, np.load(shop / "team-killed" / "arrays.npz") as other:
        assert all(np.array_equal(one[name], other[name]) for name in one.files)
    assert not (shop / "team-killed.checkpoint").exists()
