"""A registry with accounts, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import House
from registries import Clock

from paretune.console.accounts import Accounts
from paretune.console.credentials import Cost, Expiry
from paretune.policy.registry import Registry

QUICK = Cost(n=1 << 4, r=8, p=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(where: str, clock: Clock) -> Iterator[Registry]:
    opened = Registry(where, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def accounts(registry: Registry, clock: Clock) -> Accounts:
    return Accounts(registry.database, clock=clock, expiry=Expiry(idle_s=600, absolute_s=3600), cost=QUICK)


@pytest.fixture
def house(where: str) -> Iterator[House]:
    """A console with one account of each role, on both databases."""
    found = House(where).people()
    yield found
    found.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[House]:
    """The same on SQLite alone."""
    found = House(str(tmp_path / "paretune.db")).people()
    yield found
    found.close()
