"""What each group of features is good for: the same sweep with models that see one group only, judged on the same rows (App. A.4).

The rule: groups are compared by the scalarised lift averaged over the whole sweep, G = mean over alpha of sum_j c_j L_j. It picks no
policy, so no winner's curse enters, and being linear in the lifts it has a paired, clustered standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.config import Config
from paretune.errors import DataError, GateError
from paretune.frontier.assemble import signs_of
from paretune.frontier.front import Lifts
from paretune.frontier.lifts import estimated_lift, lifts_record, refuse_idle
from paretune.frontier.references import baseline_sums
from paretune.frontier.select import knee, undegraded
from paretune.frontier.sweep import SweepSums
from paretune.ope.intervals import clustered_std_error
from paretune.ope.lift import join_policies
from paretune.records import Floats


@dataclass(frozen=True, slots=True)
class Isolation:
    """The fronts of G models on the same rows; the first is the reference."""

    groups: tuple[str, ...]  # (G,)
    scalarisations: Floats  # (P, M) of the family
    lifts: Lifts  # of G x P policies, group by group
    knees: tuple[int, ...]  # (G,) index into the family
    gain: Floats  # (G,) scalarised lift, averaged over the sweep
    std_error: Floats  # (G,)
    gap: Floats  # (G,) gain minus the reference's
    gap_std_error: Floats  # (G,) of the paired difference

    def points(self, group: int) -> Floats:
        """Return (P, M) lifts of one group's family."""
        size = len(self.scalarisations)
        return self.lifts.estimate[group * size : (group + 1) * size]


def isolate(sums: dict[str, SweepSums], config: Config, *, rng: np.random.Generator) -> Isolation:
    """Return the comparison of several models' sweeps.

    Args:
        sums: by group, all over the same hold-out rows and with the same family; the first is the reference.
        config: objectives, surface, evaluation.
        rng: source of the bootstrap.

    Raises:
        DataError: the sweeps are of different rows or families, or an objective has production value zero.
        NoOverlapError: no policy has a hit.
        GateError: no trade-off has enough hits in every group.
    """
    groups, sweeps = tuple(sums), list(sums.values())
    first, names = sweeps[0], tuple(objective.name for objective in config.objectives)
    weights = first.family.scalarisations * signs_of(config)
    for other in sweeps[1:]:
        same = np.array_equal(other.family.scalarisations, first.family.scalarisations) and np.array_equal(other.users, first.users)
        if not same:
            raise DataError("the sweeps are of different rows or families", hint="sweep every group with one family over the same rows")
    size, family = first.size, np.arange(first.size)
    joined = join_policies([each.total().of_policies(family) for each in sweeps])
    evaluation = config.evaluation
    estimate, production = estimated_lift(joined, baseline_sums(first, config.surface.build()), min_hits=evaluation.min_hits)
    refuse_idle(production, names)
    value = estimate.value.reshape(len(groups), size, -1)
    known = np.isfinite(value).all(axis=(0, 2))
    if not known.any():
        raise GateError("no policy has enough hits in every group", hint="collect more exploration rows, or explore a smaller grid")
    influence = estimate.influence.reshape(-1, len(groups), size, len(names))[:, :, known]
    gain = np.einsum("gpm,pm->g", value[:, known], weights[known]) / known.sum()
    moved = np.einsum("cgpm,pm->cg", influence, weights[known]) / known.sum()
    lifts = lifts_record(
        estimate,
        production,
        policies=tuple(f"{group} #{p}" for group in groups for p in range(size)),
        objectives=names,
        confidence=evaluation.confidence,
        replicates=evaluation.replicates,
        n_rows=int(joined.explored.raw.rows.sum() + joined.produced.rows.sum()),
        n_users=first.n_users(),
        rng=rng,
    )
    error = clustered_std_error(np.stack([moved, moved - moved[:, :1]], axis=1))  # (2, G): of gains, of gaps
    points = value * signs_of(config)
    return Isolation(
        groups,
        first.family.scalarisations,
        lifts,
        tuple(knee(each, among=undegraded(each)[0]) for each in points),
        gain,
        error[0],
        gain - gain[0],
        error[1],
    )
