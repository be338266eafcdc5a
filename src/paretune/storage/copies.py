"""Folders of runs and models on object storage, by way of a copy on disk. An edge: files, the network.

The rules: commands work on disk and know nothing of buckets; what they leave is sent when they are done, the file that makes the folder
whole last, so that a reader finds the earlier folder, no whole one, or the new one, never parts of two; what could not be sent is kept on
disk and named.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paretune.errors import NotFoundError, ParetuneError
from paretune.storage.objects import Item, listed, looked_up, read_bytes, removed, write
from paretune.storage.place import Place, Where

_Stamp = tuple[int, int]  # size, and nanoseconds of the last change


@contextmanager
def fetched(folder: Where) -> Iterator[Path]:
    """Give a folder on disk: itself, or for the time being a copy of one on object storage.

    Raises:
        NotFoundError: there is nothing at the place.
        UnreachableError: the storage does not answer.
    """
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="paretune-") as temporary:
        local = Path(temporary) / folder.name
        _required(_fetch(folder, local), folder)
        with _spoken_of_as(folder, local):
            yield local


@contextmanager
def kept(folder: Where, *, last: str, there: bool = False) -> Iterator[Path]:
    """Give a folder on disk to write to, and send what changed in it to the place once that is done; a path is given as it is.

    What is at the place already is fetched first. Nothing is sent where the work fails.

    Args:
        folder: that is wanted.
        last: the file without which the folder is not whole; it is taken away first and sent last, if it changed.
        there: whether something must be at the place already.

    Raises:
        NotFoundError: nothing is.
        UnreachableError: the storage does not answer; the message says where the folder is on disk.
    """
    if isinstance(folder, Path):
        yield folder
        return
    root = Path(tempfile.mkdtemp(prefix="paretune-"))
    local, worked = root / folder.name, False
    try:
        found = _fetch(folder, local)
        if there:
            _required(found, folder)
        before = _stamps(local)
        with _spoken_of_as(folder, local):
            yield local
        worked = True
        _send(local, folder, found, before, last=last)
        worked = False
    except ParetuneError as error:
        if not worked:
            raise
        raise type(error)(error.args[0], hint=f"{error.hint}; what was made is kept in {local}") from None
    finally:
        if not worked:
            shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _spoken_of_as(folder: Place, local: Path) -> Iterator[None]:
    """Let errors name the place instead of its copy."""
    try:
        yield
    except ParetuneError as error:
        raise type(error)(error.args[0].replace(str(local), str(folder)), hint=error.hint.replace(str(local), str(folder))) from error


def _required(found: list[Item], folder: Place) -> None:
    if not found:
        raise NotFoundError(f"there is nothing at {folder}", hint="check the name of the folder")


def _fetch(folder: Place, local: Path) -> list[Item]:
    local.mkdir()
    there = listed(folder)
    for item in there:
        path = local.joinpath(*item.place.below(folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_bytes(item.place))
    return there


def _stamps(local: Path) -> dict[str, _Stamp]:
    files = (path for path in local.rglob("*") if path.is_file())
    return {path.relative_to(local).as_posix(): ((stat := path.stat()).st_size, stat.st_mtime_ns) for path in files}


def _send(local: Path, folder: Place, there: list[Item], before: dict[str, _Stamp], *, last: str) -> None:
    now = _stamps(local)
    changed = sorted((name for name, stamp in now.items() if before.get(name) != stamp), key=lambda name: (name == last, name))
    gone = [item.place for item in there if "/".join(item.place.below(folder)) not in now]
    if last in changed and looked_up(folder / last) is not None:
        removed([folder / last])
    for name in changed:
        write(folder / name, local / name)
    removed(gone)
