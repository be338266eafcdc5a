"""Registries on both databases."""

from collections.abc import Iterator

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


@pytest.fixture
def registry(where: str, clock: Clock) -> Iterator[Registry]:
    opened = Registry(where, clock=clock)
    yield opened
    opened.close()
