"""What to do about a plan that is watched: keep it, take the next step of its ramp, hold it, or step back.

    killed, or no policy served            keep
    stepped back by itself before          hold until a person acts; breached again: kill
    a guardrail is breached                step back
    nothing is seen for so long            hold; for twice as long: step back        (no row, or no look that succeeds)
    a guardrail worries, or too early      keep
    else, where a ramp is asked for        next step, and one an hour at most

The rule: going back needs no approval and is never delayed; going forward takes time, users, and no worry, and never follows a step back by
itself. A guard that cannot read is as blind as one that nothing is written for: both count the minutes in which nothing was seen. Whoever
acts by itself signs as AUTOMAT, so that the record says who did it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from paretune.config import Rollout
from paretune.experiment.guardrails import BREACHED, HOLDS, Watched
from paretune.policy.audit import AUTOMAT

Action = Literal["keep", "ramp", "hold", "kill", "rollback"]
BACK: tuple[Action, ...] = ("kill", "rollback")
BETWEEN_S = 3600.0  # least time between something done by itself and the next step forward


@dataclass(frozen=True, slots=True)
class Sight:
    """When something was last seen; kept from look to look."""

    saw_s: float  # of the last look that succeeded, seconds since 1970; before the first, when watching began
    failed_s: float | None = None  # of the first look that failed since; None where none did

    def after(self, now_s: float, *, failed: bool) -> Sight:
        """Return it after another look."""
        if not failed:
            return Sight(now_s)
        return Sight(self.saw_s, now_s if self.failed_s is None else self.failed_s)


@dataclass(frozen=True, slots=True)
class Situation:
    """A plan in force, and what was seen since it came into force."""

    version: int  # of the plan
    killed: bool
    served: bool  # some arm serves a policy
    by: str  # who put it in force
    operation: str  # by which operation
    age_s: float  # since it came into force
    silent_s: float  # for how long nothing was seen: no row, or no look that succeeded
    users: int  # of the smaller of arm and control
    watched: tuple[Watched, ...]
    next_share: float | None  # of the ramp; None where it is not to go further
    can_go_back: bool = True  # there is a plan before this one that serves the policies to fewer users
    doubts: tuple[str, ...] = ()  # what stands against a step forward although nothing is breached
    unwatched: tuple[str, ...] = ()  # what nobody can watch under this plan
    silence: str = "no row"  # what is missing while nothing is seen
    freezes_first: bool = False  # nothing was done about the silence yet: hold before stepping back, however long it was
    acted_s: float = inf  # since something was last done by itself; infinite where nothing ever was


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
    told = f"{situation.silence} for {silent / 60:.0f} minutes"
    if silent > 120 * rollout.silent_min and not situation.freezes_first:
        return Step(back, (f"{told}: nobody can see what it does", *situation.doubts))
    if silent > 60 * rollout.silent_min:
        return Step("hold", (told, *situation.doubts))
    waits = _waits(situation, rollout)
    if waits:
        return Step("keep", waits)
    if situation.next_share is None:
        return Step("keep", ("guardrails hold, and no further step is asked for",))
    return Step("ramp", (f"guardrails hold after {situation.age_s / 3600:.1f} h and {situation.users:,} users",))


def _waits(situation: Situation, rollout: Rollout) -> tuple[str, ...]:
    """Return what stands against a step forward."""
    found = [f"unwatched: {one}" for one in situation.unwatched]
    unsettled: Sequence[Watched] = [one for one in situation.watched if one.state != HOLDS]
    found += [f"{one.state}: {one.sentence}" for one in unsettled]
    found += situation.doubts
    if situation.next_share is None:
        return tuple(found)
    if situation.age_s < 3600 * rollout.hold_hours:
        found.append(f"{situation.age_s / 3600:.1f} of {rollout.hold_hours:g} h at this step")
    if situation.users < rollout.least_users:
        found.append(f"{situation.users:,} of {rollout.least_users:,} users in the smaller arm")
    if situation.acted_s < BETWEEN_S:
        found.append(f"{situation.acted_s / 60:.0f} of {BETWEEN_S / 60:.0f} minutes since something was last done by itself")
    return tuple(found)
