"""What the registry keeps unaltered on both databases: refused changes, and alterations that are found."""

import hashlib
import json

import pytest
from registries import ANNA, BERT, CARA, bundle, document, fingerprint, published, recorded
from sqlalchemy import text

from paretune.errors import ArtefactError, ConfigError, ForbiddenError
from paretune.policy.operating import identity_of
from paretune.policy.registry import Registry
from paretune.policy.states import Rules


def test_the_database_itself_refuses_to_change_what_is_only_added_to(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)
    recorded(registry, number)
    for table in ("bundles", "bundle_files", "evidence", "plans", "activations", "outcomes", "audit"):
        column = {"audit": "who", "plans": "document", "bundle_files": "content"}.get(table, "at_us")
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):  # noqa: S608
            with pytest.raises(ForbiddenError, match=f"{table} is only added to"):
                registry.database.write(lambda connection, said=statement: connection.execute(text(said)))
    assert registry.verify() == []


def test_one_altered_row_of_the_trail_is_named(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)
    _unguard(registry, "audit")
    _execute(registry, "UPDATE audit SET who = 'mallory' WHERE seq = 2")
    assert registry.verify()[0] == "audit trail: entry 2 was altered: its content is not what was hashed"
    _execute(registry, "UPDATE audit SET who = 'bert' WHERE seq = 2")
    assert registry.verify() == []
    head = registry.audit()[-1].hash
    _execute(registry, "DELETE FROM audit WHERE seq = 3")
    found = registry.verify()
    assert "plan 1 is not what the audit trail says came into force" in found
    assert any("the noted head" in problem for problem in registry.verify(head=head))


def test_one_altered_byte_of_a_bundle_a_plan_or_an_evidence_is_found(registry: Registry) -> None:
    files = bundle()
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)
    for table in ("bundle_files", "plans", "evidence"):
        _unguard(registry, table)
    content = bytearray(files["arrays.npz"])
    content[17] ^= 1
    _execute(registry, "UPDATE bundle_files SET content = :c WHERE name = 'arrays.npz'", c=bytes(content))
    with pytest.raises(ArtefactError, match=r"arrays\.npz differs"):
        registry.bundle(fingerprint(files))
    with pytest.raises(ArtefactError, match=r"arrays\.npz differs"):
        registry.ramp(number, by=ANNA)
    assert len(registry.verify()) == 1
    _execute(registry, "UPDATE bundle_files SET content = :c WHERE name = 'arrays.npz'", c=files["arrays.npz"])
    other = registry.plan(1).note
    assert (other, registry.verify()) == ("", [])
    forged = registry.database.read(lambda c: bytes(c.execute(text("SELECT document FROM plans")).scalar_one())).replace(b"0.05", b"0.95")
    _execute(registry, "UPDATE plans SET document = :c", c=forged)
    with pytest.raises(ArtefactError, match="plan 1 was altered"):
        registry.current()
    _execute(registry, "UPDATE plans SET fingerprint = :f", f=hashlib.sha256(forged).hexdigest())
    assert registry.verify() == ["plan 1 is not what the audit trail says came into force"]
    swapped = document(files, label="save-leaning")
    _execute(registry, "UPDATE evidence SET document = :c, fingerprint = :f", c=swapped, f=json.loads(swapped)["sha256"])
    assert any("revision 1 of its evidence" in problem for problem in registry.verify())
    assert registry.policy(number).void.startswith("the evidence was changed")


def _unguard(registry: Registry, table: str) -> None:
    if registry.database.is_sqlite:
        for verb in ("update", "delete"):
            _execute(registry, f"DROP TRIGGER {table}_no_{verb}")
    else:
        _execute(registry, f"DROP TRIGGER {table}_fixed ON {table}")


def _execute(registry: Registry, statement: str, **values: object) -> None:
    registry.database.write(lambda connection: connection.execute(text(statement), values))


