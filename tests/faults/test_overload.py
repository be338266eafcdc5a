"""Three times as many questions as one process can ask its model: everybody is answered in time, and the model is not idle."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(BENCHMARKS.parent / "src")}
CORES = sorted(os.sched_getaffinity(0))
BODY = msgspec.msgpack.encode(
    {"request_id": "request-1", "user": "user-1", "features": {"x": np.linspace(-1, 1, 128).astype("<f4").tobytes()}}
)


@contextmanager
def service(model_ms: float, budget_ms: float) -> Iterator[int]:
    command = [sys.executable, str(BENCHMARKS / "serving_server.py"), f"--model-ms={model_ms}", f"--budget-ms={budget_ms}"]
    with subprocess.Popen([*command, f"--core={CORES[0]}"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(20)


def asked(port: int, *, rate: float = 0.0, seconds: float, connections: int) -> dict[str, Any]:
    words = {"port": port, "rate": rate, "seconds": seconds, "connections": connections, "core": CORES[-1]}
    command = [sys.executable, str(BENCHMARKS / "serving_load.py"), *(f"--{name}={value}" for name, value in words.items())]
    return json.loads(subprocess.run(command, input=BODY, capture_output=True, check=True, env=ENVIRONMENT, timeout=seconds + 60).stdout)


def overloaded(model_ms: float, budget_ms: float, seconds: float) -> dict[str, Any]:
    """Return what becomes of questions at three times the capacity; not one may be lost or refused."""
    with service(model_ms, budget_ms) as port:
        asked(port, seconds=0.5, connections=2)
        capacity = max(asked(port, seconds=1.0, connections=n)["policy_per_s"] for n in (2, 4))
        found = asked(port, rate=3 * capacity, seconds=seconds, connections=256)
    assert found["unanswered"] == 0
    assert found["statuses"] == {"200": found["asked"]}
    assert set(found["reasons"]) <= {"POLICY", "FALLBACK:overload", "FALLBACK:timeout"}
    return found | {"useful": found["policy_per_s"] / capacity, "budgets": found["p99_ms"] / budget_ms}


@pytest.mark.e2e
def test_three_times_the_capacity_loses_nothing_turns_most_away_and_still_asks_the_model() -> None:
    found = overloaded(2.0, 50.0, 3.0)  # nothing lost, nothing refused; what the clock says is judged by the slow tests
    assert found["asked"] > 100
    assert found["reasons"]["POLICY"] > 0
    assert found["reasons"]["FALLBACK:overload"] > found["asked"] / 4


@pytest.mark.slow  # judged by the clock
def test_three_times_the_capacity_is_answered_in_time_and_mostly_what_can_be_is_by_policy() -> None:
    tries = [overloaded(2.0, 50.0, 3.0)]
    while len(tries) < 4 and (tries[-1]["budgets"] > 1.5 or tries[-1]["useful"] < 0.7):
        tries.append(overloaded(2.0, 50.0, 3.0))
    if tries[-1]["budgets"] <= 1.5 and tries[-1]["useful"] >= 0.7:
        return
    if min(each["client_late_p99_ms"] for each in tries) > 10:
        pytest.skip("even who asks was 10 ms late: too much else runs on this machine to say anything of time")
    pytest.fail(f"three times the capacity is not survived: {tries}")


@pytest.mark.slow
def test_three_times_the_capacity_is_survived_for_a_minute() -> None:
    found = overloaded(0.5, 10.0, 60.0)
    assert found["budgets"] <= 1.5, found
    assert found["useful"] >= 0.8, found
