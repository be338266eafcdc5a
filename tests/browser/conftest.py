"""A console and a decision service that really run, on the front of a small demo, and a browser that looks at them.

Skips, and says so, where no Chromium is installed: `apt-get install chromium`, or PARETUNE_TEST_BROWSER names one.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from visits import Stage, wait_for

from paretune.commands.publish import published
from paretune.commands.tour import free_port, serving, visiting
from paretune.demo import Sizes, run_demo
from paretune.policy.registry import Registry
from paretune.sim import open_world

ROOT = Path(__file__).parents[2]
SMALL = Sizes(6_000, 4_000, 14_000, 8_000, 3_000, 2_000)
CHROMIUM = os.environ.get("PARETUNE_TEST_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a demo that is large enough to have a front to look at."""
    folder = tmp_path_factory.mktemp("browser") / "run"
    run_demo(folder, model="ridge", sizes=SMALL, seed=1)
    return folder


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser for one test: while it lives, an event loop runs in this thread, and no other test could run one."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install Debian's package `chromium`, or name one in PARETUNE_TEST_BROWSER")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def stage(where: str, run_folder: Path, browser: Browser, tmp_path: Path) -> Iterator[Stage]:
    """A registry with the knee published by Anna, the console without accounts, a service, and visitors."""
    registry = Registry(where)
    published(run_folder, "knee", registry, by="anna")
    with serving(where, run_folder, tmp_path, "127.0.0.1", free_port("127.0.0.1"), deadline_ms=10_000) as service:
        port = free_port("127.0.0.1")
        words = ["console", "--registry", where, "--port", str(port), "--service", service, "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "paretune", *words], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}
        )
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        try:
            with visiting(open_world("homefeed", seed=1), service):
                wait_for(f"{told['address']}/api/v1/health")
                yield Stage(told["address"], service, told["setup_code"], registry, browser)
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()
            registry.close()
