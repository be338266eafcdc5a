"""The picks inside every cohort, in one simultaneous statement with the sweep itself.

The rule: a cohort's lift is over production in the same cohort, from the same users' clusters, so its influence stands beside that of the
whole traffic and one bootstrap covers all of it. A cohort without hits for a pick says nothing of it: NaN.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from paretune.errors import DataError, NoOverlapError
from paretune.frontier.front import CohortLifts, Lifts
from paretune.frontier.lifts import estimated_lift
from paretune.frontier.references import nearest_grid_action, static_column
from paretune.frontier.sweep import SweepSums
from paretune.ope.estimators import Estimate
from paretune.records import Bools, Ints
from paretune.surface.heads import Surface


def beside(estimates: list[Estimate]) -> Estimate:
    """Return estimates over the same clusters of users as one, in the order given; the first names it."""
    return replace(
        estimates[0],
        value=np.concatenate([one.value for one in estimates]),
        influence=np.concatenate([one.influence for one in estimates], axis=1),
        hits=np.concatenate([one.hits for one in estimates]),
    )


def cohort_estimates(sums: SweepSums, surface: Surface, members: Ints, *, half: Bools | None, min_hits: int, like: Estimate) -> Estimate:
    """Return the lifts of policies inside every cohort, cohort by cohort.

    Args:
        sums: of the sweep.
        surface: whose grid action nearest to production stands in where no production row was logged.
        members: (G, L) the member of the family that each of L policies is in each cohort.
        half: mask (BUCKETS,) of the users that count.
        min_hits: fewer hits inside a cohort: NaN.
        like: an estimate over the same clusters.

    Returns:
        An estimate of G x L policies.
    """
    like_production, found = sums.total(half).has_production, []
    nearest = static_column(sums, nearest_grid_action(surface, surface.static))
    for group, wanted in enumerate(members):
        part = sums.cohort(group, half)
        try:
            if like_production and not part.has_production:
                raise DataError("none of the cohort was served by production", hint="log production traffic of every cohort")
            found.append(estimated_lift(part.of_policies(wanted), part.of_policies(nearest), min_hits=min_hits)[0])
        except (NoOverlapError, DataError):  # nobody of the cohort explored, or none of it was served by production
            shape = (len(wanted), like.value.shape[1])
            nothing = np.full((len(like.influence), *shape), np.nan)
            found.append(Estimate(like.name, np.full(shape, np.nan), nothing, np.zeros(len(wanted), np.int64)))
    return beside(found)


def part_of_lifts(lifts: Lifts, rows: slice) -> Lifts:
    """Return the lifts of some of the policies, with the bands they have among all."""
    per_policy = ("estimate", "std_error", "low", "high", "band_low", "band_high", "hits", "policies")
    parts = {field.name: getattr(lifts, field.name)[rows] for field in fields(Lifts) if field.name in per_policy}
    return replace(lifts, **parts, replicates=lifts.replicates[:, rows])


def cohort_lifts(lifts: Lifts, cohorts: tuple[str, ...], policies: Ints) -> CohortLifts:
    """Return the lifts of picks by cohort as the record that a front keeps.

    Args:
        lifts: of G x L policies, cohort by cohort.
        cohorts: names (G,).
        policies: (L,) index of each pick into Front.policies.
    """
    shape = (len(cohorts), len(policies), len(lifts.objectives))
    estimate, low, high = (getattr(lifts, name).reshape(shape) for name in ("estimate", "band_low", "band_high"))
    return CohortLifts(cohorts, policies, estimate, low, high, hits=lifts.hits.reshape(shape[:2]))
