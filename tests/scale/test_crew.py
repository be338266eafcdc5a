"""What an engine is asked for, and what is refused before any cluster is started."""

import re
import runpy
import socket
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from paretune.cli import main
from paretune.errors import ConfigError
from paretune.logs.parts import LogFile, LogPart
from paretune.scale.cluster import refuse_other_release, release
from paretune.scale.spread import named
from paretune.scale.witness import Witness

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "bring_your_own_logs"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    traffic = runpy.run_path(str(EXAMPLE / "make_logs.py"))["day_of_traffic"]
    for day in range(2):
        target = folder / "logs" / f"day=2026-03-{day + 1:02d}"
        target.mkdir(parents=True)
        traffic(np.random.default_rng(day), 1000).write_parquet(target / "part-0.parquet")
    assert main(["init", str(EXAMPLE / "weights.yaml"), "--logs", str(folder / "logs"), "-o", str(folder / "paretune.toml")]) == 0
    text = (folder / "paretune.toml").read_text(encoding="utf-8")
    text = text.replace("train_days = 14", "train_days = 1").replace("hold_out_days = 7", "hold_out_days = 1")
    (folder / "paretune.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize("command", ["check", "train", "sweep"])
def test_options_of_a_cluster_are_refused_where_none_is_asked_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "logs", "--workers", "2"]) == 2
    assert main([command, "logs", "--ray-address", "localhost:6379"]) == 2
    assert "--engine ray" in capsys.readouterr().err


def test_a_cluster_that_is_asked_for_without_ray_installed_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["check", "logs", "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert 'pip install "paretune[ray]"' in said


def test_a_local_check_does_not_import_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["check", "logs"]) == 0


@pytest.mark.parametrize("named_by", ["option", "environment"])
def test_a_cluster_that_does_not_answer_is_named_and_exits_5(
    named_by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    words = ["check", "logs", "--engine", "ray"]
    if named_by == "option":
        words += ["--ray-address", address]
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert main(words) == 5
    assert address in capsys.readouterr().err


def test_another_release_on_the_cluster_is_refused() -> None:
    refuse_other_release(release())
    with pytest.raises(ConfigError, match=r"9\.9\.9"):
        refuse_other_release("9.9.9")


def test_a_witness_counts_beginnings_and_keeps_the_first_refusal() -> None:
    witness = Witness()
    assert [witness.begin("rank 0", pid) for pid in (11, 12)] == [1, 2]
    assert witness.begin("rank 1", 13) == 1
    witness.tell(0.5, "epoch 3")
    first, second = ConfigError("one"), ConfigError("other")
    witness.refuse(first)
    witness.refuse(second)
    news = witness.news()
    assert (news.share, news.doing, news.begun, news.refusal) == (0.5, "epoch 3", {"rank 0": 2, "rank 1": 1}, first)
    assert witness.pids("rank 0") == [11, 12]
    assert witness.collect() is None
    witness.deliver({"arrays.npz": b"x"})
    assert witness.collect() == {"arrays.npz": b"x"}


def test_a_part_is_named_as_people_would() -> None:
    part = LogPart(LogFile(Path("logs/day=2026-03-01/part-0.parquet"), 20_513), 0, 500_000, 500_000)
    assert named(part) == "rows 500,000 to 999,999 of day=2026-03-01/part-0.parquet"


def test_the_cluster_of_the_documentation_is_one_that_ray_accepts() -> None:
    pytest.importorskip("ray")
    from ray.autoscaler._private.util import prepare_config, validate_config

    asked = yaml.safe_load((ROOT / "deploy" / "ray" / "cluster.yaml").read_text(encoding="utf-8"))
    validate_config(prepare_config(asked))
    assert len(asked["provider"]["worker_ips"]) == asked["max_workers"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = re.search(r"paretune\[([a-z,]+)\]", " ".join(asked["setup_commands"]))
    assert wanted is not None
    assert {*wanted[1].split(",")} <= extras.keys()
