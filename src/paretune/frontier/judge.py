"""From estimates to what is said of each policy: expectations, risks, verdicts, the safest policy, and the refusal.

The rule: everything inside is turned so that larger is better; what is returned is in the objectives' own direction. The safest policy is
chosen and judged by the same posterior, so choosing it needs no second sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paretune.frontier.front import Expectation, Lifts
from paretune.frontier.pareto import probability_non_dominated
from paretune.frontier.select import Choice, probability_degrading, surely_clearing
from paretune.frontier.shrinkage import believe
from paretune.frontier.verdict import CANNOT_TELL, Refusal, balanced, refusal, verdicts
from paretune.ope.estimators import Estimate
from paretune.records import Bools, Floats


@dataclass(frozen=True, slots=True)
class Judge:
    """What counts as degrading, and how much of a risk of it is still worth a test."""

    signs: Floats  # (M,) +1 to maximise, -1 to minimise
    floors: Floats  # (M,) lowest acceptable lifts, larger is better
    tolerated: float  # largest probability of degrading that is still promising
    confidence: float
    replicates: int  # draws of the posterior

    def safest(self, estimate: Estimate, scalarisations: Floats, *, rng: np.random.Generator) -> tuple[Choice, Bools]:
        """Return the member of the family that does best on its worst objective at the tolerated risk, among those whose estimates clear.

        With it comes which members clear the floors at that risk, their first objective's aside (P,).

        Args:
            estimate: of the P members, at least one with a value.
            scalarisations: (P, M).
            rng: source of the draws.
        """
        turned = self._turned(estimate)
        belief = believe(turned, scalarisations, floors=self.floors, replicates=self.replicates, rng=rng)
        points = turned.value
        known = np.logical_and.reduce(np.isfinite(points), axis=1)
        clears = np.logical_and.reduce(np.where(known[:, None], points, -np.inf) >= self.floors, axis=1)
        among = clears if clears.any() else known
        sure = surely_clearing(belief.draws, floors=self.floors, tolerated=self.tolerated)
        return Choice("balanced", balanced(belief.draws, floors=self.floors, tolerated=self.tolerated, among=among)), sure

    def expectation(self, estimate: Estimate, scalarisations: Floats, *, family: int, rng: np.random.Generator) -> Expectation:
        """Return what to expect of production and, after it, of every policy.

        Args:
            estimate: of P policies, the family first.
            scalarisations: (P, M) of each policy, on average; NaN rows are of policies that nothing is said of.
            family: number of members.
            rng: source of the draws.

        Returns:
            Of P + 1 policies.
        """
        apart = np.arange(len(scalarisations)) >= family
        turned = self._turned(estimate)
        belief = believe(turned, scalarisations, floors=self.floors, apart=apart, replicates=self.replicates, rng=rng)
        draws = belief.draws
        inside = np.flatnonzero(np.isfinite(belief.mean).all(axis=1) & ~apart)
        on_front = np.full(len(scalarisations), np.nan)
        on_front[inside] = probability_non_dominated(draws[:, inside])
        tail = 50 * (1 - self.confidence)
        low, high = np.percentile(draws * self.signs, [tail, 100 - tail], axis=0)
        zero = np.zeros((1, len(self.signs)))
        return Expectation(
            mean=np.concatenate([zero, belief.mean * self.signs]),
            low=np.concatenate([zero, low]),
            high=np.concatenate([zero, high]),
            degrading=np.concatenate([[0.0], probability_degrading(draws, floors=self.floors)]),
            on_front=np.concatenate([[np.nan], on_front]),
        )

    def _turned(self, estimate: Estimate) -> Estimate:
        return replace(estimate, value=estimate.value * self.signs, influence=estimate.influence * self.signs)

    def verdicts(self, lifts: Lifts, expectation: Expectation, *, enough: bool = True) -> tuple[str, ...]:
        """Return the verdict of each policy of a front; production, which nothing needs to be said of, gets an empty one.

        Args:
            lifts: production first.
            expectation: of the same policies.
            enough: whether policies have the hits that the configuration asks for; without, nothing can be told.
        """
        lower = np.where(self.signs > 0, lifts.band_low, -lifts.band_high)
        said = verdicts(lifts.estimate * self.signs, lower=lower, risk=expectation.degrading, floors=self.floors, tolerated=self.tolerated)
        return ("", *(word if enough else CANNOT_TELL for word in said[1:]))

    def refusal(self, policy: int, lifts: Lifts, expectation: Expectation, *, rows: int, smallest: float) -> Refusal:
        """Return why there is no front, for the candidate nearest to one.

        Args:
            policy: index of the candidate.
            lifts: production first.
            expectation: of the same policies.
            rows: exploration rows that were judged.
            smallest: smallest lift of interest, a fraction.
        """
        return refusal(
            policy,
            expected=expectation.mean[policy] * self.signs,
            std_error=lifts.std_error[policy],
            floors=self.floors,
            objectives=lifts.objectives,
            rows=rows,
            smallest=smallest,
        )


def nothing_to_choose(said: tuple[str, ...]) -> bool:
    """Say whether no policy is even promising."""
    return all(word in {CANNOT_TELL, ""} for word in said)