@pytest.mark.parametrize(
    ("table", "statement", "problem"),
    [
        (
            "",
            "UPDATE policies SET state = 'approved' WHERE number = 2",
            "is marked as approved; the audit trail leaves it retired",
        ),
        ("", "UPDATE policies SET state = 'draft' WHERE number = 1", "policy 1 is marked as draft; the audit trail leaves it approved"),
        ("", "UPDATE policies SET approved_by = 'anna' WHERE number = 1", "marked as approved by anna; the audit trail knows no such"),
        ("", "UPDATE policies SET approved_us = approved_us + 1 WHERE number = 1", "the audit trail knows no such approval"),
        ("", "UPDATE rules SET self_approval = TRUE", "the rules of approval are not what"),
        ("", "UPDATE rules SET evidence_days = 9000", "the rules of approval are not what"),
        ("", "UPDATE rules SET evidence_days = -1", "the rules were altered"),
        ("activations", "UPDATE activations SET \"by\" = 'mallory'", "plan 1 is marked as activate by mallory"),
        ("activations", "UPDATE activations SET at_us = at_us - 1", "plan 1 is marked as activate by anna; the audit trail says otherwise"),
        ("evidence", "UPDATE evidence SET \"by\" = 'mallory' WHERE number = 1", "revision 1 of its evidence, is not what"),
        (
            "evidence",
            "UPDATE evidence SET at_us = at_us + 86400000000 WHERE number = 1",
            "revision 1 of its evidence, is not what",
        ),
        ("fronts", "UPDATE fronts SET document = report", "no whole front"),
        ("outcomes", "UPDATE outcomes SET seen = 0.5", "outcome 1 (save of policy 1) is not what the audit trail says was recorded"),
        ("outcomes", "UPDATE outcomes SET predicted = seen", "outcome 1 (save of policy 1) is not what"),
        ("outcomes", "UPDATE outcomes SET seen_error = NULL", "outcome 1 (save of policy 1) is not what"),
        ("outcomes", "UPDATE outcomes SET \"by\" = 'mallory'", "outcome 1 (save of policy 1) is not what"),
        ("outcomes", "DELETE FROM outcomes", "outcome 1 is missing: the audit trail says it was recorded"),
    ],
)
def test_a_state_a_name_a_time_or_a_rule_that_was_set_past_the_registry_is_found(
    registry: Registry, table: str, statement: str, problem: str
) -> None:
    files = bundle("with its front")
    number = registry.publish(document(files), files, by=ANNA, front=b'{"front": 1}', report=b"page").number
    registry.approve(number, by=BERT)
    registry.activate(number, share=0.05, by=ANNA)
    recorded(registry, number)
    registry.retire(published(registry, "another"), by=ANNA)
    assert registry.verify() == []
    if table:
        _unguard(registry, table)
    _execute(registry, statement)
    found = registry.verify()
    assert len(found) == 1
    assert problem in found[0]


def test_a_whole_history_of_renewals_rules_and_rollbacks_holds(registry: Registry) -> None:
    number = published(registry)
    files = bundle()
    registry.set_rules(Rules(self_approval=True, evidence_days=7), by=BERT)
    registry.publish(document(files, policy="again"), files, by=ANNA, renews=number, note="week 2")
    registry.approve(number, by=ANNA)
    registry.activate(number, share=0.05, by=ANNA, key="one", note="go")
    recorded(registry, number)
    registry.kill(by=BERT)
    registry.rollback(by=BERT)
    registry.ramp(number, share=0.0, by=ANNA)
    registry.retire(number, by=BERT)
    assert registry.verify() == []


@pytest.mark.parametrize("odd", ["a\x00b", "half \udcff"])
def test_a_text_that_no_database_keeps_is_refused_before_anything_is_changed(registry: Registry, odd: str) -> None:
    number = published(registry)
    files = bundle("other")
    odd_policy = document(files, policy="?").replace(b'"?"', json.dumps(odd).encode())
    odd_policy = json.dumps({**json.loads(odd_policy), "sha256": identity_of(json.loads(odd_policy))}).encode()
    attempts = (
        lambda: registry.activate(number, share=0.05, by=ANNA, note=odd),
        lambda: registry.activate(number, share=0.05, by=ANNA, key=odd),
        lambda: registry.activate(number, share=0.05, by=odd),
        lambda: registry.approve(number, by=CARA, note=odd),
        lambda: registry.retire(number, by=CARA, note=odd),
        lambda: registry.set_rules(Rules(), by=CARA, note=odd),
        lambda: registry.publish(document(files), files, by=ANNA, note=odd),
        lambda: registry.publish(odd_policy, files, by=ANNA),
        lambda: recorded(registry, number, by=odd),
        lambda: recorded(registry, number, objective=odd),
        lambda: recorded(registry, number, readout=odd.ljust(64)),
    )
    before = len(registry.audit())
    for attempt in attempts:
        with pytest.raises(ConfigError, match="holds a character that is none"):
            attempt()
    assert len(registry.audit()) == before
    assert registry.activate(number, share=0.05, by="Zoë 李", note="ends — 🎈").activation is not None
    assert registry.verify() == []
