"""From the sums of a sweep to the front: picks, reference policies, lifts with bands, all over the same rows.

The rule: with `halves`, everything that is chosen (picks, best static, cohort trade-offs) is chosen on one half of the users, and every
lift that is shown comes from the other; without, both come from all users and only the bands are honest about the picked numbers.
"""

from __future__ import annotations

import numpy as np

from paretune.config import Config
from paretune.frontier.front import Front, Pick, Policy
from paretune.frontier.lifts import estimated_lift, lifts_of, refuse_idle, with_production
from paretune.frontier.pareto import non_dominated
from paretune.frontier.references import (
    baseline_sums,
    cohort_action_shares,
    cohort_picks,
    cohort_policy_sums,
    describe,
    matched_static,
    static_column,
)
from paretune.frontier.select import Choice, best_static, choose_points, constrained_of_proposed, probability_degrading
from paretune.frontier.sweep import SweepSums, user_half
from paretune.ope.lift import AnchoredSums, join_policies
from paretune.records import PRODUCTION, Bools, Floats, Ints
from paretune.surface.heads import Surface


def signs_of(config: Config) -> Floats:
    """Return (M,) +1 for objectives to maximise, -1 for those to minimise."""
    return np.array([1.0 if objective.direction == "maximise" else -1.0 for objective in config.objectives])


def floors_of(config: Config) -> Floats:
    """Return (M,) lowest acceptable relative lifts, as fractions, larger is better: the guardrails', else zero."""
    floors = {guardrail.objective: guardrail.floor_pct / 100 for guardrail in config.guardrails}
    return np.array([floors.get(objective.name, 0.0) for objective in config.objectives])


def family_policies(scalarisations: Floats) -> tuple[Policy, ...]:
    """Return the swept family as policies; with two objectives, alpha is the weight of the first.

    Args:
        scalarisations: (P, M).
    """
    if scalarisations.shape[1] == 2:
        return tuple(Policy(f"alpha {row[0]:.3g}", "alpha", float(row[0]), scalarisation=tuple(row.tolist())) for row in scalarisations)
    return tuple(
        Policy("weights " + "/".join(f"{c:.2g}" for c in row), "alpha", scalarisation=tuple(row.tolist())) for row in scalarisations
    )


def assemble_front(
    sums: SweepSums,
    surface: Surface,
    config: Config,
    *,
    rng: np.random.Generator,
    halves: bool = False,
    static_action: int | None = None,
) -> Front:
    """Return the front of a sweep: production, the family, best static, matched static, and one trade-off per cohort.

    Args:
        sums: of the hold-out rows.
        surface: whose grid was swept.
        config: objectives, guardrails, confidence, replicates, smallest number of hits.
        rng: source of the bootstrap.
        halves: choose on one half of the users, report on the other.
        static_action: the best static action as chosen on training days; by default it is chosen where the picks are.

    Raises:
        NoOverlapError: no policy has a hit.
        GateError: no policy has enough hits.
        DataError: an objective has production value zero.
    """
    choosing, reporting = (user_half(0), user_half(1)) if halves else (None, None)
    evaluation, objectives = config.evaluation, tuple(objective.name for objective in config.objectives)
    signs, floors = signs_of(config), floors_of(config)
    size, shares = sums.size, sums.action_shares()

    estimate, production = estimated_lift(sums.total(choosing), baseline_sums(sums, surface, choosing), min_hits=evaluation.min_hits)
    refuse_idle(production, objectives)
    points = estimate.value * signs  # of the family, then of every static grid action
    choices = choose_points(points[:size], objectives=objectives, floors=floors)
    if sums.family.proposed:
        choices = (*choices[:-1], constrained_of_proposed(points[:size], floors=floors, proposed=sums.family.proposed))
    members, note = cohort_picks(sums, surface, signs, half=choosing, min_hits=evaluation.min_hits)
    static = best_static(points[size:]) if static_action is None else static_action

    policies = [*family_policies(sums.family.scalarisations)]
    columns = [sums.total(reporting).of_policies(np.arange(size))]
    rows = [*shares]

    def add(policy: Policy, column: AnchoredSums, served: Floats) -> int:
        policies.append(policy)
        columns.append(column)
        rows.append(served)
        return len(policies)  # its index once production stands in front

    def add_static(policy: Policy, action: int) -> None:
        add(policy, sums.total(reporting).of_policies(static_column(sums, action)), np.eye(len(surface))[action])

    if static != PRODUCTION:
        weights = surface.actions[static]
        add_static(Policy(f"best static ({describe(surface, weights)})", "best static", weights=weights), static)
    for choice in _distinct(choices):
        add_static(*matched_static(surface, shares[choice.policy] @ surface.actions, of=choice.label))
    if len(sums.family.cohorts) > 1 and len(objectives) == 2:
        policy = _cohort_policy(sums, members)
        at = add(policy, _half(cohort_policy_sums(sums, members), reporting), cohort_action_shares(sums, members))
        choices = (*choices, Choice("cohort knee", at - 1, note))

    joined = join_policies(columns)
    lifts = lifts_of(
        joined,
        baseline_sums(sums, surface, reporting),
        policies=tuple(policy.name for policy in policies),
        objectives=objectives,
        confidence=evaluation.confidence,
        replicates=evaluation.replicates,
        min_hits=evaluation.min_hits,
        n_users=sums.n_users(reporting),
        rng=rng,
    )
    risk = probability_degrading(lifts.replicates * signs, floors=floors)
    served = np.vstack([np.eye(len(surface))[PRODUCTION], *rows])
    return Front(
        policies=(Policy("production", "static", weights=surface.static), *policies),
        lifts=with_production(lifts, rows=int(joined.produced.rows.sum())),
        non_dominated=_family_front(lifts.estimate * signs, size),
        picks=tuple(Pick(choice.label, choice.policy + 1, float(risk[choice.policy]), choice.note) for choice in choices),
        mean_weights=served @ surface.actions,
        action_shares=served,
    )


def _half(sums: AnchoredSums, half: Bools | None) -> AnchoredSums:
    return sums if half is None else sums.of_clusters(half)


def _distinct(choices: tuple[Choice, ...]) -> list[Choice]:
    """The knee and the constrained pick, once each."""
    wanted = {choice.policy: choice for choice in reversed(choices) if choice.label in {"knee", "constrained"}}
    return sorted(wanted.values(), key=lambda choice: choice.policy)


def _cohort_policy(sums: SweepSums, members: Ints) -> Policy:
    family = sums.family
    alphas = tuple((name, float(family.scalarisations[member, 0])) for name, member in zip(family.cohorts, members, strict=False))
    name = "cohort " + ", ".join(f"{cohort} {alpha:.3g}" for cohort, alpha in alphas)
    return Policy(name, "cohort", cohort_alphas=alphas)


def _family_front(points: Floats, size: int) -> Bools:
    """Mark the non-dominated members of the family (P + 1,), production first; policies without an estimate are no points."""
    mask = np.zeros(len(points) + 1, dtype=np.bool_)
    has = np.flatnonzero(np.isfinite(points[:size]).all(axis=1))
    mask[1 + has] = non_dominated(points[has])
    return mask
