"""Who may do what: roles, actions, and the least role that each action takes.

    viewer < operator < approver < admin

The rules: every action is in `RULES`, and what is not allowed there is refused; a token never does more than its account; a token for
plans reads plans and nothing else; what binds a person (passwords, tokens, accounts) is done in person, with a session, not with a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType

from paretune.errors import ConfigError, ForbiddenError, SignInError


class Role(StrEnum):
    """What an account is for; each may do all that the ones before it may."""

    VIEWER = "viewer"  # sees policies, plans and the trail
    OPERATOR = "operator"  # drafts, and changes what is in force, with what others approved
    APPROVER = "approver"  # says what may come into force, and what no longer may
    ADMIN = "admin"  # says who has which role

    @property
    def rank(self) -> int:
        """0 of the least."""
        return list(Role).index(self)


class Action(StrEnum):
    """What can be asked of the console."""

    SIGN_IN = "sign-in"
    SET_UP = "set-up"  # the first admin
    SEE_HEALTH = "see-health"
    SEE_INTERFACE = "see-interface"  # the OpenAPI document
    SEE_SELF = "see-self"
    READ_PLANS = "read-plans"  # in force, history, what two differ in
    READ_POLICIES = "read-policies"
    READ_AUDIT = "read-audit"
    READ_TRAFFIC = "read-traffic"  # what the decision services count
    CHOOSE = "choose"  # a policy of a front, as a draft
    ACTIVATE = "activate"
    RAMP = "ramp"
    ROLL_BACK = "roll-back"
    KILL = "kill"
    RELEASE = "release"
    APPROVE = "approve"
    RETIRE = "retire"
    SIGN_OUT = "sign-out"
    CHANGE_PASSWORD = "change-password"  # noqa: S105  (the name of an action)
    READ_TOKENS = "read-tokens"
    MAKE_TOKEN = "make-token"  # noqa: S105  (the name of an action)
    REVOKE_TOKEN = "revoke-token"  # noqa: S105  (the name of an action)
    READ_ACCOUNTS = "read-accounts"
    CHANGE_ACCOUNTS = "change-accounts"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an action takes."""

    least: Role | None  # None = nobody needs to be signed in
    changes: bool = False  # something that others see
    in_person: bool = False  # with a session, not with a token
    plans: bool = False  # also with a token that reads plans only


RULES: Mapping[Action, Rule] = MappingProxyType(
    {
        Action.SIGN_IN: Rule(None, changes=True),
        Action.SET_UP: Rule(None, changes=True),
        Action.SEE_HEALTH: Rule(None),
        Action.SEE_INTERFACE: Rule(None),
        Action.SEE_SELF: Rule(Role.VIEWER, plans=True),
        Action.READ_PLANS: Rule(Role.VIEWER, plans=True),
        Action.READ_POLICIES: Rule(Role.VIEWER),
        Action.READ_AUDIT: Rule(Role.VIEWER),
        Action.READ_TRAFFIC: Rule(Role.VIEWER),
        Action.CHOOSE: Rule(Role.OPERATOR, changes=True),
        Action.ACTIVATE: Rule(Role.OPERATOR, changes=True),
        Action.RAMP: Rule(Role.OPERATOR, changes=True),
        Action.ROLL_BACK: Rule(Role.OPERATOR, changes=True),
        Action.KILL: Rule(Role.OPERATOR, changes=True),
        Action.RELEASE: Rule(Role.OPERATOR, changes=True),
        Action.APPROVE: Rule(Role.APPROVER, changes=True),
        Action.RETIRE: Rule(Role.APPROVER, changes=True),
        Action.SIGN_OUT: Rule(Role.VIEWER, changes=True, in_person=True),
        Action.CHANGE_PASSWORD: Rule(Role.VIEWER, changes=True, in_person=True),
        Action.READ_TOKENS: Rule(Role.OPERATOR, in_person=True),
        Action.MAKE_TOKEN: Rule(Role.OPERATOR, changes=True, in_person=True),
        Action.REVOKE_TOKEN: Rule(Role.OPERATOR, changes=True, in_person=True),
        Action.READ_ACCOUNTS: Rule(Role.ADMIN),
        Action.CHANGE_ACCOUNTS: Rule(Role.ADMIN, changes=True, in_person=True),
    }
)


class By(Enum):
    """How a caller showed who they are."""

    NOTHING = "nothing"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105  (a kind of credential)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str = ""  # of the account; empty = nobody
    role: Role | None = None  # of the account, or of the token where that is less
    by: By = By.NOTHING
    plans_only: bool = False  # a token that reads plans and nothing else
    token: str = ""  # its id


NOBODY = Caller()


def least_of(one: Role, other: Role) -> Role:
    """Return the lower of two roles."""
    return min(one, other, key=lambda role: role.rank)


def role_named(text: str) -> Role:
    """Return the role of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return Role(text)
    except ValueError:
        raise ConfigError(f"there is no role {text!r}", hint=f"one of {', '.join(Role)}") from None


def require(caller: Caller, action: Action) -> None:
    """Let a caller pass who may do something.

    Raises:
        SignInError: nobody is signed in.
        ForbiddenError: this caller may not do it.
    """
    rule = RULES[action]
    if rule.least is None:
        return
    if caller.role is None or caller.by is By.NOTHING:
        raise SignInError("nobody is signed in", hint="sign in, or send a token: Authorization: Bearer TOKEN")
    if caller.plans_only and not rule.plans:
        raise ForbiddenError("this token reads plans and nothing else", hint="use another token")
    if rule.in_person and caller.by is not By.SESSION:
        raise ForbiddenError(f"{action} is done in person, not with a token", hint="sign in with your password")
    if caller.role.rank < rule.least.rank:
        raise ForbiddenError(f"{caller.name} acts as {caller.role}; {action} takes {rule.least}", hint="ask an admin for the role")
