"""What keeps a rate and what gives up on a model that fails: a token bucket and a circuit breaker, on times that the caller tells.

    bucket: tokens(t) = min(burst, tokens(t0) + rate (t - t0));  each taking costs one
    breaker: level + 1 for a failure, level - 1/4 for a success; at 5 it opens; after a pause one request may try again

The breaker so opens where more than one call in five fails for a while, and stays shut at one in twenty. Each failed try doubles the
pause. Times are monotonic seconds; a clock that steps changes nothing.
"""

from __future__ import annotations


class Bucket:
    """At most `rate` a second, and `burst` at once."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, *, burst: float | None = None) -> None:
        self.rate, self.burst = rate, max(1.0, rate) if burst is None else burst
        self._tokens, self._at = self.burst, float("-inf")

    def take(self, now: float) -> bool:
        """Return whether there was a token, and take it."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + self.rate * (now - self._at))
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Breaker:
    """Whether a model is asked at all: closed, open, or half-open while one request tries."""

    __slots__ = ("_level", "_pause", "_trying", "_until", "failures", "forgives", "longest_s", "retry_s")

    def __init__(self, *, failures: float = 5, forgives: float = 0.25, retry_s: float = 1.0, longest_s: float = 30.0) -> None:
        self.failures, self.forgives, self.retry_s, self.longest_s = failures, forgives, retry_s, longest_s
        self._level, self._pause, self._until, self._trying = 0.0, retry_s, -1.0, False

    @property
    def is_open(self) -> bool:
        """Whether requests are turned away, all but one try per pause."""
        return self._level >= self.failures

    @property
    def name(self) -> str:
        """`closed`, `open` or `half-open`."""
        return "closed" if not self.is_open else "half-open" if self._trying else "open"

    def allows(self, now: float) -> bool:
        """Return whether a request may ask the model; where the breaker is open and its pause over, this one is the try."""
        if self._level < self.failures:
            return True
        if now < self._until:
            return False
        self._trying, self._until = True, now + self._pause  # the next try, should this one never be heard of
        return True

    def succeeded(self) -> None:
        """Count an answer in time; one closes the breaker."""
        if self.is_open:
            self._level, self._pause, self._trying = 0.0, self.retry_s, False
        elif self._level:
            self._level = max(0.0, self._level - self.forgives)

    def failed(self, now: float) -> None:
        """Count an error or a time-out; of an open breaker only the try counts."""
        if not self.is_open:
            self._level += 1
            self._until = now + self._pause
        elif self._trying:
            self._trying, self._pause = False, min(self.longest_s, 2 * self._pause)
            self._until = now + self._pause

    def unheard(self, now: float) -> None:
        """Give a try back that did not reach the model; the next request may try."""
        if self.is_open and self._trying:
            self._trying, self._until = False, now
