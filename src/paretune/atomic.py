"""Files and folders that appear whole or not at all.

An edge: writes files. The rule: temporary name beside the target, fsync, rename, fsync of the parent; a reader never sees half.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from paretune.records import Floats


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in place of an earlier one; folders above it are made.

    Raises:
        OSError: the disk says no; the earlier file is then still there, and nothing else.
    """
    write_by(lambda file: file.write(content), path)


def write_arrays(path: Path, arrays: dict[str, Floats]) -> None:
    """Write an .npz file of plain arrays (no objects) in place of an earlier one; folders above it are made.

    Raises:
        OSError: the disk says no; the earlier file is then still there, and nothing else.
    """
    write_by(lambda file: np.savez(file, allow_pickle=False, **arrays), path)


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write a folder of files in place of `folder`, atomically; a previous folder of that name is replaced.

    Raises:
        OSError: the disk says no; the previous folder is then still there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    temporary, previous = (folder.with_name(f".{folder.name}.{token}.{kind}") for kind in ("tmp", "old"))
    temporary.mkdir()
    try:
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(temporary)
        if folder.exists():
            folder.rename(previous)
            try:
                temporary.rename(folder)
            except OSError:
                previous.rename(folder)
                raise
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
    sync_folder(folder.parent)


def write_by(write: Callable[[IO[bytes]], object], path: Path) -> None:
    """Write a file by whatever fills an open one, in place of an earlier one; folders above it are made.

    Raises:
        OSError: the disk says no; the earlier file is then still there, and nothing else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
