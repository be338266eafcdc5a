"""Whether a policy's predicted gains come true: held-out gain by deciles of the predicted one, and the slope through them.

    gain_d = sum over hits in d of w (r - m) / sum of w + mean over production rows in d of (m - r),    slope = sum_d a_d gain_d

in relative units, objectives weighted by the policy's scalarisation; a_d is least squares weighted by hits. The rule: production rows are
the other arm, sorted into the same deciles by what the model predicts for them, so m(s) may be wrong; the error of the slope is clustered
by user. A slope of 1 is calibrated, below 1 predictions are too bold, near 0 they say nothing of who gains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from paretune.config import Config
from paretune.errors import DataError, GateError
from paretune.frontier.anchor import ROWS_SCORED, Anchor
from paretune.frontier.assemble import signs_of
from paretune.frontier.sweep import choose
from paretune.ope.clusters import BUCKETS, user_buckets
from paretune.ope.intervals import clustered_std_error
from paretune.ports import ValueModel
from paretune.records import PRODUCTION, Floats, Ints, Log

DECILES = 10


@dataclass(frozen=True, slots=True)
class Arm:
    """Rows of one arm: what was predicted for each, and what came of it."""

    predicted: Floats  # (n,) gain of the policy's action, in relative units
    outcome: Floats  # (n,) scalarised (r - m), in relative units
    weight: Floats  # (n,) importance weight; zero where the logged action is not the policy's; ones on production rows
    cluster: Ints  # (n,) bucket of the user

    @staticmethod
    def concat(parts: Iterable[Arm]) -> Arm:
        """Join batches."""
        parts = list(parts)
        return Arm(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Arm)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predicted and held-out gains by decile of the predicted gain, smallest first; fractions of production's value."""

    predicted: Floats  # (D,) mean
    measured: Floats  # (D,) NaN without hits or production rows
    std_error: Floats  # (D,)
    hits: Ints  # (D,)
    slope: float
    slope_std_error: float
    mean_predicted: float  # over all requests
    mean_measured: float  # deciles weighted by their hits
    mean_std_error: float


def policy_arms(model: ValueModel, hold_out: Iterable[Log], config: Config, *, anchor: Anchor, scalarisation: Floats) -> tuple[Arm, Arm]:
    """Return the exploration and production rows of a hold-out log as arms of one policy of the family.

    Args:
        model: chooses and predicts.
        hold_out: batches of rows, later than those the model and the anchor saw.
        config: objectives and surface.
        anchor: from the training days.
        scalarisation: (M,) of the policy.

    Raises:
        DataError: the log has no exploration rows, or no production rows.
    """
    actions, scale = config.surface.build().actions, signs_of(config) / anchor.value
    weights = scale * scalarisation
    explored: list[Arm] = []
    produced: list[Arm] = []

    def arm(rows: Log, *, hits: bool) -> Arm:
        values = model.values(rows.state, actions)
        chosen = choose(values * scale.astype(values.dtype), scalarisation[None])[:, 0]
        change = values[np.arange(len(rows)), chosen] - values[:, PRODUCTION]
        expected = anchor.expected(rows)
        outcome = rows.rewards - (np.zeros_like(rows.rewards) if expected is None else expected)
        weight = np.where(chosen == rows.action, 1 / rows.propensity, 0.0) if hits else np.ones(len(rows))
        return Arm(change @ weights, outcome @ weights, weight, user_buckets(rows.user))

    for batch in hold_out:
        for parts, rows, hits in ((explored, batch.exploration(), True), (produced, batch.production(), False)):
            parts += [arm(rows.take(slice(start, start + ROWS_SCORED)), hits=hits) for start in range(0, len(rows), ROWS_SCORED)]
    if not explored or not produced:
        raise DataError(
            f"the held-out days have {'no production' if explored else 'no exploration'} rows", hint="gains are measured between the two"
        )
    return Arm.concat(explored), Arm.concat(produced)


def calibrate(explored: Arm, produced: Arm, *, deciles: int = DECILES) -> Calibration:
    """Return how held-out gains follow predicted ones.

    Args:
        explored: exploration rows.
        produced: production rows.
        deciles: D, of the predicted gain over exploration rows; fewer where predictions tie.

    Raises:
        GateError: fewer than three deciles have hits and production rows.
        DataError: rows of fewer than two clusters of users.
    """
    edges = np.unique(np.quantile(explored.predicted, np.linspace(0, 1, deciles + 1)[1:-1]))
    size = len(edges) + 1
    bin_of = [np.searchsorted(edges, arm.predicted, side="right") for arm in (explored, produced)]
    (hit_mean, hit_influence), (static_mean, static_influence) = (
        _binned(arm, bins, size) for arm, bins in zip((explored, produced), bin_of, strict=True)
    )
    measured, influence = hit_mean - static_mean, hit_influence - static_influence  # (D,), (C, D)
    hits = np.bincount(bin_of[0][explored.weight > 0], minlength=size)
    rows = np.bincount(bin_of[0], minlength=size)
    predicted = np.bincount(bin_of[0], weights=explored.predicted, minlength=size) / np.maximum(rows, 1)
    known = np.isfinite(measured)
    if known.sum() < 3:
        raise GateError(f"only {int(known.sum())} of {size} deciles have hits and production rows", hint="collect more exploration rows")
    share = hits[known] / hits[known].sum()
    centred = predicted[known] - share @ predicted[known]
    spread = share @ centred**2
    if not spread > 0:
        raise GateError(
            "the model predicts the same gain for every request", hint="train on more rows, or on features that tell users apart"
        )
    lever = share * centred / spread
    moved = influence[:, known]
    error = clustered_std_error(np.column_stack([moved, moved @ lever, moved @ share]))
    each = np.full(size, np.nan)
    each[known] = error[:-2]
    return Calibration(
        predicted=predicted,
        measured=measured,
        std_error=each,
        hits=hits,
        slope=float(lever @ measured[known]),
        slope_std_error=float(error[-2]),
        mean_predicted=float(explored.predicted.mean()),
        mean_measured=float(share @ measured[known]),
        mean_std_error=float(error[-1]),
    )


def _binned(arm: Arm, bins: Ints, size: int) -> tuple[Floats, Floats]:
    """Return the weighted mean outcome of each bin (D,), NaN where it is empty, and its influence per cluster (C, D)."""
    cell = arm.cluster * size + bins

    def total(per_row: Floats) -> Floats:
        return np.bincount(cell, weights=per_row, minlength=BUCKETS * size).reshape(BUCKETS, size)

    weight, product = total(arm.weight), total(arm.weight * arm.outcome)
    whole = weight.sum(axis=0)
    whole = np.where(whole > 0, whole, np.nan)
    mean = product.sum(axis=0) / whole
    return mean, (product - mean * weight) / whole
