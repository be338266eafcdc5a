"""The port through which decisions leave the service, with the laws its contract suite holds every sink to.

    offered = written + dropped + queued,   at every moment

Laws: `offer` never blocks and never raises; True says that the decision waits in a bounded queue, False that it was dropped and counted.
A decision is *acknowledged* once `flush` has returned True after its `offer`: it then survives a kill -9 of the process. Without `flush` a
queued decision is written within the sink's interval while the sink's store answers. When the store does not answer, what is queued is
kept and tried again, and what does not fit the queue is dropped: decisions go on either way. A request and its features are not changed
by the caller after `offer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from paretune.serving.decide import Decision, Request


@dataclass(frozen=True, slots=True)
class SinkCounts:
    """What became of the decisions offered since the sink was opened."""

    offered: int
    written: int  # in the store, or in a synced journal on its way there
    dropped: int  # no room, no store at the end, or not a decision that can be written
    queued: int

    @property
    def add_up(self) -> bool:
        """Whether every decision is accounted for, once."""
        return self.offered == self.written + self.dropped + self.queued


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """How a sink's disk and store are, as its writing thread last saw them; no older than a few seconds while that thread runs."""

    backlog_bytes: int = 0  # on the local disk, on their way to where `paretune join` reads
    free_bytes: int | None = None  # of that disk; None = it uses none
    refusals: int = 0  # attempts that disk or store said no to
    error: str = ""  # the last refusal; empty after a success
    unread: int | None = None  # entries that `paretune join` has not read yet; None = not a stream, or not known
    longest: int | None = None  # entries that the stream keeps, about; None = not a stream


class DecisionSink(Protocol):
    """Where served decisions go."""

    @property
    def counts(self) -> SinkCounts:
        """What became of the decisions offered so far, at one moment."""
        ...

    @property
    def health(self) -> SinkHealth:
        """How disk and store are; asking waits for neither."""
        ...

    def offer(self, request: Request, decision: Decision) -> bool:
        """Queue a decision and return True, or count it as dropped and return False."""
        ...

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Return True once everything offered before is written, False when that took too long."""
        ...

    def close(self) -> None:
        """Write what is queued, as far as the store answers, and stop; what is offered later is dropped and counted."""
        ...
