"""What a decision costs, and what happens when too many are asked for.

    python benchmarks/serving.py [--quick] --json OUT

One run, on this machine; every target is a ratio of medians over rounds, or a median of rounds.

- decision_*_speedup, action_agreement: the model's part, `serving_model.py`.
- deadline_overhead: a decision with deadline over one without, `serving_runtime.py`.
- http_over_fastapi: CPU time of a question on our route, decision by static weights included, over that of FastAPI and pydantic with a
  handler that decides nothing; the same JSON body, both under uvicorn with httptools and uvloop.
- overload_p99_budgets, overload_useful: one process at three times its capacity, 256 connections, a model of the paper's size (0.5 ms); the
  99th percentile over all answers from when the question was due, in budgets of 10 ms, and answers by policy per second over the
  capacity. Capacity is the most answers by policy per second that one, two or four connections get, each asking again when answered.
  `overload_default_*`: the same with a model of the default's size (0.06 ms), where turning away costs a good part of what answering does.
- blend_over_numpy: blending 2,000 candidates of 10 heads to the top 25 over numpy's stable sort of all utilities, the same order.
- added_latency_pct: what weights asked in parallel add to the example ranker's request (some 20 ms of scoring), in turn with the ranker
  alone, median of the differences, with a model of 0.5 ms behind the service.

Services run on the first core, whoever asks on the last. On a machine where others compute meanwhile, overload figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import msgspec
import numpy as np

HERE = Path(__file__).parent
BUDGET_MS = 10.0
CORES = sorted(os.sched_getaffinity(0))
SIZES_MS = {"overload": 0.5, "overload_default": 0.06}
TARGETS: dict[str, tuple[str, float]] = {
    "decision_paper_speedup": (">=", 25),
    "decision_default_speedup": (">=", 100),
    "action_agreement": (">=", 0.9999),
    "deadline_overhead": ("<=", 1.2),
    "http_over_fastapi": ("<=", 0.35),
    "overload_p99_budgets": ("<=", 1.5),
    "overload_useful": (">=", 0.8),
    "blend_over_numpy": ("<=", 1),
    "added_latency_pct": ("<=", 1),
}


@contextmanager
def service(script: str, *words: str) -> Iterator[tuple[int, int]]:
    """Run a service of this folder on the first core; yields port and process."""
    command = [sys.executable, str(HERE / script), "--core", str(CORES[0]), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or not (line := process.stdout.readline()):
            raise SystemExit(f"{script} did not start")
        yield int(line), process.pid
    finally:
        process.terminate()
        process.wait(20)


def asked(
    port: int, body: bytes, *, rate: float = 0.0, seconds: float, connections: int, media: str = "application/msgpack"
) -> dict[str, Any]:
    """Return what became of questions that another process asked from the last core."""
    words = {"port": port, "rate": rate, "seconds": seconds, "connections": connections, "media": media, "core": CORES[-1]}
    command = [sys.executable, str(HERE / "serving_load.py"), *(f"--{name}={value}" for name, value in words.items())]
    found: dict[str, Any] = json.loads(subprocess.run(command, input=body, capture_output=True, check=True).stdout)
    if found["unanswered"] or set(found["statuses"]) != {"200"}:
        raise SystemExit(f"not every question was answered 200: {found}")
    return found


def on_cpu_s(process: int) -> float:
    """Return how long a process's threads have run."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{process}/task").glob("*/schedstat")) / 1e9


def http(quick: bool) -> dict[str, float]:
    """Return CPU per question on our route and on FastAPI's."""
    features = {f"f{i}": i / 7 for i in range(20)} | {"country": "at", "taste": [round(0.01 * i, 2) for i in range(32)]}
    body = json.dumps({"request_id": "request-0123456789", "user": "user-0123456789", "features": features, "cohort": "CORE"}).encode()
    each: dict[str, list[float]] = {"serving_server.py": [], "serving_fastapi.py": []}
    with service("serving_server.py", "--model-ms", "0") as ours, service("serving_fastapi.py") as theirs:
        for i in range(4 if quick else 8):
            for script, (port, process) in (("serving_server.py", ours), ("serving_fastapi.py", theirs)):
                before = on_cpu_s(process)
                found = asked(port, body, seconds=1.0 if quick else 2.0, connections=4, media="application/json")
                if i:  # the first round warms up
                    each[script].append((on_cpu_s(process) - before) / found["answered"])
    ratios = [a / b for a, b in zip(*each.values(), strict=True)]
    us = {script: 1e6 * statistics.median(values) for script, values in each.items()}
    return {
        "http_over_fastapi": statistics.median(ratios),
        "http_cpu_us": us["serving_server.py"],
        "fastapi_cpu_us": us["serving_fastapi.py"],
    }


