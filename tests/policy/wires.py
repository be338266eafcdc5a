"""A wire to a database, or to Redis, that can be cut: refused, frozen (accepted and never answered), or let through."""

import contextlib
import select
import socket
import threading
from urllib.parse import urlsplit


class Wire:
    """A proxy on a port of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        port, user = (6379, "") if parts.scheme == "redis" else (5432, f"{parts.username or 'postgres'}@")
        self._target = (parts.hostname or "127.0.0.1", parts.port or port)
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.url = parts._replace(netloc=f"{user}127.0.0.1:{self._ear.getsockname()[1]}").geturl()
        self.mode = "through"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Break what stands and accept nothing that lasts."""
        self.mode = "refused"
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Keep every connection and carry nothing any more."""
        self.mode = "frozen"

    def restore(self) -> None:
        """Carry everything again."""
        self.mode = "through"

    def close(self) -> None:
        self.refuse()
        self._closed.set()
        self._thread.join()
        self._ear.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            if not select.select([self._ear], [], [], 0.05)[0]:
                continue
            near, _ = self._ear.accept()
            if self.mode == "refused":
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, contextlib.suppress(OSError):
            while not self._closed.is_set():
                for end in select.select([near, far], [], [], 0.05)[0]:
                    while self.mode == "frozen" and not self._closed.is_set():
                        self._closed.wait(0.01)
                    data = end.recv(65536)
                    if not data:
                        return
                    (far if end is near else near).sendall(data)
