"""What a sweep found: policies with their lifts, bands and picks; the artefact from which people choose.

The rule: a lift is relative to production and comes from off-policy (or online) evidence; what the model predicted for itself is never
stored here.
"""

from __future__ import annotations

from dataclasses import dataclass

from paretune.frontier.ladder import Ladder
from paretune.frontier.verdict import Refusal
from paretune.records import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Lifts:
    """Relative lifts over production, in fractions (0.01 = +1 %), of P policies on M objectives."""

    policies: tuple[str, ...]  # (P,)
    objectives: tuple[str, ...]  # (M,)
    estimate: Floats  # (P, M)
    std_error: Floats  # (P, M), clustered by user
    low: Floats  # (P, M) pointwise interval
    high: Floats  # (P, M)
    band_low: Floats  # (P, M) simultaneous over all P x M numbers
    band_high: Floats  # (P, M)
    replicates: Floats  # (B, P, M) bootstrap draws around the estimate
    production: Floats  # (M,) value of the static weights
    hits: Ints  # (P,) exploration rows that carry the evidence: hits, or effective rows of a pooled estimator
    estimator: str
    confidence: float
    n_rows: int
    n_users: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A family member: the scalarisation that chooses an action per request, or one fixed weight vector."""

    name: str
    kind: str  # "alpha", "static", "best static", "matched static", "cohort", "cohort table"
    alpha: float | None = None  # weight of the first objective, in relative-lift units
    cohort_alphas: tuple[tuple[str, float], ...] = ()  # one alpha per cohort
    weights: Floats | None = None  # (m,) of a static policy
    scalarisation: tuple[float, ...] = ()  # (M,) weight of each objective, in relative-lift units; empty for static and cohort policies
    cohort_weights: tuple[tuple[str, tuple[float, ...]], ...] = ()  # full static weights per cohort, of a cohort table


@dataclass(frozen=True, slots=True)
class Pick:
    """A policy put forward, and what speaks for it."""

    label: str  # "save-leaning", "knee", "constrained", ...
    policy: int  # index into Front.policies
    probability_degrading: float  # of losing on at least one objective (or guardrail floor)
    note: str = ""  # what the reader must know, e.g. that no policy left every objective undegraded
    verdict: str = ""  # see frontier.verdict


@dataclass(frozen=True, slots=True)
class Expectation:
    """What to expect of P policies once the best-looking ones have been picked (frontier.shrinkage); NaN where nothing can be said."""

    mean: Floats  # (P, M) relative lifts
    low: Floats  # (P, M) interval at the confidence of the lifts
    high: Floats  # (P, M)
    degrading: Floats  # (P,) probability of being below a floor on at least one objective
    on_front: Floats  # (P,) probability that no other member of the family dominates it; NaN outside the family


@dataclass(frozen=True, slots=True)
class CohortLifts:
    """Lifts of L picked policies inside each of G cohorts, over production in the same cohort; their bands are part of the sweep's."""

    cohorts: tuple[str, ...]  # (G,)
    policies: Ints  # (L,) index into Front.policies
    estimate: Floats  # (G, L, M)
    band_low: Floats  # (G, L, M)
    band_high: Floats  # (G, L, M)
    hits: Ints  # (G, L)


@dataclass(frozen=True, slots=True)
class CohortSweep:
    """Lifts of the whole swept family inside each of G cohorts; each number by itself, no bands. NaN without enough hits."""

    cohorts: tuple[str, ...]  # (G,)
    estimate: Floats  # (G, F, M) of the F members of the family, in the order of Front.policies
    std_error: Floats  # (G, F, M), clustered by user


@dataclass(frozen=True, slots=True)
class Guarded:
    """How low the guardrail objectives of P policies may truly lie, without leaning on the normal approximation (ope.bernstein).

    Everything is turned so that larger is better: of an objective of which less is better, -0.01 is a rise of 1 %.
    """

    objectives: tuple[str, ...]  # (G,)
    directions: Floats  # (G,) +1 where more is better, -1 where less is
    floors: Floats  # (G,) lowest acceptable relative lifts, <= 0
    low: Floats  # (P, G) bounds that hold for all P x G numbers at once; NaN without an estimate


@dataclass(frozen=True, slots=True)
class Front:
    """The swept family on a hold-out log."""

    policies: tuple[Policy, ...]  # (P,)
    lifts: Lifts
    non_dominated: Bools  # (P,) no member of the swept family is better in every objective with confidence; False for reference policies
    picks: tuple[Pick, ...]
    mean_weights: Floats  # (P, m) average weight vector each policy serves
    action_shares: Floats  # (P, K) share of requests per action, each row summing to one
    expectation: Expectation | None = None
    by_cohort: CohortLifts | None = None
    refusal: Refusal | None = None  # set where no policy is even promising: there is nothing to choose from
    ladder: Ladder | None = None  # the same lifts pooled more and less; None where lifts are of exact hits
    guarded: Guarded | None = None  # None without a guardrail
    minimised: tuple[str, ...] = ()  # objectives of which less is better
    changed: Floats | None = None  # (P,) share of held-out requests whose list is not production's; None without candidates
    cohort_sweep: CohortSweep | None = None  # None with fewer than two cohorts
    verdicts: tuple[str, ...] = ()  # (P,) of every policy, picked or not, see frontier.verdict; "" of production

    def labels(self) -> dict[int, tuple[str, ...]]:
        """Return the labels of each policy that was picked, both in the order of the picks."""
        found: dict[int, tuple[str, ...]] = {}
        for pick in self.picks:
            found[pick.policy] = (*found.get(pick.policy, ()), pick.label)
        return found
