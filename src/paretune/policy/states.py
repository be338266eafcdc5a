"""What an operating policy may do when: draft, approved, retired.

    draft ── approve (somebody else) ──▶ approved ── retire ──▶ retired
      └──────────────── retire ────────────────────────────────────┘

The rules: an approval is of one fingerprint, the hash of bundle, trade-off and evidence together; it is void once the evidence is another,
or older than its limit; nobody approves what they published, unless the rules say so; retired is the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from paretune.errors import ConfigError, ConflictError, ForbiddenError

DAY_US = 86_400_000_000


class State(StrEnum):
    """Where a policy stands."""

    DRAFT = "draft"
    APPROVED = "approved"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Rules:
    """What approvals must keep."""

    self_approval: bool = False  # whether who published may approve
    evidence_days: float = 30.0  # age, since it was published, at which evidence no longer carries an approval

    def __post_init__(self) -> None:
        if not 0 < self.evidence_days < 10_000:
            raise ConfigError(f"evidence is good for {self.evidence_days:g} days", hint="give a number of days above 0, such as 30")


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy's state and what it rests on; times are microseconds since 1970."""

    number: int
    state: State
    fingerprint: str  # of bundle, trade-off and the evidence as it is now
    authors: tuple[str, ...]  # who published the policy, and the evidence
    evidence_us: int  # when the evidence was published
    approved_by: str = ""
    approved_us: int = 0
    approved: str = ""  # the fingerprint that was approved


def approve(standing: Standing, *, by: str, now_us: int, rules: Rules) -> Standing:
    """Return the standing after an approval.

    Raises:
        ConflictError: it is retired, or approved already as it is now.
        ForbiddenError: it is one's own, or the evidence is too old.
    """
    number = standing.number
    if standing.state is State.RETIRED:
        raise ConflictError(f"policy {number} is retired", hint="publish it again to bring it back")
    if standing.state is State.APPROVED and not why_void(standing, now_us=now_us, rules=rules):
        raise ConflictError(f"policy {number} is approved already, by {standing.approved_by}", hint="activate it")
    if by in standing.authors and not rules.self_approval:
        raise ForbiddenError(
            f"{by} published policy {number} or its evidence and cannot approve it", hint="let somebody else approve it: --as USER"
        )
    old = _too_old(standing, now_us=now_us, rules=rules)
    if old:
        raise ForbiddenError(f"policy {number} cannot be approved: {old}", hint=_renew(number))
    return replace(standing, state=State.APPROVED, approved_by=by, approved_us=now_us, approved=standing.fingerprint)


def retire(standing: Standing) -> Standing:
    """Return the standing after it was taken out of use.

    Raises:
        ConflictError: it is retired already.
    """
    if standing.state is State.RETIRED:
        raise ConflictError(f"policy {standing.number} is retired already", hint="there is nothing to do")
    return replace(standing, state=State.RETIRED)


def why_void(standing: Standing, *, now_us: int, rules: Rules) -> str:
    """Return why an approval does not count, or nothing where it does or there is none."""
    if standing.state is not State.APPROVED:
        return ""
    if standing.approved != standing.fingerprint:
        return f"the evidence was changed after {standing.approved_by} approved it"
    return _too_old(standing, now_us=now_us, rules=rules)


def require_approval(standing: Standing, *, now_us: int, rules: Rules) -> None:
    """Refuse to put a policy into force that is not approved as it is now.

    Raises:
        ForbiddenError: saying what is missing.
    """
    number = standing.number
    if standing.state is not State.APPROVED:
        hint = f"`paretune approve {number} --as USER` first" if standing.state is State.DRAFT else "publish it again to bring it back"
        raise ForbiddenError(f"policy {number} is {standing.state}, not approved", hint=hint)
    void = why_void(standing, now_us=now_us, rules=rules)
    if void:
        raise ForbiddenError(f"the approval of policy {number} is void: {void}", hint=_renew(number))


def _too_old(standing: Standing, *, now_us: int, rules: Rules) -> str:
    days = (now_us - standing.evidence_us) / DAY_US
    return f"the evidence is {days:.1f} days old, good for {rules.evidence_days:g}" if days > rules.evidence_days else ""


def _renew(number: int) -> str:
    return f"sweep again, `paretune publish RUN POLICY --renews {number}`, and have it approved"
