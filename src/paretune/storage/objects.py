"""Listing, reading and writing on object storage, and on disk by the same names. An edge: the network, files, the environment.

The rules: an object is written whole or not at all; who waits, waits for a bounded time; what a store says becomes an error of ours in our
own words, since theirs hold addresses and settings. Credentials and endpoints come from the environment, for obstore and for polars alike:
both are the Rust crate object_store, and polars reads Parquet through it by ranges, so that only the columns asked for are fetched.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from paretune.errors import ConfigError, ConflictError, LogError, ParetuneError, UnreachableError
from paretune.extras import missing
from paretune.storage.place import Place, Where

if TYPE_CHECKING:
    from obstore import ObjectMeta, UpdateVersion
    from obstore.store import GCSStore, MemoryStore, S3Store

CONNECT_S: Final = 5
SILENT_S: Final = 20  # of an open connection, or of a question without an answer
RETRIES: Final = 3
RETRY_S: Final = 20  # since the question was first asked; none is asked again after that
_LONGEST: Final = timedelta(hours=2)  # of one request: a large part over a slow line
_PART_BYTES: Final = 16 << 20
_NO_BUCKET = "NoSuchBucket"
_STATUS = re.compile(r"status code: (\d{3})")
_EXTRA = {"s3": "s3", "gs": "gcs", "memory": "s3"}
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (of a profile: `aws configure export-credentials --format env`), or give the "
    "machine a role; listing, reading and writing must be allowed",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account; listing, reading and writing must be allowed",
    "memory": "",
}


@dataclass(frozen=True, slots=True)
class Item:
    """An object, as it was when it was listed."""

    place: Place
    size: int
    tag: str  # changes when the content does
    version: str | None = None  # Google's generation number


def listed(folder: Place) -> list[Item]:
    """Return all objects below a place, sorted by key.

    Raises:
        LogError: there is no such bucket.
        ConfigError: it may not be listed.
        UnreachableError: the storage does not answer.
    """
    with answered(folder, "listed"):
        pages = list(_store(folder.scheme, folder.bucket).list(folder.key or None))
    found = (entry for page in pages for entry in page)
    items = [_item(Place(folder.scheme, folder.bucket, entry["path"]), entry) for entry in found]
    return sorted((item for item in items if item.place != folder), key=lambda item: item.place)


def parquet_below(folder: Where) -> list[Where]:
    """Return the Parquet files of a folder, however deep, sorted; none where it is not there. Errors as of `listed`."""
    if isinstance(folder, Path):
        return sorted(folder.rglob("*.parquet"))
    return [item.place for item in listed(folder) if item.place.name.endswith(".parquet")]


def looked_up(place: Place) -> Item | None:
    """Return an object as it is now; None where there is none. Errors as of `listed`."""
    with answered(place, "looked up"):
        try:
            entry = _store(place.scheme, place.bucket).head(place.key)
        except FileNotFoundError:  # of the bucket too: an answer to HEAD has no text
            return None
    return _item(place, entry)


def read_bytes(file: Where) -> bytes:
    """Return a whole file.

    Raises:
        LogError: it is not there.
        ConfigError: it may not be read.
        UnreachableError: the storage does not answer.
    """
    if isinstance(file, Path):
        return file.read_bytes()
    with answered(file, "read"):
        return bytes(_store(file.scheme, file.bucket).get(file.key).bytes())


def read_seen(place: Place) -> tuple[bytes, Item] | None:
    """Return an object and what it was seen to be, for `write_over`; None where there is none. Errors as of `listed`."""
    with answered(place, "read"):
        try:
            found = _store(place.scheme, place.bucket).get(place.key)
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise
            return None
        return bytes(found.bytes()), _item(place, found.meta)


def scanned(file: Where) -> pl.LazyFrame:
    """Return a Parquet file, of which only the rows and columns asked for are read; collect it inside `answered`.

    Polars does not know `memory://`: an object there is read whole.
    """
    if isinstance(file, Path):
        return pl.scan_parquet(file, glob=False, hive_partitioning=False)
    if file.scheme == "memory":
        return pl.scan_parquet(io.BytesIO(read_bytes(file)), glob=False, hive_partitioning=False)
    _obstore(file.scheme)  # so that a missing extra is told the same way everywhere
    patience = {"connect_timeout": f"{CONNECT_S} seconds", "read_timeout": f"{SILENT_S} seconds", "timeout": f"{_LONGEST.seconds} seconds"}
    how: dict[str, Any] = {**patience, "max_retries": RETRIES, "retry_timeout_ms": 1000 * RETRY_S}
    if file.scheme == "s3" and (endpoint := _endpoint()):  # polars keeps connections by what is named here, not by the environment
        how |= {"aws_endpoint_url": endpoint, "allow_http": str(_plain(endpoint)).lower()}
    return pl.scan_parquet(str(file), glob=False, hive_partitioning=False, storage_options=how, credential_provider=None)


def write(place: Place, content: bytes | Path) -> None:
    """Write an object, whole or not at all, in place of whatever is there.

    Args:
        place: of the object.
        content: its bytes, or the file that holds them, which is sent in parts.

    Raises:
        LogError: there is no such bucket.
        ConfigError: it may not be written.
        UnreachableError: the storage does not answer; what was there is there still.
    """
    with answered(place, "written"):
        _store(place.scheme, place.bucket).put(place.key, content, chunk_size=_PART_BYTES)


def write_over(place: Place, content: bytes, *, seen: Item | None) -> None:
    """Write an object in place of the one that was seen there, None being none; of two who saw the same, one succeeds.

    Raises:
        ConflictError: something else is there by now; it was left alone.
        LogError: there is no such bucket.
        ConfigError: it may not be written.
        UnreachableError: the storage does not answer; whether it was written is then not known.
    """
    same: UpdateVersion | None = None if seen is None else {"e_tag": seen.tag}
    if seen is not None and same is not None and seen.version is not None:
        same["version"] = seen.version
    with answered(place, "written"):
        _store(place.scheme, place.bucket).put(place.key, content, mode=same or "create")


def copied(source: Place, target: Place) -> None:
    """Copy an object within its bucket, in place of another one. Errors as of `read_bytes`."""
    with answered(source, "copied"):
        _store(source.scheme, source.bucket).copy(source.key, target.key)


def removed(places: Iterable[Place]) -> None:
    """Remove objects; those that are not there are none to remove. Errors as of `listed`."""
    for place in places:
        with answered(place, "removed"):
            try:
                _store(place.scheme, place.bucket).delete(place.key)
            except FileNotFoundError:
                continue


@contextmanager
def answered(place: Where, done: str) -> Iterator[None]:
    """Turn what a store, or polars on its behalf, raises into errors of ours; what happens on disk passes as it is.

    Args:
        place: that is asked for.
        done: what is done to it, as a participle.
    """
    if isinstance(place, Path):
        yield
        return
    obstore = _obstore(place.scheme)
    try:
        yield
    except (OSError, obstore.exceptions.BaseError) as error:
        raise _in_our_words(error, place, done) from None  # the text of the other holds addresses


def _in_our_words(error: Exception, place: Place, done: str) -> ParetuneError:
    kind, text = type(error).__name__, str(error)
    status = found[1] if (found := _STATUS.search(text)) else ""
    if kind in {"AlreadyExistsError", "PreconditionError"}:
        return ConflictError(f"{place} was written by somebody else meanwhile", hint="run the command again")
    if "/latest/api/token" in text or "/computeMetadata/" in text:  # the machine was asked for its role, and has none
        return ConfigError(f"there are no credentials for {place.scheme}://{place.bucket}", hint=_CREDENTIALS[place.scheme])
    if isinstance(error, PermissionError) or kind in {"PermissionDeniedError", "UnauthenticatedError"} or status in {"401", "403"}:
        return ConfigError(f"{place} may not be {done}: access is denied", hint=_CREDENTIALS[place.scheme])
    if _NO_BUCKET in text or (status == "404" and not isinstance(error, FileNotFoundError)):
        return LogError(
            f"there is no bucket {place.bucket!r} at this {place.scheme}:// storage", hint="check its name, and the endpoint in use"
        )
    if isinstance(error, FileNotFoundError):
        return LogError(f"{place} is not there", hint="check the name; if it was there a moment ago, somebody removed it")
    said = f"answers with status {status}" if status else "does not answer"
    return UnreachableError(
        f"{place} could not be {done}: the storage {said}",
        hint="check the network and the endpoint (AWS_ENDPOINT_URL), then run the command again",
    )


def _item(place: Place, entry: ObjectMeta) -> Item:
    return Item(place, entry["size"], entry["e_tag"] or "", entry["version"])


@cache
def _store(scheme: str, bucket: str) -> S3Store | GCSStore | MemoryStore:
    """Return the connections to a bucket, kept for the life of the process."""
    obstore = _obstore(scheme)
    if scheme == "memory":
        return obstore.store.MemoryStore()
    endpoint = _endpoint() if scheme == "s3" else ""
    how: dict[str, Any] = {
        "client_options": {
            "allow_http": _plain(endpoint),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=SILENT_S),
            "timeout": _LONGEST,
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
    }
    if scheme == "gs":
        return obstore.store.GCSStore(bucket, **how)
    return obstore.store.S3Store(bucket, **how, **({"endpoint": endpoint} if endpoint else {}))


def _endpoint() -> str:
    """Return the address of another S3 than Amazon's; empty where none is named."""
    return next(filter(None, (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))), "")


def _plain(endpoint: str) -> bool:
    """Say whether an address is one without encryption, as those of servers on one's own machine are."""
    return endpoint.lower().startswith("http://")


def _obstore(scheme: str) -> Any:
    """Return the library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise missing(_EXTRA[scheme], f"{scheme}://", error, otherwise="name a path on disk") from error
    return obstore
