"""What may be done to what is in force: activate, ramp, roll back, kill, release; and what two plans differ in, in words.

The rule: a change takes a plan and returns the next one; it knows no database and no clock. A policy's arm is named by its number, so that
logs, readouts and plans speak of the same thing. Where an arm needs room, the other policies give way in proportion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from paretune.errors import ConfigError, ConflictError
from paretune.policy.draft import Operating, with_policy
from paretune.policy.operating import OperatingPolicy
from paretune.policy.plan import Arm, Plan

STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)  # of a ramp, shares of users
_ROUNDING = 1e-9
_NAME = re.compile(r"policy-([1-9][0-9]*)", re.ASCII)  # as `arm_name` writes it, and nothing else: policy-007 is no policy 7


def arm_name(number: int) -> str:
    """Return the name of the arm that serves an operating policy."""
    return f"policy-{number}"


def numbers_in(plan: Plan | None) -> tuple[int, ...]:
    """Return the numbers of the operating policies that a plan's arms serve."""
    names = [] if plan is None else [arm.name for arm in plan.arms]
    return tuple(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def share_of(plan: Plan | None, number: int) -> float:
    """Return the share of users that a policy is served to."""
    return next((arm.share for arm in plan.arms if arm.name == arm_name(number)), 0.0) if plan is not None else 0.0


def operating(policy: OperatingPolicy, *, number: int, levels: Sequence[Sequence[float]] = ()) -> Operating:
    """Return a registered policy as a plan needs it.

    Args:
        policy: its record.
        number: in the registry.
        levels: (K, m) actions of its bundle, production first.
    """
    return Operating(
        name=f"{number} {policy.label}",
        heads=policy.heads,
        static=policy.static,
        fingerprint=policy.bundle,
        levels=tuple(tuple(row) for row in levels),
        scalarisation=policy.scalarisation,
        cohorts=policy.cohorts,
        weights=policy.weights,
        identity=policy.fingerprint,
    )


def activate(plan: Plan | None, policy: Operating, *, number: int, share: float) -> Plan:
    """Return a draft in which a share of the users is served a policy; a killed plan stays killed.

    Args:
        plan: in force; None starts anew.
        policy: see `operating`.
        number: of the policy.
        share: of users, in (0, 1].

    Raises:
        ConfigError: the share is none, or the policy is of another surface.
        ConflictError: the policy is served already, or there is no room for it.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"a share of {100 * share:g} % of users", hint="give more than 0 and at most 100 per cent")
    if share_of(plan, number) > 0:
        raise ConflictError(
            f"policy {number} is in force, at {100 * share_of(plan, number):g} % of users",
            hint=f"`paretune ramp {number}` changes its share",
        )
    return _served(plan, policy, number=number, share=share)


def ramp(plan: Plan | None, policy: Operating | None, *, number: int, share: float | None = None) -> Plan:
    """Return a draft in which a policy that is served has another share.

    Args:
        plan: in force.
        policy: see `operating`; as it is now, so that a renewed policy comes into force with its share. None keeps what is served, and can
            only lower the share.
        number: of the policy.
        share: of users, in [0, 1]; 0 takes the policy out; None is the next of STEPS.

    Raises:
        ConflictError: the policy is not in force, has no next step, or there is no room.
    """
    now = share_of(plan, number)
    if plan is None or now == 0:
        raise ConflictError(f"policy {number} is not in force", hint=f"`paretune activate {number}` first")
    wanted = next_step(now) if share is None else share
    if wanted is None:
        raise ConflictError(f"policy {number} is served to all users already", hint="there is no further step")
    if not 0 <= wanted <= 1:
        raise ConfigError(f"a share of {100 * wanted:g} % of users", hint="give 0 to 100 per cent")
    if policy is not None:
        return _served(plan, policy, number=number, share=wanted)
    if wanted > now:
        raise ConflictError(f"policy {number} is to go up from {100 * now:g} %", hint="say which policy, as it is approved")
    arms = tuple(replace(arm, share=wanted) if arm.name == arm_name(number) else arm for arm in plan.arms)
    return replace(plan, arms=tuple(arm for arm in arms if arm.share > 0 or arm.name != arm_name(number)))


def next_step(share: float) -> float | None:
    """Return the next step of a ramp, None after the last."""
    return next((step for step in STEPS if step > share + _ROUNDING), None)


def rollback(plan: Plan, to: Plan) -> Plan:
    """Return a draft with the content of an earlier version.

    Raises:
        ConflictError: there is nothing to go back to, or it is what is in force.
    """
    if to.version >= plan.version:
        raise ConflictError(f"plan {to.version} is not earlier than plan {plan.version}, which is in force", hint="see `paretune history`")
    if same_content(plan, to):
        raise ConflictError(f"plan {to.version} has the content that is in force", hint="name another with --to; see `paretune history`")
    return to


def kill(plan: Plan) -> Plan:
    """Return a draft in which everybody is served the static weights and nobody is explored.

    Raises:
        ConflictError: it is so already.
    """
    if plan.killed:
        raise ConflictError("everybody is served the static weights already", hint="`paretune release` ends it")
    return replace(plan, killed=True)


def release(plan: Plan) -> Plan:
    """Return a draft in which a killed plan is in force again, as it was.

    Raises:
        ConflictError: nothing was killed.
    """
    if not plan.killed:
        raise ConflictError("no kill switch is on", hint="there is nothing to release")
    return replace(plan, killed=False)


def same_content(one: Plan, other: Plan) -> bool:
    """Say whether two plans differ in nothing but version and note."""
    return replace(one, version=1, note="") == replace(other, version=1, note="")


def diff(before: Plan | None, after: Plan) -> tuple[str, ...]:
    """Return in words what changes from one plan to another; nothing where the content is the same."""
    if before is None:
        return tuple(f"+ {_about(arm)}" for arm in after.arms) + _rest(Plan(1, after.heads, after.static), after)
    lines = []
    old, new = ({arm.name: arm for arm in plan.arms} for plan in (before, after))
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            lines.append(f"- {_about(old[name])}")
        elif name not in old:
            lines.append(f"+ {_about(new[name])}")
        else:
            lines += _changed(old[name], new[name])
    if [name for name in old if name in new] != [name for name in new if name in old]:
        lines.append(f"  order of arms: {', '.join(old)} -> {', '.join(new)}; users move between arms")
    return (*lines, *_rest(before, after))


def _changed(old: Arm, new: Arm) -> list[str]:
    lines = []
    if old.share != new.share:
        lines.append(f"  {new.name}: {100 * old.share:g} % -> {100 * new.share:g} % of users")
    for what in ("bundle", "scalarisation", "cohorts", "weights", "policy"):
        was, now = getattr(old, what), getattr(new, what)
        if was != now:
            lines.append(f"  {new.name}: {what} {_short(was)} -> {_short(now)}")
    return lines


def _rest(before: Plan, after: Plan) -> tuple[str, ...]:
    lines = []
    if before.killed != after.killed:
        lines.append("! killed: static weights for everybody" if after.killed else "! released: arms and exploration are in force again")
    for what in ("default", "salt", "heads", "static"):
        was, now = getattr(before, what), getattr(after, what)
        if was != now:
            lines.append(f"  {what}: {_short(was)} -> {_short(now)}")
    old, new = before.exploration, after.exploration
    if old.share != new.share:
        lines.append(f"  exploration: {100 * old.share:g} % -> {100 * new.share:g} % of requests")
    for what in ("design", "salt", "most_per_s", "bundle", "floor", "levels", "family"):
        was, now = getattr(old, what), getattr(new, what)
        if was != now:
            lines.append(f"  exploration: {what} {_short(was)} -> {_short(now)}")
    return tuple(lines)


def _about(arm: Arm) -> str:
    served = f"policy {arm.policy or arm.name}" if arm.is_policy or arm.policy else "fixed weights" if arm.weights else "the static weights"
    return f"{arm.name}: {100 * arm.share:g} % of users, {served}"


def _short(value: object) -> str:
    if isinstance(value, str):
        return value[:12] + "…" if len(value) == 64 else value or "none"
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return f"{len(value)} rows"
    if isinstance(value, tuple):
        return f"({', '.join(f'{item:g}' if isinstance(item, float) else str(item) for item in value)})" if value else "none"
    if isinstance(value, dict):
        return f"{len(value)} cohorts"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _served(plan: Plan | None, policy: Operating, *, number: int, share: float) -> Plan:
    killed = plan is not None and plan.killed
    room = None if plan is None else _with_room(plan, number, share)
    return replace(with_policy(room, policy, arm=arm_name(number), share=share), killed=killed)


def _with_room(plan: Plan, number: int, share: float) -> Plan:
    """Return the plan with the other policies' arms smaller, where the shares would be more than the whole."""
    others = {arm_name(other) for other in numbers_in(plan)} - {arm_name(number)}
    policies = sum(arm.share for arm in plan.arms if arm.name in others)
    fixed = sum(arm.share for arm in plan.arms if arm.name not in {*others, arm_name(number)})
    free = 1 - fixed - share
    if free < -_ROUNDING:
        taken = ", ".join(f"{arm.name} {100 * arm.share:g} %" for arm in plan.arms if arm.name not in {*others, arm_name(number)})
        raise ConflictError(
            f"{100 * share:g} % of users do not fit beside {taken}",
            hint=f"give at most {100 * max(1 - fixed, 0):g} per cent, or shrink the others",
        )
    if policies <= free + _ROUNDING:
        return plan
    part = max(free, 0.0) / policies
    arms = tuple(replace(arm, share=round(arm.share * part, 12)) if arm.name in others else arm for arm in plan.arms)
    return replace(plan, arms=tuple(arm for arm in arms if arm.share > 0))
