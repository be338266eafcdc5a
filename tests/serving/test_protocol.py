"""HTTP as the service speaks it, over real sockets: what is answered while reading is what would have been answered anyway."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httptools
import msgspec
import pytest
import uvicorn
from fake_scorer import FINGERPRINT, STATIC, FakeScorer, everybody
from hypothesis import given
from hypothesis import strategies as st

from paretune.serving import protocol
from paretune.serving.app import DecisionApp
from paretune.serving.protocol import _plain
from paretune.serving.runtime import Runtime
from paretune.serving.server import UVICORN

ASK = json.dumps({"request_id": "r1", "user": 7, "features": {"x": 1.5}}).encode()


class NoRoom:
    """Turns everybody away."""

    budget_s = 1.0

    def reading(self, now: float) -> bool:
        return False

    def crowded(self, now: float) -> bool:
        return True

    def arrives(self, now: float) -> bool:
        return False

    def in_time(self, *, received: float, now: float) -> bool:
        return True

    def done(self, now: float) -> None: ...


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.port = 0

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.port = self.servers[0].sockets[0].getsockname()[1]
        self.ready.set()


@contextmanager
def serving(**options: Any) -> Iterator[tuple[int, DecisionApp]]:
    app = DecisionApp(Runtime({FINGERPRINT: FakeScorer()}, everybody(), deadline_s=5.0), **options)
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, **UVICORN))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.ready.wait(20)
    try:
        yield server.port, app
    finally:
        server.should_exit = True
        thread.join()
        app.runtime.close()


def question(body: bytes = ASK, *head: str) -> bytes:
    lines = ["POST /v1/decide HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *head]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def said(connection: socket.socket) -> tuple[int, dict[bytes, bytes], Any]:
    """Read one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        assert part, f"closed after {data!r}"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(headers[b"content-length"]):
        body += connection.recv(65536)
    assert len(body) == int(headers[b"content-length"])
    return int(head[9:12]), headers, json.loads(body)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as connection:
        yield connection


def test_what_is_answered_while_reading_is_what_the_long_way_answers() -> None:
    with serving(admission=NoRoom()) as (port, app), connected(port) as connection:
        answers = []
        for head in ((), ("Connection: keep-alive",), ("Traceparent: 00-0-0-01",), ("Expect: 100-continue-not",)):
            connection.sendall(question(ASK, *head))
            status, headers, answer = said(connection)
            assert (status, headers[b"content-type"]) == (200, b"application/json")
            answers.append({name: value for name, value in answer.items() if name != "elapsed_ms"})
        assert all(each == answers[0] for each in answers)
        assert answers[0]["reason"] == "FALLBACK:overload"
        assert list(answers[0]["weights"].values()) == list(STATIC)
        app.hand_over()
        assert b'paretune_decisions_total{arm="policy",reason="FALLBACK:overload"} 4.0' in app.telemetry.text()


def test_over_capacity_a_body_that_makes_no_question_is_still_refused_by_name() -> None:
    with serving(admission=NoRoom()) as (port, _), connected(port) as connection:
        for body, field in ((b'{"request_id": 1}', "user"), (b"{", "body"), (b'{"request_id":1,"user":1,"z":1}', "z")):
            connection.sendall(question(body))
            status, _, problem = said(connection)
            assert (status, problem["field"]) == (400, field)


def test_questions_in_one_piece_or_many_are_answered_in_order() -> None:
    data = b"".join(question(msgspec.json.encode({"request_id": i, "user": i, "features": {"x": 1.0}})) for i in range(20))
    for admission in (None, NoRoom()):
        with serving(admission=admission) as (port, _), connected(port) as connection:
            for start in range(0, len(data), 333):
                connection.sendall(data[start : start + 333])
            received, body = b"", []
            while received.count(b'"request_id"') < 20 or not received.endswith(b"}"):
                received += connection.recv(65536)
            for part in received.split(b'"request_id":')[1:]:
                body.append(int(part.split(b",")[0]))
            assert body == list(range(20))


