"""One look of the guardrails at the plan in force, and what is done about it. An edge: logs, the registry.

The rule: what was looked at is what is changed; where another version came into force meanwhile nothing is done but to look again.
"""

from __future__ import annotations

from paretune.config import Config
from paretune.errors import ConflictError
from paretune.experiment.guarding import Memory, seen_of
from paretune.experiment.watch import AUTOMAT, Situation, Step, next_step
from paretune.policy import changes
from paretune.policy.plan import Plan
from paretune.policy.registry import Registry
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
    """
    now_us = int(1e6 * now_s)
    plan, past = registry.current(), registry.history()
    numbers = changes.numbers_in(plan)
    if plan is None or plan.killed or not numbers:
        by, operation = (past[0].by, past[0].operation) if past else ("", "")
        found = Situation(plan.version if plan else 0, plan is not None and plan.killed, False, by, operation, 0.0, 0.0, 0, (), None)
        return found, 0, next_step(found, config.rollout)
    began, number = past[0], numbers[-1]
    step = 1 + next((i for i, one in enumerate(past) if one.operation != "ramp"), len(past) - 1)
    seen = seen_of(logs, config, plan, since_us=began.at_us, ramp_us=past[step - 1].at_us, step=step, spool=spool, memory=memory)
    wanted = _next_share(plan, number, ramp_to)
    age_s = (now_us - began.at_us) / 1e6
    silent_s = 0.0 if spool is None else age_s if seen.newest_us is None else (now_us - seen.newest_us) / 1e6
    found = Situation(
        version=plan.version,
        killed=False,
        served=True,
        by=began.by,
        operation=began.operation,
        age_s=age_s,
        silent_s=silent_s,
        users=seen.users,
        watched=seen.watched,
        next_share=wanted,
        can_go_back=config.rollout.on_breach == "rollback" and _takes_back(registry, plan),
        doubts=seen.doubts,
    )
    return found, number, next_step(found, config.rollout)


def _takes_back(registry: Registry, plan: Plan) -> bool:
    """Say whether rolling back is possible and takes users away from what is watched: before a ramp down, a policy served more users."""
    try:
        back = registry.rollback(by=AUTOMAT, preview=True).plan
    except ConflictError:  # nothing was before, or it serves what was retired
        return False
    if back.killed:
        return True
    shares = [(changes.share_of(back, one), changes.share_of(plan, one)) for one in changes.numbers_in(plan)]
    return all(then <= now + _ROUNDING for then, now in shares) and any(then < now - _ROUNDING for then, now in shares)


def _next_share(plan: Plan, number: int, most: float) -> float | None:
    """Return the share of the next step of a ramp, as far as it may go and as the control arm leaves room; None after the last."""
    now, policies = changes.share_of(plan, number), {changes.arm_name(one) for one in changes.numbers_in(plan)}
    room = 1 - sum(arm.share for arm in plan.arms if arm.name not in policies)
    wanted = min(changes.next_step(now) or 0.0, most, room)
    return wanted if wanted > now + _ROUNDING else None


def acted(registry: Registry, step: Step, *, number: int, situation: Situation) -> int:
    """Do what a step says, signed as the guardrails, and return the version that came into force; 0 where nothing changed.

    Args:
        registry: with the plan.
        step: what to do.
        number: of the policy to ramp.
        situation: that was looked at; where another version came into force meanwhile, that one has not been looked at yet.

    Raises:
        ConflictError: another version came into force meanwhile.
    """
    note = "; ".join(step.reasons)[:2000]
    if step.action in {"kill", "rollback", "ramp"} and registry.version() != situation.version:
        raise ConflictError(f"plan {registry.version()} came into force while plan {situation.version} was looked at", hint="look again")
    if step.action == "kill":
        return registry.kill(by=AUTOMAT, note=note).plan.version
    if step.action == "rollback":
        return registry.rollback(by=AUTOMAT, note=note, expected=situation.version).plan.version
    if step.action == "ramp":
        return registry.ramp(number, share=situation.next_share, by=AUTOMAT, note=note, expected=situation.version).plan.version
    return 0
