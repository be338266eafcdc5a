"""Registries on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from registries import Clock, postgres_schema

from paretune.policy.registry import Registry


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_schema() as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The place of an empty registry."""
    if request.param == "sqlite":
        yield str(tmp_path / "paretune.db")
        return
    with postgres_schema() as url:
        yield url


@pytest.fixture
def registry(where: str, clock: Clock) -> Iterator[Registry]:
    opened = Registry(where, clock=clock)
    yield opened
    opened.close()
