"""Weights between the levels of the grid: each request's own best point of the explored box, on the value model's surface.

From the best grid action, a small cross-section of finer and finer steps in log weights is scored, and the best point kept.

The rule: a point is never left for a worse one, so the predicted value is at least the best grid action's, and no weight leaves the range
that was explored. What such weights are truly worth is for an estimator that pools over similar weights to say, never for the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.frontier.anchor import Anchor
from paretune.frontier.lifts import refuse_idle
from paretune.frontier.sweep import choose
from paretune.ope.clusters import user_buckets
from paretune.ope.estimators import Estimate
from paretune.ope.intervals import intervals
from paretune.ope.lift import AnchoredSums, explored_sums, pooled_lift, produced_sums
from paretune.ope.pooled import pooled_sums
from paretune.ope.pooling import ACTION, kernel_coordinates, weight_coordinates, weights_likeness
from paretune.ports import ValueModel
from paretune.records import PRODUCTION, Floats, Log, State
from paretune.surface.heads import Surface

OFFSETS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # in steps; a round's steps are a quarter of the last one's
ROUNDS = 3
ROWS_AT_ONCE = 4096  # bounds the likeness of each row's own targets to the whole grid


def continuous_weights(
    model: ValueModel, state: State, surface: Surface, *, scalarisation: Floats, scale: Floats, rounds: int = ROUNDS
) -> Floats:
    """Return the full weight vector (n, m) that each request should get under one trade-off.

    Args:
        model: smooth in the weights, e.g. `smooth`.
        state: n requests.
        surface: whose tuned heads span the box.
        scalarisation: (M,) weight of each objective, in relative-lift units.
        scale: (M,) direction / production's value.
        rounds: refinements; 0 gives the best grid action.
    """
    blend = np.asarray(scalarisation, dtype=np.float64) * scale
    grid = surface.actions[PRODUCTION + 1 :]
    weights = grid[(model.values(state, grid) @ blend).argmax(axis=1)]
    tuned = list(surface.tuned)
    low, high = (np.array([surface.heads[i].levels[end] for i in tuned]) for end in (0, -1))
    step = np.array([np.diff(np.log(surface.heads[i].levels)).max() for i in tuned])
    shifts = np.array(list(product(OFFSETS, repeat=len(tuned))))
    for _ in range(rounds):
        starts, of_start = np.unique(weights, axis=0, return_inverse=True)
        of_start = of_start.ravel()
        for index, start in enumerate(starts):
            rows = np.flatnonzero(of_start == index)
            near = np.tile(start, (1 + len(shifts), 1))  # the start itself first: it stays unless something is better
            near[1:, tuned] = np.clip(start[tuned] * np.exp(shifts * step), low, high)
            weights[rows] = near[(model.values(state.take(rows), near) @ blend).argmax(axis=1)]
        step = step / 4
    return weights


@dataclass(frozen=True, slots=True)
class Continuous:
    """P trade-offs, each served with weights between the levels and from the grid, judged on the same rows by the same kernel."""

    objectives: tuple[str, ...]  # (M,)
    estimate: Floats  # (3, P, M) lift between the levels, lift from the grid, the first minus the second
    std_error: Floats  # (3, P, M), clustered by user
    low: Floats  # (3, P, M) bands that hold for all of these numbers at once
    high: Floats  # (3, P, M)
    effective: Floats  # (2, P) rows that speak, between the levels and on the grid
    off_grid: Floats  # (P,) share of requests whose weights lie between the levels
    mean_weights: Floats  # (P, m) average weights between the levels
    estimator: str
    confidence: float
    n_rows: int


def judge_continuous(
    model: ValueModel,
    hold_out: Iterable[Log],
    config: Config,
    *,
    anchor: Anchor,
    scalarisations: Floats,
    scale: Floats,
    rng: np.random.Generator,
) -> Continuous:
    """Return what weights between the levels gain over production and over the grid's weights, by the action kernel.

    Args:
        model: smooth in the weights.
        hold_out: batches of rows, later than those the model and the anchor saw.
        config: surface, objectives, smallest number of rows that speak.
        anchor: from the training days.
        scalarisations: (P, M).
        scale: (M,) direction / production's value.
        rng: source of the bootstrap.

    Raises:
        DataError: there are no exploration or no production rows, or an objective that production never earns.
        NoOverlapError: no row speaks for any policy.
    """
    surface, p = config.surface.build(), len(scalarisations)
    total, off, served = None, np.zeros(p), np.zeros((p, len(surface.heads)))
    arm = produced_sums(np.empty((0, len(scale))), np.empty(0, np.int64))
    for batch in hold_out:
        produced = batch.production()
        if len(produced):
            arm = arm + produced_sums(produced.rewards, user_buckets(produced.user), expected=anchor.expected(produced))
        explored = batch.exploration()
        for start in range(0, len(explored), ROWS_AT_ONCE):
            rows = explored.take(slice(start, start + ROWS_AT_ONCE))
            both = _both_kinds(model, rows.state, surface, scalarisations=scalarisations, scale=scale)
            part = _sums(rows, both, surface, anchor)
            total = part if total is None else total + part
            between = both[:, :p]
            off += (surface.index(between.reshape(-1, between.shape[2])).reshape(between.shape[:2]) < 0).sum(axis=0)
            served += between.sum(axis=0)
    if total is None or total.pooled is None:
        raise DataError("no held-out exploration rows to judge policies on", hint="read more of the log")
    effective = total.pooled.effective()
    total = AnchoredSums(total.explored, arm, total.pooled)
    lift, names = pooled_lift(total), tuple(objective.name for objective in config.objectives)
    refuse_idle(total.produced.value()[0], names)
    lift = lift.refuse_below(config.evaluation.min_hits)
    rows_explored = float(total.explored.raw.rows.sum())
    value, influence = lift.value, lift.influence
    three = Estimate(
        lift.name,
        np.concatenate([value, value[:p] - value[p:]]),
        np.concatenate([influence, influence[:, :p] - influence[:, p:]], axis=1),
        np.concatenate([lift.hits, np.minimum(lift.hits[:p], lift.hits[p:])]),
    )
    found = intervals(three, confidence=config.evaluation.confidence, replicates=config.evaluation.replicates, rng=rng)

    def shaped(numbers: Floats) -> Floats:
        return numbers.reshape(3, p, -1)

    return Continuous(
        names,
        shaped(three.value),
        shaped(found.std_error),
        shaped(found.band_low),
        shaped(found.band_high),
        effective.reshape(2, p),
        off / rows_explored,
        served / rows_explored,
        lift.name,
        config.evaluation.confidence,
        int(rows_explored + total.produced.rows.sum()),
    )


def _both_kinds(model: ValueModel, state: State, surface: Surface, *, scalarisations: Floats, scale: Floats) -> Floats:
    """Return (n, 2 P, m) what each trade-off serves between the levels, then from the grid."""
    values = model.values(state, surface.actions) * scale
    grid = surface.actions[choose(values, scalarisations)]
    between = [continuous_weights(model, state, surface, scalarisation=each, scale=scale) for each in scalarisations]
    return np.concatenate([np.stack(between, axis=1), grid], axis=1)


def _sums(rows: Log, both: Floats, surface: Surface, anchor: Anchor) -> AnchoredSums:
    """Return what exploration rows say of policies that serve (n, T, m) weights."""
    cluster, expected = user_buckets(rows.user), anchor.expected(rows)
    targets = weight_coordinates(surface, both.reshape(-1, both.shape[2])).reshape(*both.shape[:2], -1)
    likeness = weights_likeness(kernel_coordinates(surface), targets, rows.action, rows.propensity)
    hits = np.logical_and.reduce(np.isclose(both, surface.actions[rows.action][:, None]), axis=2)
    seen = explored_sums(rows.rewards, rows.propensity, hits, cluster, expected=expected)
    chosen = np.broadcast_to(np.arange(both.shape[1]), both.shape[:2])
    pooled = pooled_sums(rows.rewards, likeness, chosen, cluster, kernel=ACTION, action=rows.action, expected=expected)
    nothing = produced_sums(np.empty((0, rows.rewards.shape[1])), np.empty(0, np.int64))
    return AnchoredSums(seen, nothing, pooled)
