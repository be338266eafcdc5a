"""Which requests are worth asking a model: admission control by expected wait, decided when a request has been read.

    admit  <=>  (admitted + 1) * expected <= share * (budget - unseen)

A single thread reads and decides in turns: first everything that has arrived is read, then what was admitted is decided one by one. So a
request waits for the admitted ones of its own turn; and before, unseen in its socket, for at most as long as the turn before it lasted.
`expected` is a running mean of what an admitted request takes, all of it. What is turned away costs little and is answered while reading.

The rules: a turn admits one request however slow the model seems to have become, or a slow minute would never end; but none after half the
budget went by unseen. Half of what is left of the budget is given away, so that a long turn is followed by a shorter one instead of by its
opposite.
"""

from __future__ import annotations

from math import inf

SHARE = 0.5
_MEMORY = 0.1  # weight of the newest turn in the running mean
_LONGEST = 3.0  # times the mean that one turn may count, so that a single stall does not turn everybody away
_IDLE_S = 0.001  # a pause as long as this before reading: the thread was waiting for requests, not they for it


class Admission:
    """Says who may wait for a model. For one thread, which tells what it does and when."""

    __slots__ = ("_admitted", "_began", "_done", "_over", "_reading", "_unseen", "budget_s", "expected_s")

    def __init__(self, budget_s: float, *, expected_s: float = 0.0) -> None:
        """Begin with no opinion.

        Args:
            budget_s: of a decision, from its receipt; zero or less admits everybody.
            expected_s: what an admitted request takes, as far as known.
        """
        self.budget_s, self.expected_s = budget_s, expected_s
        self._reading = False
        self._began, self._over, self._done = -inf, -inf, -inf  # this turn's first and last reading, and the last answer
        self._unseen, self._admitted = 0.0, 0

    def reading(self, now: float) -> bool:
        """Note that something is being read; True where this begins a turn, of whose end `over` is to be told."""
        if self._reading:
            return False
        ended = max(self._over, self._done)
        if self._admitted and self._done > self._over:
            self._learn((self._done - self._over) / self._admitted)
        self._unseen = now - self._began if now - ended < _IDLE_S else 0.0
        self._reading, self._began, self._admitted = True, now, 0
        return True

    def over(self, now: float) -> None:
        """Note that everything that had arrived has been read; what was admitted comes next."""
        self._reading, self._over = False, now

    def crowded(self, now: float) -> bool:
        """Return whether a request read now is to be turned away; it counts for nothing."""
        if self.budget_s <= 0:
            return False
        unseen = self._unseen + max(0.0, now - self._began)
        if not self._admitted:
            return unseen > self.budget_s / 2
        return (self._admitted + 1) * self.expected_s > SHARE * (self.budget_s - unseen)

    def arrives(self, now: float) -> bool:
        """Return whether a request that has been read may ask a model, and count it if so."""
        if self.crowded(now):
            return False
        self._admitted += 1
        return True

    def in_time(self, *, received: float, now: float) -> bool:
        """Return whether a request whose turn it is still has time to ask a model; a stall may have proved the expectation wrong."""
        return self.budget_s <= 0 or now - received <= (1 - SHARE / 2) * self.budget_s

    def done(self, now: float) -> None:
        """Note that a request has been answered."""
        self._done = now

    def _learn(self, seconds: float) -> None:
        if self.expected_s > 0:
            seconds = min(seconds, _LONGEST * self.expected_s + 1e-5)
            self.expected_s += _MEMORY * (seconds - self.expected_s)
        else:
            self.expected_s = seconds
