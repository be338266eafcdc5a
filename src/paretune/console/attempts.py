"""How often one may try to sign in: a bucket of tries per account and one per address, refilled with time.

    tries(t) = min(burst, tries(t0) + rate (t - t0));     a try takes 1, and is refused where less is left

The rule: a try is taken before the password is looked at, so that many at once are no way round, and given back when it was right. Time
comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from paretune.errors import TooOftenError


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket's size and how fast it fills."""

    burst: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left at a time."""

    tries: float
    at_s: float


def left(bucket: Bucket | None, limit: Limit, *, now_s: float) -> float:
    """Return how many tries are left; a bucket that was never used is full."""
    if bucket is None:
        return limit.burst
    return min(limit.burst, bucket.tries + limit.per_s * max(now_s - bucket.at_s, 0.0))


PER_ACCOUNT = Limit(burst=5, per_s=1 / 30)
PER_ADDRESS = Limit(burst=20, per_s=1 / 3)
_MOST = 10_000  # buckets kept; those that are full again are forgotten first


@dataclass(slots=True)
class Attempts:
    """All buckets of a process."""

    per_account: Limit = PER_ACCOUNT
    per_address: Limit = PER_ADDRESS
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def take(self, *, account: str, address: str, now_s: float) -> None:
        """Take a try of both.

        Raises:
            TooOftenError: there is none left; it says when there is one.
        """
        wanted = [(("account", account), self.per_account), (("address", address), self.per_address)]
        found = [(key, limit, left(self.buckets.get(key), limit, now_s=now_s)) for key, limit in wanted]
        wait_s = max((1 - tries) / limit.per_s for _, limit, tries in found)
        if wait_s > 0:
            raise TooOftenError(f"too many attempts to sign in; the next in {wait_s:.0f} s", hint="wait", retry_after_s=wait_s)
        for key, _, tries in found:
            self.buckets[key] = Bucket(tries - 1, now_s)
        if len(self.buckets) > _MOST:
            self._forget(now_s)

    def give_back(self, *, account: str, address: str, now_s: float) -> None:
        """Return the try of somebody who signed in."""
        for key, limit in ((("account", account), self.per_account), (("address", address), self.per_address)):
            self.buckets[key] = Bucket(min(limit.burst, left(self.buckets.get(key), limit, now_s=now_s) + 1), now_s)

    def _forget(self, now_s: float) -> None:
        limits = {"account": self.per_account, "address": self.per_address}
        full = [key for key, bucket in self.buckets.items() if left(bucket, limits[key[0]], now_s=now_s) >= limits[key[0]].burst]
        for key in full or list(islice(self.buckets, _MOST // 2)):
            del self.buckets[key]
