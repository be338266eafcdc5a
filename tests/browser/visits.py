"""People with browsers."""

import time
from dataclasses import dataclass

import httpx
from playwright.sync_api import Browser, BrowserContext, Page

from paretune.policy.registry import Registry

PASSWORD = "correct horse battery"  # noqa: S105


@dataclass
class Stage:
    """What runs, and how to look at it."""

    address: str
    service: str
    code: str
    registry: Registry
    browser: Browser

    def open(self, *, dark: bool = False) -> "Visit":
        """Return somebody with a browser of their own."""
        return Visit(self, self.browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="dark" if dark else "light"))


class Visit:
    """One person's browser; what its console complains of is kept."""

    def __init__(self, stage: Stage, context: BrowserContext) -> None:
        self.stage, self.context, self.complaints = stage, context, list[str]()
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, path: str) -> Page:
        """Open a page of the console."""
        self.page.goto(f"{self.stage.address}{path}")
        return self.page

    def sign_in(self, name: str) -> "Visit":
        """Sign in by the page."""
        page = self.go("/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.stage.address}/")
        return self

    def confirm(self, button: str, *, says: str) -> None:
        """Press a button, read what would change, and do it."""
        self.page.get_by_role("button", name=button).click()
        lines = self.page.locator("#confirm-lines")
        lines.wait_for(state="visible")
        assert says in lines.inner_text(), lines.inner_text()
        self.page.get_by_role("button", name="Do it").click()

    def close(self) -> None:
        """Close the browser's windows."""
        self.context.close()


def wait_for(address: str) -> None:
    """Wait until somebody answers."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            httpx.get(address, timeout=1).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(f"{address} does not answer")
