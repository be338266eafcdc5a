"""The documentation says what the program does."""

import dataclasses
import inspect
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import paretune
from paretune import client, errors

ROOT = Path(__file__).parents[1]
DOCS = runpy.run_path(str(ROOT / "docs" / "build.py"))


@pytest.mark.parametrize("page", DOCS["PAGES"], ids=lambda page: page.name)
def test_a_generated_page_is_current(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == DOCS["PAGES"][page](), "run `make docs`"


def test_every_public_name_has_its_place_in_the_reference() -> None:
    grouped = [name for names in DOCS["GROUPS"].values() for name in names]
    assert sorted(grouped) == sorted(paretune.__all__), "put it into GROUPS of docs/build.py"
    page = DOCS["API"].read_text(encoding="utf-8")
    for name in [*(f"paretune.{name}" for name in grouped), *(f"paretune.client.{name}" for name in DOCS["CLIENT"])]:
        assert page.count(f"### {name}\n") == 1


@pytest.mark.parametrize("name", [*paretune.__all__, *DOCS["CLIENT"]])
def test_a_public_name_says_what_it_takes_what_it_gives_and_how_it_fails(name: str) -> None:
    what = getattr(paretune if name in paretune.__all__ else client, name)
    assert inspect.getdoc(what)
    function: Callable[..., Any] = what
    if inspect.isclass(what):
        function = what.__init__
        if not inspect.isfunction(function) or not function.__doc__ or dataclasses.is_dataclass(what) or hasattr(what, "model_fields"):
            return  # a record: its fields say it
    words = inspect.getdoc(function) or ""
    if name != "AsyncClient":  # "see `Client`"
        taken = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
        assert [parameter for parameter in taken if not re.search(rf"^    \*{{0,2}}{parameter}: ", words, re.MULTILINE)] == []
    if inspect.signature(function).return_annotation != "None":
        assert re.match(r"(Return|Yield)|.*\breturn\b", words.splitlines()[0])
    raised = re.findall(r"^    (\w+): ", words.partition("Raises:\n")[2], re.MULTILINE)
    assert [error for error in raised if not hasattr(errors, error)] == []


def test_no_internal_link_is_dead() -> None:
    assert list(DOCS["dead_links"]()) == []


def test_every_command_has_a_heading_and_examples_in_the_reference() -> None:
    from paretune.cli import app

    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        section = text.split(f"## paretune {command.name}\n")[1].split("\n## ")[0]
        assert f"  paretune {command.name}" in section.split("Examples:")[1]
        assert "--json" in section
