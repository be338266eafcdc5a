"""Whether a service has fallen silent, in an arm or in all of them. Pure.

    an arm is silent where   now - its newest row > the rest    and    P(chance) = (1 - share)^U < 1e-6

U users were seen in other arms since the arm's newest row; users fall into arms by a hash, independently, so that P is the chance that none
of them was the arm's. An arm of few users, or a night, is therefore no silence of its own; that nobody at all was served is one.

The rule: a row from the future says nothing of now. What is later than now by more than a minute is left out and reported, so that a clock
that is wrong cannot hide a silence; what is later by less counts as now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paretune.records import Ints

AHEAD_S = 60.0  # by which clocks may differ
CHANCE = 1e-6  # below it, nobody in an arm is no chance
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Silence:
    """For how long nothing was seen of an arm."""

    silent_s: float  # of the arm that is silent longest
    arm: str  # its name; empty = all arms together
    ahead: int  # rows from the future, left out
    ahead_s: float  # by how much at most


def silence_of(time_us: Ints, arm: Ints, user: Ints, *, arms: Mapping[str, float], since_us: int, now_us: int) -> Silence:
    """Return for how long nothing was seen, of the arm of which that is longest.

    Args:
        time_us: (n,) of rows, microseconds since 1970.
        arm: (n,) index into `arms`; another number where it is none of them.
        user: (n,) any integers.
        arms: share of users of each, in [0, 1].
        since_us: when the arms began to be served so.
        now_us: when is asked.
    """
    late_us = time_us - now_us
    future = late_us > AHEAD_S * _US
    time_us, arm, user = np.minimum(time_us[~future], now_us), arm[~future], user[~future]
    newest = int(time_us.max(initial=since_us))
    longest, who = now_us - newest, ""
    for index, (name, share) in enumerate(arms.items()):
        if share <= 0:
            continue
        last = int(time_us[arm == index].max(initial=since_us))
        others = len(np.unique(user[(time_us > last) & (arm != index)]))
        if now_us - last > longest and (1 - share) ** others < CHANCE:
            longest, who = now_us - last, name
    return Silence(max(0.0, longest / _US), who, int(future.sum()), float(late_us.max(initial=0)) / _US if future.any() else 0.0)
