"""The decision service as a raw ASGI application. An edge: HTTP, the clock.

    POST /v1/decide   POST /v1/decide/batch   GET /livez /readyz /metrics /openapi.json

The rules: a body that is a question is answered 200 with weights, whatever happens behind it; any other call is answered 4xx and names the
field; 503 is said by `/readyz` alone, of a service that cannot follow its plan or is leaving. Over capacity, requests that need a model are
answered the static weights at once instead of being queued.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from paretune.serving import wire
from paretune.serving.admission import Admission
from paretune.serving.decide import Decision, Reason
from paretune.serving.runtime import Runtime
from paretune.serving.sinks import DecisionSink
from paretune.serving.telemetry import TEXT, Telemetry
from paretune.serving.wire import Media, Question, Questions, Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RECEIVED: Final = "paretune.received"  # scope key: when the request had been read, as time.monotonic tells it
ADMITTED: Final = "paretune.admitted"  # scope key: whether it may ask a model; absent where the server does not say
DECISIONS: Final = "paretune.decisions"  # key of the lifespan's state: the application, for `protocol.py`
_NEEDS_NO_MODEL: Final = frozenset({Reason.EXPLORE, Reason.STATIC})
_log = logging.getLogger("paretune.serving")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may ask of the service."""

    body_bytes: int = 1 << 20
    body_s: float = 5.0  # in which a body must arrive


class _Refusal(Exception):
    """A call that is answered 4xx."""

    def __init__(self, status: int, title: str, detail: str, field: str = "") -> None:
        super().__init__(title)
        self.status, self.title, self.detail, self.field = status, title, detail, field


