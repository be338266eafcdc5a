"""The decision service over a model of a given size, in a process of its own; for `serving.py` and the tests of overload.

`python benchmarks/serving_server.py --model-ms 0.5 --budget-ms 10 --core 0` prints the port on a line and serves until it is told to stop.
The model is a chain of small float32 layers in numpy, as many as take that time here; like ONNX Runtime they let go of Python's lock.
Start it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import uvicorn

from paretune.policy.plan import Arm, Plan
from paretune.serving.app import DecisionApp
from paretune.serving.runtime import Runtime
from paretune.serving.server import UVICORN
from serving_runtime import FEATURES, HEADS, DenseScorer


def model_of(seconds: float) -> DenseScorer:
    """Return a model that takes so long here."""
    scalarisation = np.array([1.0, 0.5])

    def takes(depth: int) -> float:
        model, taken = DenseScorer(depth), []
        for _ in range(300):
            start = time.perf_counter()
            model.choose(model.read(FEATURES), scalarisation)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    one, ten = takes(1), takes(11)
    return DenseScorer(max(1, 1 + round((seconds - one) / ((ten - one) / 10))))


def runtime_of(model_s: float, budget_s: float) -> Runtime:
    """Return a runtime whose plan serves everybody by the model; without one, by the static weights."""
    if not model_s:
        return Runtime({}, Plan(1, HEADS, (1.0, 1.0, 1.0)), deadline_s=budget_s)
    model = model_of(model_s)
    plan = Plan(1, HEADS, (1.0, 1.0, 1.0), (Arm("policy", 1.0, bundle=model.fingerprint, scalarisation=(1.0, 0.5)),), default="policy")
    return Runtime({model.fingerprint: model}, plan, deadline_s=budget_s)


class Server(uvicorn.Server):
    """Says where it listens."""

    async def startup(self, sockets: Any = None) -> None:
        """Begin, and print the port."""
        await super().startup(sockets)
        sys.stdout.write(f"{self.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-ms", type=float, default=0.5)
    parser.add_argument("--budget-ms", type=float, default=10.0)
    parser.add_argument("--core", type=int, default=-1)
    words = parser.parse_args()
    if words.core >= 0:
        os.sched_setaffinity(0, {words.core})
    app = DecisionApp(runtime_of(words.model_ms / 1e3, words.budget_ms / 1e3))
    Server(uvicorn.Config(app, host="127.0.0.1", port=0, **UVICORN)).run()
