"""Which arm a user is in, whether a request is explored, and what it is shown: one id at a time, in plain integers.

The rule: bit for bit what the vectorised functions of `logs.hashing`, `explore.assign` and `explore.design` say of the same ids, so that a
log can be recomputed from its ids and its plan. An array of one id costs numpy ten times what these integers cost.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np

from paretune.explore.assign import OUTSIDE, thresholds
from paretune.explore.design import draw_actions, mixture
from paretune.records import PRODUCTION, Floats
from paretune.serving.decide import Id

_MASK = 2**64 - 1
_LONGEST = 256  # bytes; as in logs.hashing, longer texts are digested first
STRATA = 4096  # whose counts are kept; the one that was longest without a request is dropped first


def mixed(value: int) -> int:
    """Return the finaliser of splitmix64 of an integer in [0, 2^64); `logs.hashing.mixed` of one."""
    z = (value + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def hash_id(value: Id) -> int:
    """Return the 64-bit hash of an integer or text id, as logs hash their columns; 5 and "5" are two ids.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, str):
        return hash_text(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, int) and -(2**63) <= value <= _MASK:
        return mixed(value & _MASK)
    raise TypeError(f"an id is a text or an integer of 64 bits, not {type(value).__name__}")


def hash_text(value: bytes) -> int:
    """Return the hash of a byte string; `logs.hashing.hash_texts` of one."""
    result = mixed(len(value))
    if len(value) > _LONGEST:
        value = hashlib.blake2b(value).digest()
    for start in range(0, len(value), 8):  # `mixed`, written out: a call per word would be half of the time
        z = ((result ^ int.from_bytes(value[start : start + 8], "little")) + 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        result = z ^ (z >> 31)
    return result


@lru_cache(maxsize=1024)
def key_of(salt: str) -> int:
    """Return the 64 bits that a salt stands for."""
    return int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "little")


def coin(hashed: int, key: int) -> int:
    """Return the coin of a hash under the key of a salt; `logs.hashing.salted` of one."""
    return mixed(hashed ^ key)


@dataclass(frozen=True, slots=True)
class Split:
    """Ids divided by one coin into parts of given shares."""

    ends: tuple[int, ...]  # (A,) where each part's coins end
    key: int

    @classmethod
    def of(cls, shares: Sequence[float], salt: str) -> Self:
        """Return the split of `explore.assign.arm_of` with the same shares and salt."""
        return cls(tuple(thresholds(shares)) if len(shares) else (), key_of(salt))

    def part(self, hashed: int) -> int:
        """Return the part that an id's hash falls in, OUTSIDE where the shares leave room."""
        found = bisect_right(self.ends, coin(hashed, self.key))
        return found if found < len(self.ends) else OUTSIDE


def uniform_action(hashed: int, key: int, *, actions: int) -> int:
    """Return the action in 1..actions that a request's coin names; each has probability 1 / actions.

    Args:
        hashed: of the request.
        key: of the salt of the draw, another than that of the exploration coin.
        actions: of the grid, without production.
    """
    return 1 + (((coin(hashed, key) >> 32) * actions) >> 32)


def mixture_action(hashed: int, key: int, choices: Sequence[int], *, actions: int, floor: float) -> tuple[int, float]:
    """Return the action that stage 2 draws and its exact propensity.

    Args:
        hashed: of the request.
        key: of the salt of the draw.
        choices: (P,) the action of each policy of the family on this request.
        actions: of the grid, without production.
        floor: share that stays uniform.

    Raises:
        DataError: a choice is off the grid.
    """
    uniform = (coin(hashed, key) >> 11) * 2.0**-53
    drawn, propensity = draw_actions(mixture(np.array([choices]), actions=actions, floor=floor), np.array([uniform]))
    return int(drawn[0]), float(propensity[0])


def family_choices(values: Floats, family: Floats) -> list[int]:
    """Return the grid action of each scalarisation (P,) on one request; `frontier.sweep.choose` of one.

    Args:
        values: (K, M) in relative-lift units.
        family: (P, M).
    """
    grid, weights = values[PRODUCTION + 1 :], np.asarray(family, dtype=values.dtype)
    score = weights[:, 0, None] * grid[:, 0]
    for j in range(1, grid.shape[1]):
        score += weights[:, j, None] * grid[:, j]
    return [int(a) + PRODUCTION + 1 for a in score.argmax(axis=1)]


def stratum_of(cohort: str, hour: int) -> int:
    """Return the stratum of a request; `explore.design.strata` of one. All requests without cohort ("") share one per hour."""
    return mixed(hash_text(cohort.encode("utf-8", "surrogatepass")) ^ mixed(hour & _MASK))


class Blocks:
    """The blocked design of one process: how many requests each stratum has had, and its block's order of actions.

    The counts live and die with the process, so the salt must be the process's own: a process that starts anew then draws new orders
    instead of repeating the first ones. Not safe for two threads at once.
    """

    def __init__(self, *, actions: int, salt: str) -> None:
        self.actions, self.salt = actions, salt
        self._key = key_of(salt)
        self._coins = [mixed(a) for a in range(actions)]
        self._seen: OrderedDict[int, tuple[int, list[int]]] = OrderedDict()

    def draw(self, stratum: int) -> int:
        """Return the action in 1..actions of the stratum's next request; `explore.design.block_actions` of its number."""
        number, order = self._seen.pop(stratum, (0, []))
        block, place = divmod(number, self.actions)
        if not place:
            start = coin(mixed(stratum ^ mixed(block)), self._key)
            order = sorted(range(self.actions), key=[mixed(start ^ each) for each in self._coins].__getitem__)
        self._seen[stratum] = number + 1, order
        if len(self._seen) > STRATA:
            self._seen.popitem(last=False)
        return 1 + order[place]