class DecisionApp:
    """Answers questions by a runtime, and hands what was decided to a sink."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        sink: DecisionSink | None = None,
        limits: Limits | None = None,
        version: str = "0",
        telemetry: Telemetry | None = None,
        admission: Admission | None = None,
        heard: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the application; it owns neither runtime nor sink.

        Args:
            runtime: decides.
            sink: takes what was decided; None logs nothing.
            limits: of a call.
            version: in the OpenAPI document.
            telemetry: counts; by default a new one.
            admission: by default with the runtime's deadline as budget.
            heard: says when the plan's source last answered, seconds since 1970; None = nobody follows one.
            clock: monotonic seconds, the runtime's.
        """
        self.runtime, self.sink, self.limits = runtime, sink, limits or Limits()
        self.telemetry = telemetry or Telemetry(version=version)
        self.admission = admission or Admission(runtime.deadline_s or 0.0)
        self.draining = False
        self._clock, self._version, self._heard = clock, version, heard
        self._posts: dict[str, Callable[[bytes, Media, float, bool], bytes]] = {"/v1/decide": self._one, "/v1/decide/batch": self._several}
        self._gets: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/livez": lambda: (200, "text/plain", b"alive\n"),
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/openapi.json": lambda: (200, wire.JSON, json.dumps(wire.openapi(self._version)).encode()),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, lambda: scope.get("state", {}).__setitem__(DECISIONS, self))
            return
        if scope["type"] != "http":
            return
        try:
            status, media, body = await self._answered(scope, receive)
        except _Refusal as refusal:
            status, media, body = self._refused(refusal)
        except Exception:  # noqa: BLE001  (broad: whatever it is, the caller gets an id to ask about and nothing of the inside)
            name = secrets.token_hex(8)
            _log.exception("call %s could not be answered", name)
            status, media, body = self._refused(_Refusal(500, "unforeseen", f"ask for {name} in the service's log"))
        headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
        if status in {405}:
            headers.append((b"allow", b"POST" if scope["path"] in self._posts else b"GET"))
        if status in {408, 413}:
            headers.append((b"connection", b"close"))
        headers += [(name, value) for name, value in scope["headers"] if name in {b"traceparent", b"tracestate"}]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        self.admission.done(self._clock())

    def reading_over(self) -> None:
        """Note that the server has read all that had arrived."""
        self.admission.over(self._clock())

    def answered(self, body: bytes, name: str, received: float, admitted: bool) -> bytes | None:
        """Return the body of the answer to a question, None where ASGI is to say what is wrong with it.

        Args:
            body: of the request.
            name: content type of both.
            received: when it had been read.
            admitted: whether it may ask a model.
        """
        media = wire.MEDIA.get(name)
        if media is None or len(body) > self.limits.body_bytes:
            return None
        try:
            return self._one(body, media, received, admitted)
        except Refused:
            return None
        except Exception:  # noqa: BLE001  (broad: it happens again on the way that gives it an id and a line in the log)
            return None

    async def _answered(self, scope: Scope, receive: Receive) -> tuple[int, str, bytes]:
        path, method = scope["path"], scope["method"]
        post = self._posts.get(path)
        if post is None:
            get = self._gets.get(path)
            if get is None:
                raise _Refusal(404, "no such page", f"nothing at {path}; questions go to /v1/decide", "path")
            if method not in {"GET", "HEAD"}:
                raise _Refusal(405, "another method", f"{path} is read with GET", "method")
            return get()
        if method != "POST":
            raise _Refusal(405, "another method", f"{path} is asked with POST", "method")
        name, media = _media(scope)
        body = await self._body(scope, receive)
        received = scope.get(RECEIVED) or self._clock()  # noted once the body is there
        try:
            return 200, name, post(body, media, received, scope.get(ADMITTED, True))
        except Refused as refused:
            raise _Refusal(400, "the body makes no question", refused.detail, refused.field or "body") from None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self.limits.body_bytes
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > most:
            raise _Refusal(413, "the body is too large", f"{int(declared):,} bytes; at most {most:,} are read", "body")
        event = await receive()
        if not event.get("more_body", False):
            return self._measured(event.get("body", b""))
        parts = [event.get("body", b"")]
        size = len(parts[0])
        try:
            async with asyncio.timeout(self.limits.body_s):
                while event.get("more_body", False):
                    event = await receive()
                    parts.append(event.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _Refusal(413, "the body is too large", f"more than {most:,} bytes", "body")
        except TimeoutError:
            raise _Refusal(408, "the body did not arrive", f"waited {self.limits.body_s:g} s for it", "body") from None
        return self._measured(b"".join(parts))

    def _measured(self, body: bytes) -> bytes:
        if len(body) > self.limits.body_bytes:
            raise _Refusal(413, "the body is too large", f"{len(body):,} bytes; at most {self.limits.body_bytes:,} are read", "body")
        return body

    def _one(self, body: bytes, media: Media, received: float, admitted: bool) -> bytes:
        decision = self._decided(wire.decoded(body, Question, media), media, received, admitted)
        return wire.encoded(wire.answer_of(decision), media)

    def _several(self, body: bytes, media: Media, received: float, admitted: bool) -> bytes:
        questions = wire.decoded(body, Questions, media).requests
        for i, question in enumerate(questions):  # all are understood, or none is answered
            with _named(f"requests[{i}]"):
                wire.features_of(question.features, media)
        answers = [wire.answer_of(self._decided(question, media, received, admitted)) for question in questions]
        return wire.encoded(wire.Answers(answers), media)

    def _decided(self, question: Question, media: Media, received: float, admitted: bool) -> Decision:
        admit = admitted and self.admission.in_time(received=received, now=self._clock())
        features: Mapping[str, Any] = wire.features_of(question.features, media) if admit else {}
        request = wire.request_of(question, features)
        decision = self.runtime.decide(request, received=received, admit=admit)
        self.telemetry.count(decision)
        if self.sink is not None:
            if not admit and decision.reason in _NEEDS_NO_MODEL:  # these rows teach, so their features are worth the time
                with suppress(Refused):
                    request = wire.request_of(question, wire.features_of(question.features, media))
            self.sink.offer(request, decision)
        return decision

    def hand_over(self) -> None:
        """Hand the counts to the metrics."""
        self.telemetry.hand_over(self.runtime.state(), self.runtime.plan, heard_s=self._heard() if self._heard else None)
        if self.sink is not None:
            self.telemetry.hand_over_sink(self.sink.counts, self.sink.health)

    def _ready(self) -> tuple[int, str, bytes]:
        state = self.runtime.state()
        ready = state.ready and not self.draining
        problems = [*state.problems, *(["draining"] if self.draining else [])]
        about = {"ready": ready, "plan": state.plan, "killed": state.killed, "problems": problems}
        return 200 if ready else 503, wire.JSON, json.dumps(about).encode()

    def _metrics(self) -> tuple[int, str, bytes]:
        self.hand_over()
        return 200, TEXT, self.telemetry.text()

    def _refused(self, refusal: _Refusal) -> tuple[int, str, bytes]:
        self.telemetry.refuse(refusal.status)
        problem = wire.Problem("about:blank", refusal.title, refusal.status, refusal.detail, refusal.field)
        return refusal.status, "application/problem+json", msgspec.json.encode(problem)


class _named:
    """Puts the place of a question in front of the field that was refused."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Refused):
            raise Refused(error.detail, f"{self.place}.{error.field}") from None


def _media(scope: Scope) -> tuple[str, Media]:
    """Return the content type to answer in, and its kind."""
    declared = next((value for name, value in scope["headers"] if name == b"content-type"), wire.JSON.encode())
    name = declared.split(b";", 1)[0].strip().lower().decode("latin-1")
    media = wire.MEDIA.get(name)
    if media is None:
        raise _Refusal(415, "another content type", f"{name[:100]!r} is not read; send {wire.JSON} or {wire.MSGPACK}", "content-type")
    return name, media


async def _lifespan(receive: Receive, send: Send, begin: Callable[[], None]) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            begin()
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
