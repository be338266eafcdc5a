"""HTTP/1.1 as the decision service speaks it: uvicorn's protocol, made prompt and patient with nobody. An edge: HTTP, the clock.

    read ─┬─ plain question, no room ──▶ static weights, written while reading
          ├─ plain question ───────────▶ answered when everything has been read
          └─ anything else ────────────▶ uvicorn, ASGI

The rules: whether a request may ask a model is decided when it has been read; while there is no room, a plain question is answered
without being queued. Plain is a question that arrived whole, with a head that says nothing but type and length of the body; it takes the
short way, which costs half of what ASGI does and answers the same. A caller that ends its side of the connection still gets its answer.
Heads are bounded in size and time, and what is no HTTP is refused in the same form as everything else.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from paretune.serving.app import ADMITTED, DECISIONS, RECEIVED, DecisionApp
from paretune.serving.wire import JSON, Problem

HEAD_BYTES: Final = 1 << 16
MESSAGE_S: Final = 15.0  # in which a request must arrive whole, whatever else becomes of it
_ASK: Final = b"POST /v1/decide HTTP/1.1\r\n"
_UNUSUAL: Final = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|connection|traceparent|tracestate|[ \t])", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d{1,9}) *\r\n", re.IGNORECASE)
_TYPE: Final = re.compile(rb"\r\ncontent-type: *([\w/+.-]+) *(?:;[^\r]*)?\r\n", re.IGNORECASE)
_KEEP_ALIVE: Final = re.compile(rb"\r\nconnection: *keep-alive *(?=\r\n)", re.IGNORECASE)


class DecisionProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._decisions: DecisionApp | None = self.app_state.get(DECISIONS)
        self._read_at = self._since = time.monotonic()  # last reading; since when a request has been arriving
        self._whole, self._heading, self._head = True, False, 0  # nothing half read; a head half read, and its bytes
        self._plain = b"", -1, ""  # the latest head of a plain question, its body's length and type
        self._asked, self._held, self._leaving = False, b"", False  # a plain question waits; what came after it; close then
        self._look_later()

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._read_at = now = time.monotonic()
        decisions = self._decisions
        if decisions is not None:
            if self._asked:  # asked again before the answer: one after the other
                self._held += data
                return
            if decisions.admission.reading(now):
                self.loop.call_soon(decisions.reading_over)
            if self._whole and (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused:
                end = self._plain_until(data)
                if end:
                    if decisions.admission.arrives(now):
                        self._asked = True
                        self.loop.call_soon(self._answer, decisions, data, end, now, True)
                    else:
                        self._answer(decisions, data, end, now, False)
                    return
        self._take_the_long_way(data)

    def _take_the_long_way(self, data: bytes) -> None:
        super().data_received(data)
        if self._heading:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse(431, "the head is too large", f"more than {HEAD_BYTES:,} bytes", "headers")

    def _plain_until(self, data: bytes) -> int:
        """Return where the head of a plain question ends, 0 where this is none."""
        end = data.find(b"\r\n\r\n") + 2
        if end < 2:
            return 0
        head = data[:end]
        if head != self._plain[0]:  # callers send the same head again and again
            self._plain = (head, *_plain(head))
        return end if self._plain[1] == len(data) - end - 2 else 0

    def _answer(self, decisions: DecisionApp, data: bytes, end: int, received: float, admitted: bool) -> None:
        if self.parser is None:  # the caller has left
            return
        media = self._plain[2]
        body = decisions.answered(data[end + 2 :], media, received, admitted)
        if body is None:
            self._asked = False
            self._take_the_long_way(data)
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (media.encode(), len(body), body))
        if self._asked:
            self._asked = False
            decisions.admission.done(time.monotonic())
            if self._leaving:
                self.transport.close()
        if self._held:
            held, self._held = self._held, b""
            self.data_received(held)

    def shutdown(self) -> None:
        """Close the connection, after the answer that it waits for."""
        if self._asked:
            self._leaving = True
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._whole, self._heading, self._head, self._since = False, True, 0, self._read_at

    def on_headers_complete(self) -> None:
        """Begin a body."""
        self._heading = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Say whether the request may ask a model."""
        self._whole = True
        scope: Any = self.scope
        scope[RECEIVED] = self._read_at
        if self._decisions is not None and scope.get("method") == "POST":
            scope[ADMITTED] = self._decisions.admission.arrives(self._read_at)
        super().on_message_complete()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Go on answering a caller that has said all it had to say."""
        if self._asked:
            self._leaving = True
            return True
        if self._whole and self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return True
        return None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nobody uses; answers written while reading reset no timer."""
        idle_s = time.monotonic() - self._read_at
        if idle_s < self.timeout_keep_alive:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive - idle_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "no HTTP request", msg, "head")

    def _refuse(self, status: int, title: str, detail: str, field: str) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            if self._decisions is not None:
                self._decisions.telemetry.refuse(status)
            body = msgspec.json.encode(Problem("about:blank", title, status, detail, field))
            head = b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def _look_later(self) -> None:
        self.loop.call_later(MESSAGE_S / 3, self._look)

    def _look(self) -> None:
        """Give up on a request that does not arrive."""
        if self.transport.is_closing() or self.parser is None:
            return
        if not self._whole and time.monotonic() - self._since > MESSAGE_S:
            self._refuse(408, "the request did not arrive", f"waited {MESSAGE_S:g} s for it", "head" if self._heading else "body")
        elif self.cycle is None and time.monotonic() - self._read_at > self.timeout_keep_alive:
            self.transport.close()
        else:
            self._look_later()


def _plain(head: bytes) -> tuple[int, str]:
    """Return the body's length and content type of a question whose head says nothing else that matters, (-1, "") of any other."""
    other = -1, ""
    if not head.startswith(_ASK) or head.count(b"\n") != head.count(b"\r\n") or b"\0" in head:
        return other
    if _UNUSUAL.search(_KEEP_ALIVE.sub(b"", head)) or head.lower().count(b"\r\ncontent-length") != 1:
        return other
    length, media = _LENGTH.search(head), _TYPE.search(head)
    if length is None:
        return other
    return int(length[1]), media[1].decode().lower() if media else JSON
