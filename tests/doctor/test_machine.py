"""What runs here is told; what is wrong with it comes with a way to mend it."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from paretune.doctor import machine
from paretune.extras import EXTRAS


def test_every_library_that_is_needed_is_listed_with_its_version() -> None:
    named = {each.name: each for each in machine.versions()}
    assert "numpy " in named["libraries"].seen
    assert named["python"].level == "ok"
    assert "pytest" not in named["libraries"].seen


def test_a_library_that_is_missing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    version_of = machine.version_of
    monkeypatch.setattr(machine, "version_of", lambda name: None if name == "polars" else version_of(name))
    lost = list(machine.versions())[-1]
    assert (lost.level, lost.seen, lost.exit_code) == ("wrong", "not installed: polars", 2)


def test_an_extra_that_is_missing_is_a_note_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(EXTRAS["fast"]), "absent", lambda extra: ("numba",) if extra.name == "fast" else ())
    found = {each.name: each for each in machine.parts()}
    assert found["fast"].level == "note"
    assert found["fast"].hint.startswith('pip install "paretune[fast]"')
    assert {each.level for name, each in found.items() if name != "fast"} == {"ok"}


@pytest.mark.parametrize(("ahead_s", "level"), [(0.0, "ok"), (60.0, "warning"), (-60.0, "warning")])
def test_a_clock_that_differs_is_a_warning(ahead_s: float, level: str) -> None:
    found = machine.clock_against("registry", "its clock", time.time() + ahead_s)
    assert found.level == level
    assert ahead_s == 0 or ("ahead of" in found.seen) == (ahead_s > 0)


@pytest.mark.parametrize(("free", "level"), [(2**20, "warning"), (2**38, "ok")])
def test_a_disk_that_is_nearly_full_is_a_warning_and_is_named_once(
    free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40 - free, free))  # type: ignore[attr-defined]
    found = list(machine.disks([tmp_path, tmp_path / "not" / "yet"]))
    assert [each.level for each in found] == [level]


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o644, "note"), (0o666, "warning"), (0o620, "warning")])
def test_who_may_read_and_write_a_registry_is_said(mode: int, level: str, tmp_path: Path) -> None:
    database = tmp_path / "paretune.db"
    database.touch()
    database.chmod(mode)
    found = list(machine.permissions(database))
    assert [each.level for each in found] == [level]
    assert level == "ok" or "chmod" in found[0].hint


def test_a_registry_that_this_user_may_not_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "paretune.db"
    database.touch(mode=0o600)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert next(iter(machine.permissions(database))).seen == "may not be read"


def test_torch_is_asked_for_accelerators_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> str:
        return next(each.seen for each in machine.machine() if each.name == "accelerators")

    torch: Any = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"card {i}")
    assert seen() == "card 0, card 1"
    monkeypatch.setattr(type(EXTRAS["train"]), "absent", lambda extra: extra.modules)
    assert "torch is not installed" in seen()
