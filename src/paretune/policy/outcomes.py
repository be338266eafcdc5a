"""Outcomes in the registry: what tests with users saw of each release, beside what its evidence had promised.

An edge: the database, the clock. The rule: the promise is read from the registry, as it stood when the version came into force; whoever
records an outcome brings only what was seen. The same readout again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from sqlalchemy import Connection, func, insert, select

from paretune.errors import ConfigError, ConflictError, DataError
from paretune.policy import rows
from paretune.policy.changes import arm_name, numbers_in
from paretune.policy.operating import Evidence, decode_operating
from paretune.policy.register import PolicyRegister, kept_text, named
from paretune.policy.tables import evidence, outcomes

RECORDED = "outcome"  # of the audit trail
_FINGERPRINT = 64  # characters
_NOT_NUMBERS = {"at_us", "by"}  # of an outcome: they stand in the trail's entry itself


@dataclass(frozen=True, slots=True)
class Seen:
    """What a test with users saw of an objective; relative lifts as fractions."""

    objective: str
    estimate: float
    std_error: float | None  # None = unknown
    low: float | None
    high: float | None
    minimised: bool = False  # less of it is better


@dataclass(frozen=True, slots=True)
class Outcome:
    """One objective of one release: what was promised, and what was seen."""

    seq: int  # 1, 2, 3, ...
    version: int  # of the plan that was tested
    number: int  # of the policy
    revision: int  # of the evidence that promised it
    objective: str
    minimised: bool
    predicted: float  # relative lift, a fraction, as are all below
    predicted_error: float | None  # None = unknown
    predicted_low: float | None
    predicted_high: float | None
    seen: float
    seen_error: float | None
    seen_low: float | None
    seen_high: float | None
    users: int  # of the policy's arm and its control
    days: int
    at_us: int
    by: str
    readout: str  # fingerprint of the readout that saw it


class OutcomeRegister(PolicyRegister):
    """Policies, and how their promises turned out."""

    def record_outcome(
        self, number: int, *, version: int, seen: Sequence[Seen], users: int, days: int, readout: str, by: str
    ) -> list[Outcome]:
        """Store what a test saw of a policy beside what was promised, and return both; objectives without a promise are left out.

        Args:
            number: of the policy.
            version: of the plan that was tested.
            seen: one objective each.
            users: of the policy's arm and its control.
            days: of the test.
            readout: fingerprint of the readout, 64 characters.
            by: who records it.

        Raises:
            NotFoundError: there is no such policy or version.
            ConflictError: the version does not serve the policy, or its evidence promised nothing of what was seen.
            DataError: a number is not finite.
            ConfigError: the fingerprint is none.
        """
        by = named(by)
        if len(kept_text(readout, "the readout's fingerprint")) != _FINGERPRINT:
            raise ConfigError(f"{readout!r} is no fingerprint of a readout", hint="give the SHA-256 of the readout")
        _refuse_unfinished(seen, users=users, days=days)

        def work(connection: Connection) -> list[Outcome]:
            now_us = self._now_us()
            found = rows.registered(connection, number, now_us=now_us, rules=rows.rules_of(connection))
            activation = rows.activation_of(connection, version)
            if number not in numbers_in(rows.plan_of(connection, version)):
                raise ConflictError(f"plan {version} has no arm {arm_name(number)}", hint="name the version that was tested")
            there = [outcome for outcome in outcomes_of(connection) if (outcome.number, outcome.readout) == (number, readout)]
            if there:
                return there
            revision, promised = _promised(connection, number, before_us=activation.at_us)
            last = connection.execute(select(func.max(outcomes.c.seq))).scalar() or 0
            made: list[Outcome] = []
            for each in seen:
                promise = promise_of(promised.evidence, each.objective)
                if promise is None:
                    continue
                about = (last + len(made) + 1, version, number, revision, each.objective, each.minimised)
                told = (each.estimate, each.std_error, each.low, each.high)
                made.append(Outcome(*about, *promise, *told, users, days, now_us, by, readout))
            if not made:
                raise ConflictError(
                    f"the evidence of policy {found.number} promises nothing of {[each.objective for each in seen]}",
                    hint=f"it speaks of {list(promised.evidence.objectives)}",
                )
            connection.execute(insert(outcomes), [asdict(outcome) for outcome in made])
            detail = {"policy": promised.policy, "outcomes": [numbers_of(outcome) for outcome in made]}
            self._note(connection, by, RECORDED, f"policy {number}", detail, evidence=promised.fingerprint, at_us=now_us)
            return made

        return self.database.write(work)

    def outcomes(self) -> list[Outcome]:
        """Return all outcomes, the oldest first."""
        return self.database.read(outcomes_of)


def outcomes_of(connection: Connection) -> list[Outcome]:
    """Return all outcomes, the oldest first."""
    return [Outcome(**row._mapping) for row in connection.execute(select(outcomes).order_by(outcomes.c.seq))]


def numbers_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as the audit trail says it."""
    return {name: value for name, value in asdict(outcome).items() if name not in _NOT_NUMBERS}


def evidence_fingerprint(connection: Connection, number: int, revision: int) -> str:
    """Return what one revision of a policy's evidence is said to hash to; empty where there is none."""
    chosen = select(evidence.c.fingerprint).where(evidence.c.number == number, evidence.c.revision == revision)
    return connection.execute(chosen).scalar() or ""


def _promised(connection: Connection, number: int, *, before_us: int) -> tuple[int, Any]:
    """Return the revision of the evidence that stood when a version came into force, and the policy it speaks of."""
    known = connection.execute(select(evidence).where(evidence.c.number == number).order_by(evidence.c.revision)).all()
    row = next((each for each in reversed(known) if each.at_us <= before_us), known[0])
    return row.revision, decode_operating(bytes(row.document), source=f"policy {number}")


def promise_of(promised: Evidence, objective: str) -> tuple[float, float | None, float | None, float | None] | None:
    """Return estimate, error and ends of a promised lift, None where none was given."""
    if objective not in promised.objectives:
        return None
    place = promised.objectives.index(objective)
    rows_of = [promised.lifts.get(name, ()) for name in ("estimate", "std_error", "low", "high")]
    estimate, *rest = (row[place] if place < len(row) else None for row in rows_of)
    return None if estimate is None else (estimate, rest[0], rest[1], rest[2])


def _refuse_unfinished(seen: Sequence[Seen], *, users: int, days: int) -> None:
    for each in seen:
        numbers = [number for number in (each.estimate, each.std_error, each.low, each.high) if number is not None]
        if not all(isfinite(number) for number in numbers):
            raise DataError(f"what was seen of {each.objective!r} is not finite", hint="record it when the test has told something of it")
        kept_text(each.objective, "the objective's name")
    if users < 1 or days < 1:
        raise DataError(f"a test of {users} users on {days} days", hint="record a readout")
