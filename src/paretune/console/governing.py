"""Routes of policies, plans and the audit trail; the same operations as on the command line. An edge: HTTP.

The rule: a route asks the registry and says what it answered; what may be done is said by the door and by the registry, never here.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from paretune.console.access import Action
from paretune.console.forms import (
    LARGEST,
    Activate,
    Approval,
    Choice,
    Hash,
    Key,
    KillSwitch,
    Noted,
    Number,
    Ramp,
    RollBack,
    SeenActivation,
    SeenChange,
    SeenDiff,
    SeenEntry,
    SeenFront,
    SeenPlan,
    SeenPolicy,
    SeenVerdict,
    Switch,
    Version,
    seen_activation,
    seen_change,
    seen_entry,
    seen_front,
    seen_plan,
    seen_policy,
)
from paretune.console.guard import Guarded, Who, asks
from paretune.policy.changes import diff

governing = APIRouter(route_class=Guarded)
IdempotencyKey = Annotated[Key | None, Header()]


@governing.get("/fronts", tags=["fronts"])
@asks(Action.READ_POLICIES)
def list_fronts(who: Who) -> list[SeenFront]:
    """All fronts that policies were published from, the latest first."""
    return [seen_front(front) for front in who.registry.fronts()]


@governing.get("/fronts/{fingerprint}", tags=["fronts"], response_class=Response, responses={200: {"content": {"application/json": {}}}})
@asks(Action.READ_POLICIES)
def show_front(fingerprint: Hash, who: Who) -> Response:
    """One front, as the sweep wrote it."""
    return Response(who.registry.front(fingerprint)[0], media_type="application/json")


@governing.post("/fronts/{fingerprint}/choose", tags=["fronts"], status_code=201)
@asks(Action.CHOOSE)
def choose(fingerprint: Hash, body: Choice, who: Who) -> SeenPolicy:
    """Draft a policy of a front, over the model of those that were published from it."""
    return seen_policy(who.registry.choose(fingerprint, body.policy, by=who.caller.name, note=body.note))


@governing.get("/policies", tags=["policies"])
@asks(Action.READ_POLICIES)
def list_policies(who: Who) -> list[SeenPolicy]:
    """All policies, by number."""
    return [seen_policy(found) for found in who.registry.policies()]


@governing.get("/policies/{number}", tags=["policies"])
@asks(Action.READ_POLICIES)
def show_policy(number: Number, who: Who) -> SeenPolicy:
    """One policy with its evidence."""
    return seen_policy(who.registry.policy(number))


@governing.post("/policies/{number}/approve", tags=["policies"])
@asks(Action.APPROVE)
def approve(number: Number, body: Approval, who: Who) -> SeenPolicy:
    """Approve a policy with the evidence that was looked at; nobody approves their own."""
    return seen_policy(who.registry.approve(number, by=who.caller.name, note=body.note, fingerprint=body.fingerprint))


@governing.post("/policies/{number}/retire", tags=["policies"])
@asks(Action.RETIRE)
def retire(number: Number, body: Noted, who: Who) -> SeenPolicy:
    """Take a policy out of use for good."""
    return seen_policy(who.registry.retire(number, by=who.caller.name, note=body.note))


@governing.post("/policies/{number}/activate", tags=["plans"])
@asks(Action.ACTIVATE)
def activate(number: Number, body: Activate, who: Who, idempotency_key: IdempotencyKey = None) -> SeenChange:
    """Serve an approved policy to a share of the users."""
    return seen_change(who.registry.activate(number, by=who.caller.name, key=idempotency_key, **body.model_dump()))


@governing.post("/policies/{number}/ramp", tags=["plans"])
@asks(Action.RAMP)
def ramp(number: Number, body: Ramp, who: Who, idempotency_key: IdempotencyKey = None) -> SeenChange:
    """Serve a policy that is in force to another share, by default the next."""
    return seen_change(who.registry.ramp(number, by=who.caller.name, key=idempotency_key, **body.model_dump()))


@governing.get("/plan", tags=["plans"])
@asks(Action.READ_PLANS)
def current(who: Who) -> SeenPlan:
    """What is in force."""
    return seen_plan(who.registry.current())


@governing.post("/plan/rollback", tags=["plans"])
@asks(Action.ROLL_BACK)
def rollback(body: RollBack, who: Who, idempotency_key: IdempotencyKey = None) -> SeenChange:
    """Put an earlier plan's content in force."""
    return seen_change(who.registry.rollback(by=who.caller.name, key=idempotency_key, **body.model_dump()))


@governing.post("/plan/kill", tags=["plans"])
@asks(Action.KILL)
def kill(body: KillSwitch, who: Who, idempotency_key: IdempotencyKey = None) -> SeenChange:
    """Serve everybody the static weights, whatever is in force."""
    return seen_change(who.registry.kill(by=who.caller.name, key=idempotency_key, **body.model_dump()))


@governing.post("/plan/release", tags=["plans"])
@asks(Action.RELEASE)
def release(body: Switch, who: Who, idempotency_key: IdempotencyKey = None) -> SeenChange:
    """Put in force again what was killed."""
    return seen_change(who.registry.release(by=who.caller.name, key=idempotency_key, **body.model_dump()))


@governing.get("/plans", tags=["plans"])
@asks(Action.READ_PLANS)
def history(who: Who, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[SeenActivation]:
    """How each version came into force, the latest first."""
    return [seen_activation(activation) for activation in who.registry.history(limit)]


@governing.get("/plans/diff", tags=["plans"])
@asks(Action.READ_PLANS)
def difference(who: Who, before: Annotated[Version, Query()], after: Annotated[int, Query(ge=1, le=LARGEST)]) -> SeenDiff:
    """What two plans differ in; 0 is before the first."""
    registry = who.registry
    lines = diff(registry.plan(before) if before else None, registry.plan(after))
    return SeenDiff(before=before, after=after, changes=list(lines))


@governing.get("/plans/{version}", tags=["plans"])
@asks(Action.READ_PLANS)
def show_plan(version: Version, who: Who) -> SeenPlan:
    """One version."""
    return seen_plan(who.registry.plan(version))


@governing.get("/audit", tags=["audit"])
@asks(Action.READ_AUDIT)
def trail(
    who: Who, after: Annotated[int, Query(ge=0, le=LARGEST)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[SeenEntry]:
    """The audit trail after an entry, the oldest first."""
    return [seen_entry(entry) for entry in who.registry.trail_after(after, limit=limit)]


@governing.get("/audit/verify", tags=["audit"])
@asks(Action.READ_AUDIT)
def verify(who: Who, head: Annotated[Hash | None, Query(description="A hash of the trail that was noted earlier.")] = None) -> SeenVerdict:
    """Whether trail, plans, policies and bundles are as they were written."""
    problems = who.registry.verify(head=head or "")
    return SeenVerdict(whole=not problems, problems=problems, head=who.registry.head()[1])
