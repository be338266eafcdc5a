"""Whether there is still time to ask a model: admission control by expected wait.

    admit  <=>  (now - received) + expected <= share * budget,    expected = running mean of what a decision by model takes

A single thread decides, so requests that arrive together wait for each other. A deadline alone does not survive that: at three times its
capacity such a service spends its time on requests that are late anyway. Turned away early they cost little, and the others are in time.
The share leaves room for what cannot be seen: a request may have waited in the socket for as long as the turn before it lasted.
"""

from __future__ import annotations

SHARE = 0.4  # of the budget; a turn of admitted requests, and the turn before it that nobody saw, together stay below one budget
_MEMORY = 0.05  # weight of the newest decision in the running mean
_LONGEST = 3.0  # times the mean that one decision may count, so that a single stall does not turn everybody away


class Admission:
    """Says who may wait for a model. For one thread."""

    __slots__ = ("budget_s", "expected_s")

    def __init__(self, budget_s: float, *, expected_s: float = 0.0) -> None:
        """Begin with no opinion.

        Args:
            budget_s: of a decision, from its receipt; zero or less admits everybody.
            expected_s: what a decision by model takes, as far as known.
        """
        self.budget_s, self.expected_s = budget_s, expected_s

    def admits(self, *, received: float, now: float) -> bool:
        """Return whether a request received then may still ask a model."""
        return self.budget_s <= 0 or (now - received) + self.expected_s <= SHARE * self.budget_s

    def took(self, seconds: float) -> None:
        """Learn from a decision that asked a model."""
        if self.expected_s > 0:
            seconds = min(seconds, _LONGEST * self.expected_s + 1e-5)
        self.expected_s += _MEMORY * (seconds - self.expected_s)
