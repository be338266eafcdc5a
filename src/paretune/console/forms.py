"""What is sent to the console and what it answers, as JSON. Pure.

The rule: every text and number has its bounds here, so that none reaches the database that it cannot hold.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from paretune.console.access import Role
from paretune.console.accounts import Account, Token
from paretune.policy.audit import Entry
from paretune.policy.plan import Plan
from paretune.policy.registry import Change
from paretune.policy.rows import Activation, Registered
from paretune.policy.shelf import StoredFront

LARGEST = 2**31 - 1  # of the integers in the registry
_LINE = r"^[^\x00-\x1f\x7f]*$"  # no control characters
Number = Annotated[int, Field(ge=1, le=LARGEST, description="Of a policy.")]
Version = Annotated[int, Field(ge=0, le=LARGEST, description="Of a plan.")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Note = Annotated[str, Field(max_length=2000, pattern=_LINE, description="Why, for people and the audit trail.")]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$")]
Password = Annotated[str, Field(max_length=256)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TokenId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
Key = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]*$", description="The same request with the same key is done once.")
]


class Form(BaseModel):
    """What is sent; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SignIn(Form):
    """A name and its password."""

    name: Annotated[str, Field(max_length=100)]
    password: Password


class SetUp(Form):
    """The first admin."""

    code: Annotated[str, Field(max_length=100, description="As `paretune console` printed it.")]
    name: Name
    password: Password


class NewPassword(Form):
    """One's own password, another than before."""

    password: Password
    new: Password


class GivenPassword(Form):
    """Somebody's password."""

    password: Password


class NewToken(Form):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$", description="What it is for.")]
    role: Annotated[Role, Field(strict=False)]
    plans_only: bool = False
    days: Annotated[float | None, Field(gt=0, le=3650, allow_inf_nan=False)] = None
    account: Annotated[Name | None, Field(description="Of somebody else; for admins.")] = None


class NewAccount(Form):
    """An account to make."""

    name: Name
    role: Annotated[Role, Field(strict=False)]
    password: Annotated[Password | None, Field(description="None for somebody whom a proxy signs in.")] = None


class ChangedAccount(Form):
    """What is to be another about an account."""

    role: Annotated[Role | None, Field(strict=False)] = None
    disabled: bool | None = None


class Choice(Form):
    """A policy of a front."""

    policy: Annotated[int, Field(ge=0, le=100_000, description="Its place among the front's policies, production first at 0.")]
    note: Note = ""


class Approval(Form):
    """An approval of what was seen."""

    fingerprint: Annotated[Hash, Field(description="Of bundle, trade-off and evidence, as they were looked at.")]
    note: Note = ""


class Noted(Form):
    """A change that takes nothing but why."""

    note: Note = ""


class Switch(Noted):
    """A change of what is in force."""

    expected: Annotated[
        Version | None, Field(description="Version that must be in force, 0 before the first; a later one is a conflict.")
    ] = None
    preview: Annotated[bool, Field(description="Change nothing, and answer what would come.")] = False


class KillSwitch(Noted):
    """The kill switch."""

    preview: bool = False


class Activate(Switch):
    """A policy to serve."""

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, description="Of users.")]
    control: Annotated[Share | None, Field(description="Share of users kept on the static weights.")] = None
    explore: Annotated[Share | None, Field(description="Share of requests explored.")] = None
    most_per_s: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, description="Explored per second and process; 0 = no cap.")] = 0.0


class Ramp(Switch):
    """Another share of a policy that is served."""

    share: Annotated[Share | None, Field(description="Of users; none is the next of 1, 5, 25, 50 and 100 %.")] = None
    control: Share | None = None
    explore: Share | None = None
    most_per_s: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0


class RollBack(Switch):
    """A way back."""

    to: Annotated[int | None, Field(ge=1, le=LARGEST, description="Version whose content comes back; none is the one before.")] = None


class SeenSelf(BaseModel):
    """Who is signed in."""

    name: str
    role: Role
    by: str
    plans_only: bool
    csrf: Annotated[str | None, Field(description="To be sent as X-CSRF-Token with every change; none of a token.")]


