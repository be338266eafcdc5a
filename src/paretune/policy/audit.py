"""The audit trail: who did what, when, on which evidence; each entry holds the hash of the one before.

    hash_n = SHA-256(canonical JSON of [n, when, who, what, subject, detail, evidence, hash_(n-1)])

The rule: entries are only added. An entry that was altered, taken out, or put in breaks the chain at a place that `verify` names. What a
chain cannot see is its own end being cut off or the whole being written anew: keep a head somewhere else, and ask whether it still stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

AUTOMAT = "guardrails"  # signs what was done by itself; no person may take the name
GENESIS = "0" * 64  # hash before the first entry


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail."""

    seq: int  # 1, 2, 3, ...
    at_us: int  # microseconds since 1970
    who: str
    what: str  # publish, approve, activate, ...
    subject: str  # "policy 3", "plan 17"
    detail: str  # canonical JSON
    evidence: str  # fingerprint of bundle, trade-off and evidence; empty where none is concerned
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that does not hold, and why."""

    seq: int
    why: str


def append(last: Entry | None, *, at_us: int, who: str, what: str, subject: str, detail: Mapping[str, Any], evidence: str = "") -> Entry:
    """Return the entry that follows another.

    Args:
        last: None for the first.
        at_us: now.
        who: did it.
        what: was done.
        subject: to what.
        detail: JSON-able.
        evidence: a fingerprint.
    """
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    written = json.dumps(detail, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return Entry(
        seq, at_us, who, what, subject, written, evidence, previous, _hash(seq, at_us, who, what, subject, written, evidence, previous)
    )


def verify(entries: Iterable[Entry], *, head: str = "") -> Broken | None:
    """Return the first entry that breaks the chain, None where it is whole.

    Args:
        entries: all, in order.
        head: a hash that was noted earlier and must still be in the chain; empty = none.
    """
    seq, previous, seen = 0, GENESIS, not head
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            return Broken(seq, f"entry {seq} is missing: {entry.seq} stands in its place")
        if entry.previous != previous:
            return Broken(seq, f"entry {seq} does not follow from the entry before")
        parts = (entry.seq, entry.at_us, entry.who, entry.what, entry.subject, entry.detail, entry.evidence, entry.previous)
        if entry.hash != _hash(*parts):
            return Broken(seq, f"entry {seq} was altered: its content is not what was hashed")
        previous = entry.hash
        seen = seen or previous == head
    return None if seen else Broken(seq + 1, f"the noted head {head[:12]} is not in the trail: its end was cut off, or it was written anew")


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
