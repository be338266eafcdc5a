"""One look of the guardrails at the plan in force, and what is done about it. An edge: logs, the registry.

The rule: what was looked at is what is changed; where another version came into force meanwhile nothing is done but to look again. A look
that cannot see is a look too: what then is done depends on for how long nothing was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from paretune.config import Config
from paretune.errors import ConflictError
from paretune.experiment.guarding import Memory, Ramp, control_of, policy_arms, seen_of
from paretune.experiment.reading import STATIC
from paretune.experiment.silence import AHEAD_S
from paretune.experiment.watch import Sight, Situation, Step, next_step
from paretune.policy import changes
from paretune.policy.audit import AUTOMAT
from paretune.policy.plan import Plan
from paretune.policy.registry import Registry
from paretune.policy.rows import Activation
from paretune.storage.place import Where

_ROUNDING = 1e-9


def looked(
    logs: Where, config: Config, registry: Registry, *, spool: Where | None, ramp_to: float, now_s: float, memory: Memory | None = None
) -> tuple[Situation, int, Step]:
    """Return what is seen of the plan in force, the policy that would be ramped (0 = none), and what is to be done.

    Args:
        logs: joined.
        config: objectives, guardrails, rollout.
        registry: with the plan.
        spool: of the service.
        ramp_to: largest share of users to ramp to by itself.
        now_s: seconds since 1970.
        memory: of earlier looks; None remembers nothing.

    Raises:
        ConfigError: the log has no time of its requests.
        DataError: log or spool cannot be read, or have no arms.
        OSError: the same, as the disk says it.
        UnreachableError: the registry does not answer.
    """
    now_us, standing = int(1e6 * now_s), _standing(registry, now_s)
    plan, past = standing.plan, standing.past
    if plan is None or not standing.situation.served:
        return standing.situation, 0, next_step(standing.situation, config.rollout)
    began_us, number = past[0].at_us, changes.numbers_in(plan)[-1]
    ramps = ramps_of(registry, plan, past)
    seen = seen_of(logs, config, plan, since_us=began_us, now_us=now_us, ramps=ramps, spool=spool, memory=memory)
    share, doubt = _next_share(plan, number, ramp_to)
    found = replace(
        standing.situation,
        silent_s=seen.silence.silent_s,
        silence=f"no row of {seen.silence.arm}" if seen.silence.arm else "no row",
        users=seen.users,
        watched=seen.watched,
        unwatched=seen.unwatched,
        next_share=share,
        can_go_back=_can_go_back(config, registry, plan),
        doubts=(*standing.situation.doubts, *seen.doubts, *doubt),
    )
    return found, number, next_step(found, config.rollout)


def unseen(config: Config, registry: Registry, *, sight: Sight, now_s: float, why: str) -> tuple[Situation, Step]:
    """Return what is known of the plan in force where a look failed, and what is to be done.

    Args:
        config: rollout.
        registry: with the plan.
        sight: before this look.
        now_s: seconds since 1970.
        why: the look failed, in words.

    Raises:
        UnreachableError: the registry does not answer.
    """
    standing = _standing(registry, now_s)
    found = standing.situation
    if standing.plan is not None and found.served:
        found = replace(
            found,
            silent_s=max(0.0, now_s - sight.saw_s),
            can_go_back=_can_go_back(config, registry, standing.plan),
            doubts=(*found.doubts, f"this look failed: {why}"),
            silence="no look succeeded",
            freezes_first=sight.failed_s is None,
        )
    return found, next_step(found, config.rollout)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the registry says of the plan in force."""

    plan: Plan | None
    past: list[Activation]  # of this version and of those before it, the latest first
    situation: Situation  # in which nothing was looked at yet


