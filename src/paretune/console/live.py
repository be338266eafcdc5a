"""What decision services count, and what happened between two counts. Pure.

The rule: counters only go up; where one went down its process began anew, and what it had counted by then is not subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counted:
    """What one service has counted since it began."""

    decisions: Mapping[tuple[str, str], float]  # (reason, arm) -> number
    within: Mapping[float, float]  # seconds -> decisions that took at most so long; the last bound is infinite
    refused: float = 0.0
    plan: int = 0  # version that it follows
    ready: bool = False
    open_breakers: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """All services at one moment."""

    at_s: float
    services: Mapping[str, Counted]  # address -> counts of those that answered
    silent: tuple[str, ...] = ()  # addresses that did not


@dataclass(frozen=True, slots=True)
class Live:
    """What happened between two samples."""

    seconds: float
    decisions: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (reason, arm) -> number
    within: Mapping[float, float] = field(default_factory=dict)  # seconds -> number
    refused: float = 0.0

    @property
    def total(self) -> float:
        """Decisions."""
        return sum(self.decisions.values())

    def share(self, reason: str) -> float:
        """Return the share of decisions made for a reason, of FALLBACK with any cause; NaN without decisions."""
        mine = sum(count for (named, _), count in self.decisions.items() if named.split(":")[0] == reason)
        return mine / self.total if self.total else float("nan")

    def quantile_s(self, quantile: float) -> float:
        """Return the smallest bound that at least so many decisions kept; NaN without decisions, infinite beyond the last bound."""
        everything = max(self.within.values(), default=0.0)
        if everything <= 0:
            return float("nan")
        return next(bound for bound, count in sorted(self.within.items()) if count >= quantile * everything)


def between(before: Sample, after: Sample) -> Live:
    """Return what happened between two samples, at services that both heard of."""
    decisions: dict[tuple[str, str], float] = {}
    within: dict[float, float] = {}
    refused = 0.0
    for address, now in after.services.items():
        then = before.services.get(address)
        if then is None:
            continue
        began_anew = sum(now.decisions.values()) < sum(then.decisions.values())
        if began_anew:
            then = Counted({}, {})
        for key, count in now.decisions.items():
            decisions[key] = decisions.get(key, 0.0) + count - then.decisions.get(key, 0.0)
        for bound, count in now.within.items():
            within[bound] = within.get(bound, 0.0) + count - then.within.get(bound, 0.0)
        refused += max(0.0, now.refused - then.refused)
    return Live(after.at_s - before.at_s, {key: count for key, count in decisions.items() if count > 0}, within, refused)


def plans_of(sample: Sample) -> Sequence[tuple[str, int, bool, int]]:
    """Return (address, version, ready, open breakers) of each service that answered."""
    return [(address, one.plan, one.ready, one.open_breakers) for address, one in sorted(sample.services.items())]
