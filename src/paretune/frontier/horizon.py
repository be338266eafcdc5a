"""Do requests and whole sessions rank the policies alike? The same family swept on two rewards, with joint draws.

The rule: the policies choose by the same model and the same scale in both sweeps, only what is counted differs (the request's reward, or
the reward-to-go until the session's end), so a difference in ranking is a difference of horizons. Alike means that Kendall's tau is at
least ALIKE with confidence on every objective; that a decision carries over is told beside it, since it need not change any ranking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from paretune.config import Config
from paretune.frontier.assemble import family_policies, signs_of
from paretune.frontier.lifts import estimated_lift, refuse_idle
from paretune.frontier.references import baseline_sums
from paretune.frontier.sweep import SweepSums
from paretune.ope.intervals import intervals
from paretune.ope.sessions import Agreement, Wald, rank_agreement
from paretune.records import Floats

ALIKE = 0.5  # Kendall's tau: three of four pairs of policies in the same order
HORIZONS = ("request", "session")

Judge = Literal["by requests", "by sessions", "not enough data"]


@dataclass(frozen=True, slots=True)
class Horizon:
    """Lifts of a family on the reward of the request and on that of the session."""

    policies: tuple[str, ...]  # (P,)
    objectives: tuple[str, ...]  # (M,)
    estimate: Floats  # (P, 2, M) relative lifts on request and on session
    low: Floats  # (P, 2, M) bands that hold for all of them at once
    high: Floats  # (P, 2, M)
    agreement: tuple[Agreement, ...]  # (M,)
    confidence: float


def compare_horizons(request: SweepSums, session: SweepSums, config: Config, *, rng: np.random.Generator) -> Horizon:
    """Return how the family fares on both rewards.

    Args:
        request: sums of the sweep on each request's own reward.
        session: sums over the same rows on the reward-to-go.
        config: objectives, confidence, replicates, smallest number of hits.
        rng: source of the multipliers.

    Raises:
        NoOverlapError: no policy has a hit.
        DataError: an objective that production never earns, or fewer than two policies with an estimate.
    """
    surface, evaluation = config.surface.build(), config.evaluation
    objectives = tuple(objective.name for objective in config.objectives)
    estimates = []
    for sums in (request, session):
        estimate, production = estimated_lift(sums.total(), baseline_sums(sums, surface), min_hits=evaluation.min_hits)
        refuse_idle(production, objectives)
        estimates.append(estimate.of_policies(np.arange(sums.size)))
    both = replace(
        estimates[0],
        value=np.concatenate([each.value for each in estimates], axis=1),
        influence=np.concatenate([each.influence for each in estimates], axis=2),
    )
    found = intervals(both, confidence=evaluation.confidence, replicates=evaluation.replicates, rng=rng)
    shape, signs = (len(both.value), len(HORIZONS), len(objectives)), signs_of(config)
    value, draws = both.value.reshape(shape), found.replicates.reshape(len(found.replicates), *shape)
    agreement = tuple(
        rank_agreement(
            signs[j] * value[:, 0, j],
            signs[j] * value[:, 1, j],
            signs[j] * draws[:, :, 0, j],
            signs[j] * draws[:, :, 1, j],
            confidence=evaluation.confidence,
        )
        for j in range(len(objectives))
    )
    names = tuple(policy.name for policy in family_policies(request.family.scalarisations))
    return Horizon(
        names, objectives, value, found.band_low.reshape(shape), found.band_high.reshape(shape), agreement, evaluation.confidence
    )


def judged_by(horizon: Horizon, tests: tuple[Wald, ...]) -> tuple[Judge, str]:
    """Return by what the policies should be judged, and one sentence that says why.

    Args:
        horizon: of the family.
        tests: of carry-over.
    """
    named = list(zip(horizon.objectives, horizon.agreement, strict=True))
    words = ", ".join(f"{name} {each.tau:.2f} ({each.low:.2f} … {each.high:.2f})" for name, each in named).replace("-", "−")
    carried = carried_over(tests, confidence=horizon.confidence)
    beside = "no carry-over is seen"
    if carried:
        seen = ", ".join(f"{test.outcome!r} by up to {test.largest:.1%}".replace("%", " %") for test in carried)
        beside = f"the weights served before change {seen}"
    if all(each.low >= ALIKE for each in horizon.agreement):
        return "by requests", f"Judge by requests: sessions rank the policies alike (tau of {words}); {beside}."
    unlike = [name for name, each in named if each.high < ALIKE]
    if unlike:
        return "by sessions", f"Judge by sessions: they rank the policies differently on {', '.join(unlike)} (tau of {words}); {beside}."
    return "not enough data", f"Not enough data: the rankings may or may not agree (tau of {words}); {beside}."


def carried_over(tests: tuple[Wald, ...], *, confidence: float) -> tuple[Wald, ...]:
    """Return the tests that reject, all together at one confidence (Bonferroni)."""
    return tuple(test for test in tests if test.p_value * len(tests) < 1 - confidence)
