"""Which policies to put forward: a lean to each objective, the knee, the constrained optimum (§4.2 and §6.3 of the paper).

The rule: points are estimated relative lifts, turned so that larger is better; a policy without an estimate is never picked; ties go to the
first policy, so the same estimates give the same picks. An estimate that was picked for being large overstates: choose on one half of the
users and report on the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import GateError
from paretune.frontier.pareto import non_dominated
from paretune.records import Bools, Floats

NONE_UNDEGRADED = "no policy is predicted to leave every objective undegraded"
NONE_SURE = "no policy gains and clears the floors at the tolerated risk; the estimates of this one do"
NONE_CLEARS = "no policy clears the floors; this one comes closest"


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy and the rule that chose it."""

    label: str
    policy: int
    note: str = ""


def known(points: Floats) -> Bools:
    """Mark the policies that have an estimate (P,).

    Raises:
        GateError: none has.
    """
    mask = np.logical_and.reduce(np.isfinite(points), axis=1)
    if not mask.any():
        raise GateError("no policy has enough hits for an estimate", hint="collect more exploration rows, or explore a smaller grid")
    return mask


def undegraded(points: Floats) -> tuple[Bools, str]:
    """Mark the policies predicted not to lose on any objective; all that have an estimate, and a note, when there is none."""
    mask = known(points)
    safe = mask & (np.where(mask[:, None], points, -np.inf) >= 0).all(axis=1)
    return (safe, "") if safe.any() else (mask, NONE_UNDEGRADED)


def leaning(points: Floats, objective: int, *, among: Bools) -> int:
    """Return the policy with the largest lift on one objective.

    Args:
        points: (P, M) relative lifts, larger is better.
        objective: which.
        among: (P,) policies to choose from.
    """
    return int(np.where(among, points[:, objective], -np.inf).argmax())


def chord_normal(points: Floats) -> Floats:
    """Return (M,) the unit normal of the chord (plane) through the ends of the front: the best point of each objective.

    Where the ends coincide or the chord does not fall, there is no trade-off to cut across, and all objectives count the same.

    Args:
        points: (P, M) finite non-dominated points, larger is better.
    """
    m = points.shape[1]
    even = np.full(m, m**-0.5)
    ends = points[points.argmax(axis=0)]
    if m == 1 or np.linalg.matrix_rank(ends[1:] - ends[0]) < m - 1:
        return even
    normal = np.linalg.svd(ends[1:] - ends[0])[2][-1]
    normal = normal * np.sign(normal.sum())
    return normal if (normal > 0).all() else even


def knee(points: Floats, *, among: Bools) -> int:
    """Return the policy farthest beyond the chord between the ends of the front, in units of relative lift.

    Args:
        points: (P, M) relative lifts, larger is better; NaN rows have no estimate.
        among: (P,) policies to choose from.
    """
    mask = known(points)
    front = points[mask][non_dominated(points[mask])]
    beyond = np.where(mask[:, None], points, 0.0) @ chord_normal(front)
    return int(np.where(among & mask, beyond, -np.inf).argmax())


def constrained(points: Floats, *, floors: Floats, target: int = 0, sure: Bools | None = None) -> Choice:
    """Return the policy with the largest lift on the target among those whose other lifts clear their floors.

    The best estimate that clears a floor lies near it, and half of such policies truly miss it; so those that clear the floors at the
    tolerated risk go first, unless they give up the target itself.

    Args:
        points: (P, M) relative lifts, larger is better.
        floors: (M,) lowest acceptable lifts; the target's own counts for those in `sure`.
        target: objective to maximise.
        sure: (P,) policies whose other lifts clear their floors at the tolerated risk; None = nobody asked.
    """
    mask = known(points)
    others = np.arange(points.shape[1]) != target
    slack = (points - floors)[:, others].min(axis=1, initial=np.inf)
    clears = mask & (np.where(mask, slack, -np.inf) >= 0)
    if sure is not None:
        surely = clears & sure & (np.where(mask, points[:, target], -np.inf) >= floors[target])
        if surely.any():
            return Choice("constrained", leaning(points, target, among=surely))
    if clears.any():
        return Choice("constrained", leaning(points, target, among=clears), "" if sure is None else NONE_SURE)
    return Choice("constrained", int(np.where(mask, slack, -np.inf).argmax()), NONE_CLEARS)


def surely_clearing(draws: Floats, *, floors: Floats, tolerated: float, target: int = 0) -> Bools:
    """Mark the policies that clear the floors of all objectives but the target's with probability 1 - tolerated or more (P,).

    Args:
        draws: (B, P, M) of relative lifts, larger is better.
        floors: (M,).
        tolerated: largest probability of missing a floor.
        target: objective whose floor does not count.
    """
    others = np.arange(draws.shape[2]) != target
    return (draws[:, :, others] < floors[others]).any(axis=2).mean(axis=0) <= tolerated


def choose_points(points: Floats, *, objectives: tuple[str, ...], floors: Floats, sure: Bools | None = None) -> tuple[Choice, ...]:
    """Return the picks of a family: a lean to each objective, the knee, the constrained optimum of the first objective.

    Args:
        points: (P, M) relative lifts, larger is better; NaN rows have no estimate.
        objectives: names (M,).
        floors: (M,) lowest acceptable lifts, for the constrained pick.
        sure: see `constrained`.

    Raises:
        GateError: no policy has an estimate.
    """
    among, note = undegraded(points)
    leans = [Choice(f"{name}-leaning", leaning(points, j, among=among), note) for j, name in enumerate(objectives)]
    return (*leans, Choice("knee", knee(points, among=among), note), constrained(points, floors=floors, sure=sure))


def best_static(points: Floats) -> int:
    """Return the static action that serves best: largest first lift while no other objective loses; production if nothing beats it.

    Args:
        points: (K - 1, M) relative lifts of the grid actions, larger is better, from other rows than those reported on.

    Returns:
        Index into all K actions; 0 is production.
    """
    with_production = np.vstack([np.zeros(points.shape[1]), points])
    return constrained(with_production, floors=np.zeros(points.shape[1])).policy


def probability_degrading(replicates: Floats, *, floors: Floats) -> Floats:
    """Return how often a bootstrap draw of a policy falls below a floor on at least one objective.

    Args:
        replicates: (B, P, M) draws of relative lifts, larger is better.
        floors: (M,).

    Returns:
        (P,) in [0, 1]; NaN without an estimate.
    """
    often = (replicates < floors).any(axis=2).mean(axis=0)
    return np.where(np.isnan(replicates).any(axis=(0, 2)), np.nan, often)