class SeenPolicy(BaseModel):
    """A policy in the registry."""

    number: int
    state: str
    label: str
    void: Annotated[str, Field(description="Why its approval does not count; empty where it does or there is none.")]
    fingerprint: Annotated[str, Field(description="Of bundle, trade-off and evidence: what an approval is of.")]
    revision: int
    authors: list[str]
    evidence_us: int
    approved_by: str
    approved_us: int
    front: str
    note: str
    operating: dict[str, Any]


class SeenFront(BaseModel):
    """A front that policies were chosen from."""

    fingerprint: str
    at_us: int
    by: str
    policies: Annotated[list[int], Field(description="Numbers of those that were published from it.")]


class SeenActivation(BaseModel):
    """How a version came into force."""

    version: int
    previous: int
    content_of: int
    operation: str
    at_us: int
    by: str
    note: str


class SeenPlan(BaseModel):
    """A plan; version 0 and none where nothing is in force yet."""

    version: int
    fingerprint: str | None
    plan: dict[str, Any] | None


class SeenChange(BaseModel):
    """A change of what is in force, made or previewed."""

    before: int
    version: int
    changes: list[str]
    made: Annotated[bool, Field(description="False of a preview.")]
    repeated: Annotated[bool, Field(description="The same request with the same key had been done before.")]
    plan: dict[str, Any]


class SeenDiff(BaseModel):
    """What two plans differ in, in words."""

    before: int
    after: int
    changes: list[str]


class SeenEntry(BaseModel):
    """A line of the audit trail."""

    seq: int
    at_us: int
    who: str
    what: str
    subject: str
    detail: str
    evidence: str
    previous: str
    hash: str


class SeenVerdict(BaseModel):
    """Whether the registry is as it was written."""

    whole: bool
    problems: list[str]
    head: Annotated[str, Field(description="Hash of the latest entry; keep it elsewhere.")]


class SeenToken(BaseModel):
    """A token, without its secret."""

    id: str
    account: str
    name: str
    role: Role
    plans_only: bool
    made_us: int
    expires_us: int
    revoked_us: int


class MadeToken(SeenToken):
    """A new token."""

    secret: Annotated[str, Field(description="Shown this once.")]


class SeenAccount(BaseModel):
    """An account."""

    name: str
    role: Role
    disabled: bool
    has_password: bool
    made_us: int


class Health(BaseModel):
    """That the console and its registry answer."""

    status: str


def seen_policy(found: Registered) -> SeenPolicy:
    """Return a policy as it is told."""
    standing = found.standing
    return SeenPolicy(
        number=found.number,
        state=str(found.state),
        label=found.policy.label,
        void=found.void,
        fingerprint=standing.fingerprint,
        revision=found.revision,
        authors=list(standing.authors),
        evidence_us=standing.evidence_us,
        approved_by=standing.approved_by,
        approved_us=standing.approved_us,
        front=found.front,
        note=found.note,
        operating=msgspec.to_builtins(found.policy),
    )


def seen_front(front: StoredFront) -> SeenFront:
    """Return a front as it is told."""
    return SeenFront(fingerprint=front.fingerprint, at_us=front.at_us, by=front.by, policies=list(front.numbers))


def seen_plan(plan: Plan | None) -> SeenPlan:
    """Return a plan as it is told."""
    if plan is None:
        return SeenPlan(version=0, fingerprint=None, plan=None)
    return SeenPlan(version=plan.version, fingerprint=plan.fingerprint, plan=msgspec.to_builtins(plan))


def seen_change(change: Change) -> SeenChange:
    """Return a change as it is told."""
    return SeenChange(
        before=change.before.version if change.before else 0,
        version=change.plan.version,
        changes=list(change.lines),
        made=change.activation is not None,
        repeated=change.repeated,
        plan=msgspec.to_builtins(change.plan),
    )


def seen_activation(activation: Activation) -> SeenActivation:
    """Return how a version came into force, as it is told."""
    return SeenActivation(**{field: getattr(activation, field) for field in SeenActivation.model_fields})


def seen_entry(entry: Entry) -> SeenEntry:
    """Return a line of the trail as it is told."""
    return SeenEntry(**{field: getattr(entry, field) for field in SeenEntry.model_fields})


def seen_token(token: Token) -> SeenToken:
    """Return a token as it is told."""
    return SeenToken(**{field: getattr(token, field) for field in SeenToken.model_fields})


def seen_account(account: Account) -> SeenAccount:
    """Return an account as it is told."""
    return SeenAccount(**{field: getattr(account, field) for field in SeenAccount.model_fields})
