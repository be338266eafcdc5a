"""Asks decision services for their metrics, once a second. An edge: HTTP, Prometheus's format, a file, threads,
the clock.

The rule: all services are asked at once and have one deadline, so that one that does not answer, or only in drops, is named and holds up
nobody; without services nothing is asked.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from paretune.console.live import Counted, Live, Sample, between
from paretune.errors import ConfigError

DEADLINE_S = 0.5
EVERY_S = 1.0
KEPT = 601  # samples: ten minutes
_DECISIONS, _LATENCY, _REFUSED = "paretune_decisions_total", "paretune_decision_latency_seconds_bucket", "paretune_refused_total"
_SINGLE = _PLAN, _READY, _BREAKERS = "paretune_plan_version", "paretune_ready", "paretune_open_breakers"


def read_metrics(text: str) -> Counted:
    """Return what a service's metrics say.

    Args:
        text: in Prometheus's text format.

    Raises:
        ValueError: it is not in that format, or a count is not finite.
    """
    decisions: dict[tuple[str, str], float] = {}
    within: dict[float, float] = {}
    single: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _DECISIONS:
                decisions[sample.labels.get("reason", ""), sample.labels.get("arm", "")] = sample.value
            elif sample.name == _LATENCY:
                within[float(sample.labels.get("le", ""))] = sample.value
            elif sample.name == _REFUSED:
                single[_REFUSED] = single.get(_REFUSED, 0.0) + sample.value
            elif sample.name in _SINGLE:
                single[sample.name] = sample.value
    if not all(math.isfinite(number) for number in (*decisions.values(), *within.values(), *single.values())):
        raise ValueError("a count is not finite")
    return Counted(
        decisions,
        within,
        single.get(_REFUSED, 0.0),
        int(single.get(_PLAN, 0)),
        bool(single.get(_READY, 0)),
        int(single.get(_BREAKERS, 0)),
    )


class Guarded(msgspec.Struct, frozen=True):
    """One guardrail at the last look; numbers are fractions, None where too little was seen."""

    name: str
    state: str
    value: float | None
    low: float | None
    high: float | None
    limit: float


class Look(msgspec.Struct, frozen=True):
    """What `paretune guard` saw last."""

    at_us: int
    plan: int
    action: str
    reasons: tuple[str, ...]
    users: int
    guardrails: tuple[Guarded, ...]
    saw_us: int = 0  # of the last look that succeeded
    silent_s: float = 600.0  # for how long none may succeed
    every_s: float = 0.0  # between looks; 0 = not known
    unwatched: tuple[str, ...] = ()  # what nobody can watch under the plan


class Traffic:
    """What decision services did lately; for any number of threads."""

    def __init__(
        self,
        services: Sequence[str] = (),
        *,
        guardrails: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Name the services; nothing is asked before `start` or `ask`.

        Args:
            services: addresses such as http://127.0.0.1:8077.
            guardrails: file in which `paretune guard` leaves what it saw; None = nobody looks.
            clock: seconds that never go back.
            wall_clock: seconds since 1970, as the guard's looks count them.

        Raises:
            ConfigError: one is no address.
        """
        for service in services:
            if not _is_address(service):
                raise ConfigError(f"{service!r} is no address of a decision service", hint="write http://HOST:PORT")
        self.services = tuple(service.rstrip("/") for service in services)
        self._clock, self._wall_clock, self._guardrails = clock, wall_clock, guardrails
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Ask once a second from now on."""
        with self._starting:
            if self.services and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="paretune-traffic", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def ask(self) -> Sample:
        """Ask every service now, all at once, and keep what was answered before the deadline."""
        loop = asyncio.new_event_loop()  # one for each time, closed without waiting for a name that is still looked up
        try:
            heard = loop.run_until_complete(_heard(self.services))
        finally:
            loop.close()
        sample = Sample(self._clock(), heard, tuple(service for service in self.services if service not in heard))
        self._samples.append(sample)
        return sample

    def latest(self) -> Sample | None:
        """Return the last sample, None before the first."""
        return self._samples[-1] if self._samples else None

    def look(self) -> Look | None:
        """Return the last look of the guardrails; None where there is none, or its file is torn."""
        if self._guardrails is None:
            return None
        try:
            return msgspec.json.decode(self._guardrails.read_bytes(), type=Look)
        except (OSError, msgspec.MsgspecError):
            return None

    def unseen_s(self, look: Look) -> float | None:
        """Return for how long nobody has seen what the plan does; None where that is no longer than it may be."""
        seconds = self._wall_clock() - (look.saw_us or look.at_us) / 1e6
        return seconds if seconds > look.silent_s + look.every_s else None

    @property
    def is_guarded(self) -> bool:
        """Whether guardrails are said to look."""
        return self._guardrails is not None

    def last(self, seconds: float) -> Live | None:
        """Return what happened in about the last seconds; None before there are two samples."""
        samples = tuple(self._samples)
        if len(samples) < 2:
            return None
        first = next(sample for sample in samples if sample.at_s >= samples[-1].at_s - seconds - EVERY_S / 2)
        return between(first if first is not samples[-1] else samples[-2], samples[-1])

    def steps(self, *, every: int = 1) -> list[tuple[float, Live]]:
        """Return (seconds before the last sample, what happened) between consecutive samples, the oldest first."""
        samples = tuple(self._samples)[::-1][::every][::-1]
        return [(samples[-1].at_s - after.at_s, between(before, after)) for before, after in pairwise(samples)]

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self.ask()


async def _heard(services: Sequence[str]) -> dict[str, Counted]:
    """Return the counts of the services that answered whole before the deadline."""

    async def asked(client: httpx.AsyncClient, service: str) -> Counted | None:
        try:
            async with asyncio.timeout(DEADLINE_S):  # of the whole answer; httpx's own is of each read
                answer = await client.get(f"{service}/metrics")
            return read_metrics(answer.raise_for_status().text)
        except (httpx.HTTPError, TimeoutError, ValueError):
            return None

    async with httpx.AsyncClient(timeout=None, trust_env=False, verify=_tls()) as client:  # noqa: S113  (see `asked`)
        found = await asyncio.gather(*(asked(client, service) for service in services))
    return {service: counted for service, counted in zip(services, found, strict=True) if counted is not None}


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # takes longer to make than an answer


def _is_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
