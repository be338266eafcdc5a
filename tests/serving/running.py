"""A decision service that really runs, for tests: processes, a port, a plan file."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def running(folder: Path, *words: str, workers: int = 1) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start `paretune serve` on folder/bundles and folder/plan.json, wait until it is ready, and kill it in the end."""
    port = free_port()
    command = [sys.executable, "-m", "paretune", "serve", "--bundles", str(folder / "bundles"), "--plan", str(folder / "plan.json")]
    command += ["--port", str(port), "--workers", str(workers), "--poll-s", "0.1", *words]
    log = (folder / "serve.log").open("ab")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")})
    try:
        yield process, wait_ready(f"http://127.0.0.1:{port}", process, folder)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def wait_ready(address: str, process: subprocess.Popen[bytes], folder: Path, *, seconds: float = 60) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"the service ended with {process.returncode}: {(folder / 'serve.log').read_text()}")
        try:
            if httpx.get(f"{address}/readyz", timeout=1).status_code == 200:
                return address
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not ready in {seconds} s: {(folder / 'serve.log').read_text()}")


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that answer requests."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if int(status[1]) == pid and b"spawn_main" in command:
                found.append(int(name))
    return sorted(found)


def ask(request_id: object, **features: object) -> bytes:
    return json.dumps({"request_id": request_id, "user": f"u{request_id}", "features": features}).encode()
