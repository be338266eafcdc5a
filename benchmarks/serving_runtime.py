"""What the deadline costs: decisions whose model runs on the runtime's thread, against the same decisions with the model inline.

`python benchmarks/serving_runtime.py` prints the ratio; `figures(quick)` is what `benchmarks/serving.py` reports. The model is one of about
0.1 ms in numpy, which lets go of Python's lock as ONNX Runtime does: as many float32 layers as that takes on this machine. Rounds of both
take turns in one process; the figure is the median over rounds of the ratio of median times.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from paretune.policy.plan import Arm, Plan
from paretune.serving.decide import Reason, Request
from paretune.serving.runtime import Runtime
from paretune.serving.scoring import Choice, Inputs

HEADS = ("save", "click", "hide")
MODEL_S = 1e-4
WIDTH = 128
FEATURES = {"x": np.linspace(-1, 1, WIDTH).astype("<f4").tobytes()}


class DenseScorer:
    """A bundle of small float32 layers, one after the other."""

    fingerprint = "d" * 64
    heads = HEADS
    objectives = ("saves", "clicks")

    def __init__(self, depth: int) -> None:
        rng = np.random.default_rng(7)
        self.actions = np.vstack([np.ones((1, 3)), rng.uniform(0.5, 2, (49, 3))])
        self.layers = [(rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32) for _ in range(depth)]
        self.out = rng.normal(size=(WIDTH, 100)).astype(np.float32)

    def read(self, features: Mapping[str, Any]) -> Inputs:
        """Return the one feature."""
        return {"x": np.frombuffer(features["x"], dtype="<f4")}

    def choose(self, inputs: Inputs, scalarisation: Any) -> Choice:
        """Return the best of 49 actions."""
        hidden = np.repeat(inputs["x"][None], 16, axis=0)
        for layer in self.layers:
            hidden = np.tanh(hidden @ layer)
        values = (hidden[0] @ self.out).reshape(50, 2)
        return Choice(1 + int((values[1:] @ scalarisation).argmax()), values)


def sized() -> DenseScorer:
    """Return a model of about MODEL_S on this machine."""
    scalarisation = np.array([1.0, 0.5])
    for depth in range(1, 40):
        model = DenseScorer(depth)
        if statistics.median(timed(lambda m=model: m.choose(m.read(FEATURES), scalarisation), 300)) >= MODEL_S:
            break
    return model


def timed(call: Any, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def figures(quick: bool) -> dict[str, float]:
    """Return deadline_overhead, and the two times it is the ratio of."""
    rounds, calls = (7, 300) if quick else (21, 2000)
    model = sized()
    plan = Plan(1, HEADS, (1.0, 1.0, 1.0), (Arm("policy", 1.0, bundle=model.fingerprint, scalarisation=(1.0, 0.5)),))
    request = Request("request-0123456789", "user-0123456789", FEATURES)
    with_deadline, inline = (Runtime({model.fingerprint: model}, plan, deadline_s=s) for s in (0.010, None))
    for runtime in (with_deadline, inline):
        timed(lambda r=runtime: r.decide(request), 200)
        assert runtime.decide(request).reason is Reason.POLICY
    ratios, bounded, plain = [], [], []
    for _ in range(rounds):
        bounded.append(statistics.median(timed(lambda: with_deadline.decide(request), calls)))
        plain.append(statistics.median(timed(lambda: inline.decide(request), calls)))
        ratios.append(bounded[-1] / plain[-1])
    with_deadline.close()
    return {
        "deadline_overhead": statistics.median(ratios),
        "decide_with_deadline_us": statistics.median(bounded) * 1e6,
        "decide_inline_us": statistics.median(plain) * 1e6,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(figures("--quick" in sys.argv), indent=1) + "\n")
