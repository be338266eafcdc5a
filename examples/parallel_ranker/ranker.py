"""A ranker that asks paretune for its weights while it scores, and so waits for nothing.

    python ranker.py --url http://127.0.0.1:8077 [--requests 300]

Weights are needed only when the scores are there, and depend on nothing that scoring finds out. So the question is sent first, the scores
are computed, and then the answer is there: a decision takes a fraction of what scoring takes. Requests are ranked in turn with the static
weights alone and with weights asked in parallel, and the medians are compared. Without `--url` a service is started for the occasion.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from paretune.client import Client, Weights
from paretune.policy.plan import Arm, Plan
from paretune.serving.blend import blend
from paretune.serving.sources import write_plan

HEADS = ("save", "click", "hide")
STATIC = {"save": 91.6, "click": 9.1, "hide": -20.0}
CANDIDATES, WIDTH, LAYERS, SERVED = 2000, 384, 3, 25


class Ranker:
    """Dense layers over candidates, a head per kind of event, utility and top 25."""

    def __init__(self, client: Client, heads: tuple[str, ...] = HEADS, *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.client, self.heads = client, heads
        self.static = np.array([client.static[head] for head in heads], dtype=np.float32)
        self.candidates = rng.normal(size=(CANDIDATES, WIDTH)).astype(np.float32)
        self.layers = [(rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32) for _ in range(LAYERS)]
        self.out = (rng.normal(size=(WIDTH, len(heads))) / WIDTH**0.5).astype(np.float32)

    def scores(self, user: int) -> np.ndarray:
        """Return the heads' scores (C, m); some twenty milliseconds."""
        hidden = self.candidates + np.float32(0.001 * (user % 7))
        for layer in self.layers:
            hidden = np.maximum(hidden @ layer, 0)
        return 1 / (1 + np.exp(-(hidden @ self.out)))

    def ranked_alone(self, user: int) -> np.ndarray:
        """Return the list by the static weights."""
        return blend(self.scores(user), self.static, SERVED)

    def ranked(self, request_id: int, user: int, features: dict[str, Any]) -> tuple[np.ndarray, Weights]:
        """Return the list by the weights that paretune says, asked while scoring."""
        asked = self.client.ask(request_id=request_id, user=user, features=features)
        scores = self.scores(user)
        answer = asked.weights()  # never raises, never later than the client's budget
        return blend(scores, np.array([answer.weights[head] for head in self.heads], dtype=np.float32), SERVED), answer


def compared(url: str, features: dict[str, Any], *, static: dict[str, float], requests: int) -> dict[str, Any]:
    """Return median times with and without asking, in turn for each request, and what was answered."""
    alone, together, reasons = [], [], []
    with Client(url, static=static) as client:
        ranker = Ranker(client, tuple(static))
        for i in range(-20, requests):  # the first ones open connections and warm up
            start = time.perf_counter()
            ranker.ranked_alone(i)
            middle = time.perf_counter()
            _, answer = ranker.ranked(i + 20, i + 20, features)
            end = time.perf_counter()
            if i >= 0:
                alone.append(middle - start)
                together.append(end - middle)
                reasons.append(answer.reason)
    added = float(np.median(np.subtract(together, alone)))
    return {
        "alone_ms": 1e3 * float(np.median(alone)),
        "with_paretune_ms": 1e3 * float(np.median(together)),
        "added_ms": 1e3 * added,
        "added_latency_pct": 100 * added / float(np.median(alone)),
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
    }


@contextmanager
def service() -> Iterator[str]:
    """Run `paretune serve` with a plan that gives half of the users other weights, and return where."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        plan = Path(folder) / "plan.json"
        write_plan(Plan(1, HEADS, tuple(STATIC.values()), (Arm("more saves", 0.5, weights=(120.0, 9.1, -20.0)),)), plan)
        command = [sys.executable, "-m", "paretune", "serve", "--plan", str(plan), "--bundles", folder, "--port", str(port)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603  (our own command)
        try:
            wait_for(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(url: str, *, seconds: float = 30) -> None:
    """Return once the service is ready."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"{url} is not ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a service that runs already")
    parser.add_argument("--requests", type=int, default=300)
    words = parser.parse_args()
    if words.url:
        found = compared(words.url, {"age": 31.0}, static=STATIC, requests=words.requests)
    else:
        with service() as url:
            found = compared(url, {"age": 31.0}, static=STATIC, requests=words.requests)
    for name, value in found.items():
        sys.stdout.write(f"{name:20} {value if isinstance(value, dict) else round(value, 3)}\n")


if __name__ == "__main__":
    main()
