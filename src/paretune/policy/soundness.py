"""Whether the registry still is what it was written as: the trail's chain, and all that the trail speaks of. An edge: the database.

The rule: every plan, policy and bundle is hashed again and compared with what the trail says of it; the first entry that does not hold is
named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from paretune.errors import ArtefactError
from paretune.policy import audit, rows
from paretune.policy.operating import decode_operating
from paretune.policy.shelf import get_bundle
from paretune.policy.tables import activations, bundles, evidence, plans, policies

_PUBLISHED = {"publish", "renew"}


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
        *_policies(connection, trail),
        *_bundles(connection),
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


def _policies(connection: Connection, trail: list[audit.Entry]) -> Iterator[str]:
    told = {(entry.subject, _detail(entry).get("revision")): entry.evidence for entry in trail if entry.what in _PUBLISHED}
    for row in connection.execute(select(evidence).order_by(evidence.c.number, evidence.c.revision)):
        name = f"policy {row.number}, revision {row.revision} of its evidence,"
        try:
            found = decode_operating(bytes(row.document), source=name)
        except ArtefactError as error:
            yield str(error.args[0])
            continue
        if found.fingerprint != row.fingerprint or found.fingerprint != told.get((f"policy {row.number}", row.revision), ""):
            yield f"{name} is not what the audit trail says was published"
    approved = {(entry.subject, entry.who): entry.evidence for entry in trail if entry.what == "approve"}
    for row in connection.execute(select(policies).where(policies.c.approved != "").order_by(policies.c.number)):
        if approved.get((f"policy {row.number}", row.approved_by)) != row.approved:
            yield f"policy {row.number} is marked as approved by {row.approved_by}; the audit trail knows no such approval"


def _bundles(connection: Connection) -> Iterator[str]:
    for fingerprint in connection.execute(select(bundles.c.fingerprint).order_by(bundles.c.fingerprint)).scalars():
        try:
            get_bundle(connection, fingerprint)
        except ArtefactError as error:
            yield str(error.args[0])


def _detail(entry: audit.Entry) -> dict[str, Any]:
    try:
        found = json.loads(entry.detail)
    except ValueError:  # an altered entry; the chain says so
        return {}
    return found if isinstance(found, dict) else {}
