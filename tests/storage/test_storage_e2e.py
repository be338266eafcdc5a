"""The commands on a bucket of a real S3 server, as on disk: the same front, to the bit."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from bucket_server import SECRET

from paretune import run
from paretune.cli import main
from paretune.report.archive import PAGE
from paretune.report.html import write_whole
from paretune.storage.objects import listed, read_bytes, write
from paretune.storage.place import Place
from paretune.value.bundle import load_model

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of four days, and a configuration that sweeps them."""
    folder = tmp_path_factory.mktemp("simulated")
    assert main(["simulate", str(folder / "logs"), "--days", "4", "--requests", "1500", "--explore", "0.6"]) == 0
    config = (folder / "paretune.toml").read_text(encoding="utf-8")
    for key, value in (
        ("train_days = 14", "train_days = 2"),
        ("hold_out_days = 7", "hold_out_days = 2"),
        ("replicates = 1000", "replicates = 100"),
    ):
        assert key in config
        config = config.replace(key, value)
    config = config.replace("min_hits = 100", "min_hits = 5").replace('model = "auto"', 'model = "ridge"')
    (folder / "paretune.toml").write_text(config, encoding="utf-8")
    return folder


@pytest.fixture
def logs(simulated: Path, bucket: Place) -> Place:
    for file in (simulated / "logs").rglob("*.parquet"):
        write(bucket / "logs" / file.relative_to(simulated / "logs").as_posix(), file)
    return bucket / "logs"


def test_check_train_and_sweep_of_a_bucket_give_what_those_of_a_folder_give(
    simulated: Path, logs: Place, bucket: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "publish_report", lambda _, folder: write_whole(folder / PAGE, b"drawn elsewhere"))  # tested with the report
    config = ["-c", str(simulated / "paretune.toml")]
    checks = []
    for each in (str(simulated / "logs"), str(logs)):
        capsys.readouterr()
        assert main(["check", each, *config, "--json"]) == 0
        checks.append(capsys.readouterr().out)
    assert checks[0] == checks[1]

    here, there = tmp_path / "run", bucket / "runs" / "monday"
    codes = [main(["sweep", str(simulated / "logs"), "-o", str(here), *config]), main(["sweep", str(logs), "-o", str(there), *config])]
    assert codes[0] == codes[1]
    assert set(codes) <= {0, 4}  # so few rows may tell nothing; they tell the same
    assert f"report: {there}/report.html" in capsys.readouterr().out
    names = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    sent = {"/".join(item.place.below(there)): read_bytes(item.place) for item in listed(there)}
    assert sent.keys() == names
    same = names - {"model/taught_by.json", "model/SHA256SUMS"}  # which know the files that taught, and when these were written
    for name in {"front.json", "front.parquet", "replicates.npy", "model/arrays.npz"} | same:
        assert sent[name] == (here / name).read_bytes(), name
    front = json.loads(sent["front.json"])
    assert np.isfinite(front["lifts"]["estimate"]).all()

    before = {item.place: item for item in listed(there / "model")}
    assert main(["sweep", str(logs), "-o", str(there), *config]) == codes[0]  # the model is fetched and used again
    assert {item.place: item for item in listed(there / "model")} == before

    assert main(["train", str(logs), "-o", str(bucket / "model"), *config]) == 0
    for item in listed(bucket / "model"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / item.place.name).write_bytes(read_bytes(item.place))
    assert load_model(tmp_path / "model").name == "ridge"
    assert main(["sweep", str(logs), "-o", str(tmp_path / "other"), "--bundle", str(bucket / "model"), *config]) == codes[0]
    assert (tmp_path / "other" / "front.json").read_bytes() == sent["front.json"]
    capsys.readouterr()
    assert main(["report", str(there), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == f"{there}/report.html"
    assert b"<title>" in read_bytes(there / "report.html")
    assert SECRET not in "".join(content.decode("utf-8", "ignore") for content in sent.values())


def test_the_commands_of_the_page_run_as_they_stand(
    simulated: Path, logs: Place, bucket: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "publish_report", lambda _, folder: write_whole(folder / PAGE, b"drawn elsewhere"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(simulated / "paretune.toml", tmp_path)
    for kind in ("spool", "events"):
        write(bucket / kind / "notes.txt", b"there, and no file to join yet")
    page = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
    commands = [shlex.split(line, comments=True) for line in page.split("```sh")[1].split("```")[0].splitlines()[1:]]
    assert [words[1] for words in commands] == ["install", "check", "join", "sweep", "report"]
    for words in commands[1:]:
        assert main([word.replace("s3://feed", str(bucket)) for word in words[1:]]) in {0, 4}, words
    assert f"report: {bucket}/runs/monday/report.html" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 1  # nothing but the configuration: no folder called s3:


def test_other_commands_read_a_bucket_as_they_read_a_folder(simulated: Path, logs: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for each in (str(simulated / "logs"), str(logs)):
        parts = []
        for words in (
            ["headroom", each],
            ["monitor", each, "--reference", "1:2", "--current", "3:4"],
            ["readout", each, "--shares", "a=1"],
        ):
            capsys.readouterr()
            code = main([*words, "-c", str(simulated / "paretune.toml"), "--json"])
            out, err = capsys.readouterr()
            parts.append((code, out.replace(each, "LOGS"), [line for line in err.replace(each, "LOGS").splitlines() if "%" not in line]))
        said.append(parts)
    assert said[0] == said[1]
    assert [code for code, _, _ in said[0]][:2] in ([0, 0], [4, 0], [0, 4], [4, 4])
    (simulated / "weights.yaml").write_text("save: 91.6\np2p: 9.4\nhide: -4\n", encoding="utf-8")
    for each, name in ((str(simulated / "logs"), "here"), (str(logs), "there")):
        assert main(["init", str(simulated / "weights.yaml"), "--logs", each, "-o", str(simulated / f"{name}.toml")]) == 0
    here, there = ((simulated / f"{name}.toml").read_text(encoding="utf-8") for name in ("here", "there"))
    assert here == there
    assert "request_id" in there
