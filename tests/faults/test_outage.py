"""A database that is away: what is served goes on, the console says so, and both find back by themselves."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from registries import ANNA, BERT, document, postgres_schema
from running import ROOT, ask, free_port, running
from wires import Wire

from paretune.console.accounts import Accounts
from paretune.policy.registry import Registry

SERVED, STATIC = [80.0, 9.1, -4.0], [91.6, 9.1, -4.0]
PASSWORD = "correct horse battery"  # noqa: S105


def weights(address: str) -> list[float]:
    """What a request is served."""
    answer = httpx.post(f"{address}/v1/decide", content=ask(1), headers={"content-type": "application/json"}, timeout=5)
    found: list[float] = list(answer.raise_for_status().json()["weights"].values())
    return found


def until(holds: object, seconds: float = 15) -> None:
    """Wait until a function says yes."""
    last = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < last
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "seconds"), [("refuse", 4), ("freeze", 8), pytest.param("freeze", 300, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_database_that_is_away_leaves_serving_untouched_and_the_console_saying_so(how: str, seconds: float, tmp_path: Path) -> None:
    with postgres_schema() as url:
        registry, wire, port = Registry(url), Wire(url), free_port()
        Accounts(registry.database).set_up("root", PASSWORD)
        registry.publish(document(None), by=ANNA)
        registry.approve(1, by=BERT)
        registry.activate(1, share=1.0, by=ANNA)
        console = subprocess.Popen(
            [sys.executable, "-m", "paretune", "console", "--registry", wire.url, "--port", str(port), "--json"],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )
        assert console.stdout is not None
        address = json.loads(console.stdout.readline())["address"]
        try:
            with (
                running(tmp_path, "--registry", wire.url, "--mirror", str(tmp_path / "served")) as (_, service),
                httpx.Client(base_url=address, timeout=15) as person,
            ):

                def signs_in() -> bool:
                    try:
                        return person.post("/api/v1/login", json={"name": "root", "password": PASSWORD}).status_code == 200
                    except httpx.TransportError:
                        return False

                until(signs_in)
                until(lambda: weights(service) == SERVED)
                getattr(wire, how)()
                served, seen, began = Counter[str](), Counter[int](), time.monotonic()
                while time.monotonic() < began + seconds:
                    for _ in range(20):
                        served[str(weights(service))] += 1
                        time.sleep(0.01)
                    page = person.get("/")
                    seen[page.status_code] += 1
                    if page.status_code == 503:
                        assert "The registry does not answer" in page.text
                        assert "what is served goes on as it is" in page.text
                assert set(served) == {str(SERVED)}, served
                assert set(seen) == {503}, seen
                registry.kill(by=ANNA)  # by somebody whose wire is whole
                assert weights(service) == SERVED
                wire.restore()
                if how == "freeze":
                    wire.refuse()
                    wire.restore()
                until(lambda: weights(service) == STATIC)
                until(lambda: person.get("/").status_code == 200)
                assert "Killed." in person.get("/").text
        finally:
            console.terminate()
            console.wait(10)
            console.stdout.close()
            wire.close()
            registry.close()
