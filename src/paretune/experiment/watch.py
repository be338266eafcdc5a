"""What to do about a plan that is watched: keep it, take the next step of its ramp, hold it, or step back.

    killed, or no policy served            keep
    stepped back by itself before          hold until a person acts; breached again: kill
    a guardrail is breached                step back
    no rows for so long                    hold; for twice as long: step back
    a guardrail worries, or too early      keep
    else, where a ramp is asked for        next step

The rule: going back needs no approval and is never delayed; going forward takes time, users, and no worry, and never follows a step back by
itself. Whoever acts by itself signs as AUTOMAT, so that the record says who did it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.config import Rollout
from paretune.experiment.guardrails import BREACHED, HOLDS, Watched

AUTOMAT = "guardrails"
Action = Literal["keep", "ramp", "hold", "kill", "rollback"]
BACK: tuple[Action, ...] = ("kill", "rollback")


@dataclass(frozen=True, slots=True)
class Situation:
    """A plan in force, and what was seen since it came into force."""

    version: int  # of the plan
    killed: bool
    served: bool  # some arm serves a policy
    by: str  # who put it in force
    operation: str  # by which operation
    age_s: float  # since it came into force
    silent_s: float  # since the newest row; infinite where there is none
    users: int  # of the smaller of arm and control
    watched: tuple[Watched, ...]
    next_share: float | None  # of the ramp; None where it is not to go further
    can_go_back: bool = True  # there is a plan before this one that serves the policies to fewer users
    doubts: tuple[str, ...] = ()  # what stands against a step forward although nothing is breached


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, and why."""

    action: Action
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Both, in words."""
        return f"{self.action}: {'; '.join(self.reasons)}"


def next_step(situation: Situation, rollout: Rollout) -> Step:
    """Return what to do now.

    Args:
        situation: see there.
        rollout: of the configuration.
    """
    breached = [one.sentence for one in situation.watched if one.state == BREACHED]
    if situation.killed:
        return Step("keep", ("killed: static weights for everybody until a person releases it",))
    if not situation.served:
        return Step("keep", ("no policy is served",))
    back: Action = "rollback" if rollout.on_breach == "rollback" and situation.can_go_back else "kill"
    if situation.by == AUTOMAT and situation.operation in BACK:
        if breached:
            return Step("kill", ("breached again after a step back", *breached))
        return Step("hold", ("it stepped back by itself; a person says how it goes on",))
    if breached:
        return Step(back, tuple(breached))
    silent = min(situation.silent_s, situation.age_s)  # a plan that is young was not silent for longer
    if silent > 120 * rollout.silent_min:
        return Step(back, (f"no row for {silent / 60:.0f} minutes: nobody can see what it does",))
    if silent > 60 * rollout.silent_min:
        return Step("hold", (f"no row for {silent / 60:.0f} minutes",))
    waits = _waits(situation, rollout)
    if waits:
        return Step("keep", waits)
    if situation.next_share is None:
        return Step("keep", ("guardrails hold, and no further step is asked for",))
    return Step("ramp", (f"guardrails hold after {situation.age_s / 3600:.1f} h and {situation.users:,} users",))


def _waits(situation: Situation, rollout: Rollout) -> tuple[str, ...]:
    """Return what stands against a step forward."""
    found: list[str] = []
    unsettled: Sequence[Watched] = [one for one in situation.watched if one.state != HOLDS]
    found += [f"{one.state}: {one.sentence}" for one in unsettled]
    found += situation.doubts
    if situation.next_share is None:
        return tuple(found)
    if situation.age_s < 3600 * rollout.hold_hours:
        found.append(f"{situation.age_s / 3600:.1f} of {rollout.hold_hours:g} h at this step")
    if situation.users < rollout.least_users:
        found.append(f"{situation.users:,} of {rollout.least_users:,} users in the smaller arm")
    return tuple(found)
