"""From the sums of a sweep to the front: picks, reference policies, lifts with bands, all over the same rows.

The rule: with `halves`, everything that is chosen (picks, best static, cohort trade-offs) is chosen on one half of the users, and every
lift that is shown comes from the other. Without, both come from all users, and what is claimed of a pick is what `shrinkage` expects of it.
"""

from __future__ import annotations

import numpy as np

from paretune.config import Config
from paretune.errors import GateError
from paretune.frontier.cohort_static import cohort_statics, cohort_table, table_shares
from paretune.frontier.cohorts import beside, cohort_estimates, cohort_lifts, part_of_lifts
from paretune.frontier.front import CohortLifts, CohortSweep, Front, Guarded, Lifts, Pick, Policy
from paretune.frontier.judge import Judge, nothing_to_choose
from paretune.frontier.ladder import ladder_of
from paretune.frontier.lifts import estimated_lift, lifts_record, refuse_idle, with_production
from paretune.frontier.pareto import confidently_dominated
from paretune.frontier.references import (
    baseline_sums,
    cohort_action_shares,
    cohort_picks,
    cohort_policy_sums,
    describe,
    matched_static,
    static_column,
)
from paretune.frontier.select import Choice, best_static, choose_points
from paretune.frontier.sweep import SweepSums, user_half
from paretune.frontier.verdict import two_digits
from paretune.ope.bernstein import bernstein_half_width
from paretune.ope.estimators import Estimate
from paretune.ope.intervals import clustered_std_error
from paretune.ope.lift import AnchoredSums, join_policies
from paretune.records import PRODUCTION, Bools, Floats, Ints
from paretune.surface.heads import Surface


def signs_of(config: Config) -> Floats:
    """Return (M,) +1 for objectives to maximise, -1 for those to minimise."""
    return np.array([1.0 if objective.direction == "maximise" else -1.0 for objective in config.objectives])


