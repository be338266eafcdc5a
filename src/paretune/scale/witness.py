"""What the workers of a job have told: which part was begun how often, how far they are, why they refused.

The rule: it lives in a process of its own, so that it outlives the workers it speaks of; asking is cheap, and no number hangs on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from paretune.errors import ParetuneError


@dataclass(frozen=True, slots=True)
class News:
    """What is known of a job by now."""

    share: float  # done, in [0, 1]
    doing: str
    begun: dict[str, int]  # name of a piece of work -> how often it was begun; more than once: a worker was lost with it
    refusal: ParetuneError | None


class Witness:
    """Keeps what is told."""

    def __init__(self) -> None:
        self._begun: dict[str, list[int]] = {}
        self._share, self._doing = 0.0, "starting"
        self._refusal: ParetuneError | None = None
        self._result: dict[str, bytes] | None = None

    def begin(self, work: str, pid: int) -> int:
        """Note that a process begins a piece of work; return how often that piece was begun."""
        self._begun.setdefault(work, []).append(pid)
        return len(self._begun[work])

    def pids(self, work: str) -> list[int]:
        """Return the processes that began a piece of work, in their order."""
        return self._begun.get(work, [])

    def tell(self, share: float, doing: str) -> None:
        """Note how far the job is."""
        self._share, self._doing = share, doing

    def refuse(self, why: ParetuneError) -> None:
        """Note the first reason why the job cannot be done, however often it is tried."""
        self._refusal = self._refusal or why

    def deliver(self, files: dict[str, bytes]) -> None:
        """Keep a result until it is collected."""
        self._result = files

    def collect(self) -> dict[str, bytes] | None:
        """Return the result, None where there is none yet."""
        return self._result

    def news(self) -> News:
        """Return what is known by now."""
        return News(self._share, self._doing, {work: len(pids) for work, pids in self._begun.items()}, self._refusal)
