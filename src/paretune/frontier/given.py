"""Lifts of policies that are given as functions of the request, side by side on the same rows, with paired differences.

The rule: a function sees what is known when the request arrives, and takes an action of the grid; its lift comes from the log, by the same
estimator as the front's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from paretune.config import Config
from paretune.errors import DataError, GateError
from paretune.frontier.anchor import ROWS_SCORED, Anchor
from paretune.frontier.evaluate import Evidence, pooled_evidence
from paretune.frontier.lifts import estimated_lift, refuse_idle
from paretune.frontier.references import nearest_grid_action
from paretune.ope.clusters import user_buckets
from paretune.ope.intervals import clustered_std_error, occupied
from paretune.ope.lift import AnchoredSums, ExploredSums, ProducedSums, explored_sums, produced_sums
from paretune.ope.pooled import PooledSums, pooled_sums
from paretune.records import PRODUCTION, Floats, Ints, Log

Decide = Callable[[Log], Ints]
"""From n rows, without candidates, to their (n, P) actions, none of them production; what came of a row must not decide."""


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """P policies on the same rows; differences are to the first."""

    policies: tuple[str, ...]  # (P,)
    objectives: tuple[str, ...]  # (M,)
    estimate: Floats  # (P, M) relative lift
    std_error: Floats  # (P, M), clustered by user
    gap: Floats  # (P, M) minus the first policy's
    gap_std_error: Floats  # (P, M) of the paired difference
    score: Floats  # (P,) scalarised lift
    score_gap: Floats  # (P,)
    score_gap_std_error: Floats  # (P,)
    agreement: Floats  # (P,) share of exploration rows on which the first policy's action is taken too
    hits: Ints  # (P,)
    quantile: float  # standard errors on either side of an interval
    n_rows: int
    estimator: str


@dataclass(frozen=True, slots=True)
class GivenSums:
    """What is kept of the rows."""

    anchored: AnchoredSums  # of the P policies, then of the static grid action nearest to production
    agreeing: Floats  # (P,) exploration rows


def given_sums(decide: Decide, hold_out: Iterable[Log], config: Config, *, anchor: Anchor) -> GivenSums:
    """Return the sums of policies over hold-out rows.

    Args:
        decide: the policies.
        hold_out: batches of rows, later than those the policies and the anchor saw.
        config: surface.
        anchor: from the training days.

    Raises:
        DataError: there are no rows, or a policy takes an action that is not on the grid.
    """
    surface = config.surface.build()
    nearest = nearest_grid_action(surface, surface.static)
    evidence, batches = pooled_evidence(hold_out, config, anchor=anchor)
    seen: ExploredSums | None = None
    arm: ProducedSums | None = None
    pooled: PooledSums | None = None
    agreeing: Floats = np.zeros(())
    for batch in batches:
        explored, produced = batch.exploration(), batch.production()
        for start in range(0, len(explored), ROWS_SCORED):
            rows = explored.take(slice(start, start + ROWS_SCORED))
            chosen = decide(replace(rows, candidates=None))
            if not (chosen.min() > PRODUCTION and chosen.max() < len(surface)):
                raise DataError("a policy takes actions off the grid, of which no row can tell", hint="choose among the grid's actions")
            agreeing = agreeing + (chosen == chosen[:, :1]).sum(axis=0)
            both = np.column_stack([chosen, np.full(len(rows), nearest, chosen.dtype)])
            hits, likewise = _explored(rows, both, evidence)
            seen = hits if seen is None else seen + hits
            if likewise is not None:
                pooled = likewise if pooled is None else pooled + likewise
        for start in range(0, len(produced), ROWS_SCORED):
            rows = produced.take(slice(start, start + ROWS_SCORED))
            part = produced_sums(rows.rewards, user_buckets(rows.user), expected=anchor.expected(rows))
            arm = part if arm is None else arm + part
    if seen is None:
        raise DataError("no held-out exploration rows to judge policies on", hint="read more of the log")
    if arm is None:
        arm = produced_sums(np.empty((0, len(config.objectives))), np.empty(0, np.int64))
    return GivenSums(AnchoredSums(seen, arm, pooled), agreeing)


def _explored(rows: Log, chosen: Ints, evidence: Evidence) -> tuple[ExploredSums, PooledSums | None]:
    """Return what exploration rows say of policies by their hits, and pooled where there is a kernel."""
    cluster = user_buckets(rows.user)
    told = evidence.of_rows(rows)
    seen = explored_sums(rows.rewards, rows.propensity, chosen == rows.action[:, None], cluster, expected=told.expected)
    if evidence.kernel is None or told.likeness is None:
        return seen, None
    pooled = pooled_sums(
        rows.rewards,
        told.likeness,
        chosen,
        cluster,
        kernel=evidence.kernel,
        action=rows.action,
        expected=told.expected,
        advantages=told.advantages,
    )
    return seen, pooled


def compare(sums: GivenSums, names: tuple[str, ...], config: Config, *, weights: Floats) -> PolicyComparison:
    """Return the lifts of policies and their paired differences to the first.

    Args:
        sums: of P policies.
        names: (P,).
        config: objectives, confidence, smallest number of hits.
        weights: (M,) of the objectives in the scalarised lift; negative where less is better.

    Raises:
        NoOverlapError: no policy has a hit.
        GateError: a policy has too few.
        DataError: an objective has production value zero, or there are rows of one user only.
    """
    policies = np.arange(len(names))
    anchored, objectives = sums.anchored, tuple(objective.name for objective in config.objectives)
    family, baseline = anchored.of_policies(policies), anchored.of_policies(policies[-1:] + 1)
    estimate, production = estimated_lift(family, baseline, min_hits=config.evaluation.min_hits)
    refuse_idle(production, objectives)
    few = [name for name, lift in zip(names, estimate.value, strict=True) if not np.isfinite(lift).all()]
    if few:
        raise GateError(
            f"policies {few} have fewer than {config.evaluation.min_hits} hits",
            hint="collect more exploration rows, or explore a smaller grid",
        )
    paired = estimate.influence - estimate.influence[:, :1]
    score = estimate.value @ weights
    error = clustered_std_error(np.concatenate([estimate.influence, paired, (paired @ weights)[:, :, None]], axis=2))  # (P, 2 M + 1)
    m = len(objectives)
    rows = anchored.explored.raw.rows.sum()
    return PolicyComparison(
        policies=names,
        objectives=objectives,
        estimate=estimate.value,
        std_error=error[:, :m],
        gap=estimate.value - estimate.value[:1],
        gap_std_error=error[:, m : 2 * m],
        score=score,
        score_gap=score - score[0],
        score_gap_std_error=error[:, 2 * m],
        agreement=sums.agreeing / rows,
        hits=estimate.hits,
        quantile=float(stdtrit(occupied(estimate.influence) - 1, 0.5 + config.evaluation.confidence / 2)),
        n_rows=int(rows + anchored.produced.rows.sum()),
        estimator=estimate.name,
    )
