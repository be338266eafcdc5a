"""From sums to the record of lifts: the production-anchored estimate where production rows exist, pooled where a kernel was swept with; the
paper's where they do not, by SNIPS where exploration was not uniform.

The rule: which estimator spoke, and against what, is said in `Lifts.estimator`; production itself is a point of lift zero by definition.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paretune.errors import DataError
from paretune.frontier.front import Lifts
from paretune.ope.estimators import Estimate, relative_lift, reward_at_hit, snips, weights_differ
from paretune.ope.intervals import intervals
from paretune.ope.lift import AnchoredSums, anchored_lift, join_policies, pooled_lift
from paretune.records import Floats


def estimated_lift(sums: AnchoredSums, baseline: AnchoredSums, *, min_hits: int = 1) -> tuple[Estimate, Floats]:
    """Return the relative lift of each policy and the value of production (M,).

    Args:
        sums: of P policies.
        baseline: of one policy, the static grid action nearest to production, over the same rows; it stands for production where the log
            holds no production row, and the estimate's name then says so.
        min_hits: policies with fewer hits, or effective rows where pooled, get NaN.

    Raises:
        NoOverlapError: no policy has a hit.
    """
    if sums.has_production:
        estimate = anchored_lift(sums) if sums.pooled is None else pooled_lift(sums)
        value = sums.produced.value()[0]
    else:
        both = join_policies([baseline, sums])
        raw = both.explored.raw
        told = snips(raw) if weights_differ(raw) else reward_at_hit(raw)  # the same number where exploration is uniform
        everyone = relative_lift(told, 0)
        estimate = everyone.of_policies(np.arange(1, len(everyone.hits)))
        estimate = replace(estimate, name=f"{told.name} against the grid action nearest to production (no production rows)")
        value = told.value[0]
    return estimate.refuse_below(min_hits), value


def refuse_idle(production: Floats, objectives: tuple[str, ...]) -> None:
    """Refuse objectives that production never earns.

    Args:
        production: value of the static weights (M,).
        objectives: names (M,).

    Raises:
        DataError: naming them.
    """
    names = [name for name, value in zip(objectives, production, strict=True) if not value > 0]
    if names:
        raise DataError(
            f"production earns nothing of {names}: a relative lift has no meaning", hint="leave the objective out, or log longer"
        )


def lifts_record(
    estimate: Estimate,
    production: Floats,
    *,
    policies: tuple[str, ...],
    objectives: tuple[str, ...],
    confidence: float,
    replicates: int,
    n_rows: int,
    n_users: int,
    rng: np.random.Generator,
) -> Lifts:
    """Return an estimate of relative lifts as the record that fronts are made of; arguments as in `lifts_of`."""
    found = intervals(estimate, confidence=confidence, replicates=replicates, rng=rng)
    return Lifts(
        policies=policies,
        objectives=objectives,
        estimate=estimate.value,
        std_error=found.std_error,
        low=found.low,
        high=found.high,
        band_low=found.band_low,
        band_high=found.band_high,
        replicates=found.replicates,
        production=production,
        hits=estimate.hits,
        estimator=estimate.name,
        confidence=confidence,
        n_rows=n_rows,
        n_users=n_users,
    )


def with_production(lifts: Lifts, *, rows: int) -> Lifts:
    """Return the lifts with production as first policy: lift zero by definition, served on `rows` logged rows."""
    zero = np.zeros((1, len(lifts.objectives)))

    def above(numbers: Floats) -> Floats:
        return np.concatenate([zero, numbers])

    draws = lifts.replicates
    return replace(
        lifts,
        policies=("production", *lifts.policies),
        estimate=above(lifts.estimate),
        std_error=above(lifts.std_error),
        low=above(lifts.low),
        high=above(lifts.high),
        band_low=above(lifts.band_low),
        band_high=above(lifts.band_high),
        replicates=np.concatenate([np.zeros((len(draws), *zero.shape), draws.dtype), draws], axis=1),
        hits=np.concatenate([[rows], lifts.hits]),
    )
