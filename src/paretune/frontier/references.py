"""What a personalised policy must be compared with, off-policy on the same rows: static weights of several kinds, and cohort tables.

The rule: production is a point of lift zero; the best static weights are chosen on other rows than those reported; matched static weights
give everybody the policy's average weights, so what they miss is due to personalisation (§6.4 of the paper).
"""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from paretune.frontier.front import Policy
from paretune.frontier.lifts import estimated_lift
from paretune.frontier.select import knee, known, undegraded
from paretune.frontier.sweep import SweepSums
from paretune.ope.lift import AnchoredSums
from paretune.records import Bools, Floats, Ints
from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Surface

MATCHED = "matched static of "  # how the names of such policies begin; the label of the pick follows


def nearest_grid_action(surface: Surface, weights: Floats) -> int:
    """Return the grid action nearest to a weight vector in log coordinates; never production.

    Args:
        surface: whose grid.
        weights: (m,) full weight vector with positive tuned weights.
    """
    grid = log_coordinates(surface, surface.actions[1:])
    return 1 + int(np.square(grid - log_coordinates(surface, weights[None])).sum(axis=1).argmin())


def static_column(sums: SweepSums, action: int) -> Ints:
    """Return the column, as an index array, of the static policy that always takes a grid action (1 <= action < K)."""
    return np.array([sums.size + action - 1])


def matched_static(surface: Surface, mean_weights: Floats, *, of: str) -> tuple[Policy, int]:
    """Return the static policy that stands for a policy's average weights, and its grid action.

    Args:
        surface: whose grid.
        mean_weights: (m,) average weight vector the policy serves.
        of: name of that policy.
    """
    action = nearest_grid_action(surface, mean_weights)
    weights = surface.actions[action]
    exact = np.allclose(weights, mean_weights, rtol=1e-4)
    name = f"{MATCHED}{of}" + ("" if exact else f" (nearest grid action {describe(surface, weights)})")
    return Policy(name, "matched static", weights=weights), action


def describe(surface: Surface, weights: Floats) -> str:
    """Return the tuned weights in words, e.g. ``save 91.6, p2p 9.1``."""
    return ", ".join(f"{surface.heads[i].name} {weights[i]:.4g}" for i in surface.tuned)


def baseline_sums(sums: SweepSums, surface: Surface, half: Bools | None = None) -> AnchoredSums:
    """Return the sums of the static grid action nearest to production, the stand-in where no production row was logged."""
    return sums.total(half).of_policies(static_column(sums, nearest_grid_action(surface, surface.static)))


def cohort_picks(sums: SweepSums, surface: Surface, signs: Floats, *, half: Bools | None = None, min_hits: int = 1) -> tuple[Ints, str]:
    """Return the knee of every cohort's own front: the member of the family that each cohort should get, and a note.

    Args:
        sums: of the sweep.
        surface: whose grid.
        signs: (M,) +1 to maximise, -1 to minimise.
        half: mask (BUCKETS,) of the users to choose on.
        min_hits: policies with fewer hits inside a cohort get no estimate there.

    Returns:
        (groups,) index into the family, the last for rows of no known cohort; a cohort without any estimate gets the knee of all traffic.
    """
    family = np.arange(sums.size)
    column = static_column(sums, nearest_grid_action(surface, surface.static))

    def points_of(part: AnchoredSums) -> Floats:
        return estimated_lift(part.of_policies(family), part.of_policies(column), min_hits=min_hits)[0].value * signs

    everyone = points_of(sums.total(half))
    overall = knee(everyone, among=undegraded(everyone)[0])
    picks, degraded = np.full(len(sums.family.cohorts) + 1, overall), []
    for index, name in enumerate(sums.family.cohorts):
        part = sums.cohort(index, half)
        if not part.explored.raw.hits[:, : sums.size].any():
            degraded.append(f"{name} has no hits")
            continue
        points = points_of(part)
        if not np.isfinite(points).all(axis=1).any():
            degraded.append(f"{name} has too few hits")
            continue
        among, note = undegraded(points)
        picks[index] = knee(points, among=among & known(points))
        if note:
            degraded.append(f"{name}: {note}")
    return picks, "; ".join(degraded)


def cohort_policy_sums(sums: SweepSums, picks: Ints) -> AnchoredSums:
    """Return the sums of the policy that gives each cohort its own member of the family.

    Args:
        sums: of the sweep.
        picks: (groups,) index into the family.
    """
    parts = [sums.cohort(group).of_policies(np.array([member])) for group, member in enumerate(picks)]
    return reduce(add, parts)


def cohort_action_shares(sums: SweepSums, picks: Ints) -> Floats:
    """Return (K,) share of requests on which that policy takes each action."""
    counts = sums.choices[np.arange(len(picks)), picks].sum(axis=0)
    return counts / max(1, counts.sum())
