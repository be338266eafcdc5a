"""What decision services count, read and put together."""

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from paretune.console.fronts import surface_of
from paretune.console.live import Counted, Sample, between
from paretune.console.pictures import live_specifications
from paretune.console.traffic import Look, Traffic, read_metrics
from paretune.errors import ConfigError
from paretune.serving.decide import Decision, Reason
from paretune.serving.health import RuntimeState
from paretune.serving.telemetry import Telemetry


def decision(reason: Reason, arm: str, elapsed_s: float = 0.0004) -> Decision:
    return Decision(request_id="r", weights=(1.0,), action=None, arm=arm, plan=3, propensity=1.0, reason=reason, elapsed_s=elapsed_s)


def metrics(policy: int, static: int, late: int = 0, plan: int = 3) -> str:
    telemetry = Telemetry()
    for _ in range(policy):
        telemetry.count(decision(Reason.POLICY, "policy-1"))
    for _ in range(static):
        telemetry.count(decision(Reason.STATIC, "control"))
    for _ in range(late):
        telemetry.count(decision(Reason.TIMEOUT, "policy-1", 0.03))
    telemetry.refuse(422)
    telemetry.hand_over(
        RuntimeState(plan, "f", killed=False, bundles=(), breakers={"a": "open", "b": "closed"}, threads=1, busy=0, problems=()), None
    )
    return telemetry.text().decode()


def test_what_a_service_counts_is_read_back() -> None:
    found = read_metrics(metrics(5, 3, late=2))
    assert found.decisions == {("POLICY", "policy-1"): 5, ("STATIC", "control"): 3, ("FALLBACK:timeout", "policy-1"): 2}
    assert (found.plan, found.ready, found.open_breakers, found.refused) == (3, True, 1, 1)
    assert (found.within[5e-4], found.within[0.05], found.within[math.inf]) == (8, 10, 10)


def test_between_two_samples_only_what_came_since_counts() -> None:
    before = Sample(0.0, {"a": read_metrics(metrics(5, 3)), "gone": read_metrics(metrics(9, 9))})
    after = Sample(2.0, {"a": read_metrics(metrics(25, 3, late=10)), "new": read_metrics(metrics(7, 7))})
    live = between(before, after)
    assert dict(live.decisions) == {("POLICY", "policy-1"): 20, ("FALLBACK:timeout", "policy-1"): 10}
    assert (live.seconds, live.total, live.share("POLICY"), live.share("FALLBACK")) == (2.0, 30, 20 / 30, 10 / 30)
    assert (live.quantile_s(0.5), live.quantile_s(0.99)) == (5e-4, 0.05)


def test_a_service_that_began_anew_is_counted_from_nothing() -> None:
    live = between(Sample(0.0, {"a": read_metrics(metrics(50, 0))}), Sample(1.0, {"a": read_metrics(metrics(4, 0))}))
    assert dict(live.decisions) == {("POLICY", "policy-1"): 4}
    assert live.quantile_s(0.5) == 5e-4


def test_nothing_counted_has_no_share_and_no_latency() -> None:
    live = between(Sample(0.0, {"a": Counted({}, {})}), Sample(1.0, {"a": Counted({}, {})}))
    assert math.isnan(live.share("POLICY"))
    assert math.isnan(live.quantile_s(0.5))
    assert live_specifications([(0.0, live)]) == []


