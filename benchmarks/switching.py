"""How long from `paretune rollback` to the first decision under the old plan: python benchmarks/switching.py [--quick] --json OUT.

A runtime follows a registry while a thread asks it for decisions without pause. A policy is ramped from 5 to 25 % of users, the runtime
follows, and after a random pause it is rolled back by the command itself, in this process; the clock runs from the command's first line to
the first decision that names the new version. 100 switches each (--quick: 20).

[switch_poll_p99_ms] following an SQLite file by polling every second; [switch_push_p99_ms] following PostgreSQL by LISTEN/NOTIFY, with
polling every minute, so that nothing but the push can explain a switch; their medians.
[switch_push_call_p99_ms] the same from `Registry.rollback` in Python instead of the command. [switch_errors] decisions that fell back for
another reason than a late thread, or named an older plan than the one before them, in both; [late_decisions] those that a busy machine had
past the 10 ms of their deadline, served the static weights in time. [cold_command_s] what a new process needs for the same command, start
of Python included. [load] of the machine when it ended: other work in it is other work in the figures.

PostgreSQL is looked for at PARETUNE_TEST_POSTGRES, else on this machine; without one, the pushed figures are left out and said to be.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paretune.cli import main as command
from paretune.policy.operating import identity_of
from paretune.policy.registry import Registry
from paretune.serving.decide import Reason, Request
from paretune.serving.registry_source import RegistryFollower, registry_runtime
from paretune.serving.runtime import Runtime
from paretune.serving.scoring import Choice, Inputs
from paretune.value.bundle import SUMS

HEADS, STATIC = ("save", "p2p"), (91.6, 9.1)
POSTGRES = os.environ.get("PARETUNE_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
TARGETS = {"switch_poll_p99_ms": ("<=", 2000), "switch_push_p99_ms": ("<=", 200)}


class TableScorer:
    """A bundle whose values are a small table."""

    heads, objectives = HEADS, ("save", "p2p")
    actions = np.array([STATIC, (60.0, 9.1), (120.0, 9.1)])

    def __init__(self, folder: Path) -> None:
        self.fingerprint = hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()

    def read(self, _features: Any) -> Inputs:
        """Return nothing: there are no features."""
        return {}

    def choose(self, _inputs: Inputs, _scalarisation: Any) -> Choice:
        """Return the better action."""
        return Choice(1, np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]))


class Asker:
    """A thread that asks for decisions without pause and notes what it was answered."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._stop = runtime, threading.Event()
        self.seen: dict[int, float] = {}  # version -> when a decision first named it
        self.answers = self.errors = self.late = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def first(self, version: int, *, within_s: float = 30.0) -> float:
        """Return when a version was first decided by.

        Raises:
            TimeoutError: it never was.
        """
        until = time.monotonic() + within_s
        while version not in self.seen:
            if time.monotonic() > until:
                raise TimeoutError(f"plan {version} was not followed within {within_s} s: {self._runtime.state().problems}")
            time.sleep(0.0005)
        return self.seen[version]

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last, i = 0, 0
        while not self._stop.is_set():
            decision = self._runtime.decide(Request(i, i % 1000))
            if decision.plan != last:
                self.seen.setdefault(decision.plan, time.monotonic())
            late = decision.reason in {Reason.TIMEOUT, Reason.OVERLOAD}  # the latter while the breaker waits after the former
            self.late += late
            self.errors += (decision.reason.startswith("FALLBACK") and not late) or decision.plan < last
            last = decision.plan
            self.answers += 1
            i += 1
            time.sleep(0.0005)


def policy() -> tuple[bytes, dict[str, bytes]]:
    """Return an operating policy and its bundle."""
    files = {"arrays.npz": b"none", "manifest.json": b"{}", "serving.json": json.dumps({"actions": TableScorer.actions.tolist()}).encode()}
    files[SUMS] = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in sorted(files.items())).encode()
    lifts = {name: [0.01, 0.01] for name in ("estimate", "std_error", "low", "high", "band_low", "band_high")}
    about = {"hold_out": [], "estimator": "benchmark", "confidence": 0.95, "objectives": ["save", "p2p"], "lifts": lifts, "hits": 1}
    written = {
        **{"format": 1, "policy": "benchmark", "kind": "alpha", "bundle": hashlib.sha256(files[SUMS]).hexdigest()},
        **{"heads": list(HEADS), "static": list(STATIC), "objectives": ["save", "p2p"], "scale": [1.0, 1.0], "scalarisation": [0.5, 0.5]},
        **{"cohorts": {}, "evidence": {**about, "requests": 1, "users": 1, "picks": []}},
    }
    return json.dumps({**written, "sha256": identity_of(written)}).encode(), files


