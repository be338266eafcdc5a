"""What `paretune demo --console` ends with: a console on the demo's front that one can sign in to, and traffic to look at."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from running import ROOT
from visits import wait_for

from paretune.cli import main

pytestmark = pytest.mark.e2e


def test_the_demos_console_opens_on_its_front_and_shows_traffic(run_folder: Path, browser: Browser, tmp_path: Path) -> None:
    words = "from pathlib import Path; from paretune.commands.tour import tour; "
    words += f"tour(Path({str(run_folder)!r}), world='homefeed', setting='', seed=1, data=None, objectives=2)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "BROWSER": "true", "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, stderr=err, text=True, env=environment)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[1]
        password = process.stdout.readline().split()[-1]
        console = re.match(r"http://[^/]+", address)
        assert console is not None
        wait_for(f"{console[0]}/api/v1/health")
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.goto(address)
        page.get_by_label("Name").fill("otto")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.locator("#front svg").wait_for()
        assert page.url == address
        page.goto(f"{console[0]}/live")
        page.wait_for_function("() => /Decisions per second/.test(document.querySelector('#now').innerText)")
        page.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        process.stdout.close()
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_the_option_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--help"]) == 0
    assert "--console" in capsys.readouterr().out
