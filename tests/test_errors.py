"""The tree of errors: what a caller can meet, and that each one says what to do."""

import ast
from pathlib import Path

import pytest

from paretune import errors
from paretune.errors import (
    ArtefactError,
    ConfigError,
    ConflictError,
    DataError,
    ForbiddenError,
    GateError,
    LogError,
    MissingExtraError,
    NoOverlapError,
    NotFoundError,
    ParetuneError,
    SignInError,
    SurfaceError,
    TooOftenError,
    UnreachableError,
    in_words,
)

SOURCE = Path(__file__).parents[1] / "src" / "paretune"
NAMES = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ParetuneError)}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 2),
        (NotFoundError, 2),
        (SurfaceError, 2),
        (MissingExtraError, 2),
        (DataError, 3),
        (LogError, 3),
        (ArtefactError, 3),
        (GateError, 4),
        (NoOverlapError, 4),
        (ConflictError, 4),
        (ForbiddenError, 4),
        (SignInError, 4),
        (TooOftenError, 4),
        (UnreachableError, 5),
    ],
)
def test_each_branch_has_its_exit_code(kind: type[ParetuneError], code: int) -> None:
    assert kind("what").exit_code == code
    assert issubclass(kind, ParetuneError)


def test_the_hint_stands_under_the_message_and_the_message_alone_without_one() -> None:
    assert str(DataError("rows are odd", hint="make them even")) == "rows are odd\n  hint: make them even"
    assert str(DataError("rows are odd")) == "rows are odd"
    assert DataError("rows are odd", hint="make them even").hint == "make them even"


def test_no_error_is_missing_from_the_table_above() -> None:
    assert {"ParetuneError", *(kind.__name__ for kind in (ConfigError, SurfaceError, MissingExtraError))} <= NAMES
    assert len(NAMES) == 15, "give a new error its exit code in the table"


def test_every_error_that_is_raised_says_what_to_do() -> None:
    silent = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in NAMES:
                hints = [keyword for keyword in node.exc.keywords if keyword.arg == "hint"]
                if not hints or ast.unparse(hints[0].value) in {"''", '""'}:
                    silent.append(f"{file.relative_to(SOURCE)}:{node.lineno}")
    assert silent == []


def test_an_error_of_the_system_is_told_in_words(tmp_path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "nowhere" / "front.json").read_bytes()
    assert in_words(missing.value) == "front.json is missing"
    with pytest.raises(IsADirectoryError) as folder:
        tmp_path.read_bytes()
    assert in_words(folder.value) == f"{tmp_path.name}: Is a directory"
    assert in_words(ValueError("no JSON")) == "ValueError: no JSON"


def test_commands_that_are_given_nothing_name_what_is_missing(tmp_path, monkeypatch, capsys) -> None:
    from paretune.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "paretune.toml").write_text("", encoding="utf-8")
    for words, code, said in (
        (["init", "nope.yaml"], 2, "nope.yaml is missing"),
        (["report", "runs/none"], 3, "front.json is missing"),
        (["plan", "--bundle", "bundles/nope"], 3, "operating.json is missing"),
    ):
        assert main(words) == code
        error = capsys.readouterr().err
        assert said in error
        assert "Errno" not in error
        assert "FileNotFound" not in error
