"""What tests of several folders are given."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The place of an empty registry, on both databases."""
    if request.param == "sqlite":
        yield str(tmp_path / "paretune.db")
        return
    from registries import postgres_schema

    with postgres_schema() as url:
        yield url
