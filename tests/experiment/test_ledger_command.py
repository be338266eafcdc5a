"""`paretune readout --record` and `paretune ledger`: from a test's log to how far to trust the next promise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from registries import ANNA, BERT, bundle, document, published
from simulated import SHARES

from paretune.cli import main
from paretune.policy.changes import arm_name
from paretune.policy.outcomes import Seen
from paretune.policy.registry import Registry

PAPER = Path(__file__).parents[2] / "examples" / "ledger" / "paper.csv"


def evidence(save: float, p2p: float, error: float = 0.01) -> dict[str, Any]:
    kept = json.loads(document(bundle()))["evidence"]
    row = {"estimate": [save, p2p], "std_error": [error, error]}
    row |= {
        f"{prefix}{end}": [x + way * 1.96 * error for x in (save, p2p)]
        for prefix in ("", "band_")
        for end, way in (("low", -1), ("high", 1))
    }
    return {**kept, "lifts": row}


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def served(tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A registry whose policy 1 is the arm `saver` of the simulated test; returns how to read the test out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARETUNE_REGISTRY", raising=False)
    registry = Registry("paretune.db")
    number = published(registry, evidence=evidence(0.30, -0.10))
    registry.activate(number, share=0.4, control=0.4, by=ANNA)
    shutil.copytree(tested, tmp_path / "logs")
    for file in (tmp_path / "logs").glob("*/*.parquet"):
        pl.read_parquet(file).with_columns(pl.col("arm").replace("saver", arm_name(number))).write_parquet(file)
    return ["readout", "logs", "-c", str(tested.parent / "paretune.toml"), "--days", "3:6"]


def test_a_readout_is_stored_beside_the_promise_and_the_ledger_shows_both(served: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*served, "--record", "--as", BERT, "--json"]) == 0
    read = told(capsys)
    save, p2p = Registry("paretune.db").outcomes()
    assert [save.objective, p2p.objective] == ["save", "p2p"]  # hides and sessions were not promised
    seen = read["arms"]["policy-1"]["metrics"]["p2p"]
    assert (p2p.predicted, p2p.predicted_error) == (-0.10, 0.01)
    assert (p2p.seen, [p2p.seen_low, p2p.seen_high]) == (seen["lift"], seen["interval"])
    assert p2p.seen_error == pytest.approx((1 + seen["lift"]) * seen["std_error_log"])
    assert p2p.users == read["users_of_control"] + read["arms"]["policy-1"]["users"]
    assert (p2p.version, p2p.days, p2p.by, p2p.minimised) == (1, 4, BERT, False)
    assert [outcome["seen"] for outcome in read["recorded"]] == [save.seen, p2p.seen]
    assert main([*served, "--record"]) == 0
    assert "2 outcomes of plan 1" in capsys.readouterr().err
    assert len(Registry("paretune.db").outcomes()) == 2
    assert Registry("paretune.db").verify() == []
    assert main(["ledger"]) == 0
    printed = capsys.readouterr().out
    assert "policy-1" in printed
    assert "2 outcomes: too few to say how far the next promise may be trusted; 3 are needed." in printed


def test_a_split_that_is_not_the_plan_s_records_nothing(served: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry("paretune.db")
    registry.ramp(1, share=0.6, by=ANNA)
    assert main([*served, "--record"]) == 4
    assert "Blocked" in capsys.readouterr().err
    assert registry.outcomes() == []
    assert main([*served, "--record", "--version", "1"]) == 0
    assert [outcome.version for outcome in registry.outcomes()] == [1, 1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shares", SHARES], "takes the shares of the registry's plan"),
        (["--plan", "plan.json"], "takes the shares of the registry's plan"),
        (["--version", "9"], "there is no plan 9"),
        (["--registry", "none.db"], "there is no registry"),
    ],
)
def test_what_cannot_be_recorded_exits_2(served: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*served, "--record", *more]) == 2
    assert said in capsys.readouterr().err


def test_a_plan_without_a_policy_has_nothing_to_record(served: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Registry("paretune.db").ramp(1, share=0.0, by=ANNA)
    assert main([*served, "--record"]) == 2
    assert "serves no policy" in capsys.readouterr().err


def test_the_paper_s_releases_say_that_its_promises_are_overstated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--from", str(PAPER), "--json"]) == 4
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    repin, p2p = found["objectives"]["repin"], found["objectives"]["p2p"]
    assert [round(each["correlation"]["value"], 3) for each in (repin, p2p)] == [0.999, 0.986]
    assert [round(each["slope_beside_a_level"]["slope"], 2) for each in (repin, p2p)] == [0.65, 0.35]
    assert [each["coverage"]["value"] for each in (repin, p2p)] == [None, None]
    assert found["together"]["says"] == "overstated"
    assert not found["trusted"]
    assert "cannot be taken as it stands: tests saw 0.74 times" in printed.err
    assert main(["ledger", "--from", str(PAPER), "--out", str(tmp_path / "page")]) == 4
    assert (tmp_path / "page" / "ledger.html").exists()
    assert "✗ overstated" in capsys.readouterr().out


def test_promises_that_were_not_tested_yet_are_shrunk_by_those_that_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    registry, rng = Registry("paretune.db"), np.random.default_rng(3)
    for place, promised in enumerate(np.linspace(0.02, 0.10, 6)):
        number = published(registry, f"model {place}", evidence=evidence(promised, -promised, error=0.004))
        version = registry.activate(number, share=0.1, by=ANNA).plan.version
        seen = [
            Seen(name, way * promised * slope + 0.004 * rng.normal(), 0.004, None, None)
            for name, way, slope in (("save", 1, 0.5), ("p2p", -1, 1.0))
        ]
        registry.record_outcome(number, version=version, seen=seen, users=10_000, days=14, readout=f"{place}" * 64, by=BERT)
    published(registry, "the next", evidence=evidence(0.05, 0.05))
    gone = published(registry, "given up", evidence=evidence(0.05, 0.05))
    registry.retire(gone, by=ANNA)
    assert main(["ledger", "--json"]) == 4
    found = told(capsys)
    save, p2p = found["not_tested_yet"]
    slope = found["objectives"]["save"]["slope"]["slope"]
    assert (save["policy"], save["objective"], save["by_the_slope_of"]) == ("7 knee", "save", "save")
    assert save["expected"]["estimate"] == pytest.approx(0.05 * slope)
    assert 0.4 < slope < 0.6
    assert (p2p["expected"], p2p["by_the_slope_of"]) == (p2p["promised"], None)
    assert {entry["covered"] for entry in found["entries"]} == {True, False}


def test_a_file_that_is_none_exits_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--from", str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "odd.csv").write_bytes(b"\xff\xfe\x00")
    assert main(["ledger", "--from", str(tmp_path / "odd.csv")]) == 3
    assert "no UTF-8" in capsys.readouterr().err
    assert main(["ledger", "--registry", str(tmp_path / "none.db")]) == 2
    assert "there is no registry" in capsys.readouterr().err


def test_the_page_shows_what_the_command_prints_of_the_paper_s_releases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--from", str(PAPER)]) == 4
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    page = (PAPER.parents[2] / "docs" / "experiment.md").read_text(encoding="utf-8")
    shown = page.split("$ paretune ledger --from examples/ledger/paper.csv\n")[1].split("\n```")[0].splitlines()
    assert len(shown) > 6
    assert [line for line in shown if line not in printed] == []
