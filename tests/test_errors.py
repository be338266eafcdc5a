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