def overload(name: str, quick: bool) -> dict[str, float]:
    """Return latency and usefulness at three times the capacity; `name` is a key of SIZES_MS."""
    from serving_runtime import FEATURES

    body = msgspec.msgpack.encode({"request_id": "request-0123456789", "user": "user-0123456789", "features": FEATURES})
    rows = []
    with service("serving_server.py", "--model-ms", str(SIZES_MS[name]), "--budget-ms", str(BUDGET_MS)) as (port, _):
        asked(port, body, seconds=1.0, connections=2)
        for _ in range(1 if quick else 5):
            capacity = max(asked(port, body, seconds=1.0, connections=n)["policy_per_s"] for n in (1, 2, 4))
            found = asked(port, body, rate=3 * capacity, seconds=3.0 if quick else 8.0, connections=256)
            rows.append((found["p99_ms"] / BUDGET_MS, found["policy_per_s"] / capacity, capacity, found["client_late_p99_ms"]))
    p99, useful, capacity, late = (statistics.median(column) for column in zip(*rows, strict=True))
    return {f"{name}_p99_budgets": p99, f"{name}_useful": useful, f"{name}_capacity_per_s": capacity, f"{name}_client_late_p99_ms": late}


def blending(quick: bool) -> dict[str, float]:
    """Return the time of blending over that of sorting all utilities."""
    from paretune.serving.blend import blend

    rng = np.random.default_rng(0)
    scores, weights = rng.random((2000, 10)).astype(np.float32), rng.random(10).astype(np.float32)

    def sorted_all() -> Any:
        return np.argsort(-(scores @ weights), kind="stable")[:25]

    if not np.array_equal(blend(scores, weights, 25), sorted_all()):
        raise SystemExit("blending orders differently")
    ours, theirs = in_turn(lambda: blend(scores, weights, 25), sorted_all, rounds=5 if quick else 15, calls=500)
    return {
        "blend_over_numpy": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "blend_us": 1e6 * statistics.median(ours),
    }


def in_turn(*calls_of: Callable[[], Any], rounds: int, calls: int) -> list[list[float]]:
    """Return seconds per call of each function and round; they take turns."""
    taken: list[list[float]] = [[] for _ in calls_of]
    for _ in range(rounds):
        for call, times in zip(calls_of, taken, strict=True):
            call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            times.append((time.perf_counter() - start) / calls)
    return taken


def ranking(quick: bool) -> dict[str, float]:
    """Return what asking in parallel adds to the example ranker."""
    from serving_runtime import FEATURES, HEADS

    sys.path.insert(0, str(HERE.parent / "examples" / "parallel_ranker"))
    from ranker import compared

    os.sched_setaffinity(0, {CORES[-1]})
    try:
        with service("serving_server.py", "--model-ms", "0.5", "--budget-ms", str(BUDGET_MS)) as (port, _):
            url, static = f"http://127.0.0.1:{port}", dict.fromkeys(HEADS, 1.0)
            rows = [compared(url, FEATURES, static=static, requests=100 if quick else 200) for _ in range(1 if quick else 5)]
    finally:
        os.sched_setaffinity(0, set(CORES))
    for row in rows:
        if row["reasons"].get("POLICY", 0) < 0.9 * sum(row["reasons"].values()):
            raise SystemExit(f"the ranker was not answered by policy: {row['reasons']}")
    return {
        "added_latency_pct": statistics.median(row["added_latency_pct"] for row in rows),
        "ranker_alone_ms": statistics.median(row["alone_ms"] for row in rows),
        "added_latency_us": 1e3 * statistics.median(row["added_ms"] for row in rows),
        "ranker_with_paretune_ms": statistics.median(row["with_paretune_ms"] for row in rows),
    }


def measured(quick: bool, parts: list[str]) -> dict[str, float]:
    """Return every figure by name."""
    found: dict[str, float] = {}
    for part in parts:
        sys.stderr.write(f"{part} ...\n")
        if part == "model":
            from serving_model import figures as of_models

            found |= of_models(quick)
        elif part == "deadline":
            from serving_runtime import figures as of_deadlines

            found |= of_deadlines(quick)
        elif part in SIZES_MS:
            found |= overload(part, quick)
        else:
            found |= {"http": http, "blend": blending, "ranker": ranking}[part](quick)
    return found


def main() -> None:
    parts = ["http", *SIZES_MS, "blend", "ranker", "deadline", "model"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    words = parser.parse_args()
    found = measured(words.quick, words.only)
    met = {name: found[name] >= limit if sign == ">=" else found[name] <= limit for name, (sign, limit) in TARGETS.items() if name in found}
    for name, value in found.items():
        sign, limit = TARGETS.get(name, ("", 0.0))
        verdict = f"   {sign} {limit:g}  {'ok' if met[name] else 'MISSED'}" if sign else ""
        sys.stdout.write(f"{name:32} {value:12.4g}{verdict}\n")
    words.json.parent.mkdir(parents=True, exist_ok=True)
    words.json.write_text(json.dumps({"quick": words.quick, "figures": found, "met": met}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
