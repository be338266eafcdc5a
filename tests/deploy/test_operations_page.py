"""The operations guide: its commands run, its metrics are those that exist, its files are there."""

import re
import tomllib

import pytest
from asked import exported
from deployed import DEPLOY, ROOT, in_shell, logins, parsed

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh[^\n]*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [words[: words.index("#")] if "#" in words else words for block in BLOCKS for words in in_shell(block)]
INLINE = re.findall(r"`paretune ([a-z-]+)", PAGE)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_guide_is_one_that_exists(words: list[str]) -> None:
    assert parsed(words).name == words[0]


def test_commands_that_are_spoken_of_exist() -> None:
    from paretune.cli import app

    assert INLINE
    assert set(INLINE) <= {command.name for command in app.registered_commands}


def test_the_table_of_metrics_names_all_of_them_and_no_other() -> None:
    table = PAGE.split("| metric | is |")[1].split("\n\n")[0]
    told = set(re.findall(r"`(paretune_\w+)`", table.replace("|", " ")))
    there = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}
    assert told == there


def test_what_it_installs_serves_an_exported_policy() -> None:
    (extras,) = re.findall(r"pip install 'paretune\[([\w,]+)\]'", PAGE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "serve" in extras.split(",")
    assert set(extras.split(",")) <= known.keys()


def test_files_and_logins_that_it_names_exist() -> None:
    for path in set(re.findall(r"deploy/[\w./-]+[\w]", PAGE)):
        assert (ROOT / path).exists(), path
    assert set(re.findall(r"`(paretune_(?:service|guard|console))`", PAGE)) == logins()
    units = set(re.findall(r"paretune-[a-z]+(?:\.timer)?", PAGE.split("enable --now")[1].split("\n")[0]))
    assert all((DEPLOY / "systemd" / (unit if "." in unit else f"{unit}.service")).is_file() for unit in units)
    enabled = {path.name for path in (DEPLOY / "systemd").glob("*.*") if "WantedBy" in path.read_text()}
    assert {unit if "." in unit else f"{unit}.service" for unit in units} == enabled
