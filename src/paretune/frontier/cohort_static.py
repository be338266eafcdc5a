"""The best table of static weights by cohort: what a team can do by hand, without a model, and what a model must therefore beat.

The rule: each cohort gets the weights that serve it best (largest first lift while no other objective loses there), by the same rows that
choose the best static weights of all; where nothing beats production in a cohort, it keeps the grid action nearest to production.
"""

from __future__ import annotations

import numpy as np

from paretune.frontier.front import Policy
from paretune.frontier.lifts import estimated_lift
from paretune.frontier.references import describe, nearest_grid_action, static_column
from paretune.frontier.select import best_static
from paretune.frontier.sweep import SweepSums
from paretune.records import PRODUCTION, Bools, Floats, Ints
from paretune.surface.heads import Surface


def cohort_statics(sums: SweepSums, surface: Surface, signs: Floats, *, half: Bools | None = None, min_hits: int = 1) -> Ints:
    """Return the grid action that each cohort should get (groups,), the last for rows of no known cohort.

    Args:
        sums: of the sweep.
        surface: whose grid.
        signs: (M,) +1 to maximise, -1 to minimise.
        half: mask (BUCKETS,) of the users to choose on.
        min_hits: actions with fewer hits inside a cohort get no estimate there; a cohort without any keeps production's neighbour.
    """
    neighbour = nearest_grid_action(surface, surface.static)
    statics, column = sums.size + np.arange(len(surface) - 1), static_column(sums, neighbour)
    actions = np.full(sums.family.groups, neighbour)
    for group in range(len(sums.family.cohorts)):
        part = sums.cohort(group, half)
        if not part.explored.raw.hits[:, statics].any():
            continue
        points = estimated_lift(part.of_policies(statics), part.of_policies(column), min_hits=min_hits)[0].value * signs
        if not np.isfinite(points).all(axis=1).any():
            continue
        best = best_static(points)
        actions[group] = neighbour if best == PRODUCTION else best
    return actions


def cohort_table(sums: SweepSums, surface: Surface, actions: Ints) -> Policy:
    """Return the policy that gives each cohort its static weights.

    Args:
        sums: of the sweep.
        surface: whose grid.
        actions: (groups,) from `cohort_statics`.
    """
    chosen = [(name, surface.actions[action]) for name, action in zip(sums.family.cohorts, actions, strict=False)]
    name = "cohort table (" + "; ".join(f"{cohort}: {describe(surface, weights)}" for cohort, weights in chosen) + ")"
    return Policy(name, "cohort table", cohort_weights=tuple((cohort, tuple(weights.tolist())) for cohort, weights in chosen))


def table_shares(sums: SweepSums, actions: Ints) -> Floats:
    """Return (K,) share of exploration requests on which the table takes each action."""
    requests = sums.choices[:, 0].sum(axis=1)
    counts = np.bincount(actions, weights=requests, minlength=len(sums.family.actions))
    return counts / max(1, counts.sum())
