"""The caller's side: an answer in time, or the caller's own static weights and why."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from paretune.client import AsyncClient, Client

STATIC = {"save": 10.0, "hide": -4.0}
ANSWER = msgspec.msgpack.encode(
    {"request_id": 1, "weights": {"save": 1.0, "hide": 2.0}, "reason": "POLICY", "arm": "knee", "plan": 3, "action": 5, "propensity": 1.0,
     "detail": "", "elapsed_ms": 0.1}
)  # fmt: skip
ASK = {"request_id": 1, "user": 7, "features": {"x": 1.0}}
Handler = Callable[[httpx.Request], httpx.Response]


def answered(request: httpx.Request) -> httpx.Response:
    asked = msgspec.msgpack.decode(request.content)
    assert asked == ASK
    return httpx.Response(200, content=ANSWER)


def refused(request: httpx.Request) -> httpx.Response:
    return httpx.Response(400, json={"field": "user"})


def garbled(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"\xc1\xc1")


def gone(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def slow(request: httpx.Request) -> httpx.Response:
    time.sleep(0.5)
    return answered(request)


def both(handler: Handler, budget_s: float = 0.2) -> list:
    async def go() -> object:
        def wait(request: httpx.Request) -> httpx.Response:
            return handler(request)

        async def handle(request: httpx.Request) -> httpx.Response:
            if handler is slow:
                await asyncio.sleep(0.5)
                return answered(request)
            return wait(request)

        async with AsyncClient("http://x", static=STATIC, budget_s=budget_s, transport=httpx.MockTransport(handle)) as client:
            return await client.decide(**ASK)

    with Client("http://x", static=STATIC, budget_s=budget_s, transport=httpx.MockTransport(handler)) as client:
        return [client.decide(**ASK), asyncio.run(go())]


def test_an_answer_is_passed_on() -> None:
    for weights in both(answered):
        assert (weights.weights, weights.reason, weights.arm, weights.plan, weights.action) == (
            {"save": 1.0, "hide": 2.0},
            "POLICY",
            "knee",
            3,
            5,
        )


@pytest.mark.parametrize(
    ("handler", "word"), [(refused, "HTTP 400"), (garbled, "Error"), (gone, "ConnectError"), (slow, "no answer within")]
)
def test_without_an_answer_the_static_weights_are_served_in_time(handler: Handler, word: str) -> None:
    for weights in both(handler):
        assert (weights.weights, weights.reason, weights.action, weights.propensity) == (STATIC, "FALLBACK:client", 0, 1.0)
        assert word in weights.detail
        assert weights.elapsed_s < 0.45


def test_features_that_cannot_be_sent_raise_nothing() -> None:
    with Client("http://x", static=STATIC, transport=httpx.MockTransport(answered)) as client:
        assert client.decide(request_id=1, user=7, features={"x": object()}).reason == "FALLBACK:client"


def test_a_hedged_question_is_asked_twice_and_the_first_answer_taken() -> None:
    seen = []

    def first_is_slow(request: httpx.Request) -> httpx.Response:
        seen.append(1)
        if len(seen) == 1:
            time.sleep(0.4)
        return answered(request)

    with Client("http://x", static=STATIC, budget_s=1.0, hedge_after_s=0.05, transport=httpx.MockTransport(first_is_slow)) as client:
        weights = client.decide(**ASK)
    assert weights.reason == "POLICY"
    assert weights.elapsed_s < 0.3
    assert len(seen) == 2


def test_the_client_imports_neither_numpy_nor_polars() -> None:
    code = "import sys, paretune.client; print([m for m in ('numpy', 'polars', 'torch', 'altair', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_python_of_the_serving_page_runs_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block.replace("8077", "1"), "serving.md", "exec"), {})  # noqa: S102
    assert "FALLBACK:client" in capsys.readouterr().out
