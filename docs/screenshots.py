"""Take the pictures of the console that stand in docs/: `paretune demo`, then `python docs/screenshots.py` (in RUN, by default runs/demo).

Needs Debian's package `chromium`, or PARETUNE_TEST_BROWSER. What is on the pictures is the demo's own run, and a service with visitors.
"""

import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from paretune.commands.publish import published
from paretune.commands.tour import free_port, serving, sign_in_names, visiting
from paretune.console.accounts import Accounts
from paretune.console.api import control_app
from paretune.console.traffic import Traffic
from paretune.policy.registry import Registry
from paretune.sim import open_world

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
HOST = "127.0.0.1"
WIDTH = 1300


def main(run: Path) -> None:
    """Publish, approve, activate and ramp what the demo found, and take every page in both themes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        registry = Registry(folder / "paretune.db")
        published(run, "balanced", registry, by="anna", note="week 12")
        published(run, "knee", registry, by="anna")
        accounts = Accounts(registry.database)
        password = sign_in_names(accounts)
        registry.approve(1, by="bert", note="looked at the cohorts too")
        registry.activate(1, share=0.05, control=0.05, explore=0.0125, by="otto", note="first week")
        registry.ramp(1, by="otto", note="guardrails hold")
        port = free_port(HOST)
        with serving(str(registry.name), run, folder, HOST, free_port(HOST)) as service, visiting(open_world("homefeed"), service):
            traffic = Traffic([service])
            traffic.start()
            app = control_app(registry, accounts, secure=False, traffic=traffic)
            server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="warning"))
            threading.Thread(target=server.run, daemon=True).start()
            with sync_playwright() as playwright:
                chromium = os.environ.get("PARETUNE_TEST_BROWSER") or shutil.which("chromium")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                for dark in (False, True):
                    take(browser, f"http://{HOST}:{port}", password, registry.fronts()[0].fingerprint, dark=dark)
                browser.close()
            server.should_exit = True
            traffic.close()


def take(browser: Browser, address: str, password: str, front: str, *, dark: bool) -> None:
    """Take every page in one theme."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 860}, color_scheme="dark" if dark else "light")
    page.goto(f"{address}/login")
    page.get_by_label("Name").fill("otto")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/")
    for name, path, ready in (
        ("in-force", "/", "table"),
        ("front", f"/fronts/{front}?policy=17&compared=0", "#front svg"),
        ("policy", "/policies/2", "table"),
        ("live", "/live", "#live-1 svg"),
        ("audit", "/audit", "table"),
    ):
        page.goto(f"{address}{path}")
        page.locator(ready).first.wait_for(timeout=90_000)
        page.wait_for_timeout(30_000 if name == "live" else 800)  # half a minute of traffic to see
        shoot(page, f"console-{name}-{'dark' if dark else 'light'}")
    page.close()


def shoot(page: Page, name: str) -> None:
    """Write one picture."""
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    print(f"wrote docs/pictures/{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "demo")