def _standing(registry: Registry, now_s: float) -> _Standing:
    plan = registry.current()
    version = 0 if plan is None else plan.version
    past = [one for one in registry.history() if one.version <= version]  # another may have come since the plan was read
    by, operation = (past[0].by, past[0].operation) if past else ("", "")
    served = plan is not None and not plan.killed and bool(changes.numbers_in(plan))
    age_s = now_s - past[0].at_us / 1e6 if past else 0.0
    ahead = (f"plan {version} came into force {-age_s / 60:.0f} minutes from now: some clock is wrong",) if age_s < -AHEAD_S else ()
    last_us = next((one.at_us for one in past if one.by == AUTOMAT), None)
    situation = Situation(
        version=version,
        killed=plan is not None and plan.killed,
        served=served,
        by=by,
        operation=operation,
        age_s=max(0.0, age_s),
        silent_s=0.0,
        users=0,
        watched=(),
        next_share=None,
        doubts=ahead,
        acted_s=inf if last_us is None else max(0.0, now_s - last_us / 1e6),
    )
    return _Standing(plan, past, situation)


def _can_go_back(config: Config, registry: Registry, plan: Plan) -> bool:
    """Say whether rolling back is wanted, possible, and takes users away from what is watched: before a ramp down, a policy served more."""
    if config.rollout.on_breach != "rollback":
        return False
    try:
        back = registry.rollback(by=AUTOMAT, preview=True).plan
    except ConflictError:  # nothing was before, or it serves what was retired
        return False
    if back.killed:
        return True
    shares = [(changes.share_of(back, one), changes.share_of(plan, one)) for one in changes.numbers_in(plan)]
    return all(then <= now + _ROUNDING for then, now in shares) and any(then < now - _ROUNDING for then, now in shares)


def _next_share(plan: Plan, number: int, most: float) -> tuple[float | None, tuple[str, ...]]:
    """Return the share of the next step of a ramp, None where there is none, and what stands against it.

    It goes as far as was asked for and as the control arm leaves room, and never so far that nobody is left to compare with.
    """
    now, policies = changes.share_of(plan, number), {changes.arm_name(one) for one in changes.numbers_in(plan)}
    room = 1 - sum(arm.share for arm in plan.arms if arm.name not in policies)
    wanted = min(changes.next_step(now) or 0.0, most, room)
    if not wanted > now + _ROUNDING:
        return None, ()
    others = sum(arm.share for arm in plan.arms if arm.name in policies) - now
    if control_of(plan) == STATIC and room - others - wanted <= _ROUNDING:
        return None, (f"{wanted:.0%} would leave nobody to compare with: `paretune ramp {number} --static-arm 5` keeps some",)
    return wanted, ()


def ramps_of(registry: Registry, plan: Plan, past: Sequence[Activation]) -> dict[str, Ramp]:
    """Return how far the ramp of each policy arm has come: since it was last without users, through every version, whoever made it.

    Args:
        registry: with the plans.
        plan: in force.
        past: of this version and of those before it, the latest first.
    """
    found: dict[str, Ramp] = {}
    names = {arm.name for arm in policy_arms(plan)}
    for step, one in enumerate(past, 1):
        names &= {arm.name for arm in registry.plan(one.version).arms}
        if not names:
            break
        found |= {name: Ramp(one.at_us, step) for name in names}
    return found


def acted(registry: Registry, step: Step, *, number: int, situation: Situation) -> int:
    """Do what a step says, signed as the guardrails, and return the version that came into force; 0 where nothing changed.

    Args:
        registry: with the plan.
        step: what to do.
        number: of the policy to ramp.
        situation: that was looked at.

    Raises:
        ConflictError: another version came into force meanwhile, which nobody has looked at yet; nothing was done.
        ForbiddenError: the policy to ramp is not approved any more.
    """
    note, expected = "; ".join(step.reasons)[:2000], situation.version
    if step.action == "kill":
        return registry.kill(by=AUTOMAT, note=note, expected=expected).plan.version
    if step.action == "rollback":
        return registry.rollback(by=AUTOMAT, note=note, expected=expected).plan.version
    if step.action == "ramp":
        return registry.ramp(number, share=situation.next_share, by=AUTOMAT, note=note, expected=expected).plan.version
    if situation.unwatched:
        registry.remark(expected, "unwatched", {"what": list(situation.unwatched)}, by=AUTOMAT)
    return 0
