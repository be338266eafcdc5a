"""Kept connections of plain HTTP/1.1, each asked one question at a time. An edge: sockets, the clock.

The rules: asking is one call of the system and reading an answer that is there is another; nothing waits past a given moment of the
monotonic clock; a connection whose answer did not come is never used again, so that no answer is taken for another's.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

KEPT_S: Final = 20.0  # a connection without questions; the service keeps it for 30


class UnusualError(Exception):
    """An answer that this client does not read itself."""


class Line:
    """A connection that is asked one question at a time; one whose answer did not come is closed."""

    def __init__(self, family: int, address: Any, head: bytes, until: float) -> None:
        self._head, self.was_used, self.idle_since, self.ends = head, False, 0.0, False
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(max(1e-4, until - time.monotonic()))
        self._socket.connect(address)
        self._socket.setblocking(False)  # so that the common case is one call of the system to send and one to receive
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __del__(self) -> None:
        self.close()

    def send(self, body: bytes, until: float) -> None:
        """Ask.

        Raises:
            TimeoutError: the budget was spent first.
            OSError: the connection is gone.
        """
        message = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        sent = self._socket.send(message)
        while sent < len(message):  # more than the system takes at once
            self._wait(select.POLLOUT, until)
            sent += self._socket.send(message[sent:])

    def receive(self, until: float) -> tuple[int, bytes]:
        """Return status and body; after the budget only what is there already.

        Raises:
            TimeoutError: the budget was spent first.
            UnusualError: the answer is in chunks, say.
            OSError: the connection is gone.
        """
        data = b""
        while True:
            try:
                part = self._socket.recv(1 << 13)
            except BlockingIOError:
                self._wait(select.POLLIN, until)
                continue
            if not part:
                raise ConnectionResetError("the service closed the connection")
            data = data + part if data else part
            end = data.find(b"\r\n\r\n")
            if end < 0:
                continue
            head = data[:end].lower() + b"\r\n"
            at = head.find(b"\r\ncontent-length:")
            if at < 0 or not head.startswith(b"http/1.1 ") or b"\r\ntransfer-encoding" in head or b"\r\ncontent-encoding" in head:
                raise UnusualError
            length = int(head[at + 17 : head.find(b"\r\n", at + 2)])
            if len(data) >= end + 4 + length:
                self.ends = b"\r\nconnection: close" in head or len(data) > end + 4 + length
                return int(head[9:12]), data[end + 4 : end + 4 + length]

    def _wait(self, event: int, until: float) -> None:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        ready = select.poll()
        ready.register(self._socket, event)
        if not ready.poll(1e3 * left_s):  # rounded up to the millisecond
            raise TimeoutError

    def close(self) -> None:
        """Close the socket."""
        with suppress(AttributeError, OSError):
            self._socket.close()


class Lines:
    """Kept connections to one address."""

    def __init__(self, family: int, address: Any, head: bytes, most: int) -> None:
        self._family, self._address, self._head, self._most = family, address, head, most
        self._free: list[Line] = []
        self._process = os.getpid()

    def taken(self, until: float) -> Line:
        """Return a connection that nobody else uses."""
        if self._process != os.getpid():  # a forked process must not share its parent's
            self._free, self._process = [], os.getpid()
        while True:
            try:
                line = self._free.pop()
            except IndexError:
                return self.opened(until)
            if time.monotonic() - line.idle_since < KEPT_S:
                return line
            line.close()

    def opened(self, until: float) -> Line:
        """Return a new connection."""
        return Line(self._family, self._address, self._head, until)

    def give_back(self, line: Line) -> None:
        """Keep a connection that has been answered."""
        line.was_used, line.idle_since = True, time.monotonic()
        if line.ends or len(self._free) >= self._most:
            line.close()
        else:
            self._free.append(line)

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._free:
            self._free.pop().close()


def lines_to(url: str, most: int) -> Lines | None:
    """Return connections to a service that speaks plain HTTP; None where httpx is to ask."""
    place = urlsplit(url)
    if place.scheme != "http" or not place.hostname or place.username or place.query:
        return None
    try:
        family, _, _, _, address = socket.getaddrinfo(place.hostname, place.port or 80, type=socket.SOCK_STREAM)[0]
    except OSError:
        return None
    head = (
        f"POST {place.path.rstrip('/')}/v1/decide HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: application/msgpack\r\ncontent-length: "
    )
    return Lines(family, address, head.encode(), most)
