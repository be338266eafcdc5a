"""A plan made ready to follow: one immutable value that a decision reads once, so that nothing of two plans can mix.

The rules: whatever can be looked up is looked up here and not per request; an arm whose bundle is missing or does not fit the plan keeps
its place and carries the problem instead of a model. Mutable are only counts: of blocks, of the exploration cap, of the breakers; a plan
that leaves exploration as it was takes them over, so that a switch starts no block anew.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paretune.errors import DataError
from paretune.explore.assign import OUTSIDE
from paretune.policy.plan import Arm, Exploration, Plan
from paretune.records import PRODUCTION, Floats
from paretune.serving.arms import Blocks, Split, family_choices, key_of
from paretune.serving.limits import Breaker, Bucket
from paretune.serving.scoring import Choice, FeatureError, Scorer

Weights = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle as a plan uses it."""

    scorer: Scorer
    breaker: Breaker
    table: tuple[Weights, ...]  # (K, m) weights of each action, in the order of the plan's heads


@dataclass(frozen=True, slots=True)
class Route:
    """An arm, ready to serve: fixed weights, or a model with its scalarisations."""

    name: str
    weights: Weights = ()  # of a fixed arm
    action: int | None = None  # of a fixed arm
    is_policy: bool = False
    model: Model | None = None
    problem: str = ""  # why a policy has no model
    scalarisation: Floats = field(default_factory=lambda: np.zeros(0))  # (M,)
    cohorts: Mapping[str, Floats] = field(default_factory=dict)  # (M,) each


