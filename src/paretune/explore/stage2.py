"""What stage 2 would be worth and would cost, judged on a log before it is switched on.

The rules: the family chooses by its model on rows later than those the model was trained on; variance factors are exact for these requests,
costs are what logged rewards say. A run's own production values scale the objectives, so a policy goes where the sweep sent it, up to the
difference between the production values of training and of held-out days.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.explore.cost import DesignSums, explored_designs, produced_designs
from paretune.explore.design import FLOOR, Factors, mixture, variance_factors
from paretune.explore.rates import Cost
from paretune.frontier.front import Front, Policy
from paretune.frontier.sweep import choose
from paretune.ports import ValueModel
from paretune.records import Floats, Log
from paretune.surface.heads import Surface

ROWS_SCORED = 16_384  # at a time; bounds the (n, K, M) values
DESIGNS = ("uniform", "stage 2")


@dataclass(frozen=True, slots=True)
class Stage2:
    """What a log says of stage 2 for a family of P policies."""

    policies: tuple[Policy, ...]  # (P,)
    labels: tuple[str, ...]  # (P,) picks of the run, "" for the others
    objectives: tuple[str, ...]  # (M,)
    actions: int  # of the grid; the variance factor of uniform exploration
    floor: float
    factors: Floats  # (P,) variance factor of each policy under stage 2; NaN for one that always keeps production
    cost: Cost | None  # (2, M) of the two DESIGNS; None without production rows
    rows: int  # exploration rows looked at

    @property
    def worth(self) -> float:
        """How many uniform exploration rows a stage-2 row stands for, on average over the family, with estimation by hits."""
        return self.actions / float(np.nanmean(self.factors))


def choosing_policies(front: Front) -> tuple[tuple[Policy, ...], tuple[str, ...]]:
    """Return the policies of a front that choose by a scalarisation, and the labels of those that were picked.

    Raises:
        DataError: there are none.
    """
    index = [p for p, policy in enumerate(front.policies) if policy.scalarisation]
    if not index:
        raise DataError("the run holds no policy that chooses per request", hint="sweep a model first: `paretune sweep LOGS`")
    labels = front.labels()
    return tuple(front.policies[p] for p in index), tuple("; ".join(labels.get(p, ())) for p in index)


def judge_stage2(model: ValueModel, logs: Iterable[Log], surface: Surface, *, front: Front, scale: Floats, floor: float = FLOOR) -> Stage2:
    """Return what stage 2 would leave of variance, and would cost, for the family of a front.

    Args:
        model: by which the family chooses.
        logs: batches of rows of any kind; exploration rows of any design.
        surface: whose grid.
        front: of the run.
        scale: (M,) direction / production's value of each objective.
        floor: share of exploration that stays uniform.

    Raises:
        ConfigError: the floor is outside [0, 1].
        DataError: there are no exploration rows, or the front has no family.
    """
    policies, labels = choosing_policies(front)
    scalarisations, grid = np.array([policy.scalarisation for policy in policies]), len(surface) - 1
    factors, rows = Factors(np.zeros(len(policies)), np.zeros(len(policies), np.int64)), 0
    sums: DesignSums | None = None
    for batch in logs:
        explored = batch.exploration()
        parts = [produced_designs(batch.production(), len(DESIGNS))]
        for start in range(0, len(explored), ROWS_SCORED):
            part = explored.take(slice(start, start + ROWS_SCORED))
            values = model.values(part.state, surface.actions)
            choices = choose(values * scale.astype(values.dtype), scalarisations)
            mu = mixture(choices, actions=grid, floor=floor)
            factors = factors + variance_factors(mu, choices)
            logged = mu[np.arange(len(part)), part.action]
            parts.append(explored_designs(part, np.column_stack([np.full(len(part), 1 / grid), logged])))
        rows += len(explored)
        for each in parts:
            sums = each if sums is None else sums + each
    if sums is None or rows == 0:
        raise DataError("no exploration rows to judge stage 2 on", hint="name the log that the run was swept on")
    return Stage2(policies, labels, front.lifts.objectives, grid, floor, factors.mean, sums.costs(), rows)
