"""From a value model and a hold-out log to the front: the stages of this folder in their order.

The rule: what production is worth (its mean, and m(s), the expected reward of a request under production) is fitted on days before the
held-out ones; the model only chooses actions, every lift that is stored is the hold-out log's answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError, DataError
from paretune.frontier.assemble import assemble_front, floors_of, signs_of
from paretune.frontier.dual import dual_scalarisations
from paretune.frontier.front import Front
from paretune.frontier.sweep import Family, Sweep, SweepSums, alpha_grid, scalarise, simplex_grid
from paretune.ope.baseline import Baseline, fit_baseline
from paretune.ports import ValueModel
from paretune.records import Floats, Log
from paretune.seeds import stream
from paretune.value.features import Encoder

ANCHOR_ROWS = 200_000  # production rows are plenty for m(s): the lift is unbiased for any m
ROWS_SCORED = 16_384  # at a time; bounds the (n, K, M) values
MOST_COHORTS = 8  # kept apart; the sums grow with their number


@dataclass(frozen=True, slots=True)
class Anchor:
    """What production is worth, as days before the held-out ones say."""

    value: Floats  # (M,) mean reward
    cohorts: tuple[str, ...]  # to keep apart, largest first
    encoder: Encoder | None = None  # with m(s); None where no production row was logged
    baseline: Baseline | None = None
    proposed: Floats | None = None  # (D, M) scalarisations that the dual proposes for the floors, with three objectives and more

    def expected(self, log: Log) -> Floats | None:
        """Return m(s) (n, M) of a log's requests; None where there is no m."""
        return None if self.encoder is None or self.baseline is None else self.baseline.predict(self.encoder.wide(log.state))


def fit_anchor(log: Log, config: Config) -> Anchor:
    """Return what production is worth.

    Args:
        log: rows of training days; production rows where there are any, else the exploration rows stand in for the scale alone.
        config: features, cohorts.

    Raises:
        DataError: there are no rows, or an objective never earned anything.
    """
    if len(log) == 0:
        raise DataError("no rows to anchor the lifts on", hint="give the log of the training days")
    production = log.production()
    rows = production if len(production) else log
    value = rows.rewards.mean(axis=0, dtype=np.float64)
    if not (value > 0).all():
        earning = [objective.name for objective, mean in zip(config.objectives, value, strict=True) if not mean > 0]
        raise DataError(f"objectives {earning} earned nothing on the training days", hint="check their columns, or leave them out")
    counts = np.bincount(rows.cohort.codes[rows.cohort.codes >= 0], minlength=len(rows.cohort.vocabulary))
    met = [rows.cohort.vocabulary[i] for i in np.argsort(-counts, kind="stable") if counts[i]]
    cohorts = tuple((config.cohorts.values or met)[:MOST_COHORTS])
    if not len(production):
        return Anchor(value, cohorts)
    used = production.take(slice(0, ANCHOR_ROWS))
    encoder = Encoder.fit(used.state, config.features)
    return Anchor(value, cohorts, encoder, fit_baseline(encoder.wide(used.state), used.rewards))


def scalarisations_of(config: Config) -> Floats:
    """Return (P, M) the family: `evaluation.alphas` points for two objectives, else an even simplex grid of at most so many."""
    objectives, points = len(config.objectives), config.evaluation.alphas
    if objectives == 2:
        return scalarise(alpha_grid(points))
    if objectives == 1:
        return np.ones((1, 1))
    divisions = 1
    while comb(divisions + objectives, objectives - 1) <= points:
        divisions += 1
    return simplex_grid(objectives, divisions)


def with_proposals(anchor: Anchor, model: ValueModel, log: Log, config: Config) -> Anchor:
    """Return the anchor with the scalarisations that the dual proposes for the floors; as it is with fewer than three objectives.

    With two objectives the exact curve already holds every trade-off.

    Args:
        anchor: of the training days.
        model: whose values propose; the estimator decides later, on held-out rows.
        log: rows of training days; a few thousand are plenty.
        config: objectives, guardrails, surface.
    """
    if len(config.objectives) < 3 or len(log) == 0:
        return anchor
    log = log.take(np.unique(np.linspace(0, len(log) - 1, ROWS_SCORED).astype(np.int64)))
    values = model.values(log.state, config.surface.build().actions) * (signs_of(config) / anchor.value)
    return replace(anchor, proposed=dual_scalarisations(values, floors=floors_of(config)))


def family_of(config: Config, anchor: Anchor) -> Family:
    """Return what is swept: an even grid of trade-offs, then those that the dual proposed."""
    grid, proposed = scalarisations_of(config), anchor.proposed
    weights = grid if proposed is None else np.vstack([grid, proposed])
    scale = signs_of(config) / anchor.value
    return Family(config.surface.build().actions, weights, scale, anchor.cohorts, proposed=len(weights) - len(grid))


def sweep_sums(model: ValueModel, hold_out: Iterable[Log] | Log, config: Config, *, anchor: Anchor) -> SweepSums:
    """Return the sums of a sweep over hold-out rows; those of several logs add up.

    Args:
        model: chooses the actions.
        hold_out: the rows, or batches of them in any order; later than those the model and the anchor saw.
        config: objectives, surface, points drawn.
        anchor: from the training days.

    Raises:
        ConfigError: the model was trained for other objectives.
        DataError: rewards or values are not finite.
    """
    names = tuple(objective.name for objective in config.objectives)
    if model.objectives != names:
        raise ConfigError(
            f"the model knows objectives {list(model.objectives)}, the configuration names {list(names)}",
            hint="train again with this configuration, or sweep with the one the model was trained with",
        )
    actions = config.surface.build().actions
    sweep = Sweep(family_of(config, anchor))
    for batch in [hold_out] if isinstance(hold_out, Log) else hold_out:
        explored, production = batch.exploration(), batch.production()
        for start in range(0, len(explored), ROWS_SCORED):
            part = explored.take(slice(start, start + ROWS_SCORED))
            sweep.add_explored(part, model.values(part.state, actions), expected=anchor.expected(part))
        for start in range(0, len(production), ROWS_SCORED):
            part = production.take(slice(start, start + ROWS_SCORED))
            sweep.add_produced(part, expected=anchor.expected(part))
    return sweep.sums()


def sweep(
    model: ValueModel,
    hold_out: Iterable[Log] | Log,
    config: Config,
    *,
    anchor: Anchor,
    seed: int = 0,
    halves: bool = False,
) -> Front:
    """Return the front: the policy family, its picks and the static references, with lifts over production from the hold-out rows.

    Args:
        model: chooses the actions.
        hold_out: the rows, or batches of them in any order; later than those the model and the anchor saw.
        config: objectives, guardrails, surface, evaluation.
        anchor: from the training days, see `fit_anchor`.
        seed: of the bootstrap.
        halves: choose on one half of the users, report on the other.

    Raises:
        ConfigError: the model was trained for other objectives.
        DataError: rewards or values are not finite.
        NoOverlapError: no policy has a hit.
        GateError: no policy has enough hits.
    """
    sums = sweep_sums(model, hold_out, config, anchor=anchor)
    return assemble_front(sums, config.surface.build(), config, rng=stream(seed, "bootstrap"), halves=halves)