def test_a_caller_that_has_closed_its_side_gets_its_answer() -> None:
    with serving() as (port, _), connected(port) as connection:
        connection.sendall(question())
        connection.shutdown(socket.SHUT_WR)
        status, _, answer = said(connection)
        assert (status, answer["reason"]) == (200, "POLICY")
        assert connection.recv(10) == b""


def test_what_is_no_http_and_heads_without_end_are_refused_by_name() -> None:
    with serving() as (port, _):
        with connected(port) as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            status, headers, problem = said(connection)
            assert (status, problem["field"], headers[b"content-type"]) == (400, "head", b"application/problem+json")
        with connected(port) as connection:
            connection.sendall(b"POST /v1/decide HTTP/1.1\r\n" + b"x: y\r\n" * (1 << 14))
            status, _, problem = said(connection)
            assert (status, problem["field"]) == (431, "headers")


def test_a_request_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MESSAGE_S", 0.3)
    with serving() as (port, _):
        for part, field in ((b"POST /v1/decide HT", "head"), (question()[:-5], "body")):
            with connected(port) as connection:
                connection.sendall(part)
                status, _, problem = said(connection)
                assert (status, problem["field"]) == (408, field)
                assert connection.recv(10) == b""


class Seen:
    """What httptools makes of a head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.complete = False
        self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"Host: x", b"content-length: 5", b"Content-Length:5", b"content-length: +5", b"content-length: 5, 5",
                b"Transfer-Encoding: chunked", b"content-type: application/json", b"Content-Type: application/msgpack; q=1",
                b"connection: close", b"Connection: keep-alive", b"connection: keep-alive, upgrade", b" folded", b"x: a\nb: c",
                b"content-length : 5",
                b"x: content-length: 7", b"Expect: 100-continue", b"x:", b"\tcontent-length: 5", b"x: a\rcontent-length: 9",
            ]
        ),
        st.binary(max_size=12),
    ),
    max_size=6,
)  # fmt: skip


@given(lines=LINES)
def test_a_head_taken_for_plain_is_one_that_the_parser_takes_for_the_same(lines: list[bytes]) -> None:
    head = b"\r\n".join([b"POST /v1/decide HTTP/1.1", *lines]) + b"\r\n"
    length, media = _plain(head)
    if length < 0 or b"\r\n\r\n" in head:
        return
    seen = Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    try:
        parser.feed_data(head + b"\r\n" + b"z" * length)
    except httptools.HttpParserError:
        return  # the long way would refuse it; answering it harms nobody, since its length is what it says
    assert (seen.url, parser.get_method(), seen.complete, len(seen.body)) == (b"/v1/decide", b"POST", True, length)
    assert parser.should_keep_alive()
    assert dict(seen.headers).get(b"content-type", b"application/json").split(b";")[0].strip().lower() == media.encode()


def test_the_plain_heads_of_common_callers_are_recognised() -> None:
    for name, media in (("application/json", "application/json"), ("application/msgpack", "application/msgpack")):
        head = (
            "POST /v1/decide HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\nConnection: keep-alive\r\n"
            f"content-type: {name}\r\nContent-Length: 17\r\n"
        )
        assert _plain(head.encode()) == (17, media)


def test_a_connection_that_is_used_is_not_taken_for_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UVICORN, "timeout_keep_alive", 0.3)  # type: ignore[arg-type]
    with serving() as (port, app), connected(port) as connection:
        connection.sendall(question())
        assert said(connection)[2]["reason"] == "POLICY"
        app.admission = NoRoom()  # type: ignore[assignment]
        for _ in range(8):
            asyncio.run(asyncio.sleep(0.1))
            connection.sendall(question())
            assert said(connection)[2]["reason"] == "FALLBACK:overload"
        assert connection.recv(10) == b""
