"""Policies as they would be served: one table of weight vectors, and who takes which for a request.

The rule: a policy chooses here exactly as it did in the sweep that found it (same model, same scale, same ties), so that offline estimate,
A/B test and truth speak of one and the same policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paretune.errors import DataError
from paretune.frontier.front import Policy
from paretune.frontier.sweep import choose, scalarise
from paretune.ports import ValueModel
from paretune.records import OFF_GRID, PRODUCTION, Floats, Ints
from paretune.sim.traffic import Choice, Chooser
from paretune.sim.world import Arrivals, World

ROWS_PER_BLOCK = 4_096


@dataclass(frozen=True, slots=True)
class Lineup:
    """P policies, and what they need to choose."""

    policies: tuple[Policy, ...]  # (P,)
    model: ValueModel | None  # None when all policies are static
    scale: Floats  # (M,) direction / production's value, as in the sweep that made the policies
    grid: int  # K, of the surface; rows of `actions` beyond are static weights off the grid
    actions: Floats  # (K', m)
    fixed: Ints  # (P,) row of `actions` of each static policy, OFF_GRID for those that choose
    cohorts: tuple[str, ...]  # of the world

    def decide(self, arrivals: Arrivals) -> Ints:
        """Return the row of `actions` that each policy serves to each request (n, P).

        Raises:
            DataError: a policy that chooses has no model.
        """
        served = np.tile(self.fixed, (len(arrivals), 1))
        for p, policy in enumerate(self.policies):
            if policy.cohort_weights:
                served[:, p] = self._from_table(policy, arrivals.cohort)
        choosing = [p for p, policy in enumerate(self.policies) if policy.weights is None and not policy.cohort_weights]
        if not choosing:
            return served
        if self.model is None:
            raise DataError(f"policy {self.policies[choosing[0]].name!r} chooses by a model and has none", hint="give the model")
        for start in range(0, len(arrivals), ROWS_PER_BLOCK):
            rows = slice(start, start + ROWS_PER_BLOCK)
            part = arrivals.take(rows)
            values = self.model.values(part.state, self.actions[: self.grid])
            relative = values * self.scale.astype(values.dtype)
            families = [p for p in choosing if self.policies[p].scalarisation]
            if families:
                served[rows, families] = choose(relative, np.array([self.policies[p].scalarisation for p in families]))
            for p in choosing:
                if not self.policies[p].scalarisation:
                    served[rows, p] = self._by_cohort(self.policies[p], relative, part.cohort)
        return served

    def _from_table(self, policy: Policy, cohort: Ints) -> Ints:
        """Return each request's static action under its cohort's row of a table; cohorts that have none keep the static weights."""
        weights = dict(policy.cohort_weights)
        rows = [np.abs(self.actions - weights[name]).max(axis=1).argmin() if name in weights else PRODUCTION for name in self.cohorts]
        return np.array(rows)[cohort]

    def _by_cohort(self, policy: Policy, relative: Floats, cohort: Ints) -> Ints:
        """Return each request's action under its cohort's trade-off; cohorts that have none keep the static weights."""
        alphas = dict(policy.cohort_alphas)
        known = [name in alphas for name in self.cohorts]
        table = np.array([alphas.get(name, 0.0) for name in self.cohorts])
        each = choose(relative, scalarise(table))[np.arange(len(cohort)), cohort]
        return np.where(np.array(known)[cohort], each, PRODUCTION)


def line_up(world: World, policies: Sequence[Policy], *, model: ValueModel | None = None, scale: Floats | None = None) -> Lineup:
    """Return policies ready to be served in a world.

    Args:
        world: whose surface the policies are of.
        policies: of any kind; static ones may lie off the grid.
        model: chooses for the others.
        scale: (M,) direction / production's value of each objective, the one the policies were swept with; ones by default.
    """
    surface = world.surface
    actions, fixed = [surface.actions], np.full(len(policies), OFF_GRID, dtype=np.int64)
    rows = len(surface)
    for p, policy in enumerate(policies):
        if policy.weights is None:
            continue
        fixed[p] = surface.index(policy.weights[None])[0]
        if fixed[p] == OFF_GRID:
            fixed[p] = rows
            actions.append(policy.weights[None])
            rows += 1
    scale = np.ones(len(world.objectives)) if scale is None else np.asarray(scale)
    return Lineup(tuple(policies), model, scale, len(surface), np.concatenate(actions), fixed, world.cohorts)


def chooser(lineup: Lineup, policy: int) -> Chooser:
    """Return how one policy of a line-up chooses weights for requests as they arrive."""
    one = replace(lineup, policies=(lineup.policies[policy],), fixed=lineup.fixed[[policy]])

    def decide(arrivals: Arrivals, rng: np.random.Generator) -> Choice:  # noqa: ARG001
        served = one.decide(arrivals)[:, 0]
        action = np.where(served < one.grid, served, OFF_GRID).astype(np.int32)
        return Choice(action, one.actions[served], np.ones(len(served)), np.zeros(len(served), dtype=np.bool_))

    return decide
