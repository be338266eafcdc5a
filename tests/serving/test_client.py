"""The caller's side: an answer in time, or the caller's own static weights and why."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def whole(data: bytes) -> bool:
    """Whether a request's head and body are there."""
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return found is not None and len(body) >= int(found[1])


@contextmanager
def answering(*answers: bytes | float | None) -> Iterator[tuple[str, list[bytes]]]:
    """A service on a real socket that answers each question with the next of `answers`: bytes, silence (seconds), or None = closes."""
    listening, seen, threads = socket.create_server(("127.0.0.1", 0)), [], []
    left = list(answers)

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:  # the client hangs up whenever it likes
            while data := connection.recv(65536):
                while not whole(data):
                    data += connection.recv(65536)  # heads and bodies may come apart
                seen.append(data)
                answer = left.pop(0)
                if answer is None:
                    return
                if isinstance(answer, float):
                    time.sleep(answer)
                    continue
                for start in range(0, len(answer), 50):
                    connection.sendall(answer[start : start + 50])

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", seen
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for thread in (accepting, *threads):
            thread.join()


def http(body: bytes, status: str = "200 OK", *head: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *head]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_question_is_sent_before_anybody_waits_and_its_answer_is_taken_even_after_the_budget() -> None:
    with answering(http(ANSWER), http(ANSWER)) as (url, seen), Client(url, static=STATIC, budget_s=0.3) as client:
        for _ in range(2):
            asked = client.ask(**ASK)
            time.sleep(0.5)  # scoring
            answer = asked.weights()
            assert (answer.reason, answer.weights) == ("POLICY", {"save": 1.0, "hide": 2.0})
        assert [msgspec.msgpack.decode(data.partition(b"\r\n\r\n")[2]) for data in seen] == [ASK, ASK]


def test_a_kept_connection_that_the_service_closed_costs_no_answer() -> None:
    with answering(http(ANSWER), None, http(ANSWER)) as (url, seen), Client(url, static=STATIC, budget_s=1.0) as client:
        assert [client.decide(**ASK).reason for _ in range(2)] == ["POLICY", "POLICY"]
        assert len(seen) == 3


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_question_s() -> None:
    late = http(msgspec.msgpack.encode(msgspec.msgpack.decode(ANSWER) | {"arm": "late"}))
    with answering(0.3, http(ANSWER)) as (url, _), Client(url, static=STATIC, budget_s=0.1) as client:
        first = client.decide(**ASK)
        second = client.decide(**ASK)
    assert (first.reason, second.reason, second.arm) == ("FALLBACK:client", "POLICY", "knee")
    with answering(late + http(ANSWER), http(ANSWER)) as (url, _), Client(url, static=STATIC, budget_s=0.5) as client:
        assert client.decide(**ASK).arm == "late"
        assert client.decide(**ASK).arm in {"knee", ""}, "what came unasked is thrown away with its connection"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (None, "closed"),
        (http(b"{}", "400 Bad Request"), "HTTP 400"),
        (http(b"\xc1"), "Error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "ValueError"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "unusual"),
        (0.4, "no answer within"),
        (http(ANSWER)[:-3], "no answer within"),
    ],
)
def test_over_a_socket_too_there_are_always_weights_in_time(answer: bytes | float | None, word: str) -> None:
    with answering(answer) as (url, _), Client(url, static=STATIC, budget_s=0.2) as client:
        weights = client.decide(**ASK)
        assert (weights.weights, weights.reason) == (STATIC, "FALLBACK:client")
        assert word in weights.detail
        assert weights.elapsed_s < 0.35


def test_a_service_that_answers_in_chunks_is_asked_through_httpx_from_then_on() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)
    with answering(chunked, chunked) as (url, _), Client(url, static=STATIC, budget_s=1.0) as client:
        assert [client.decide(**ASK).reason for _ in range(2)] == ["FALLBACK:client", "POLICY"]


def test_nobody_listening_is_no_error() -> None:
    with Client("http://127.0.0.1:9", static=STATIC) as client:
        assert client.decide(**ASK).reason == "FALLBACK:client"
    with Client("http://no-such-host.invalid", static=STATIC) as client:
        assert client.decide(**ASK).reason == "FALLBACK:client"
