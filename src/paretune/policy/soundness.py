"""Whether the registry still is what it was written as: the trail's chain, and all that the trail speaks of. An edge: the database.

The rule: every plan, policy, front and bundle is hashed again and compared with what the trail says of it, and so are who did it, each
policy's state, every outcome, and the rules; the first entry that does not hold is named.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from paretune.errors import ArtefactError, ConfigError
from paretune.policy import audit, rows
from paretune.policy.operating import decode_operating
from paretune.policy.outcomes import RECORDED, evidence_fingerprint, numbers_of, outcomes_of
from paretune.policy.shelf import get_bundle, get_front
from paretune.policy.states import Rules, State
from paretune.policy.tables import activations, bundles, evidence, fronts, plans, policies

_PUBLISHED = {"publish", "renew"}
_LEADS_TO = {"publish": State.DRAFT, "approve": State.APPROVED, "retire": State.RETIRED}


@dataclass
class Told:
    """What the audit trail says, by what it speaks of: a fact for every plan, policy and outcome, and none of the trail's own text."""

    plans: dict[str, str] = field(default_factory=dict)  # subject -> fingerprint
    activations: dict[str, str] = field(default_factory=dict)  # subject -> hash of how it came into force
    evidence: dict[tuple[str, Any], str] = field(default_factory=dict)  # subject, revision -> hash of what was published
    states: dict[str, State] = field(default_factory=dict)
    approvals: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def heard(self, trail: Iterable[audit.Entry]) -> Iterator[audit.Entry]:
        """Yield the entries of a trail on, each taken down."""
        for entry in trail:
            self._take(entry, _detail(entry))
            yield entry

    def _take(self, entry: audit.Entry, detail: dict[str, Any]) -> None:
        if "fingerprint" in detail:  # of other entries that speak of a plan nothing came into force
            self.plans[entry.subject] = str(detail["fingerprint"])
            said = (detail.get(name) for name in ("previous", "content_of", "note", "key"))
            self.activations[entry.subject] = _hash(entry.who, entry.what, entry.at_us, *said)
        if entry.what in _PUBLISHED:
            told = (entry.evidence, entry.who, entry.at_us, detail.get("front"), detail.get("note"))
            self.evidence[entry.subject, detail.get("revision")] = _hash(*told)
        if entry.what in _LEADS_TO:
            self.states[entry.subject] = _LEADS_TO[entry.what]
        if entry.what == "approve":
            self.approvals[entry.subject] = (entry.evidence, entry.who, entry.at_us)
        if (entry.what, entry.subject) == ("rules", "registry"):
            self.rules = detail
        if entry.what == RECORDED and isinstance(detail.get("outcomes"), list):
            for said_of in detail["outcomes"]:
                self.outcomes[said_of["seq"]] = (entry.subject, entry.who, entry.at_us, entry.evidence, said_of)


def problems(connection: Connection, *, head: str = "") -> list[str]:
    """Return what does not hold, in words; nothing where all is whole.

    The trail is read once, a batch at a time, however long it is.

    Args:
        connection: of one moment.
        head: a hash of the trail that was noted earlier; empty = none.
    """
    told = Told()
    trail = told.heard(rows.entries(connection))
    broken = audit.verify(trail, head=head)
    deque(trail, maxlen=0)  # what comes after a break is heard too
    return [
        *([f"audit trail: {broken.why}"] if broken else []),
        *_plans(connection, told),
        *_activations(connection, told),
        *_evidence(connection, told),
        *_states(connection, told),
        *_rules(connection, told),
        *_outcomes(connection, told),
        *_bundles(connection),
        *_fronts(connection),
    ]


def _plans(connection: Connection, told: Told) -> Iterator[str]:
    versions = []
    for row in connection.execute(select(plans).order_by(plans.c.version)):
        versions.append(row.version)
        true = hashlib.sha256(bytes(row.document)).hexdigest()
        if true != row.fingerprint or true != told.plans.get(f"plan {row.version}", ""):
            yield f"plan {row.version} is not what the audit trail says came into force"
    known = {f"plan {version}" for version in versions}
    for subject in told.plans:
        if subject not in known:
            yield f"{subject} is missing: the audit trail says it came into force"
    if list(connection.execute(select(activations.c.version).order_by(activations.c.version)).scalars()) != versions:
        yield "plans and activations do not belong together"
    current = rows.version_in_force(connection)
    if current != (versions[-1] if versions else 0):
        yield f"plan {current} is marked as in force; the last that was activated is plan {versions[-1] if versions else 0}"