def minimised_of(config: Config) -> frozenset[str]:
    """Return the names of the objectives of which less is better."""
    return frozenset(objective.name for objective in config.objectives if objective.direction == "minimise")


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

    Returns:
        The front, with a refusal where no policy is even promising.

    Raises:
        NoOverlapError: no policy has a hit.
        DataError: an objective has production value zero.
    """
    choosing, reporting = (user_half(0), user_half(1)) if halves else (None, None)
    evaluation, objectives = config.evaluation, tuple(objective.name for objective in config.objectives)
    signs, floors = signs_of(config), floors_of(config)
    judge = Judge(signs, floors, evaluation.tolerated_risk, evaluation.confidence, evaluation.replicates)
    size, shares = sums.size, sums.action_shares()
    least = _least_hits(sums, surface, evaluation.min_hits)

    if halves:
        _refuse_thin_halves(sums, surface, least)
    estimate, production = estimated_lift(sums.total(choosing), baseline_sums(sums, surface, choosing), min_hits=least)
    refuse_idle(production, objectives)
    points = estimate.value * signs  # of the family, then of every static grid action
    safest, sure = judge.safest(estimate.of_policies(np.arange(size)), sums.family.scalarisations, rng=rng)
    choices = choose_points(points[:size], objectives=objectives, floors=floors, sure=sure)
    choices = (*choices, safest)
    members, note = cohort_picks(sums, surface, signs, half=choosing, min_hits=least)
    static = best_static(points[size:]) if static_action is None else static_action

    policies = [*family_policies(sums.family.scalarisations)]
    columns = [sums.total(reporting).of_policies(np.arange(size))]
    rows, changed = [*shares], [sums.changed_share(member) for member in range(size)]

    def add(policy: Policy, column: AnchoredSums, served: Floats, members: Ints | int) -> int:
        policies.append(policy)
        columns.append(column)
        rows.append(served)
        changed.append(sums.changed_share(members))
        return len(policies)  # its index once production stands in front

    def add_static(policy: Policy, action: int) -> None:
        column = sums.total(reporting).of_policies(static_column(sums, action))
        add(policy, column, np.eye(len(surface))[action], size + action - 1)

    if static != PRODUCTION:
        weights = surface.actions[static]
        add_static(Policy(f"best static ({describe(surface, weights)})", "best static", weights=weights), static)
    for choice in _distinct(choices):
        add_static(*matched_static(surface, shares[choice.policy] @ surface.actions, of=choice.label))
    if len(sums.family.cohorts) > 1:
        table = cohort_statics(sums, surface, signs, half=choosing, min_hits=evaluation.min_hits)
        column = _half(cohort_policy_sums(sums, size + table - 1), reporting)
        add(cohort_table(sums, surface, table), column, table_shares(sums, table), size + table - 1)
    if len(sums.family.cohorts) > 1 and len(objectives) == 2:
        policy = _cohort_policy(sums, members)
        at = add(policy, _half(cohort_policy_sums(sums, members), reporting), cohort_action_shares(sums, members), members)
        choices = (*choices, Choice("cohort knee", at - 1, note))

    joined = join_policies(columns)
    estimate, production = estimated_lift(joined, baseline_sums(sums, surface, reporting), min_hits=least)
    refuse_idle(production, objectives)
    picked = np.unique([choice.policy for choice in choices])
    n_rows = int(joined.explored.raw.rows.sum() + joined.produced.rows.sum())
    lifts, by_cohort = _lifts(
        estimate, production, sums, surface, config, policies=policies, picked=picked, members=members,
        half=reporting, min_hits=least, n_rows=n_rows, rng=rng,
    )  # fmt: skip
    lifts = with_production(lifts, rows=int(joined.produced.rows.sum()))
    expectation = judge.expectation(estimate, _weighed(policies, sums, members), family=size, rng=rng)
    said = judge.verdicts(lifts, expectation, enough=least == evaluation.min_hits)
    judged, smallest = int(joined.explored.raw.rows.sum()), evaluation.smallest_lift_pct / 100
    refused = judge.refusal(safest.policy + 1, lifts, expectation, rows=judged, smallest=smallest) if nothing_to_choose(said) else None
    risk = expectation.degrading[1:]
    served = np.vstack([np.eye(len(surface))[PRODUCTION], *rows])
    return Front(
        policies=(Policy("production", "static", weights=surface.static), *policies),
        lifts=lifts,
        non_dominated=_family_front(lifts, signs, size),
        picks=tuple(Pick(c.label, c.policy + 1, float(risk[c.policy]), c.note, said[c.policy + 1]) for c in choices),
        mean_weights=served @ surface.actions,
        action_shares=served,
        expectation=expectation,
        by_cohort=by_cohort,
        refusal=refused,
        ladder=ladder_of(joined),
        guarded=_guarded(estimate, config),
        minimised=tuple(name for name, sign in zip(objectives, signs, strict=True) if sign < 0),
        changed=None if sums.changed is None else np.array([0.0, *changed]),
        cohort_sweep=_cohort_sweep(sums, surface, half=reporting, min_hits=least, like=estimate),
        verdicts=said,
    )


def _cohort_sweep(sums: SweepSums, surface: Surface, *, half: Bools | None, min_hits: int, like: Estimate) -> CohortSweep | None:
    """Return the family's lifts inside every cohort, each by itself."""
    cohorts = sums.family.cohorts
    if len(cohorts) <= 1:
        return None
    everyone = np.tile(np.arange(sums.size), (len(cohorts), 1))
    parts = cohort_estimates(sums, surface, everyone, half=half, min_hits=min_hits, like=like)
    known = np.isfinite(parts.value).all(axis=1)
    error = np.full_like(parts.value, np.nan)
    if known.any():
        error[known] = clustered_std_error(parts.influence[:, known])
    shape = (len(cohorts), sums.size, -1)
    return CohortSweep(cohorts, parts.value.reshape(shape), error.reshape(shape))


def _guarded(estimate: Estimate, config: Config) -> Guarded | None:
    """Return the finite-sample bounds of every policy's guardrail objectives, production first; None without a guardrail."""
    names = [objective.name for objective in config.objectives]
    at = np.array(sorted({names.index(guardrail.objective) for guardrail in config.guardrails}), dtype=np.int64)
    if not len(at):
        return None
    signs = signs_of(config)[at]
    half = bernstein_half_width(
        estimate.influence[:, :, at], confidence=config.evaluation.confidence, statements=max(1, estimate.value[:, at].size)
    )
    low = np.vstack([np.zeros(len(at)), estimate.value[:, at] * signs - half])
    return Guarded(tuple(names[j] for j in at), signs, floors_of(config)[at], low)


