"""Drafts of the next plan: a policy's arm added or ramped, exploration set, the kill switch, the way back.

The rule: a version is never changed. Drafts say what changes, `as_next` gives the result the number after all that it came from; going back
is the older content under a new number, so that no replica that comes late can mistake what is newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from paretune.errors import ConfigError
from paretune.policy.plan import Arm, Exploration, Plan, checked

CONTROL = "control"  # arm of users who are kept on the static weights to compare with


@dataclass(frozen=True, slots=True)
class Operating:
    """An exported policy, as a plan needs it."""

    name: str
    heads: tuple[str, ...]  # (m,)
    static: tuple[float, ...]  # (m,)
    fingerprint: str = ""  # of its bundle; empty = fixed weights
    levels: tuple[tuple[float, ...], ...] = ()  # (K, m) actions of the bundle, production first
    scalarisation: tuple[float, ...] = ()  # (M,)
    cohorts: dict[str, tuple[float, ...]] = field(default_factory=dict)  # cohort -> (M,)
    weights: tuple[float, ...] = ()  # (m,) of a policy without bundle
    identity: str = ""  # hash of the policy and its evidence


def with_policy(previous: Plan | None, policy: Operating, *, arm: str = "", share: float) -> Plan:
    """Return a draft in which a share of the users is served a policy; a killed plan is in force again.

    Args:
        previous: whose other arms, exploration and default stay; None starts anew.
        policy: exported.
        arm: its name, by default the policy's; an arm of that name is replaced where it stands.
        share: of users, in [0, 1]; 0 takes the arm away.

    Raises:
        ConfigError: the policy is of another surface than the plan.
    """
    start = previous or Plan(1, policy.heads, policy.static)
    if (policy.heads, policy.static) != (start.heads, start.static):
        raise ConfigError(
            f"the policy is for {_weights(policy.heads, policy.static)}, the plan for {_weights(start.heads, start.static)}",
            hint="train on logs of the weights in production, or begin a new plan elsewhere with --output",
        )
    name = arm or policy.name
    made = Arm(
        name,
        share,
        bundle=policy.fingerprint,
        scalarisation=policy.scalarisation,
        cohorts=policy.cohorts,
        weights=policy.weights,
        policy=f"{policy.name} {policy.identity[:12]}".strip(),
    )
    return replace(start, arms=_placed(start.arms, made), killed=False)


def with_control(previous: Plan, *, share: float) -> Plan:
    """Return a draft in which a share of the users is kept on the static weights, as an arm to compare with; 0 takes it away."""
    return replace(previous, arms=_placed(previous.arms, Arm(CONTROL, share)))


def with_exploration(
    previous: Plan,
    *,
    share: float,
    design: Literal["uniform", "blocked"],
    levels: Sequence[tuple[float, ...]] = (),
    most_per_s: float = 0.0,
) -> Plan:
    """Return a draft in which a share of the requests is explored.

    Args:
        previous: whose salt stays, so that a larger share holds the requests of a smaller one.
        share: of requests, in [0, 1]; 0 ends exploration.
        design: how actions are drawn.
        levels: (K, m) actions, production first; those of the plan before when left out.
        most_per_s: at most, per process; 0 = no cap.
    """
    old = previous.exploration
    if share == 0:
        return replace(previous, exploration=Exploration(salt=old.salt))
    made = Exploration(share=share, design=design, salt=old.salt, levels=tuple(levels) or old.levels, most_per_s=most_per_s)
    return replace(previous, exploration=made)


def as_next(draft: Plan, *known: Plan, note: str = "") -> Plan:
    """Return the draft as the version after every plan that is known, checked.

    Args:
        draft: of any version.
        known: what it came from, and what is in force.
        note: why, for people.

    Raises:
        ConfigError: it breaks a rule of plans.
    """
    return checked(replace(draft, version=1 + max((plan.version for plan in known), default=0), note=note))


def _placed(arms: tuple[Arm, ...], made: Arm) -> tuple[Arm, ...]:
    """Return the arms with one replaced, added at the end, or taken away where its share is 0."""
    known = [arm.name for arm in arms]
    new = [made if arm.name == made.name else arm for arm in arms] + ([] if made.name in known else [made])
    return tuple(arm for arm in new if arm.name != made.name or arm.share > 0)


def _weights(heads: Sequence[str], static: Sequence[float]) -> str:
    return ", ".join(f"{head} {weight:g}" for head, weight in zip(heads, static, strict=True))