def _activations(connection: Connection, told: Told) -> Iterator[str]:
    for activation in reversed(rows.activations_of(connection)):
        kept = (activation.by, activation.operation, activation.at_us, activation.previous, activation.content_of)
        if told.activations.get(f"plan {activation.version}") != _hash(*kept, activation.note, activation.idempotency_key):
            yield f"plan {activation.version} is marked as {activation.operation} by {activation.by}; the audit trail says otherwise"


def _evidence(connection: Connection, told: Told) -> Iterator[str]:
    for row in connection.execute(select(evidence).order_by(evidence.c.number, evidence.c.revision)):
        name = f"policy {row.number}, revision {row.revision} of its evidence,"
        try:
            found = decode_operating(bytes(row.document), source=name)
        except ArtefactError as error:
            yield str(error.args[0])
            continue
        kept = _hash(row.fingerprint, row.by, row.at_us, row.front or "", row.note)
        said = told.evidence.get((f"policy {row.number}", row.revision))
        if said != kept or (found.fingerprint, found.bundle) != (row.fingerprint, row.bundle or ""):
            yield f"{name} is not what the audit trail says was published"


def _states(connection: Connection, told: Told) -> Iterator[str]:
    states = dict(told.states)
    for row in connection.execute(select(policies).order_by(policies.c.number)):
        subject = f"policy {row.number}"
        state = states.pop(subject, None)
        if row.state != state:
            yield f"{subject} is marked as {row.state}; the audit trail leaves it {state or 'unmentioned'}"
        if told.approvals.get(subject, ("", "", 0)) != (row.approved, row.approved_by, row.approved_us):
            yield f"{subject} is marked as approved by {row.approved_by or 'nobody'}; the audit trail knows no such approval"
    for subject in states:
        yield f"{subject} is missing: the audit trail says it was published"


def _rules(connection: Connection, told: Told) -> Iterator[str]:
    said, begun = told.rules, Rules()
    try:
        kept = rows.rules_of(connection)
    except ConfigError as error:
        yield f"the rules were altered: {error.args[0]}"
        return
    if (kept.self_approval, kept.evidence_days) != (
        said.get("self_approval", begun.self_approval),
        said.get("evidence_days", begun.evidence_days),
    ):
        yield "the rules of approval are not what the audit trail says they were set to"


def _outcomes(connection: Connection, told: Told) -> Iterator[str]:
    expected = dict(told.outcomes)
    for outcome in outcomes_of(connection):
        name = f"outcome {outcome.seq} ({outcome.objective} of policy {outcome.number})"
        promised = evidence_fingerprint(connection, outcome.number, outcome.revision)
        if expected.pop(outcome.seq, None) != (f"policy {outcome.number}", outcome.by, outcome.at_us, promised, numbers_of(outcome)):
            yield f"{name} is not what the audit trail says was recorded"
    for seq in expected:
        yield f"outcome {seq} is missing: the audit trail says it was recorded"


def _bundles(connection: Connection) -> Iterator[str]:
    for fingerprint in connection.execute(select(bundles.c.fingerprint).order_by(bundles.c.fingerprint)).scalars():
        try:
            get_bundle(connection, fingerprint)
        except ArtefactError as error:
            yield str(error.args[0])


def _fronts(connection: Connection) -> Iterator[str]:
    for fingerprint in connection.execute(select(fronts.c.fingerprint).order_by(fronts.c.fingerprint)).scalars():
        try:
            get_front(connection, fingerprint)
        except ArtefactError as error:
            yield str(error.args[0])


def _detail(entry: audit.Entry) -> dict[str, Any]:
    try:
        found = json.loads(entry.detail)
    except ValueError:  # an altered entry; the chain says so
        return {}
    return found if isinstance(found, dict) else {}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
