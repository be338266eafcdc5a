"""A small registry to test with: bundles of a few bytes, policies with made-up evidence, a clock one can turn."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from paretune.policy.operating import identity_of
from paretune.policy.outcomes import Outcome, Seen
from paretune.policy.registry import Registry
from paretune.value.bundle import SUMS

POSTGRES = os.environ.get("PARETUNE_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
HEADS, STATIC = ["save", "p2p", "hide"], [91.6, 9.1, -4.0]
ACTIONS = [STATIC, [60.0, 9.1, -4.0], [120.0, 9.1, -4.0]]
ANNA, BERT, CARA = "anna", "bert", "cara"


class Clock:
    """Seconds since 1970, turned by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def bundle(content: str = "model") -> dict[str, bytes]:
    """Files of a bundle, as the registry sees one."""
    files = {"arrays.npz": content.encode() * 50, "manifest.json": b"{}", "serving.json": json.dumps({"actions": ACTIONS}).encode()}
    sums = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in sorted(files.items()))
    return {**files, SUMS: sums.encode()}


def fingerprint(files: dict[str, bytes]) -> str:
    return hashlib.sha256(files[SUMS]).hexdigest()


def document(files: dict[str, bytes] | None, *, label: str = "knee", **changes: Any) -> bytes:
    """operating.json as `paretune export` writes it; without files, of fixed weights."""
    lifts = {name: [0.01, None] for name in ("estimate", "std_error", "low", "high", "band_low", "band_high")}
    written: dict[str, Any] = {
        "format": 1,
        "policy": "α=0.50",
        "kind": "alpha",
        "bundle": fingerprint(files) if files else "",
        "heads": HEADS,
        "static": STATIC,
        "objectives": ["save", "p2p"],
        "scale": [5.0, 5.0] if files else None,
        "evidence": {
            "hold_out": ["2026-03-05", "2026-03-06"],
            "estimator": "anchored",
            "confidence": 0.95,
            "objectives": ["save", "p2p"],
            "lifts": lifts,
            "hits": 1000,
            "requests": 100_000,
            "users": 9_000,
            "picks": [{"label": label, "verdict": "confirmed", "probability_degrading": 0.01}],
        },
        **({"scalarisation": [0.5, 0.5], "cohorts": {}} if files or changes.get("bundle") else {"weights": [80.0, 9.1, -4.0]}),
        **changes,
    }
    return json.dumps({**written, "sha256": identity_of(written)}, ensure_ascii=False).encode()


def published(registry: Registry, content: str = "model", *, approved: bool = True, **changes: Any) -> int:
    """Publish a policy as Anna, have Bert approve it, and return its number."""
    files = bundle(content)
    number = registry.publish(document(files, **changes), files, by=ANNA).number
    if approved:
        registry.approve(number, by=BERT)
    return number


def recorded(registry: Registry, number: int, *, version: int = 1, objective: str = "save", **changes: Any) -> list[Outcome]:
    """Record, as Bert, that a test saw half of what `document` promises of one objective."""
    seen = Seen(objective, 0.005, 0.002, 0.001, 0.009)
    about: dict[str, Any] = {"users": 20_000, "days": 14, "readout": hashlib.sha256(b"a readout").hexdigest(), "by": BERT}
    return registry.record_outcome(number, version=version, **{"seen": [seen], **about, **changes})


@contextmanager
def postgres_schema() -> Iterator[str]:
    """The URL of an empty schema of its own; skips where no PostgreSQL answers."""
    schema = f"paretune_{uuid.uuid4().hex[:12]}"
    try:
        with psycopg.connect(POSTGRES, connect_timeout=2, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {POSTGRES}: {str(error).splitlines()[0]}")
    try:
        yield f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3D{schema}"
    finally:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
