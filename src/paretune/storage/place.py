"""What a log, a run or a model is named by: a path on disk, or a place on object storage.

The rules: a path stays a `pathlib.Path`; a place carries neither credentials nor options, which are the environment's, so that its text may
stand in any report, state or error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from paretune.errors import ConfigError

SCHEMES: Final = {"s3": "s3", "s3a": "s3", "gs": "gs", "memory": "memory"}  # as written -> as it is
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)", re.DOTALL)
_WRITE = "write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, file:///FOLDER or a path"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """An object of a bucket, or the folder of all objects whose keys begin with its key."""

    scheme: str  # s3, gs or memory
    bucket: str
    key: str = ""  # without slashes at its ends; empty = the whole bucket

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"

    def __truediv__(self, name: str) -> Place:
        return Place(self.scheme, self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part of the key; the bucket's name where that is empty."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> Place:
        """The folder that holds it; a bucket's is itself."""
        return Place(self.scheme, self.bucket, self.key.rpartition("/")[0])

    def absolute(self) -> Place:
        """Return itself, as a path that needs no working directory does."""
        return self

    def below(self, folder: Place) -> tuple[str, ...]:
        """Return the parts of the key after a folder's; empty where it does not lie below."""
        head = f"{folder.key}/" if folder.key else ""
        beside = (self.scheme, self.bucket) != (folder.scheme, folder.bucket) or not self.key.startswith(head)
        return () if beside or self == folder else tuple(self.key[len(head) :].split("/"))


Where = Path | Place


def where(named: str | Path | Place) -> Where:
    """Return what a path or a URL names; `file://` names a path.

    Raises:
        ConfigError: a URL of another kind, without a bucket, or with credentials or options; the message does not repeat these.
    """
    if isinstance(named, Place):
        return named
    found = _URL.fullmatch(str(named))
    if found is None:
        return Path(named)
    scheme, rest = found["scheme"].lower(), found["rest"]
    if isinstance(named, Path):  # pathlib made one slash of two, and of a key whatever it likes
        raise ConfigError(f"a pathlib.Path cannot hold the URL {scheme}:...", hint="give URLs as text")
    if scheme == "file":
        return _on_disk(named)
    bucket, _, key = rest.partition("/")
    shown = f"{scheme}://{bucket.rpartition('@')[2].partition('?')[0]}/{key.partition('?')[0]}".rstrip("/")
    if not bucket:
        raise ConfigError(f"{scheme}:// names no bucket", hint=_WRITE)
    if scheme not in SCHEMES:
        raise ConfigError(f"{shown} is on no storage that is known", hint=_WRITE)
    if "@" in bucket or "?" in rest:
        raise ConfigError(
            f"the URL {shown} came with credentials or options",
            hint="leave them out: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and their like are read from the environment; see docs/storage.md",
        )
    key = key.strip("/")
    if any(part in {"", ".", ".."} for part in key.split("/") if key):
        raise ConfigError(f"{shown} names no place in a bucket", hint=_WRITE)
    return Place(SCHEMES[scheme], bucket, key)


def is_url(text: str) -> bool:
    """Say whether a text, or the path that pathlib made of one, is a URL."""
    return _URL.fullmatch(text) is not None


def _on_disk(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ConfigError(f"{url} names no file of this machine", hint="write file:///FOLDER, with three slashes, or a path")
    return Path(unquote(parts.path))
