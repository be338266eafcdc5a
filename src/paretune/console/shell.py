"""What surrounds every request: a limit on its size, headers that keep browsers strict, the last place that catches a fault. An edge: HTTP.

The rule: an answer goes out with its security headers whatever made it; a fault is logged by its kind and place, not by its message, which
may hold what a caller sent.
"""

from __future__ import annotations

import logging
import traceback

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretune.console.problems import CONTENT_TYPE, problem, unexpected

LARGEST = 64 << 10  # bytes of a request's body
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
STRICT_TRANSPORT = "max-age=31536000"
_log = logging.getLogger("paretune.console")


class Shell:
    """An application within its shell."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        """Surround an application.

        Args:
            app: may set any of HEADERS itself.
            secure: it is reached by HTTPS.
        """
        self._app = app
        named = {**HEADERS, **({"strict-transport-security": STRICT_TRANSPORT} if secure else {})}
        self._headers = [(name.encode(), value.encode()) for name, value in named.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, taken = False, 0

        async def send_within(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name.lower() for name, _ in message["headers"]}
                message = {**message, "headers": [*message["headers"], *(pair for pair in self._headers if pair[0] not in given)]}
            await send(message)

        async def receive_within() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST:
                raise HTTPException(413, f"a request has at most {LARGEST} bytes")
            return message

        try:
            if _announced(scope) > LARGEST:
                await answer(send_within, 413, problem(413, f"a request has at most {LARGEST} bytes"))
            else:
                await self._app(scope, receive_within, send_within)
        except Exception as error:  # broad: the last place that can turn a fault into an answer that tells nothing of the inside
            incident, body = unexpected()
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("fault %s: %s in %s %s\n%s", incident, type(error).__name__, scope["method"], scope["path"], frames)
            if started:
                raise
            await answer(send_within, 500, body)


async def answer(send: Send, status: int, body: bytes) -> None:
    """Send a problem document."""
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _announced(scope: Scope) -> int:
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(value) for value in values if value.isdigit() and len(value) < 20), default=0)
