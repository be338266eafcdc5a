"""Servers are asked all at once and given up at the deadline; what they answer is told in words."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from registries import BERT, published

from paretune.doctor.finding import Finding
from paretune.doctor.servers import Question, ask, registry, service, stream
from paretune.errors import UnreachableError
from paretune.policy.registry import Registry

REDIS = os.environ.get("PARETUNE_TEST_REDIS", "redis://127.0.0.1:6379/0")


def one(question: Question, deadline_s: float = 5.0) -> Finding:
    return ask([question], deadline_s=deadline_s)[0]


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that says the same to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def frozen() -> Iterator[int]:
    """A port on which connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        yield ear.getsockname()[1]


def test_whoever_hangs_is_given_up_and_the_others_are_heard() -> None:
    never = threading.Event()

    def hang(_: float) -> list[Finding]:
        never.wait()
        return []

    def away(_: float) -> list[Finding]:
        raise UnreachableError("refused", hint="start it")

    def odd(_: float) -> list[Finding]:
        raise ZeroDivisionError("by zero")

    def well(_: float) -> list[Finding]:
        return [Finding("service", "d", "ok", "ready")]

    found = ask([Question("service", name, each) for name, each in zip("abcd", (hang, away, odd, well), strict=True)], deadline_s=0.05)
    never.set()
    assert [each.name for each in found] == ["a", "b", "c", "d"]
    assert [each.exit_code for each in found] == [5, 5, 5, 0]
    assert "did not answer within 0.05 s" in found[0].seen
    assert "ZeroDivisionError" in found[2].seen


def test_a_frozen_server_of_any_kind_does_not_answer() -> None:
    with frozen() as port:
        here = f"127.0.0.1:{port}"
        asked = [registry(f"postgresql://anna@{here}/x", named=True), stream(f"redis://{here}/0"), service(f"http://{here}")]
        found = ask(asked, deadline_s=0.2)
    assert [each.exit_code for each in found] == [5, 5, 5]


@pytest.mark.parametrize(
    ("status", "told", "level", "said"),
    [
        (200, {"ready": True, "plan": 7, "killed": False, "problems": []}, "ok", "ready, follows plan 7"),
        (503, {"ready": False, "plan": 0, "killed": False, "problems": []}, "note", "no plan yet"),
        (503, {"ready": False, "plan": 7, "killed": False, "problems": ["bundle 3 is altered"]}, "warning", "bundle 3 is altered"),
        (404, {"detail": "no such page"}, "wrong", "no decision service: it answers 404"),
    ],
)
def test_a_service_says_whether_it_is_ready_and_what_it_complains_of(status: int, told: object, level: str, said: str) -> None:
    with answering(status, json.dumps(told).encode()) as url:
        found = one(service(url))
    assert found.level == level
    assert said in found.seen


def test_an_address_that_is_none_is_a_mistake_of_the_asker() -> None:
    assert one(service("localhost:8077")).exit_code == 2
    assert one(stream("http://localhost")).exit_code == 2
    assert one(registry("mysql://localhost/x", named=True)).exit_code == 2


def test_a_registry_says_what_is_in_force(where: str) -> None:
    opened = Registry(where)
    assert "no plan is in force yet" in one(registry(where, named=True)).seen
    opened.activate(published(opened), share=0.05, by=BERT)
    found = ask([registry(where, named=True)], deadline_s=5.0)
    assert found[0].level == "ok"
    assert "plan 1 is in force" in found[0].seen
    assert len(found) == 2  # the clock of a server, or who may read a file
    opened.kill(by=BERT)
    assert "killed" in one(registry(where, named=True)).seen
    opened.close()


def test_a_registry_that_is_not_there_is_a_mistake_only_where_somebody_named_it(tmp_path: Path) -> None:
    place = str(tmp_path / "none.db")
    assert one(registry(place, named=False)).level == "note"
    assert one(registry(place, named=True)).exit_code == 2
    assert not Path(place).exists()


def test_a_file_that_is_no_registry_is_not_taken_for_one(tmp_path: Path) -> None:
    place = tmp_path / "other.db"
    place.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    assert one(registry(str(place), named=True)).exit_code == 5


def test_redis_says_how_many_decisions_wait() -> None:
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(REDIS, socket_connect_timeout=2)
    name = f"paretune:test:{os.getpid()}"
    try:
        client.xadd(name, {"row": b"x"})
    except redis.RedisError as error:
        pytest.skip(f"no Redis at {REDIS}: {error}")
    try:
        found = ask([stream(f"{REDIS}?stream={name}")], deadline_s=5.0)
    finally:
        client.delete(name)
        client.close()
    assert [each.level for each in found] == ["ok", "ok"]
    assert f"1 decisions in the stream {name}" in found[0].seen
