"""What guardrails, drift and join found, for a node exporter's textfile collector. An edge: prometheus-client, writes the file.

    paretune guard logs --every-s 300 --metrics /var/lib/prometheus/node-exporter/paretune_guard.prom

The rules: a file is written whole after a run that came to its end, and holds that run alone, so that an old time in it says that runs fail
or do not happen; a choice among few is one series per choice, 1 for the one that holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from paretune.atomic import write_whole
from paretune.experiment.guardrails import BREACHED, HOLDS, OPEN, WORRIES
from paretune.experiment.watch import Action, Situation, Step
from paretune.monitor.drift import Drift
from paretune.monitor.verdict import Answer, Verdict

ACTIONS: Final[tuple[str, ...]] = get_args(Action)
STATES: Final = (HOLDS, OPEN, WORRIES, BREACHED)
ANSWERS: Final[tuple[str, ...]] = get_args(Answer)


def write_guard(path: Path, situation: Situation, step: Step, *, now_s: float | None = None) -> None:
    """Write what one look of the guardrails saw, and what it asked for.

    Args:
        path: of the file, NAME.prom.
        situation: that was looked at.
        step: what is to be done.
        now_s: of the look, seconds since 1970; None = now.
    """
    series = _Series()
    series.add("paretune_guard_look_timestamp_seconds", "when the guardrails last looked", _now(now_s))
    series.add("paretune_guard_plan_version", "plan in the registry that was looked at", situation.version)
    series.add("paretune_guard_users", "of the smaller of arm and control", situation.users)
    series.choice("paretune_guard_action", "what the look asked for", "action", ACTIONS, {(): step.action})
    watched = {(one.name,): one for one in situation.watched}
    states: dict[tuple[str, ...], str] = {key: one.state for key, one in watched.items()}
    series.choice("paretune_guardrail_state", "of each guardrail", "state", STATES, states, labels=("guardrail",))
    for name, about in (("value", "relative lift over the control, or share"), ("low", "of its sequence"), ("high", "of its sequence")):
        found: dict[tuple[str, ...], float] = {key: float(getattr(one, name)) for key, one in watched.items()}
        series.by(f"paretune_guardrail_{name}", about, ("guardrail",), found)
    series.by("paretune_guardrail_limit", "not to be passed", ("guardrail",), {key: one.limit for key, one in watched.items()})
    series.write(path)


def write_drift(path: Path, drift: Drift, verdict: Verdict, *, now_s: float | None = None) -> None:
    """Write the verdict of a look at drift.

    Args:
        path: of the file, NAME.prom.
        drift: what moved.
        verdict: what to do about it.
        now_s: of the look, seconds since 1970; None = now.
    """
    series = _Series()
    series.add("paretune_drift_look_timestamp_seconds", "when drift was last looked for", _now(now_s))
    series.choice("paretune_drift_verdict", "what to do about what moved", "verdict", ANSWERS, {(): verdict.answer})
    series.add("paretune_drift_findings", "aspects that moved beyond chance by an amount that matters", len(drift.moved()))
    series.add("paretune_drift_exploration_rows", "of the current window", verdict.exploration_rows)
    series.add("paretune_drift_exploration_rows_enough", "from which retraining is advised", verdict.enough)
    series.write(path)


def write_join(
    path: Path,
    decisions: Mapping[str, int],
    events: Mapping[str, int],
    *,
    adds_up: bool,
    lost: Mapping[str, int],
    now_s: float | None = None,
) -> None:
    """Write what a join did.

    Args:
        path: of the file, NAME.prom.
        decisions: of the run, by what became of them.
        events: as well.
        adds_up: whether all of both are accounted for.
        lost: entries of a stream that gave no row, by how; empty where there was no stream.
        now_s: of the run, seconds since 1970; None = now.
    """
    series = _Series()
    series.add("paretune_join_timestamp_seconds", "when decisions and events were last joined", _now(now_s))
    series.add("paretune_join_adds_up", "1 where every decision and event of the run is accounted for", adds_up)
    series.by("paretune_join_decisions", "of the run, by what became of them", ("fate",), _keyed(decisions))
    series.by("paretune_join_events", "of the run, by what became of them", ("fate",), _keyed(events))
    series.by("paretune_join_lost", "entries of the stream that gave no row", ("how",), _keyed(lost))
    series.write(path)


class _Series:
    """Gauges of one file."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def add(self, name: str, about: str, value: float) -> None:
        """Add one number."""
        Gauge(name, about, registry=self._registry).set(value)

    def by(self, name: str, about: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> None:
        """Add one number per combination of labels."""
        gauge = Gauge(name, about, labels, registry=self._registry)
        for key, value in values.items():
            gauge.labels(*key).set(value)

    def choice(
        self,
        name: str,
        about: str,
        label: str,
        choices: Iterable[str],
        chosen: Mapping[tuple[str, ...], str],
        *,
        labels: tuple[str, ...] = (),
    ) -> None:
        """Add one series per choice, 1 for the one that was made."""
        every = {(*key, one): float(one == made) for key, made in chosen.items() for one in choices}
        self.by(name, about, (*labels, label), every)

    def write(self, path: Path) -> None:
        """Write all of them, whole."""
        write_whole(path, generate_latest(self._registry))


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(count) for name, count in counts.items()}


def _now(now_s: float | None) -> float:
    return time.time() if now_s is None else now_s
