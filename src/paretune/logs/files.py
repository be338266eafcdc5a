"""Which files make a log, on disk or on object storage, and of which day each is. An edge: lists files.

The rules: files directly in the log's folder or in its day folders count, so that a join's own folder never mixes in; files deeper than
a day folder are an error, so that none is overlooked; names that begin with a dot or an underscore are unfinished or somebody's notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from paretune.config import Config
from paretune.errors import LogError
from paretune.storage.objects import Item, listed, looked_up
from paretune.storage.place import Place, Where, where

_EPOCH = date(1970, 1, 1)
_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A Parquet file of a log."""

    path: Where
    day: int | None  # of its folder, days since 1970-01-01; None = the rows say it
    item: Item | None = None  # on object storage, as it was listed

    @property
    def stamp(self) -> tuple[int, int | str]:
        """Size, and what changes when the content does: the time of change in nanoseconds, or the object's tag."""
        if self.item is not None:
            return self.item.size, self.item.tag
        stat = Path(str(self.path)).stat()
        return stat.st_size, stat.st_mtime_ns


def log_files(path: str | Where, config: Config) -> list[LogFile]:
    """Return the Parquet files of a log in the order of days and names.

    Args:
        path: a folder of `day=YYYY-MM-DD` folders, a folder of Parquet files, or one Parquet file; a path or a URL.
        config: names the day column, which is also the key of the day folders.

    Raises:
        LogError: nothing there, a day folder whose name is no date, or files deeper than the day folder.
        ConfigError: the URL is of no known kind, or access is denied.
        UnreachableError: the storage does not answer.
    """
    path = where(path)
    key = f"{config.logs.columns.day}="
    found = _objects(path, key) if isinstance(path, Place) else _on_disk(path, key)
    if not found:
        raise LogError(
            f"{path} holds no Parquet files, and no {key}YYYY-MM-DD folders with any",
            hint="name the folder that holds the day folders; the key of day folders is logs.columns.day in paretune.toml",
        )
    return sorted(found, key=lambda file: (file.day is None, file.day or 0, file.path.name))


def has_days(path: Where, config: Config) -> bool:
    """Say whether there is a day folder with files; errors as of `log_files`."""
    key = f"{config.logs.columns.day}="
    if isinstance(path, Path):
        return next(path.glob(f"{key}*/*{_SUFFIX}"), None) is not None
    return any(item.place.below(path)[0].startswith(key) and item.place.name.endswith(_SUFFIX) for item in listed(path))


def _on_disk(path: Path, key: str) -> list[LogFile]:
    if path.is_file():
        return [LogFile(path, _folder_day(path.absolute().parent, key))]
    if not path.is_dir():
        raise LogError(f"no log at {path}", hint="name a folder of day=YYYY-MM-DD folders, a folder of Parquet files, or a Parquet file")
    days = [folder for folder in sorted(path.glob(f"{key}*")) if folder.is_dir()]
    found = [LogFile(file, _folder_day(folder, key)) for folder in days for file in _parquet_files(folder)]
    found += [LogFile(file, _folder_day(path.absolute(), key)) for file in _parquet_files(path)]
    _refuse_deeper(sorted(str(file) for folder in days for file in folder.glob(f"*/**/*{_SUFFIX}")), key)
    return found


def _objects(place: Place, key: str) -> list[LogFile]:
    if place.name.endswith(_SUFFIX) and (item := looked_up(place)) is not None:
        return [LogFile(place, _folder_day(place.parent, key), item)]
    found, deeper = [], []
    for item in listed(place):
        parts = item.place.below(place)
        in_day = len(parts) > 1 and parts[0].startswith(key)
        if not item.place.name.endswith(_SUFFIX):
            continue
        if in_day and len(parts) > 2:
            deeper.append(str(item.place))
        elif (in_day or len(parts) == 1) and not item.place.name.startswith((".", "_")):
            found.append(LogFile(item.place, _folder_day(item.place.parent, key), item))
    _refuse_deeper(deeper, key)
    return found


def _refuse_deeper(deeper: list[str], key: str) -> None:
    if deeper:
        raise LogError(
            f"{deeper[0]} lies deeper than its day folder, as do {len(deeper) - 1} more files",
            hint=f"put the files of a day directly into {key}YYYY-MM-DD, so that none is overlooked",
        )


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob(f"*{_SUFFIX}") if file.is_file() and not file.name.startswith((".", "_")))


def _folder_day(folder: Where, key: str) -> int | None:
    if not folder.name.startswith(key):
        return None
    text = folder.name.removeprefix(key)
    try:
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        raise LogError(f"{folder}: {text!r} is no date", hint=f"name day folders {key}YYYY-MM-DD") from None
