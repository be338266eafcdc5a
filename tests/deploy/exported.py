"""What a service really exports after some traffic, and guard, monitor and join after a run, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from functools import cache
from math import nan
from pathlib import Path
from typing import Any

import httpx
from fake_scorer import FINGERPRINT, STATIC, FakeScorer, exploring, plan_of
from prometheus_client.parser import text_string_to_metric_families

from paretune.experiment.guardrails import BREACHED, Watched
from paretune.experiment.watch import Situation, Step
from paretune.monitor.drift import Drift
from paretune.monitor.verdict import Verdict
from paretune.report.textfile import write_drift, write_guard, write_join
from paretune.serving.app import DecisionApp
from paretune.serving.runtime import Runtime
from paretune.serving.sinks import SinkCounts, SinkHealth

Metrics = dict[str, dict[str, set[str]]]  # sample name -> label -> values that were seen


class Counted:
    """A sink that only counts."""

    offered = 0

    @property
    def counts(self) -> SinkCounts:
        return SinkCounts(self.offered, self.offered, 0, 0)

    @property
    def health(self) -> SinkHealth:
        return SinkHealth(1, 2, 3, "", 4, 5)

    def offer(self, request: Any, decision: Any) -> bool:
        self.offered += 1
        return True

    def flush(self, timeout_s: float = 5.0) -> bool:
        return True

    def close(self) -> None:
        pass


@cache
def service() -> DecisionApp:
    """A service with a policy arm, a fixed arm, and exploration."""
    plan = plan_of(exploration=exploring(share=0.2))
    runtime = Runtime({FINGERPRINT: FakeScorer()}, plan, deadline_s=5.0)
    return DecisionApp(runtime, sink=Counted(), version="0", heard=lambda: 1.0)


async def _traffic(app: DecisionApp) -> str:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        for i in range(60):
            features = {"x": "text" if i % 10 == 0 else 1.0} if i % 11 else {}
            body = {"request_id": f"r{i}", "user": f"u{i}", "features": features}
            assert (await client.post("/v1/decide", json=body)).status_code == 200
        assert (await client.post("/v1/decide", json={})).status_code == 400
        return (await client.get("/metrics")).text


def samples(text: str) -> Metrics:
    """Return what a scrape holds."""
    found: Metrics = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def _runs(folder: Path) -> Iterator[str]:
    watched = (Watched("p2p", -0.05, -0.08, -0.02, -0.01, BREACHED), Watched("fallbacks", nan, nan, nan, 0.02, "open"))
    situation = Situation(7, False, True, "anna", "activate", 3600.0, 0.0, 1200, watched, None)
    write_guard(folder / "guard.prom", situation, Step("kill", ("p2p",)))
    write_drift(folder / "drift.prom", Drift(None, None, (), None, None, ()), Verdict("serve", "", (), (), 10, 3))  # type: ignore[arg-type]
    write_join(folder / "join.prom", {"written": 3, "rejected": 1}, {"counted": 2}, adds_up=True, lost={"trimmed": 1, "unreadable": 0})
    for path in sorted(folder.glob("*.prom")):
        yield path.read_text(encoding="utf-8")


@cache
def scraped() -> tuple[Metrics, Metrics]:
    """What services export, and what runs leave."""
    text = asyncio.run(_traffic(service()))
    assert STATIC
    with tempfile.TemporaryDirectory() as folder:
        runs = samples("".join(_runs(Path(folder))))
    return samples(text), runs