@dataclass(frozen=True, slots=True)
class Exploring:
    """Exploration, ready to draw."""

    split: Split  # of requests; part 0 is explored
    draw_key: int  # of the draw's own salt
    design: str
    levels: tuple[Weights, ...]  # (K, m)
    floor: float
    blocks: Blocks | None
    bucket: Bucket | None
    family: Floats  # (P, M) of stage 2
    model: Model | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is in force: the plan and all that it needs."""

    version: int  # 0 = no plan
    heads: tuple[str, ...]
    static: Weights
    plan: Plan | None = None
    users: Split | None = None  # None = everybody is served the default arm
    routes: tuple[Route, ...] = ()
    default: Route | None = None  # None = no plan
    exploring: Exploring | None = None
    models: Mapping[str, Model] = field(default_factory=dict)  # by fingerprint, those that fit

    def route(self, hashed: int) -> Route | None:
        """Return the arm of a user's hash."""
        if self.users is None:
            return self.default
        part = self.users.part(hashed)
        return self.default if part == OUTSIDE else self.routes[part]

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps a part of the plan from being followed, each once."""
        found = [route.problem for route in (*self.routes, self.default) if route is not None]
        if self.exploring is not None:
            found.append(self.exploring.problem)
        return tuple(dict.fromkeys(problem for problem in found if problem))


def without_plan(heads: tuple[str, ...], static: Weights) -> Snapshot:
    """Return what is in force where there is no plan."""
    return Snapshot(0, heads, static)


def compiled(
    plan: Plan, scorers: Mapping[str, Scorer], *, process: str, before: Snapshot | None = None, breaker: Callable[[], Breaker] = Breaker
) -> Snapshot:
    """Return a plan made ready.

    Args:
        plan: checked.
        scorers: by fingerprint; those that the plan names and that are not here are its problems.
        process: part of the salt of blocks; another in every process.
        before: what was in force; counts and breakers go on.
        breaker: makes the breaker of a bundle that has none yet.
    """
    static = Route("static", tuple(plan.static), PRODUCTION)
    if plan.killed:
        return Snapshot(plan.version, plan.heads, static.weights, plan, default=static)
    known = before.models if before else {}
    models, problems = {}, {}
    for fingerprint in plan.bundles:
        old = known.get(fingerprint)
        made = _model(plan, fingerprint, scorers, old.breaker if old else None, breaker)
        if isinstance(made, str):
            problems[fingerprint] = made
        else:
            models[fingerprint] = made
    routes = tuple(_route(arm, plan, models, problems) for arm in plan.arms)
    default = next((route for route in routes if route.name == plan.default), static)
    users = Split.of([arm.share for arm in plan.arms], plan.salt) if any(arm.share for arm in plan.arms) else None
    exploring = _exploring(plan.exploration, models, problems, process, before) if plan.exploration.share > 0 else None
    return Snapshot(plan.version, plan.heads, static.weights, plan, users, routes, default, exploring, models)


def asked(scorer: Scorer, features: Any, scalarisation: Floats) -> Choice:
    """Return the choice of a model, checked: on the grid, and nothing but numbers.

    Raises:
        FeatureError: the features are not what the model reads.
        DataError: the answer is none.
        Exception: whatever the model raises.
    """
    try:
        inputs = scorer.read(features)
    except FeatureError:
        raise
    except Exception as error:  # broad: features come from outside, and a reader that stumbles over them says nothing about the model
        raise FeatureError("", f"cannot be read: {type(error).__name__}: {error}") from error
    choice = scorer.choose(inputs, scalarisation)
    action = operator.index(choice.action)
    if not PRODUCTION < action < len(scorer.actions):
        raise DataError(f"the model answers action {action}", hint="load the bundle again; its grid ends before that action")
    if not np.isfinite(choice.values).all():
        raise DataError("the model answers NaN or infinity", hint="go back to the bundle before; this one cannot value the request")
    return choice


def asked_all(scorer: Scorer, features: Any, family: Floats) -> list[int]:
    """Return the action of each scalarisation of a family (P,).

    Raises:
        FeatureError, DataError, Exception: as `asked`.
    """
    return family_choices(np.asarray(asked(scorer, features, family[0]).values), family)


def _model(plan: Plan, fingerprint: str, scorers: Mapping[str, Scorer], old: Breaker | None, breaker: Callable[[], Breaker]) -> Model | str:
    """Return the bundle ready to use, or why it cannot be."""
    scorer = scorers.get(fingerprint)
    if scorer is None:
        return f"bundle {fingerprint[:12]} is not loaded"
    if sorted(scorer.heads) != sorted(plan.heads):
        return f"bundle {fingerprint[:12]} weighs heads {list(scorer.heads)}, the plan {list(plan.heads)}"
    place = [scorer.heads.index(head) for head in plan.heads]
    table = np.asarray(scorer.actions, dtype=np.float64)[:, place]
    sizes = {len(vector) for arm in plan.arms if arm.bundle == fingerprint for vector in (arm.scalarisation, *arm.cohorts.values())}
    if plan.exploration.share > 0 and plan.exploration.bundle == fingerprint:
        sizes |= {len(member) for member in plan.exploration.family}
        if table.shape != (len(plan.exploration.levels), len(plan.heads)) or (table != np.array(plan.exploration.levels)).any():
            return f"bundle {fingerprint[:12]} has other actions than the exploration's levels"
    if sizes - {len(scorer.objectives)}:
        return f"bundle {fingerprint[:12]} has objectives {list(scorer.objectives)}, the plan scalarises {sorted(sizes)}"
    return Model(scorer, old or breaker(), tuple(tuple(row) for row in table.tolist()))


def _route(arm: Arm, plan: Plan, models: Mapping[str, Model], problems: Mapping[str, str]) -> Route:
    if not arm.is_policy:
        weights = tuple(arm.weights or plan.static)
        return Route(arm.name, weights, _action_of(weights, plan))
    cohorts = {cohort: np.array(vector) for cohort, vector in arm.cohorts.items()}
    model, problem = models.get(arm.bundle), problems.get(arm.bundle, "")
    return Route(arm.name, is_policy=True, model=model, problem=problem, scalarisation=np.array(arm.scalarisation), cohorts=cohorts)


def _action_of(weights: Weights, plan: Plan) -> int | None:
    """Return the action that fixed weights are, None off the grid."""
    if weights == tuple(plan.static):
        return PRODUCTION
    rows = plan.exploration.levels
    return rows.index(weights) if weights in rows else None


def _exploring(
    exploration: Exploration, models: Mapping[str, Model], problems: Mapping[str, str], process: str, before: Snapshot | None
) -> Exploring:
    old, grid = before.exploring if before else None, len(exploration.levels) - 1
    blocks, salt = None, f"{exploration.salt}/{process}"
    if exploration.design == "blocked":
        kept = old.blocks if old else None
        blocks = kept if kept and (kept.salt, kept.actions) == (salt, grid) else Blocks(actions=grid, salt=salt)
    bucket = None
    if exploration.most_per_s > 0:
        used = old.bucket if old else None
        bucket = used if used and used.rate == exploration.most_per_s else Bucket(exploration.most_per_s)
    stage2 = exploration.design == "stage2"
    return Exploring(
        Split.of((exploration.share,), exploration.salt),
        key_of(f"{exploration.salt}/action"),
        exploration.design,
        tuple(tuple(row) for row in exploration.levels),
        exploration.floor,
        blocks,
        bucket,
        np.array(exploration.family),
        models.get(exploration.bundle) if stage2 else None,
        problems.get(exploration.bundle, "") if stage2 else "",
    )
