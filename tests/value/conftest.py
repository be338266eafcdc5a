import pytest
import torch
from small_log import make_config, make_log

from paretune.config import Config
from paretune.records import Log

torch.set_num_threads(1)  # the networks here are tiny; threads would only wait for each other


@pytest.fixture(scope="session")
def config() -> Config:
    return make_config()


@pytest.fixture(scope="session")
def log(config: Config) -> Log:
    return make_log(2000, config)
