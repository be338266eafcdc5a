"""What the decision service counts, for Prometheus. An edge: prometheus-client, and its files where several processes count together.

The rule: the decision path adds to plain numbers, but for one histogram; they are handed to the metrics a few times a second and before
each scrape.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Counter as Metric
from prometheus_client.multiprocess import MultiProcessCollector

from paretune.serving.decide import Decision
from paretune.serving.health import RuntimeState
from paretune.serving.sinks import SinkCounts

BOUNDS_S: Final = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1)
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"  # where the client keeps what several processes count


class Telemetry:
    """Counts of one process; scraped, of all processes that share a folder."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began is of no use to anybody here, and doubles the text
        self.registry = CollectorRegistry()
        self._shared = _SHARED in os.environ
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._sink = SinkCounts(0, 0, 0, 0)
        add = self.registry
        self._m_decisions = Metric("paretune_decisions", "decisions by reason and arm", ["reason", "arm"], registry=add)
        self._h_latency = Histogram("paretune_decision_latency_seconds", "decisions by time, from receipt", buckets=BOUNDS_S, registry=add)
        self._m_refused = Metric("paretune_refused", "calls answered 4xx", ["status"], registry=add)
        self._m_sink = Metric("paretune_logged_decisions", "decisions handed to the spool", ["outcome"], registry=add)
        self._g_queue = Gauge("paretune_sink_queue", "decisions waiting to be written", registry=add, multiprocess_mode="livesum")
        self._g_plan = Gauge("paretune_plan_version", "plan in force", registry=add, multiprocess_mode="livemin")
        self._g_ready = Gauge("paretune_ready", "1 where the plan in force can be followed", registry=add, multiprocess_mode="livemin")
        self._g_explored = Gauge("paretune_explore_share", "share of decisions explored", registry=add, multiprocess_mode="livemostrecent")
        self._g_breakers = Gauge("paretune_open_breakers", "bundles whose breaker is open", registry=add, multiprocess_mode="livesum")

    def count(self, decision: Decision) -> None:
        """Count a decision."""
        self._decisions[decision.reason, decision.arm] += 1
        self._h_latency.observe(decision.elapsed_s)

    def refuse(self, status: int) -> None:
        """Count a call that was answered 4xx."""
        self._refused[str(status)] += 1

    def hand_over(self, state: RuntimeState, sink: SinkCounts | None) -> None:
        """Hand what was counted since the last time to the metrics."""
        decisions, self._decisions = self._decisions, Counter()
        refused, self._refused = self._refused, Counter()
        for (reason, arm), times in decisions.items():
            self._m_decisions.labels(reason, arm).inc(times)
        for status, times in refused.items():
            self._m_refused.labels(status).inc(times)
        if sink is not None:
            for outcome in ("written", "dropped"):
                self._m_sink.labels(outcome).inc(getattr(sink, outcome) - getattr(self._sink, outcome))
            self._sink = sink
            self._g_queue.set(sink.queued)
        self._g_plan.set(state.plan)
        self._g_ready.set(state.ready)
        self._g_breakers.set(sum(name != "closed" for name in state.breakers.values()))
        total = sum(decisions.values())
        if total:
            self._g_explored.set(sum(times for (reason, _), times in decisions.items() if reason == "EXPLORE") / total)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format, of all processes where they count together."""
        if not self._shared:
            return generate_latest(self.registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)
