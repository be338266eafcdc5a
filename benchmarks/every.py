"""Runs every benchmark at its quick size, one after the other, and writes the page: python benchmarks/every.py [--data DIR] [NAME ...].

A benchmark that fails, or takes longer than its limit, costs its own figures alone: the others run, the page says what happened, and this
script ends with exit code 1. Output goes to NAME.log beside the JSON. Interrupted, it leaves what was finished.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from table import DONE, HERE, PAGE, RUNS, Benchmark, benchmarks, page, runs, takes

LIMIT_S = 30 * 60
LIBRARIES = ("numpy", "numba", "torch", "polars", "onnxruntime", "vowpalwabbit", "lightgbm", "optuna", "obp")
# What keeps the whole under an hour on two cores, where --quick alone is more than a look.
TRIMMED = {
    "rehearse": ("--seeds", "2001", "2002"),  # four minutes a seed
    "worth": ("--seeds", "2"),  # at the quick size every answer is the same, it shows that the script runs
}


def machine() -> str:
    """Return what figures depend on: processor, cores, memory, accelerator, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"{name} {_version(name)}" for name in LIBRARIES]
    return f"{cores} cores of {_processor()}, {memory:.0f} GiB, {_accelerator()}; Python {platform.python_version()}, {', '.join(versions)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _accelerator() -> str:
    """Return the graphics processor's name; everything here runs without one."""
    asked = shutil.which("nvidia-smi")
    if asked is None:
        return "no GPU at hand, so none was measured"
    found = subprocess.run([asked, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return found.stdout.strip().replace("\n", ", ") or "no GPU at hand, so none was measured"


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def words_of(benchmark: Benchmark, folder: Path, data: Path | None, *, source: Path = HERE) -> list[str]:
    """Return the command of a benchmark, the Python left out."""
    file = source / f"{benchmark.name}.py"
    words = [str(file), "--quick", "--json", str(folder / f"{benchmark.name}.json"), *TRIMMED.get(benchmark.name, ())]
    if data is not None and takes(file.read_text(encoding="utf-8"), "--data"):
        words += ["--data", str(data)]
    return words


def run(benchmark: Benchmark, folder: Path, data: Path | None, *, source: Path = HERE, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Run a benchmark and return the record of it, which is also written; a former run's figures are gone before it starts."""
    output, log = folder / f"{benchmark.name}.json", folder / f"{benchmark.name}.log"
    output.unlink(missing_ok=True)
    words = words_of(benchmark, folder, data, source=source)
    before, started, today = _children_s(), time.monotonic(), datetime.datetime.now(datetime.UTC)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, *words], stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            state = _ended(process.wait(limit_s), output, log.name)
        except subprocess.TimeoutExpired:
            state = f"stopped after {limit_s / 60:.3g} minutes, see {log.name}"
        finally:
            _stop(process)
    shown = [
        "python",
        f"benchmarks/{benchmark.name}.py",
        "--quick",
        *TRIMMED.get(benchmark.name, ()),
        *(["--data", "DIR"] if "--data" in words else []),
    ]
    record = {
        "state": state, "date": today.strftime("%Y-%m-%d"), "command": " ".join([*shown, "--json", "OUT"]), "machine": machine(),
        "wall_s": time.monotonic() - started, "cpu_s": _children_s() - before, "load": os.getloadavg()[0],
    }  # fmt: skip
    (folder / f"{benchmark.name}.run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _ended(code: int, output: Path, log: str) -> str:
    if code:
        return f"failed with exit code {code}, see {log}"
    try:
        json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"failed: left no figures ({type(error).__name__}), see {log}"
    return DONE


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a benchmark, its own processes included."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all by default")
    parser.add_argument("--data", type=Path, help="folder of the KuaiRand files, for those that can use it")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where figures, records and output go")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--source", type=Path, default=HERE, help="folder of the benchmarks")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="for each")
    arguments = parser.parse_args()
    known = benchmarks(arguments.source)
    unknown = set(arguments.names) - {benchmark.name for benchmark in known}
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)}; there are {', '.join(benchmark.name for benchmark in known)}")
    arguments.runs.mkdir(parents=True, exist_ok=True)
    failed = []
    for benchmark in known:
        if arguments.names and benchmark.name not in arguments.names:
            continue
        print(f"== {benchmark.name}", flush=True)
        record = run(benchmark, arguments.runs, arguments.data, source=arguments.source, limit_s=arguments.limit_s)
        failed += [benchmark.name] * (record["state"] != DONE)
        print(f"   {record['state']}, {record['wall_s'] / 60:.1f} min ({record['cpu_s'] / 60:.1f} of CPU)", flush=True)
        arguments.page.write_text(page(runs(arguments.runs, known)), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}; see {arguments.runs}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