def _lifts(
    estimate: Estimate,
    production: Floats,
    sums: SweepSums,
    surface: Surface,
    config: Config,
    *,
    policies: list[Policy],
    picked: Ints,
    members: Ints,
    half: Bools | None,
    min_hits: int,
    n_rows: int,
    rng: np.random.Generator,
) -> tuple[Lifts, CohortLifts | None]:
    """Return the lifts of all policies, and of the picked ones inside every cohort, under one set of bands."""
    names, cohorts = tuple(policy.name for policy in policies), sums.family.cohorts
    everything = estimate
    if len(cohorts) > 1:
        told = np.array([np.where(picked < sums.size, picked, member) for member in members[:-1]])  # (G, L)
        parts = cohort_estimates(sums, surface, told, half=half, min_hits=min_hits, like=estimate)
        everything, names = beside([estimate, parts]), (*names, *(name for name in cohorts for _ in picked))
    lifts = lifts_record(
        everything,
        production,
        policies=names,
        objectives=tuple(objective.name for objective in config.objectives),
        confidence=config.evaluation.confidence,
        replicates=config.evaluation.replicates,
        n_rows=n_rows,
        n_users=sums.n_users(half),
        rng=rng,
    )
    if len(cohorts) <= 1:
        return lifts, None
    inside = part_of_lifts(lifts, slice(len(policies), None))
    return part_of_lifts(lifts, slice(0, len(policies))), cohort_lifts(inside, cohorts, picked + 1)


def _least_hits(sums: SweepSums, surface: Surface, wanted: int) -> int:
    """Return how many hits a policy needs for an estimate: one, if no member of the family has as many as wanted; nothing is told then."""
    family = sums.total().of_policies(np.arange(sums.size))
    return wanted if (estimated_lift(family, baseline_sums(sums, surface))[0].hits >= wanted).any() else 1


def _refuse_thin_halves(sums: SweepSums, surface: Surface, least: int) -> None:
    """Refuse to choose on one half and report on the other where some half has no policy with enough rows that speak.

    Raises:
        GateError: with the exploration rows that would be enough.
    """
    members, rows = np.arange(sums.size), int(sums.total().explored.raw.rows.sum())
    found = [
        int(estimated_lift(sums.total(half).of_policies(members), baseline_sums(sums, surface, half))[0].hits.max())
        for half in (user_half(0), user_half(1))
    ]
    if min(found) >= least:
        return
    needed = f"about {two_digits(rows * least / max(1, min(found))):,} held-out exploration rows would do"
    raise GateError(
        f"not enough data for halves: no policy has more than {min(found)} rows that speak for it in one half of the users, "
        f"evaluation.min_hits asks for {least}; {needed}, here are {rows:,}",
        hint="sweep without --halves, or explore more requests",
    )


def _weighed(policies: list[Policy], sums: SweepSums, members: Ints) -> Floats:
    """Return (P, M) how each policy weighs the objectives on average; NaN for static weights."""
    family = sums.family.scalarisations
    counts = sums.choices[:, 0].sum(axis=1)
    by_cohort = counts @ family[members] / max(1, counts.sum())
    unknown = np.full(family.shape[1], np.nan)
    rest = [by_cohort if policy.kind == "cohort" else unknown for policy in policies[len(family) :]]
    return np.vstack([family, *rest])


def _half(sums: AnchoredSums, half: Bools | None) -> AnchoredSums:
    return sums if half is None else sums.of_clusters(half)


def _distinct(choices: tuple[Choice, ...]) -> list[Choice]:
    """Each policy that was picked, once, under the label that says most of it: the knee and the constrained pick before the others."""
    telling = sorted(choices, key=lambda choice: choice.label not in {"knee", "constrained"})
    wanted = {choice.policy: choice for choice in reversed(telling)}
    return sorted(wanted.values(), key=lambda choice: choice.policy)


def _cohort_policy(sums: SweepSums, members: Ints) -> Policy:
    family = sums.family
    alphas = tuple((name, float(family.scalarisations[member, 0])) for name, member in zip(family.cohorts, members, strict=False))
    name = "cohort " + ", ".join(f"{cohort} {alpha:.3g}" for cohort, alpha in alphas)
    return Policy(name, "cohort", cohort_alphas=alphas)


def _family_front(lifts: Lifts, signs: Floats, size: int) -> Bools:
    """Mark the members of the family that none dominates with confidence (P + 1,), production first; no estimate, no point."""
    mask = np.zeros(len(lifts.policies), dtype=np.bool_)
    has = 1 + np.flatnonzero(np.isfinite(lifts.estimate[1 : size + 1]).all(axis=1))
    points, draws = lifts.estimate[has] * signs, lifts.replicates[:, has] * signs
    mask[has] = ~confidently_dominated(points, draws, confidence=lifts.confidence)
    return mask
