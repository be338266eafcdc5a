"""The documentation says what the program does."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = runpy.run_path(str(ROOT / "docs" / "build.py"))


def test_the_reference_of_the_command_line_is_current() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == DOCS["reference"](), "run `make docs`"


def test_no_internal_link_is_dead() -> None:
    assert list(DOCS["dead_links"]()) == []


def test_every_command_has_a_heading_and_examples_in_the_reference() -> None:
    from paretune.cli import app

    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        section = text.split(f"## paretune {command.name}\n")[1].split("\n## ")[0]
        assert f"  paretune {command.name}" in section.split("Examples:")[1]
        assert "--json" in section
