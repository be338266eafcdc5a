"""What the decision service counts, for Prometheus. An edge: prometheus-client, and its files where several processes count together.

The rule: the decision path adds to plain numbers, but for one histogram; they are handed to the metrics a few times a second and before
each scrape. What a process that is gone said of itself (`live` gauges) is left out of what all say together.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import nan
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Counter as Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from paretune.policy.plan import Plan
from paretune.serving.decide import Decision
from paretune.serving.health import RuntimeState
from paretune.serving.sinks import SinkCounts, SinkHealth

BOUNDS_S: Final = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1)
_LIVE: Final = re.compile(r"gauge_live\w*_(\d+)\.db")
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
Mode = Literal["livesum", "livemin", "livemax", "livemostrecent"]  # how several processes' gauges become one; live = of those that live
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"  # where the client keeps what several processes count


class Telemetry:
    """Counts of one process; scraped, of all processes that share a folder."""

    def __init__(self, *, version: str = "0", wall: Callable[[], float] = time.time) -> None:
        """Begin at nothing.

        Args:
            version: of the program.
            wall: seconds since 1970.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began is of no use to anybody here, and doubles the text
        self.registry = CollectorRegistry()
        self._shared, self._wall = os.environ.get(_SHARED, ""), wall
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._counts, self._refusals = SinkCounts(0, 0, 0, 0), 0
        self._in_force = (-1, "")  # version and fingerprint of the plan at the last hand-over
        self._m_decisions = self._counter("paretune_decisions", "decisions by reason and arm", "reason", "arm")
        self._h_latency = Histogram(
            "paretune_decision_latency_seconds", "decisions by time, from receipt", buckets=BOUNDS_S, registry=self.registry
        )
        self._m_refused = self._counter("paretune_refused", "calls answered 4xx", "status")
        self._m_sink = self._counter("paretune_logged_decisions", "decisions handed to the spool or stream", "outcome")
        self._m_refusals = self._counter("paretune_sink_refusals", "attempts that the disk, or Redis, said no to")
        self._g_queue = self._gauge("paretune_sink_queue", "decisions waiting to be written", "livesum")
        self._g_backlog = self._gauge("paretune_backlog_bytes", "on the local disk, on the way to where join reads", "livesum")
        self._g_free = self._gauge("paretune_disk_free_bytes", "of the disk of the spool or backlog", "livemin")
        self._g_unread = self._gauge("paretune_stream_unread", "entries of the stream that join has not read", "livemostrecent")
        self._g_longest = self._gauge("paretune_stream_longest", "entries that the stream keeps, about", "livemostrecent")
        self._g_plan = self._gauge("paretune_plan_version", "plan in force", "livemin")
        self._g_since = self._gauge(
            "paretune_plan_since_timestamp_seconds", "when it came into force here, or the service began", "livemax"
        )
        self._g_heard = self._gauge("paretune_source_heard_timestamp_seconds", "when registry or plan file was last read well", "livemin")
        self._g_ready = self._gauge("paretune_ready", "1 where the plan in force can be followed", "livemin")
        self._g_killed = self._gauge("paretune_killed", "1 where the kill switch is on", "livemax")
        self._g_problems = self._gauge("paretune_problems", "what /readyz lists as problems", "livemax")
        self._g_explored = self._gauge("paretune_explore_share", "share of decisions explored, lately", "livemostrecent")
        self._g_planned = self._gauge("paretune_planned_explore_share", "share that the plan in force asks for", "livemostrecent")
        self._g_breakers = self._gauge("paretune_open_breakers", "bundles whose breaker is open", "livesum")
        self._g_threads = self._gauge("paretune_model_threads", "threads of the model", "livesum")
        self._g_busy = self._gauge("paretune_busy_model_threads", "of them in a call, or stuck in one", "livesum")
        for gauge in (self._g_free, self._g_unread, self._g_longest, self._g_heard):
            gauge.set(nan)  # not known yet, which is not nothing
        info = Gauge("paretune_info", "1", ["version"], registry=self.registry, multiprocess_mode="livemax")
        info.labels(version).set(1)

    def _counter(self, name: str, about: str, *labels: str) -> Metric:
        return Metric(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, mode: Mode) -> Gauge:
        return Gauge(name, about, registry=self.registry, multiprocess_mode=mode)

    def count(self, decision: Decision) -> None:
        """Count a decision."""
        self._decisions[decision.reason, decision.arm] += 1
        self._h_latency.observe(decision.elapsed_s)

    def refuse(self, status: int) -> None:
        """Count a call that was answered 4xx."""
        self._refused[str(status)] += 1

    def hand_over(self, state: RuntimeState, plan: Plan | None, *, heard_s: float | None = None) -> None:
        """Hand what was counted since the last time, and how the runtime is, to the metrics.

        Args:
            state: of the runtime.
            plan: in force.
            heard_s: when the plan's source last answered, seconds since 1970; None = nobody follows one.
        """
        decisions, self._decisions = self._decisions, Counter()
        refused, self._refused = self._refused, Counter()
        for (reason, arm), times in decisions.items():
            self._m_decisions.labels(reason, arm).inc(times)
        for status, times in refused.items():
            self._m_refused.labels(status).inc(times)
        if (state.plan, state.fingerprint) != self._in_force:
            self._in_force = (state.plan, state.fingerprint)
            self._g_since.set(self._wall())
        self._g_plan.set(state.plan)
        self._g_ready.set(state.ready)
        self._g_killed.set(state.killed)
        self._g_problems.set(len(state.problems))
        self._g_breakers.set(sum(name != "closed" for name in state.breakers.values()))
        self._g_threads.set(state.threads)
        self._g_busy.set(state.busy)
        self._g_planned.set(plan.exploration.share if plan and not plan.killed else 0)
        if heard_s is not None:
            self._g_heard.set(heard_s)
        total = sum(decisions.values())
        if total:
            self._g_explored.set(sum(times for (reason, _), times in decisions.items() if reason == "EXPLORE") / total)

    def hand_over_sink(self, counts: SinkCounts, health: SinkHealth) -> None:
        """Hand what became of the logged decisions to the metrics, and how their disk and store are."""
        for outcome in ("written", "dropped"):
            self._m_sink.labels(outcome).inc(getattr(counts, outcome) - getattr(self._counts, outcome))
        self._m_refusals.inc(health.refusals - self._refusals)
        self._counts, self._refusals = counts, health.refusals
        self._g_queue.set(counts.queued)
        self._g_backlog.set(health.backlog_bytes)
        for gauge, value in ((self._g_free, health.free_bytes), (self._g_unread, health.unread), (self._g_longest, health.longest)):
            if value is not None:
                gauge.set(value)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format, of all processes where they count together."""
        if not self._shared:
            return generate_latest(self.registry)
        self._forget_the_dead()
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)

    def _forget_the_dead(self) -> None:
        """Remove what processes that are gone said of themselves; a killed worker would hold the smallest plan version for ever."""
        for number in {int(found[1]) for name in os.listdir(self._shared) if (found := _LIVE.fullmatch(name))}:
            try:
                os.kill(number, 0)
            except ProcessLookupError:
                with suppress(FileNotFoundError):  # another process was as quick
                    mark_process_dead(number)  # type: ignore[no-untyped-call]
            except PermissionError:
                continue
