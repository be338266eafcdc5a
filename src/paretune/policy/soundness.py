"""Whether the registry still is what it was written as: the trail's chain, and all that the trail speaks of. An edge: the database.

The rule: every plan, policy, front and bundle is hashed again and compared with what the trail says of it, and so are who did it, each
policy's state, every outcome, and the rules; the first entry that does not hold is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
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


def problems(connection: Connection, *, head: str = "") -> list[str]:
    """Return what does not hold, in words; nothing where all is whole.

    Args:
        connection: of one moment.
        head: a hash of the trail that was noted earlier; empty = none.
    """
    trail = list(rows.entries(connection))
    broken = audit.verify(trail, head=head)
    return [
        *([f"audit trail: {broken.why}"] if broken else []),
        *_plans(connection, trail),
        *_activations(connection, trail),
        *_evidence(connection, trail),
        *_states(connection, trail),
        *_rules(connection, trail),
        *_outcomes(connection, trail),
        *_bundles(connection),
        *_fronts(connection),
    ]


def _plans(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    told = {entry.subject: detail["fingerprint"] for entry in trail if "fingerprint" in (detail := _detail(entry))}
    versions = []
    for row in connection.execute(select(plans).order_by(plans.c.version)):
        versions.append(row.version)
        true = hashlib.sha256(bytes(row.document)).hexdigest()
        if true != row.fingerprint or true != told.get(f"plan {row.version}", ""):
            yield f"plan {row.version} is not what the audit trail says came into force"
    for subject in told:
        if subject not in {f"plan {version}" for version in versions}:
            yield f"{subject} is missing: the audit trail says it came into force"
    if list(connection.execute(select(activations.c.version).order_by(activations.c.version)).scalars()) != versions:
        yield "plans and activations do not belong together"
    current = rows.version_in_force(connection)
    if current != (versions[-1] if versions else 0):
        yield f"plan {current} is marked as in force; the last that was activated is plan {versions[-1] if versions else 0}"


def _activations(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    told = {entry.subject: (entry.who, entry.what, entry.at_us, _detail(entry)) for entry in trail if entry.subject.startswith("plan ")}
    for activation in reversed(rows.activations_of(connection)):
        who, what, at_us, detail = told.get(f"plan {activation.version}", ("", "", 0, {}))
        said = (who, what, at_us, *(detail.get(name) for name in ("previous", "content_of", "note", "key")))
        kept = (activation.by, activation.operation, activation.at_us, activation.previous, activation.content_of)
        if said != (*kept, activation.note, activation.idempotency_key):
            yield f"plan {activation.version} is marked as {activation.operation} by {activation.by}; the audit trail says otherwise"


def _evidence(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    told = {
        (entry.subject, detail.get("revision")): (entry.evidence, entry.who, entry.at_us, detail.get("front"), detail.get("note"))
        for entry in trail
        if entry.what in _PUBLISHED
        for detail in (_detail(entry),)
    }
    for row in connection.execute(select(evidence).order_by(evidence.c.number, evidence.c.revision)):
        name = f"policy {row.number}, revision {row.revision} of its evidence,"
        try:
            found = decode_operating(bytes(row.document), source=name)
        except ArtefactError as error:
            yield str(error.args[0])
            continue
        kept = (row.fingerprint, row.by, row.at_us, row.front or "", row.note)
        said = told.get((f"policy {row.number}", row.revision))
        if said != kept or (found.fingerprint, found.bundle) != (row.fingerprint, row.bundle or ""):
            yield f"{name} is not what the audit trail says was published"


def _states(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    states = {entry.subject: _LEADS_TO[entry.what] for entry in trail if entry.what in _LEADS_TO}
    approvals = {entry.subject: (entry.evidence, entry.who, entry.at_us) for entry in trail if entry.what == "approve"}
    for row in connection.execute(select(policies).order_by(policies.c.number)):
        subject = f"policy {row.number}"
        state = states.pop(subject, None)
        if row.state != state:
            yield f"{subject} is marked as {row.state}; the audit trail leaves it {state or 'unmentioned'}"
        if approvals.get(subject, ("", "", 0)) != (row.approved, row.approved_by, row.approved_us):
            yield f"{subject} is marked as approved by {row.approved_by or 'nobody'}; the audit trail knows no such approval"
    for subject in states:
        yield f"{subject} is missing: the audit trail says it was published"


def _rules(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    said = next((_detail(entry) for entry in reversed(trail) if (entry.what, entry.subject) == ("rules", "registry")), {})
    begun = Rules()
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


def _outcomes(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    told = {}
    for entry in trail:
        written = _detail(entry).get("outcomes") if entry.what == RECORDED else None
        for said in written if isinstance(written, list) else ():
            told[said["seq"]] = (entry.subject, entry.who, entry.at_us, entry.evidence, said)
    for outcome in outcomes_of(connection):
        name = f"outcome {outcome.seq} ({outcome.objective} of policy {outcome.number})"
        promised = evidence_fingerprint(connection, outcome.number, outcome.revision)
        if told.pop(outcome.seq, None) != (f"policy {outcome.number}", outcome.by, outcome.at_us, promised, numbers_of(outcome)):
            yield f"{name} is not what the audit trail says was recorded"
    for seq in told:
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