def by_command(where: str) -> None:
    """Roll back as from the command line."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = command(["rollback", "--yes", "--registry", where, "--as", "anna"])
    if code:
        raise RuntimeError(f"paretune rollback exited {code}")


def measure(
    where: str, folder: Path, *, switches: int, every_s: float, pause_s: float, seed: int
) -> tuple[list[float], list[float], Asker]:
    """Return seconds to the first decision from the command, those from the call in Python, and who asked."""
    registry, rng = Registry(where), np.random.default_rng(seed)
    document, files = policy()
    number = registry.publish(document, files, by="anna").number
    registry.approve(number, by="bert")
    registry.activate(number, share=0.05, by="anna")
    runtime, source = registry_runtime(where, folder, load=TableScorer)
    follower = RegistryFollower(runtime, source, every_s=every_s)
    asker, commands, calls = Asker(runtime), [], []
    time.sleep(1.0)
    for switch in range(2 * switches):
        asker.first(registry.ramp(number, share=0.25, by="anna").plan.version)
        time.sleep(rng.uniform(0, pause_s))
        start = time.monotonic()
        if switch % 2:
            by_command(where)
            commands.append(asker.first(registry.version()) - start)
        elif every_s > 1:
            calls.append(asker.first(registry.rollback(by="anna").plan.version) - start)
        else:  # by polling there is nothing to tell apart
            registry.rollback(by="anna")
    asker.stop()
    follower.stop()
    if registry.verify():
        raise RuntimeError(str(registry.verify()))
    return commands, calls, asker


@contextlib.contextmanager
def schema() -> Iterator[str]:
    """Yield the URL of an empty schema; empty where no PostgreSQL answers."""
    try:
        import psycopg

        name = f"paretune_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(POSTGRES, connect_timeout=2, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
    except (ImportError, psycopg.OperationalError) as error:
        print(f"no PostgreSQL at {POSTGRES}: {error}", file=sys.stderr)
        yield ""
        return
    try:
        yield f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3D{name}"
    finally:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def cold(where: str) -> float:
    """Return the median seconds of a process that rolls back once."""
    took, registry = [], Registry(where)
    for _ in range(3):
        registry.ramp(1, share=0.25, by="anna")
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "paretune", "rollback", "--yes", "--registry", where], check=True, capture_output=True)
        took.append(time.monotonic() - start)
    return float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    switches = 20 if options.quick else 100
    figures: dict[str, float] = {}
    askers: list[Asker] = []
    with tempfile.TemporaryDirectory() as name, schema() as url:
        folder = Path(name)
        for kind, where, every_s, pause_s in (("poll", str(folder / "r.db"), 1.0, 1.0), ("push", url, 60.0, 0.1)):
            if not where:
                continue
            took, calls, asker = measure(where, folder / kind, switches=switches, every_s=every_s, pause_s=pause_s, seed=len(askers))
            askers.append(asker)
            figures[f"switch_{kind}_p99_ms"] = 1e3 * float(np.quantile(took, 0.99))
            figures[f"switch_{kind}_median_ms"] = 1e3 * float(np.median(took))
            if calls:
                figures["switch_push_call_p99_ms"] = 1e3 * float(np.quantile(calls, 0.99))
        figures["switch_errors"] = float(sum(asker.errors for asker in askers))
        figures["late_decisions"] = float(sum(asker.late for asker in askers))
        figures |= {"decisions": float(sum(asker.answers for asker in askers)), "switches": float(switches)}
        figures["load"] = os.getloadavg()[0]
        figures["cold_command_s"] = cold(str(folder / "r.db"))
    for figure, value in figures.items():
        print(f"{figure}: {value:.4g}")
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
