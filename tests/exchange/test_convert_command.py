"""`paretune convert` of what a run, an export or a front chose: fixed weights and cohort tables have a table, a model has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fronts import small_front
from registries import ACTIONS, HEADS, STATIC

from paretune.cli import main
from paretune.config import Config, dump_config, parse_config
from paretune.exchange.weights_table import decode_table
from paretune.frontier.archive import save_front
from paretune.frontier.front import Front, Policy
from paretune.policy.operating import operating_policy

TABLE = Policy("cohort table (CORE: save 200)", "cohort table", cohort_weights=(("CORE", ACTIONS[1]), ("NEW", ACTIONS[2])))


def configuration() -> Config:
    tuned = {"tune": {"low": 10.0, "high": 200.0, "levels": 2}}
    heads = [
        {"name": name, "weight": weight, **(tuned if not place else {})}
        for place, (name, weight) in enumerate(zip(HEADS, STATIC, strict=True))
    ]
    objectives = [{"name": name, "column": f"events_{name}"} for name in ("save", "p2p")]
    return parse_config({"surface": {"heads": heads}, "objectives": objectives, "logs": {"columns": {"cohort": "segment"}}})


def front_with_table() -> Front:
    front = small_front()
    return replace(front, policies=(*front.policies[:5], TABLE, front.policies[6]))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in `run`, whose fifth trade-off is a cohort table."""
    monkeypatch.chdir(tmp_path)
    save_front(front_with_table(), tmp_path / "run", heads=HEADS)
    (tmp_path / "run" / "config.toml").write_text(dump_config(configuration()), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["cohort table", TABLE.name])
def test_a_cohort_table_of_a_run_becomes_a_weights_table(here: Path, name: str) -> None:
    assert main(["convert", "run", "--policy", name, "--to", "weights-table"]) == 0
    table = decode_table((here / "weights_table.json").read_bytes())
    assert table.heads == tuple(HEADS)
    assert table.look_up({"segment": "CORE"}) == tuple(ACTIONS[1])
    assert table.look_up({"segment": "NEW"}) == tuple(ACTIONS[2])
    assert table.look_up({"segment": "OTHER"}) == table.look_up({}) == tuple(STATIC)
    assert table.about["kind"] == "cohort table"


def test_fixed_weights_of_a_run_or_an_export_become_a_table_of_one_row(here: Path) -> None:
    written = operating_policy(front_with_table(), 6, configuration(), bundle="", scale=None, hold_out=())
    (here / "bundle").mkdir()
    (here / "bundle" / "operating.json").write_text(json.dumps(written), encoding="utf-8")
    for words in (["run", "--policy", "best static"], ["bundle"], ["bundle/operating.json"]):
        assert main(["convert", *words, "--to", "weights-table"]) == 0
        table = decode_table((here / "weights_table.json").read_bytes())
        assert [row.weights for row in table.rows] == [tuple(ACTIONS[2])]
        assert table.fallback == tuple(STATIC)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "--policy", "knee"], 2, "'knee' chooses per request by a model: it has no table"),
        (["run", "--policy", "best"], 2, "'best' is no policy of this run"),
        (["run"], 2, "choose one of"),
        (["run/front.json"], 3, "holds no weights"),
        (["run/front.parquet"], 3, "cannot be read as JSON"),
    ],
)
def test_what_has_no_table_is_refused(here: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", *words, "--to", "weights-table"]) == code
    assert said in capsys.readouterr().err
    assert not (here / "weights_table.json").exists()


def test_json_tells_what_was_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "run", "--policy", "static", "--to", "weights-table", "-o", "w.json", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == "w.json"
    assert told["written"] == json.loads((here / "w.json").read_text(encoding="utf-8"))