class _Service(BaseHTTPRequestHandler):
    text = ""

    def do_GET(self) -> None:
        """Answer with the metrics that the test put here."""
        body = self.text.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(handler: type[_Service]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def service() -> Iterator[tuple[str, type[_Service]]]:
    handler = type("Handler", (_Service,), {})
    with serving(handler) as address:
        yield address, handler


def test_services_are_asked_and_the_silent_ones_named(service: tuple[str, type[_Service]]) -> None:
    address, handler = service
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        silent = f"http://127.0.0.1:{closed.getsockname()[1]}"
        now = iter(range(100))
        traffic = Traffic([f"{address}/", silent], clock=lambda: float(next(now)))
        assert (traffic.latest(), traffic.last(10), traffic.steps()) == (None, None, [])
        handler.text = metrics(10, 0)
        sample = traffic.ask()
        assert (list(sample.services), sample.silent) == ([address], (silent,))
        handler.text = metrics(40, 5)
        traffic.ask()
    live = traffic.last(10)
    assert live is not None
    assert dict(live.decisions) == {("POLICY", "policy-1"): 30, ("STATIC", "control"): 5}
    pictures = live_specifications(traffic.steps())
    assert [picture["title"]["text"] for picture in pictures] == ["Decisions by reason", "How long a decision takes"]
    handler.text = "no metrics at all {"
    assert traffic.ask().silent == (address, silent)
    for strange in ("paretune_plan_version +Inf\n", "paretune_decisions_total NaN\n"):
        handler.text = strange
        assert traffic.ask().silent == (address, silent)


def test_services_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.console.traffic.DEADLINE_S", 20.0)
    both = threading.Barrier(2)

    class Waiting(_Service):
        """Answers once the other was asked too."""

        text = metrics(1, 0)

        def do_GET(self) -> None:
            """Wait for the other."""
            both.wait(10)
            super().do_GET()

    with serving(Waiting) as one, serving(Waiting) as other:
        assert Traffic([one, other]).ask().silent == ()


def test_the_deadline_is_of_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.console.traffic.DEADLINE_S", 0.5)
    gone = threading.Event()

    class Dripping(_Service):
        """Sends a byte now and then, and never ends."""

        def do_GET(self) -> None:
            """Drip until nobody listens."""
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while not gone.wait(0.05):
                    self.wfile.write(b"#")

    with serving(Dripping) as address:
        sample = Traffic([address]).ask()
        gone.set()
    assert sample.silent == (address,)


def test_services_are_asked_by_one_thread_however_many_pages_are_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Slow:
        """A thread that takes long to make, so that another page comes in between."""

        def __init__(self, *, name: str, **_: object) -> None:
            time.sleep(0.05)
            made.append(name)

        def start(self) -> None:
            """Do nothing."""

    traffic = Traffic(["http://127.0.0.1:9"])
    pages = [threading.Thread(target=traffic.start) for _ in range(3)]
    monkeypatch.setattr("paretune.console.traffic.threading.Thread", Slow)
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    assert made == ["paretune-traffic"]


def test_an_address_that_is_none_is_refused() -> None:
    for strange in ("127.0.0.1:8077", "ftp://a", "http://", "http://a:port"):
        with pytest.raises(ConfigError, match="no address"):
            Traffic([strange])


def test_the_last_look_of_the_guardrails_is_read_and_a_torn_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "guard.json"
    assert Traffic(guardrails=file).look() is None
    one = {"name": "hide", "state": "breached", "value": 0.4, "low": 0.1, "high": None, "limit": 0.02}
    told = {"at_us": 1, "plan": 3, "action": "kill", "reasons": ["hide"], "users": 700, "age_s": 5.0, "guardrails": [one], "became": 4}
    file.write_text(json.dumps(told))
    look = Traffic(guardrails=file).look()
    assert look is not None
    assert (look.plan, look.action, look.guardrails[0].state) == (3, "kill", "breached")
    file.write_text(json.dumps(told)[:40])
    assert Traffic(guardrails=file).look() is None


def test_a_look_is_stale_when_no_look_has_succeeded_for_too_long() -> None:
    look = Look(
        at_us=10_000_000_000, plan=3, action="keep", reasons=(), users=700, guardrails=(), saw_us=9_000_000_000, silent_s=600, every_s=60
    )

    def unseen(now_s: float, one: Look) -> float | None:
        return Traffic(wall_clock=lambda: now_s).unseen_s(one)

    assert unseen(9_660, look) is None
    assert unseen(9_661, look) == 661
    assert unseen(10_600, replace(look, saw_us=0)) is None  # of a guard that does not say when it last saw something: when it looked
    assert unseen(10_700, replace(look, saw_us=0)) == 700


def test_scattered_actions_are_no_grid_and_are_not_made_one() -> None:
    actions = np.random.default_rng(0).uniform(1, 2, (400, 8))  # as a grid, 399 to the power of 8
    assert surface_of(tuple("abcdefgh"), actions[0], actions) is None
    few = np.random.default_rng(0).uniform(1, 2, (300, 3))  # 27 million
    assert surface_of(("a", "b", "c"), few[0], few) is None
