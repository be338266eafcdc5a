"""`paretune guard`: guardrails that act on the plan in force. An edge: the terminal, logs, the registry, the clock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import ConfigOption, JsonOption, say, show_json
from paretune.commands.registered import WHERE, RegistryOption, registry_at

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.experiment.watch import Situation, Step
    from paretune.policy.plan import Plan
    from paretune.policy.registry import Registry

_ROUNDING = 1e-9
UNSETTLED = 4  # exit code: it holds, or stepped back


def guard(
    logs: Annotated[Path, typer.Argument(metavar="LOGS", help="Joined log of what is served, with arms; fresh rows may be unripe.")],
    *,
    registry: RegistryOption = WHERE,
    spool: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Spool of the decision service: fallbacks, lateness and silence are seen at once.")
    ] = None,
    config: ConfigOption = Path("paretune.toml"),
    ramp_to: Annotated[float, typer.Option(min=0, max=100, help="Ramp by itself, up to this per cent of users; 0 = never.")] = 0.0,
    every_s: Annotated[float, typer.Option(min=0, help="Look again every so many seconds; 0 = once, for cron.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch the plan in force; step back when a guardrail is breached, and ramp only while all hold.

    Objectives against the control arm, guardrails of paretune.toml, fallbacks and lateness are watched by confidence sequences, so
    that looking often raises no false alarm. What a step back does is rollout.on_breach; after one, only a person goes forward
    again (`paretune release`, `ramp`, `activate`). Exits 4 where the plan is held or stepped back.

    \b
    Examples:
      paretune guard logs --spool spool
      paretune guard logs --spool spool --ramp-to 50 --every-s 300
      paretune guard logs --dry-run --json
    """
    from paretune.config import load_config

    settings, opened = load_config(config), registry_at(registry)
    while True:
        situation, number, step = looked(logs, settings, opened, spool=spool, ramp_to=ramp_to / 100)
        version = 0 if dry_run else acted(opened, step, number=number, situation=situation)
        if as_json:
            show_json({**told(situation, step), "became": version or None})
        else:
            say(step.sentence + (f"; plan {version} is in force" if version else ""))
            for one in situation.watched:
                say(f"  {one.state:9s} {one.sentence}")
        if not every_s:
            break
        time.sleep(every_s)
    opened.close()
    if step.action not in {"keep", "ramp"}:
        raise typer.Exit(UNSETTLED)


def looked(
    logs: Path, config: Config, registry: Registry, *, spool: Path | None, ramp_to: float, now_s: float | None = None
) -> tuple[Situation, int, Step]:
    """Return what is seen of the plan in force, the policy that would be ramped (0 = none), and what is to be done.

    Args:
        logs: joined.
        config: objectives, guardrails, rollout.
        registry: with the plan.
        spool: of the service.
        ramp_to: largest share of users to ramp to by itself.
        now_s: seconds since 1970; by default the clock's.
    """
    from paretune.experiment.guarding import Seen, seen_of
    from paretune.experiment.watch import Situation, next_step
    from paretune.policy import changes

    now_us = int(1e6 * (time.time() if now_s is None else now_s))
    plan, past = registry.current(), registry.history()
    numbers = changes.numbers_in(plan)
    if plan is None or plan.killed or not numbers:
        by, operation = (past[0].by, past[0].operation) if past else ("", "")
        found = Situation(plan.version if plan else 0, plan is not None and plan.killed, False, by, operation, 0.0, 0.0, 0, (), None)
        return found, 0, next_step(found, config.rollout)
    began, number = past[0], numbers[-1]
    step = 1 + next((i for i, one in enumerate(past) if one.operation != "ramp"), len(past) - 1)
    seen: Seen = seen_of(logs, config, plan, since_us=began.at_us, step=step, spool=spool)
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
        can_go_back=began.previous > 0,
        doubts=seen.doubts,
    )
    return found, number, next_step(found, config.rollout)


def _next_share(plan: Plan, number: int, most: float) -> float | None:
    """Return the share of the next step of a ramp, as far as it may go and as the control arm leaves room; None after the last."""
    from paretune.policy import changes

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
    from paretune.errors import ConflictError
    from paretune.experiment.watch import AUTOMAT

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


def told(situation: Situation, step: Step) -> dict[str, Any]:
    """Return both for programs."""
    return {
        "action": step.action,
        "reasons": list(step.reasons),
        "users": situation.users,
        "age_s": situation.age_s,
        "guardrails": [
            {"name": one.name, "state": one.state, "value": one.value, "low": one.low, "high": one.high, "limit": one.limit}
            for one in situation.watched
        ],
    }
