"""Rows of the registry as records, and records as rows. An edge: the database.

The rule: what is read is checked against its own hash before anybody uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from paretune.errors import ArtefactError, NotFoundError
from paretune.policy import audit
from paretune.policy.operating import OperatingPolicy, decode_operating
from paretune.policy.plan import Plan, decode_plan, encode_plan
from paretune.policy.states import Rules, Standing, State, why_void
from paretune.policy.tables import activations, evidence, in_force, plans, policies
from paretune.policy.tables import audit as trail
from paretune.policy.tables import rules as rules_table

Record = Row[Any]
_BATCH = 1_000  # entries of the audit trail read at a time


@dataclass(frozen=True, slots=True)
class Registered:
    """An operating policy in the registry."""

    number: int
    policy: OperatingPolicy
    standing: Standing
    void: str  # why its approval does not count; empty where it does or there is none
    revision: int  # of its evidence, from 1
    front: str  # fingerprint of the front it was chosen from; empty = none kept
    note: str

    @property
    def state(self) -> State:
        """draft, approved or retired."""
        return self.standing.state


@dataclass(frozen=True, slots=True)
class Activation:
    """How a version came into force."""

    version: int
    previous: int  # version that was in force before; 0 = none
    content_of: int  # version whose content this one repeats; its own where it is new
    operation: str  # activate, ramp, rollback, kill, release
    at_us: int
    by: str
    note: str
    idempotency_key: str | None
    request: str  # hash of what was asked


def version_in_force(connection: Connection) -> int:
    """Return the version in force, 0 where there is none yet."""
    return int(connection.execute(select(in_force.c.version).where(in_force.c.id == 1)).scalar_one())


def plan_of(connection: Connection, version: int) -> Plan:
    """Return one version.

    Raises:
        NotFoundError: there is none.
        ArtefactError: it was altered.
    """
    row = connection.execute(select(plans).where(plans.c.version == version)).first()
    if row is None:
        raise NotFoundError(f"there is no plan {version}", hint="`paretune history` lists the versions")
    document = bytes(row.document)
    if hashlib.sha256(document).hexdigest() != row.fingerprint:
        raise ArtefactError(f"plan {version} was altered in the registry", hint="see `paretune audit verify`; restore a backup")
    return decode_plan(document, source=f"plan {version}")


def plan_fingerprint(connection: Connection, version: int) -> str:
    """Return what one version is said to hash to; empty where there is none."""
    return connection.execute(select(plans.c.fingerprint).where(plans.c.version == version)).scalar() or ""


def current_plan(connection: Connection) -> Plan | None:
    """Return the plan in force, None where there is none yet."""
    version = version_in_force(connection)
    return plan_of(connection, version) if version else None


def put_plan(connection: Connection, plan: Plan) -> None:
    """Store a version."""
    connection.execute(insert(plans).values(version=plan.version, fingerprint=plan.fingerprint, document=encode_plan(plan)))


def activation_of(connection: Connection, version: int) -> Activation:
    """Return how a version came into force.

    Raises:
        NotFoundError: it never did.
    """
    row = connection.execute(select(activations).where(activations.c.version == version)).first()
    if row is None:
        raise NotFoundError(f"plan {version} was never in force", hint="`paretune history` lists the versions")
    return Activation(**row._mapping)


def activations_of(connection: Connection, limit: int | None = None) -> list[Activation]:
    """Return all activations, the latest first."""
    rows = connection.execute(select(activations).order_by(activations.c.version.desc()).limit(limit))
    return [Activation(**row._mapping) for row in rows]


def activation_by_key(connection: Connection, key: str) -> Activation | None:
    """Return the activation that was made under an idempotency key."""
    row = connection.execute(select(activations).where(activations.c.idempotency_key == key)).first()
    return None if row is None else Activation(**row._mapping)


def put_activation(connection: Connection, activation: Activation) -> None:
    """Store how a version came into force."""
    connection.execute(insert(activations).values(**asdict(activation)))


def rules_of(connection: Connection) -> Rules:
    """Return the rules that approvals must keep."""
    row = connection.execute(select(rules_table).where(rules_table.c.id == 1)).one()
    return Rules(self_approval=bool(row.self_approval), evidence_days=float(row.evidence_days))


def numbers_of(connection: Connection) -> list[int]:
    """Return the numbers of all policies."""
    return list(connection.execute(select(policies.c.number).order_by(policies.c.number)).scalars())


def registered(connection: Connection, number: int, *, now_us: int, rules: Rules) -> Registered:
    """Return a policy with the latest of its evidence.

    Raises:
        NotFoundError: there is none.
        ArtefactError: it was altered.
    """
    row = connection.execute(select(policies).where(policies.c.number == number)).first()
    if row is None:
        raise NotFoundError(f"there is no policy {number}", hint="`paretune history` lists the policies")
    spoken = connection.execute(select(evidence).where(evidence.c.number == number).order_by(evidence.c.revision)).all()
    latest = spoken[-1]
    policy = decode_operating(bytes(latest.document), source=f"policy {number}")
    if policy.fingerprint != latest.fingerprint:
        raise ArtefactError(f"policy {number} was altered in the registry", hint="see `paretune audit verify`; restore a backup")
    standing = Standing(
        number=number,
        state=State(row.state),
        fingerprint=policy.fingerprint,
        authors=tuple(dict.fromkeys((spoken[0].by, latest.by))),
        evidence_us=latest.at_us,
        approved_by=row.approved_by,
        approved_us=row.approved_us,
        approved=row.approved,
    )
    void = why_void(standing, now_us=now_us, rules=rules)
    return Registered(number, policy, standing, void, latest.revision, latest.front or "", latest.note)


def entries(connection: Connection) -> Iterator[audit.Entry]:
    """Yield the audit trail, the oldest entry first; a batch at a time is in memory."""
    seq = 0
    while batch := entries_after(connection, seq, _BATCH):
        yield from batch
        seq = batch[-1].seq


def entries_after(connection: Connection, seq: int, limit: int) -> list[audit.Entry]:
    """Return so many entries of the audit trail that follow one, the oldest first."""
    chosen = select(trail).where(trail.c.seq > seq).order_by(trail.c.seq).limit(limit)
    return [audit.Entry(**row._mapping) for row in connection.execute(chosen)]


def entries_before(connection: Connection, seq: int | None, limit: int) -> list[audit.Entry]:
    """Return so many entries of the audit trail that come before one, the latest first; None = the latest."""
    chosen = select(trail).order_by(trail.c.seq.desc()).limit(limit)
    chosen = chosen if seq is None else chosen.where(trail.c.seq < seq)
    return [audit.Entry(**row._mapping) for row in connection.execute(chosen)]


def is_noted(connection: Connection, what: str, subject: str) -> bool:
    """Say whether the audit trail has such an entry."""
    return connection.execute(select(trail.c.seq).where(trail.c.what == what, trail.c.subject == subject).limit(1)).first() is not None


def last_entry(connection: Connection) -> audit.Entry | None:
    """Return the latest entry of the audit trail."""
    latest = select(func.max(trail.c.seq)).scalar_subquery()
    row = connection.execute(select(trail).where(trail.c.seq == latest)).first()
    return None if row is None else audit.Entry(**row._mapping)


def note_down(
    connection: Connection, *, at_us: int, who: str, what: str, subject: str, detail: Mapping[str, Any], evidence: str = ""
) -> audit.Entry:
    """Add an entry to the audit trail and return it."""
    entry = audit.append(last_entry(connection), at_us=at_us, who=who, what=what, subject=subject, detail=detail, evidence=evidence)
    connection.execute(insert(trail).values(**asdict(entry)))
    return entry
