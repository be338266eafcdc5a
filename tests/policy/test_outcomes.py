"""Outcomes on both databases: what was promised when a version came into force, beside what a test saw of it."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from registries import ANNA, BERT, Clock, bundle, document, published, recorded
from sqlalchemy import Connection

from paretune.errors import ConfigError, ConflictError, DataError, NotFoundError
from paretune.policy.database import Database
from paretune.policy.outcomes import Seen
from paretune.policy.registry import Registry

DAY_S = 86_400.0


def evidence(save: float, p2p: float | None, *, error: float = 0.004) -> dict[str, Any]:
    kept = json.loads(document(bundle()))["evidence"]
    rows = {
        "estimate": [save, p2p],
        "std_error": [error, None],
        "low": [save - 0.008, None],
        "high": [save + 0.008, None],
        "band_low": [-1.0, None],
        "band_high": [1.0, None],
    }
    return {**kept, "lifts": rows}


def readout(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def test_what_was_promised_stands_beside_what_was_seen(registry: Registry, clock: Clock) -> None:
    number = published(registry, evidence=evidence(0.02, 0.01))
    registry.activate(number, share=0.05, by=ANNA)
    clock.now += 14 * DAY_S
    seen = [
        Seen("save", 0.015, 0.003, 0.009, 0.021),
        Seen("p2p", 0.1 + 0.2, None, None, None, minimised=True),
        Seen("sessions", 0, 1, 0, 0),
    ]
    made = recorded(registry, number, seen=seen)
    assert registry.outcomes() == made
    save, p2p = made
    assert (save.seq, save.version, save.number, save.revision, save.objective, save.minimised) == (1, 1, number, 1, "save", False)
    assert (save.predicted, save.predicted_error, save.predicted_low, save.predicted_high) == (0.02, 0.004, 0.012, 0.028)
    assert (save.seen, save.seen_error, save.seen_low, save.seen_high) == (0.015, 0.003, 0.009, 0.021)
    assert (save.users, save.days, save.by, save.at_us) == (20_000, 14, BERT, int(clock.now * 1e6))
    assert (p2p.seq, p2p.seen, p2p.predicted, p2p.predicted_error, p2p.seen_error, p2p.minimised) == (2, 0.1 + 0.2, 0.01, None, None, True)
    entry = registry.audit()[-1]
    assert (entry.who, entry.what, entry.subject, entry.evidence) == (
        BERT,
        "outcome",
        f"policy {number}",
        registry.policy(number).policy.sha256,
    )
    assert registry.verify() == []


def test_the_same_readout_again_changes_nothing_and_a_later_one_is_added(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)
    first, entries = recorded(registry, number), len(registry.audit())
    assert recorded(registry, number, users=7) == first
    assert len(registry.audit()) == entries
    later = recorded(registry, number, readout=readout("day 14"))
    assert [outcome.seq for outcome in registry.outcomes()] == [1, 2]
    assert registry.outcomes() == [*first, *later]


def test_the_promise_is_the_one_that_stood_when_the_version_came_into_force(registry: Registry, clock: Clock) -> None:
    number = published(registry, evidence=evidence(0.02, 0.01))
    registry.activate(number, share=0.05, by=ANNA)
    clock.now += DAY_S
    registry.publish(document(bundle(), evidence=evidence(0.005, 0.001)), by=ANNA, renews=number)
    registry.approve(number, by=BERT)
    clock.now += DAY_S
    registry.ramp(number, by=ANNA)
    before = recorded(registry, number, version=1)
    after = recorded(registry, number, version=2, readout=readout("of version 2"))
    assert [(outcome.revision, outcome.predicted) for outcome in (*before, *after)] == [(1, 0.02), (2, 0.005)]
    assert registry.verify() == []


def test_what_was_never_served_or_promised_is_refused(registry: Registry) -> None:
    number = published(registry, evidence=evidence(0.02, None))
    other = published(registry, "another")
    registry.activate(number, share=0.05, by=ANNA)
    with pytest.raises(ConflictError, match="plan 1 has no arm policy-2"):
        recorded(registry, other)
    with pytest.raises(NotFoundError):
        recorded(registry, number, version=2)
    with pytest.raises(NotFoundError):
        recorded(registry, 9)
    with pytest.raises(ConflictError, match=r"promises nothing of \['p2p'\]"):
        recorded(registry, number, objective="p2p")
    with pytest.raises(DataError, match="not finite"):
        recorded(registry, number, seen=[Seen("save", float("nan"), None, None, None)])
    with pytest.raises(DataError, match="0 users"):
        recorded(registry, number, users=0)
    with pytest.raises(ConfigError, match="no fingerprint"):
        recorded(registry, number, readout="short")
    assert registry.outcomes() == []
    assert registry.verify() == []


def test_a_registry_made_before_there_were_outcomes_is_brought_up_to_date(where: str) -> None:
    def begun(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(files("paretune.policy").joinpath("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")

    Database(where).write(begun)
    registry = Registry(where)
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)
    assert registry.outcomes() == []
    assert recorded(registry, number) == registry.outcomes()
    assert registry.verify() == []
