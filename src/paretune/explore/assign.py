"""Who is explored, who is in which arm, and which coin falls how: decided by salted hashes, the same on every machine and every day.

    coin(id, salt) = splitmix64(hash(id) xor blake2b(salt)),  one of 2^64 values;   explored: coin < share 2^64

The rules: nothing is stored and nothing is drawn, so any machine can say again what was decided; one salt per purpose, since coins of
different salts are independent and of the same salt are the same. A share holds to one part in 2^64, and who is explored at a small share
stays explored at a larger one. Keyed by the user instead of the request, exploration is sticky; rewards of a user are then one piece of
evidence, which is why every interval of this package clusters by user.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune.errors import ConfigError
from paretune.logs.hashing import mixed, salted
from paretune.records import Bools, Floats, Ints

OUTSIDE = -1  # in no arm
_ALL = 2**64


def uniforms(ids: Ints, *, salt: str) -> Floats:
    """Return (n,) numbers in [0, 1), one per id: the coin's upper 53 bits.

    Args:
        ids: (n,) uint64 hashes of requests or users (`logs.hashing`).
        salt: of the purpose.
    """
    return (salted(ids, salt) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def explored_requests(ids: Ints, *, share: float, salt: str) -> Bools:
    """Return which requests are explored (n,); give hashes of users instead, and exploration is sticky by user.

    Args:
        ids: (n,) uint64 hashes.
        share: in [0, 1].
        salt: of this exploration; a new one chooses anew.

    Raises:
        ConfigError: the share is outside [0, 1].
    """
    return arm_of(ids, shares=(share,), salt=salt) == 0


def arm_of(ids: Ints, *, shares: Sequence[float], salt: str) -> Ints:
    """Return the arm of each user (n,) int64 in [0, A), OUTSIDE where the shares leave room.

    Args:
        ids: (n,) uint64 hashes of users.
        shares: (A,) of the arms in order, each >= 0, summing to at most 1.
        salt: of this test; another gives an independent split.

    Raises:
        ConfigError: shares are no shares.
    """
    parts = np.asarray(shares, dtype=np.float64)
    if parts.ndim != 1 or not len(parts) or not ((parts >= 0).all() and parts.sum() <= 1 + 1e-12):
        raise ConfigError(f"shares {list(shares)} are not parts of one whole", hint="give shares from 0 to 1 that sum to at most 1")
    ends = thresholds(shares)
    filled = [a for a, (start, end) in enumerate(zip([0, *ends], ends, strict=False)) if end > start]
    last = np.array([ends[a] - 1 for a in filled], dtype=np.uint64)  # the last coin of each arm; 2^64 itself is no uint64
    return np.array([*filled, OUTSIDE])[np.searchsorted(last, salted(ids, salt), side="left")]


def thresholds(shares: Sequence[float]) -> list[int]:
    """Return the end of each arm's coins (A,), in 0..2^64: arm a holds the coins from the end before up to, and without, its own.

    Args:
        shares: (A,) of the arms in order, each >= 0, summing to at most 1 but for a rounding.
    """
    whole = 1 - 1e-12 if len(shares) > 1 else 1.0  # shares such as ten tenths sum to a whole but for a rounding
    return [_ALL if end >= whole else round(end * _ALL) for end in np.cumsum(np.asarray(shares, dtype=np.float64)).tolist()]


def sticky_actions(users: Ints, *, actions: int, period: Ints, salt: str) -> Ints:
    """Return the grid action (n,) int32 in 1..actions that a user is shown for a whole period; each has probability 1 / actions.

    Args:
        users: (n,) uint64 hashes.
        actions: of the grid, without production.
        period: (n,) number of the period, e.g. the week; a user's action changes with it.
        salt: of this exploration.

    Raises:
        ConfigError: there is no action.
    """
    if actions < 1:
        raise ConfigError(f"a grid of {actions} actions", hint="explore at least one action")
    coin = mixed(salted(users, salt) ^ mixed(np.asarray(period)))
    return 1 + scaled(coin, actions).astype(np.int32)


def scaled(coins: Ints, size: int) -> Ints:
    """Return (n,) int64 in [0, size): the coin as a fraction of 2^64, times size; even to `size` parts in 2^32.

    Args:
        coins: (n,) uint64.
        size: at most 2^31.
    """
    return (((coins >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)).astype(np.int64)
