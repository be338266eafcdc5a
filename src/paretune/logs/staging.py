"""A run that writes many files into a folder: all of them, or none.

An edge: files. The rule: a run is prepared in `PLACE/next/`, becomes true by the renaming of one file, `commit.json`, and is then moved
into place; whoever opens the folder after a kill finishes a run that became true and removes one that did not.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paretune.atomic import sync_folder, write_whole
from paretune.errors import ConfigError

NEXT = "next"  # where a run is prepared
_COMMIT = "commit.json"


@contextmanager
def opened(output: Path, place: str, *, what: str) -> Iterator[Path]:
    """Lock a place inside a folder, finish or remove what a killed run left there, and give the place.

    Args:
        output: the folder; made if missing.
        place: name of the folder inside it that keeps the runs of one kind.
        what: the kind of run, for messages.

    Raises:
        ConfigError: another run is writing here, or the folder cannot be made.
    """
    inside = output / place
    try:
        inside.mkdir(parents=True, exist_ok=True)
        lock = os.open(inside / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"no log can be written to {output}: {error}", hint="name a folder that may be written") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another {what} is writing to {output}", hint="wait for it, or name another --output") from None
        finish(output, inside)
        yield inside
    finally:
        os.close(lock)


def come_true(output: Path, place: Path, moves: Sequence[tuple[str, str]]) -> None:
    """Make a prepared run true: every move happens, also when this process ends now.

    Args:
        output: the folder.
        place: as `opened` gave it.
        moves: path below `next` -> path below `output`, each of one file or folder; what is there is replaced.
    """
    write_json(place / NEXT / _COMMIT, {"moves": moves})
    finish(output, place)


def finish(output: Path, place: Path) -> None:
    """Move a run that became true into place; remove one that did not. Every step may be done twice."""
    upcoming = place / NEXT
    if not (upcoming / _COMMIT).exists():
        shutil.rmtree(upcoming, ignore_errors=True)
        return
    for source, target in json.loads((upcoming / _COMMIT).read_text(encoding="utf-8"))["moves"]:
        if (upcoming / source).exists():
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            (upcoming / source).rename(output / target)
            sync_folder((output / target).parent)
    (upcoming / _COMMIT).unlink()
    sync_folder(upcoming)
    shutil.rmtree(upcoming, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, json.dumps(value).encode())
