"""A real S3 server (SeaweedFS, from PyPI) for the tests, and a line to it that can be cut."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

BUCKET = "feed"
KEY, SECRET = "paretune-test", "hush-4711-do-not-print"
_IDENTITY = {"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Read", "Write", "List", "Tagging"]}


def program() -> str | None:
    """The server's program, of this environment or of the system."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class BucketServer:
    """The server with one bucket; it keeps what it is given in a folder."""

    def __init__(self, folder: Path, *, patience_s: float = 120) -> None:
        names = (
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        )
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        (folder / "identities.json").write_text(json.dumps({"identities": [_IDENTITY]}), encoding="utf-8")
        self.port = ports["s3.port"]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(program()), f"-logdir={folder}", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        command += [f"-s3.config={folder / 'identities.json'}", "-s3.iam=false", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0"]
        command += ["-s3.port.lance=0", "-volume.max=100", "-master.volumeSizeLimitMB=64"]
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + patience_s
        self._answers(self.url, {403}, until)
        self._answers(f"http://127.0.0.1:{ports['filer.port']}/buckets/{BUCKET}/", {201}, until, method="POST")

    def _answers(self, url: str, statuses: set[int], until: float, *, method: str = "GET") -> None:
        while True:
            with suppress(httpx.TransportError):
                status = httpx.request(method, url, timeout=5).status_code
                if status in statuses:
                    return
            if time.monotonic() > until or self._process.poll() is not None:
                self.stop()
                raise TimeoutError(f"the S3 server did not start: {url}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Line:
    """Passes bytes on to the server, counts them, and is cut after some number of those that come back, or of those sent there.

    With `mute` it is not cut: it says nothing any more, and connections stay open.
    """

    def __init__(self, port: int, *, most_down: float = float("inf"), most_up: float = float("inf"), mute: bool = False) -> None:
        self.down, self.up, self._mute = 0, 0, mute
        self._most_down, self._most_up, self._port = most_down, most_up, port
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections and answer no more."""
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                self._open += [here, there]
                threading.Thread(target=self._pass_on, args=(here, there, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(there, here, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if back:
                    self.down += len(data)
                else:
                    self.up += len(data)
                if self.down > self._most_down or self.up > self._most_up:
                    if self._mute:
                        continue
                    self.cut()
                    return
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens at."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
