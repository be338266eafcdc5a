"""From a value model and a hold-out log to the front: the stages of this folder in their order.

The rule: what production is worth (its mean, and m(s), the expected reward of a request under production) and what the ranker's word on
other lists is worth are fitted on days before the held-out ones; the model only chooses actions, every lift that is stored is the hold-out
log's answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from math import comb

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError, DataError
from paretune.frontier.anchor import ROWS_SCORED, Anchor, rows_scored
from paretune.frontier.assemble import assemble_front, floors_of, signs_of
from paretune.frontier.dual import dual_scalarisations
from paretune.frontier.front import Front
from paretune.frontier.sweep import Family, Sweep, SweepSums, alpha_grid, scalarise, simplex_grid
from paretune.ope.pooling import ACTION, OVERLAP, Kernel, Likeness, action_likeness, kernel_coordinates, overlap_likeness
from paretune.ports import ValueModel
from paretune.records import Bools, Candidates, Floats, Log
from paretune.seeds import stream
from paretune.surface.lists import list_values, top_lists


def wants_lists(config: Config) -> bool:
    """Say whether the estimator reads the candidates of held-out rows, where there are any."""
    return config.evaluation.estimator in {"auto", "overlap", "overlap-replay"}


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
    return Family(config.surface.build().actions, weights, scale, anchor.cohorts)


def sweep_sums(
    model: ValueModel, hold_out: Iterable[Log] | Log, config: Config, *, anchor: Anchor, evidence: Evidence | None = None
) -> SweepSums:
    """Return the sums of a sweep over hold-out rows; those of several logs add up.

    Args:
        model: chooses the actions.
        hold_out: the rows, or batches of them in any order; later than those the model and the anchor saw.
        config: objectives, surface, points drawn.
        anchor: from the training days.
        evidence: how rows speak for actions that they did not take, the same for all parts of a log (see `pooled_evidence`); by default
            these rows decide.

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
    surface = config.surface.build()
    batches: Iterable[Log] = [hold_out] if isinstance(hold_out, Log) else hold_out
    if evidence is None:
        evidence, batches = pooled_evidence(batches, config, anchor=anchor)
    running, at_once = Sweep(family_of(config, anchor), kernel=evidence.kernel, replayed=evidence.replayed), rows_scored(len(surface))
    for batch in batches:
        explored, production = batch.exploration(), batch.production()
        for start in range(0, len(explored), at_once):
            part = explored.take(slice(start, start + at_once))
            told = evidence.of_rows(part)
            values = model.values(part.state, surface.actions)
            running.add_explored(
                part, values, expected=told.expected, likeness=told.likeness, advantages=told.advantages, differs=told.differs
            )
        for start in range(0, len(production), ROWS_SCORED):
            part = production.take(slice(start, start + ROWS_SCORED))
            running.add_produced(part, expected=anchor.expected(part))
    return running.sums()


@dataclass(frozen=True, slots=True)
class Told:
    """What n exploration rows say; None where the log or the kernel does not let them say it."""

    expected: Floats | None = None  # m(s) (n, M)
    likeness: Likeness | None = None  # towards all actions
    advantages: Floats | None = None  # g(s, a) (n, K, M)
    differs: Bools | None = None  # (n, K) whether an action's list is not production's


@dataclass(frozen=True, slots=True)
class Evidence:
    """How rows speak for actions that they did not take: by which kernel, corrected by what."""

    config: Config
    anchor: Anchor
    kernel: Kernel | None  # None: hits alone
    replayed: bool  # list-replay corrects the kernel

    def of_rows(self, part: Log) -> Told:
        """Return what exploration rows say."""
        surface, anchor = self.config.surface.build(), self.anchor
        wide = None if anchor.encoder is None else anchor.encoder.wide(part.state)
        expected = None if wide is None or anchor.baseline is None else anchor.baseline.predict(wide)
        if self.kernel is None:
            return Told(expected)
        if self.kernel.name != OVERLAP.name:
            return Told(expected, action_likeness(kernel_coordinates(surface), part.action, part.propensity, kernel=self.kernel))
        candidates, advantages = _candidates_of(part), None
        lists = top_lists(candidates, surface.actions, surface.k)
        likeness = overlap_likeness(lists, part.action, part.propensity, kernel=self.kernel)
        if self.replayed and anchor.variate is not None and wide is not None:
            advantages = anchor.variate.advantages(wide, list_values(candidates, lists, self.config.objective_heads() or ()))
        return Told(expected, likeness, advantages, (lists != lists[:, :1]).any(axis=2))


def pooled_evidence(hold_out: Iterable[Log] | Log, config: Config, *, anchor: Anchor) -> tuple[Evidence, Iterable[Log]]:
    """Return how the rows of a hold-out log speak, and all of its batches again; the first with exploration rows decides for all.

    Raises:
        DataError: the configuration asks for an estimator that the log cannot give.
    """
    batches = iter([hold_out] if isinstance(hold_out, Log) else hold_out)
    first = []
    for batch in batches:
        first.append(batch)
        if batch.explored.any():
            break
    kernel, replayed = _kernel_of(config, first[-1].exploration() if first else None, anchor)
    return Evidence(config, anchor, kernel, replayed), chain(first, batches)


def _candidates_of(log: Log) -> Candidates:
    """Return the rows' candidates, none where a file has no such columns."""
    if log.candidates is not None:
        return log.candidates
    return Candidates(np.zeros(len(log) + 1, np.int64), np.empty(0, np.int64), np.empty((0, 1), np.float32))


def _kernel_of(config: Config, explored: Log | None, anchor: Anchor) -> tuple[Kernel | None, bool]:
    """Return the kernel that the configuration and the log allow, and whether list-replay corrects it."""
    wanted = config.evaluation.estimator
    listed = explored is not None and explored.candidates is not None and len(explored.candidates.ids) > 0
    if wanted in {"overlap", "overlap-replay"} and not listed:
        raise DataError(
            f"evaluation.estimator is {wanted!r}, and the held-out exploration rows carry no candidates",
            hint="log candidate_ids and candidate_scores on exploration rows, or let the estimator be auto",
        )
    if wanted == "overlap-replay" and anchor.variate is None:
        raise DataError(
            "evaluation.estimator is 'overlap-replay', and there is no list-replay variate",
            hint="name the head of every objective, and log candidates on exploration rows of the training days too",
        )
    if wanted == "hit":
        return None, False
    if wanted == "overlap":
        return OVERLAP, False
    if listed and wanted != "action-kernel":
        return OVERLAP, anchor.variate is not None
    return ACTION, False


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
