"""Traffic of a world under the designs of `paretune.explore`: blocks of stage 1, the family's mixture of stage 2.

The rule: a row's propensity is that of its design given that the request is explored, as with `explore_uniformly`; the family chooses by
its model and what a service knows, never by the world's truth.
"""

from __future__ import annotations

import numpy as np

from paretune.explore.design import FLOOR, block_actions, draw_actions, mixture, numbered, strata
from paretune.frontier.sweep import choose
from paretune.ports import ValueModel
from paretune.records import PRODUCTION, Categorical, Floats
from paretune.sim.traffic import EPOCH_DAY, Choice, Chooser
from paretune.sim.world import Arrivals, World


def explore_in_blocks(world: World, share: float, *, salt: str = "blocks") -> Chooser:
    """Return stage 1: a share of requests takes the next action of its block; the chooser counts on from call to call.

    Args:
        world: whose surface.
        share: of requests explored.
        salt: of the orders of the blocks.
    """
    actions = world.surface.actions
    seen: dict[int, int] = {}

    def decide(arrivals: Arrivals, rng: np.random.Generator) -> Choice:
        nonlocal seen
        n = len(arrivals)
        explored = rng.random(n) < share
        hours = (24 * (EPOCH_DAY + arrivals.day) + arrivals.hour).astype(np.int64)
        stratum = strata(Categorical(arrivals.cohort.astype(np.int32), world.cohorts), hours)[explored]
        number, seen = numbered(stratum, seen)
        action = np.full(n, PRODUCTION, dtype=np.int32)
        action[explored] = block_actions(stratum, number, actions=len(actions) - 1, salt=salt)
        return Choice(action, actions[action], np.where(explored, 1.0 / (len(actions) - 1), 1.0), explored)

    return decide


def explore_by_family(
    world: World, model: ValueModel, scalarisations: Floats, *, scale: Floats, share: float, floor: float = FLOOR
) -> Chooser:
    """Return stage 2: a share of requests draws from the mixture over what a family of policies would choose.

    Args:
        world: whose surface.
        model: by which the family chooses.
        scalarisations: (P, M) the family.
        scale: (M,) direction / production's value of each objective, as in the sweep.
        share: of requests explored.
        floor: share of exploration that stays uniform.
    """
    actions = world.surface.actions

    def decide(arrivals: Arrivals, rng: np.random.Generator) -> Choice:
        n = len(arrivals)
        explored = rng.random(n) < share
        values = model.values(arrivals.take(np.flatnonzero(explored)).state, actions)
        chosen = choose(values * np.asarray(scale, dtype=values.dtype), scalarisations)
        action, propensity = np.full(n, PRODUCTION, dtype=np.int32), np.ones(n)
        action[explored], propensity[explored] = draw_actions(
            mixture(chosen, actions=len(actions) - 1, floor=floor), rng.random(int(explored.sum()))
        )
        return Choice(action, actions[action], propensity, explored)

    return decide
