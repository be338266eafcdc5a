"""The registry from the command line: the journey from a published policy to a rollback, and every refusal with its exit code."""

import json
from pathlib import Path

import pytest
from registries import bundle, document
from sqlalchemy import text

from paretune.cli import main
from paretune.policy.audit import AUTOMAT
from paretune.policy.registry import Registry
from paretune.policy.shelf import write_bundle


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an exported policy of fixed weights, and one user logged in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "anna")
    monkeypatch.delenv("PARETUNE_REGISTRY", raising=False)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "operating.json").write_bytes(document(None, label="best static"))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_journey_from_a_policy_to_a_rollback(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "best", "--note", "week 12"]) == 0
    printed = capsys.readouterr()
    assert "policy 1 (best static, α=0.50): draft" in printed.out
    assert "paretune approve 1" in printed.err
    assert main(["approve", "1"]) == 4
    assert "anna published policy 1" in capsys.readouterr().err
    assert main(["activate", "1", "--yes"]) == 4
    assert "is draft, not approved" in capsys.readouterr().err
    assert main(["approve", "1", "--as", "bert"]) == 0
    assert "approved by bert" in capsys.readouterr().out
    assert main(["activate", "1", "--share", "5", "--static-arm", "5", "--yes", "--json"]) == 0
    activated = told(capsys)
    assert activated["activation"]["by"] == "anna"  # type: ignore[index]
    assert activated["plan"]["arms"][0]["share"] == 0.05  # type: ignore[index]
    assert main(["ramp", "1", "--yes"]) == 0
    assert "policy-1: 5 % -> 25 % of users" in capsys.readouterr().out
    assert main(["ramp", "1", "--share", "50", "--yes", "--key", "k"]) == 0
    assert main(["ramp", "1", "--share", "50", "--yes", "--key", "k"]) == 0
    assert "as answered before" in capsys.readouterr().out
    assert main(["rollback", "--yes", "--note", "hides are up"]) == 0
    assert "50 % -> 25 %" in capsys.readouterr().out
    assert main(["diff"]) == 0
    assert "plan 3 -> plan 4" in capsys.readouterr().out
    assert main(["diff", "2", "4", "--json"]) == 0
    assert told(capsys)["changes"] == []
    assert main(["kill", "--yes", "--as", "cara"]) == 0
    assert main(["history"]) == 0
    printed = capsys.readouterr()
    assert "in force: 5, killed: everybody is served the static weights" in printed.out
    assert "rollback to 2" in printed.out
    assert "hides are up" in printed.out
    assert main(["release", "--yes"]) == 0
    assert main(["ramp", "1", "--share", "0", "--yes"]) == 0
    assert main(["retire", "1"]) == 0
    capsys.readouterr()
    assert main(["history", "--json"]) == 0
    found = told(capsys)
    assert (found["in_force"], found["policies"][0]["state"]) == (7, "retired")  # type: ignore[index]
    assert main(["audit"]) == 0
    printed = capsys.readouterr()
    head = Registry(here / "paretune.db").audit()[-1].hash
    assert f"head: {head}" in printed.out
    assert main(["audit", "show"]) == 0
    assert "retire" in capsys.readouterr().out
    assert main(["audit", "verify", "--head", head, "--json"]) == 0
    assert told(capsys) == {"entries": 10, "head": head, "problems": []}


def test_nothing_is_changed_before_somebody_said_yes(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", "best"]) == 0
    assert main(["approve", "1", "--as", "bert"]) == 0
    assert main(["activate", "1"]) == 2
    assert "nobody is here to be asked" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter([False, True])
    monkeypatch.setattr("typer.confirm", lambda *_, **__: next(answers))
    assert main(["activate", "1"]) == 4
    printed = capsys.readouterr()
    assert "+ policy-1: 5 % of users" in printed.err
    assert "the answer was no" in printed.err
    assert Registry("paretune.db").version() == 0
    assert main(["activate", "1"]) == 0

    def meanwhile(*_: object, **__: object) -> bool:
        Registry("paretune.db").ramp(1, by="bert")
        return True

    monkeypatch.setattr("typer.confirm", meanwhile)
    assert main(["ramp", "1"]) == 4
    assert "plan 2 came into force meanwhile, where plan 1 was" in capsys.readouterr().err
    monkeypatch.setattr("typer.confirm", lambda *_, **__: Registry("paretune.db").ramp(1, by="bert") is not None)
    assert main(["kill"]) == 0, "a kill takes whatever it finds"


def test_the_rules_are_shown_changed_and_noted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "best"]) == 0
    assert main(["rules", "--self-approval", "--evidence-days", "14", "--note", "a team of one"]) == 0
    capsys.readouterr()
    assert main(["rules", "--json"]) == 0
    assert told(capsys) == {"self_approval": True, "evidence_days": 14.0}
    assert main(["approve", "1"]) == 0
    assert [entry.what for entry in Registry("paretune.db").audit()] == ["publish", "rules", "approve"]
    assert main(["rules", "--evidence-days", "-1"]) == 2


def test_a_trail_that_was_tampered_with_exits_3_and_names_the_entry(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "best"]) == 0
    assert main(["approve", "1", "--as", "bert"]) == 0
    registry = Registry("paretune.db")
    for statement in ("DROP TRIGGER audit_no_update", "UPDATE audit SET who = 'anna' WHERE seq = 2"):
        registry.database.write(lambda connection, said=statement: connection.execute(text(said)))
    assert main(["audit", "verify"]) == 3
    assert "entry 2 was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["history"], 2, "there is no registry at paretune.db"),
        (["kill", "--yes"], 2, "there is no registry"),
        (["audit", "verify", "--registry", "mysql://x/y"], 2, "no place for a registry"),
        (["history", "--registry", "postgresql://127.0.0.1:1/none"], 5, "cannot be used"),
        (["publish", "knee"], 2, "runs/latest is neither a run nor an exported policy"),
        (["publish", "."], 2, "neither a run nor an exported policy"),
        (["publish", "runs/none"], 2, "no folder at runs/none"),
        (["publish", "none", "knee"], 2, "no folder at none"),
        (["publish", "torn"], 3, "differs from its checksum"),
        (["approve", "1", "--registry", "known.db"], 2, "there is no policy 1"),
        (["rollback", "--yes", "--registry", "known.db"], 4, "no plan was ever in force"),
        (["diff", "--registry", "known.db"], 2, "no plan was ever in force"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    here: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Registry("known.db")
    files = bundle()
    write_bundle(files, here).rename(here / "torn")
    (here / "torn" / "arrays.npz").write_bytes(b"other")
    (here / "torn" / "operating.json").write_bytes(document(files))
    assert main(words) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", [AUTOMAT, "Guardrails", " guardrails "])
def test_nobody_acts_under_the_name_of_the_guardrails(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "best"]) == 0
    for words in (["approve", "1"], ["activate", "1", "--yes"], ["kill", "--yes"], ["rollback", "--yes"], ["retire", "1"]):
        assert main([*words, "--as", name]) == 2
        assert "is how `paretune guard` signs" in capsys.readouterr().err
    assert {entry.who for entry in Registry("paretune.db").audit()} == {"anna"}


def test_nobody_acts_under_the_name_of_the_guardrails_by_logging_in_as_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", AUTOMAT)
    assert main(["publish", "best"]) == 2
    assert main(["publish", "best", "--as", "anna"]) == 0
