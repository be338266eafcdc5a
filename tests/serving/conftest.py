"""A stream of its own on a running Redis; skips, and says so, where none answers."""

import os
import secrets
from collections.abc import Iterator

import pytest
import redis

SERVER = os.environ.get("PARETUNE_TEST_REDIS", "redis://127.0.0.1:6379/0")


@pytest.fixture
def stream() -> Iterator[str]:
    client = redis.Redis.from_url(SERVER, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.RedisError as error:
        pytest.skip(f"Redis does not answer at {SERVER}: {error}")
    name = f"paretune-test-{secrets.token_hex(6)}"
    yield f"{SERVER}?stream={name}"
    client.delete(name)
    client.close()
