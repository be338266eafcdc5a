"""One simulated test for all tests that read a log."""

from pathlib import Path

import pytest
from simulated import write


@pytest.fixture(scope="session")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of two days before and four of a test; paretune.toml lies beside them."""
    return write(tmp_path_factory.mktemp("tested"))
