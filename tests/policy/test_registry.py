"""The registry on both databases: states, versions, conflicts, idempotency, the trail."""

import json
import threading

import pytest
from registries import ANNA, BERT, CARA, STATIC, Clock, bundle, document, fingerprint, published
from sqlalchemy import Connection

from paretune.errors import ArtefactError, ConfigError, ConflictError, ForbiddenError, ParetuneError
from paretune.policy import audit, rows
from paretune.policy.registry import Registry
from paretune.policy.states import Rules, State

DAY_S = 86_400


def test_a_policy_is_published_approved_by_somebody_else_and_served(registry: Registry) -> None:
    files = bundle()
    draft = registry.publish(document(files), files, by=ANNA, front=b"{}", report=b"<html>", note="week 12")
    assert (draft.number, draft.state, draft.policy.label, draft.note) == (1, State.DRAFT, "knee", "week 12")
    assert registry.bundle(fingerprint(files)) == files
    assert registry.front(draft.front) == (b"{}", b"<html>")
    with pytest.raises(ForbiddenError, match="anna published policy 1"):
        registry.approve(1, by=ANNA)
    with pytest.raises(ForbiddenError, match="is draft, not approved"):
        registry.activate(1, share=0.05, by=ANNA)
    assert registry.current() is None
    assert registry.approve(1, by=BERT).standing.approved_by == BERT
    change = registry.activate(1, share=0.05, by=ANNA, control=0.05, explore=0.0125, note="go")
    plan = registry.current()
    assert plan == change.plan
    assert plan is not None
    assert (plan.version, plan.static, plan.note) == (1, tuple(STATIC), "go")
    assert [(arm.name, arm.share, arm.bundle) for arm in plan.arms] == [("policy-1", 0.05, fingerprint(files)), ("control", 0.05, "")]
    assert (plan.exploration.share, len(plan.exploration.levels)) == (0.0125, 3)
    assert [entry.what for entry in registry.audit()] == ["publish", "approve", "activate"]
    assert [entry.evidence for entry in registry.audit()] == [draft.policy.fingerprint] * 3
    assert registry.verify() == []


def test_a_ramp_follows_the_steps_and_ends_at_everybody(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.01, by=ANNA)
    shares = [registry.ramp(number, by=ANNA).plan.arms[0].share for _ in range(4)]
    assert shares == [0.05, 0.25, 0.5, 1.0]
    with pytest.raises(ConflictError, match="all users already"):
        registry.ramp(number, by=ANNA)
    assert registry.ramp(number, share=0.0, by=ANNA).plan.arms == ()
    assert [activation.operation for activation in registry.history(3)] == ["ramp"] * 3


def test_a_second_policy_takes_its_room_from_the_first(registry: Registry) -> None:
    first, second = published(registry), published(registry, "other", label="save-leaning")
    registry.activate(first, share=1.0, by=ANNA)
    change = registry.activate(second, share=0.05, by=ANNA)
    assert [(arm.name, arm.share) for arm in change.plan.arms] == [("policy-1", 0.95), ("policy-2", 0.05)]
    assert change.lines[0] == "  policy-1: 100 % -> 95 % of users"
    registry.ramp(second, share=1.0, by=ANNA)
    assert [arm.name for arm in registry.plan(3).arms] == ["policy-2"]


def test_rollback_walks_back_through_contents_under_ever_higher_versions(registry: Registry) -> None:
    number = published(registry)
    for share in (None, 0.25, 0.5):
        registry.activate(number, share=0.05, by=ANNA) if share is None else registry.ramp(number, share=share, by=ANNA)
    first, second = registry.plan(1), registry.plan(2)
    back = [registry.rollback(by=BERT, note="hides are up").plan for _ in range(2)]
    assert [(plan.version, plan.arms) for plan in back] == [(4, second.arms), (5, first.arms)]
    with pytest.raises(ConflictError, match="nothing was in force before plan 1"):
        registry.rollback(by=BERT)
    assert registry.rollback(by=BERT, to=3).plan.arms[0].share == 0.5
    with pytest.raises(ConflictError, match="has the content that is in force"):
        registry.rollback(by=BERT, to=3)
    with pytest.raises(ConfigError, match="there is no plan 99"):
        registry.rollback(by=BERT, to=99)


def test_a_kill_serves_everybody_static_weights_until_it_is_released(registry: Registry) -> None:
    with pytest.raises(ConflictError, match="no plan was ever in force"):
        registry.kill(by=ANNA)
    number = published(registry)
    before = registry.activate(number, share=0.05, by=ANNA).plan
    assert registry.kill(by=BERT).plan.killed
    with pytest.raises(ConflictError, match="already"):
        registry.kill(by=BERT)
    assert registry.ramp(number, by=BERT).plan.killed, "a ramp does not release"
    registry.rollback(by=BERT)
    released = registry.release(by=BERT).plan
    assert (released.killed, released.arms) == (False, before.arms)
    with pytest.raises(ConflictError, match="no kill switch is on"):
        registry.release(by=BERT)


def test_new_evidence_voids_the_approval_and_a_new_one_counts(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)
    files = bundle()
    renewed = registry.publish(document(files, label="constrained"), None, by=CARA, renews=number)
    assert (renewed.number, renewed.revision) == (number, 2)
    assert "changed after bert approved" in renewed.void
    with pytest.raises(ForbiddenError, match="void: the evidence was changed"):
        registry.ramp(number, by=ANNA)
    assert registry.ramp(number, share=0.01, by=ANNA).plan.arms[0].share == 0.01, "less needs no approval"
    with pytest.raises(ForbiddenError, match="cara published"):
        registry.approve(number, by=CARA)
    seen = registry.policy(number).policy.fingerprint
    registry.approve(number, by=BERT, fingerprint=seen)
    assert registry.ramp(number, by=ANNA).plan.arms[0].policy == f"{number} constrained {seen[:12]}"


def test_old_evidence_carries_no_approval(registry: Registry, clock: Clock) -> None:
    number = published(registry)
    clock.now += 30.5 * DAY_S
    assert "30.5 days old, good for 30" in registry.policy(number).void
    with pytest.raises(ForbiddenError, match=r"void: the evidence is 30\.5 days old"):
        registry.activate(number, share=0.05, by=ANNA)
    with pytest.raises(ForbiddenError, match="cannot be approved"):
        registry.approve(number, by=BERT)
    registry.set_rules(Rules(self_approval=True, evidence_days=60), by=CARA)
    assert registry.policy(number).void == ""
    registry.activate(number, share=0.05, by=ANNA)
    files = bundle("own")
    own = registry.publish(document(files), files, by=ANNA).number
    assert registry.approve(own, by=ANNA).state is State.APPROVED
    assert registry.audit()[2].what == "rules"


def test_an_approver_who_saw_other_evidence_is_told(registry: Registry) -> None:
    number = published(registry, approved=False)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        registry.approve(number, by=BERT, fingerprint="0" * 64)


def test_retired_is_the_end_and_nothing_in_force_is_retired(registry: Registry) -> None:
    first, second = published(registry), published(registry, "other")
    registry.activate(first, share=0.05, by=ANNA)
    with pytest.raises(ConflictError, match="is in force"):
        registry.retire(first, by=BERT)
    registry.activate(second, share=0.05, by=ANNA)
    registry.ramp(first, share=0.0, by=ANNA)
    assert registry.retire(first, by=BERT).state is State.RETIRED
    for attempt in (lambda: registry.approve(first, by=BERT), lambda: registry.retire(first, by=BERT)):
        with pytest.raises(ConflictError, match="retired"):
            attempt()
    with pytest.raises(ForbiddenError, match="is retired, not approved"):
        registry.activate(first, share=0.05, by=ANNA)
    with pytest.raises(ConflictError, match="serves policy 1, which was retired"):
        registry.rollback(by=BERT)
    files = bundle()
    assert registry.publish(document(files), None, by=ANNA).number == 3


def test_what_is_published_belongs_together(registry: Registry) -> None:
    files = bundle()
    with pytest.raises(ArtefactError, match="no bundle"):
        registry.publish(document(files), None, by=ANNA)
    torn = {**files, "arrays.npz": files["arrays.npz"][:-1] + b"x"}
    with pytest.raises(ArtefactError, match=r"arrays\.npz differs"):
        registry.publish(document(files), torn, by=ANNA)
    with pytest.raises(ArtefactError, match="no bundle"):
        registry.publish(document(files), bundle("another"), by=ANNA)
    altered = json.loads(document(files))
    altered["evidence"]["lifts"]["estimate"] = [0.9, 0.9]
    with pytest.raises(ArtefactError, match="altered after it was written"):
        registry.publish(json.dumps(altered).encode(), files, by=ANNA)
    with pytest.raises(ConfigError, match="nobody is named"):
        registry.publish(document(files), files, by=" ")
    assert registry.policies() == []
    assert registry.audit() == []
    registry.publish(document(files), files, by=ANNA)
    with pytest.raises(ConflictError, match="this is policy 1 already"):
        registry.publish(document(files), files, by=BERT)


def test_fixed_weights_need_no_bundle(registry: Registry) -> None:
    number = registry.publish(document(None), by=ANNA).number
    registry.approve(number, by=BERT)
    assert registry.activate(number, share=0.1, by=ANNA).plan.arms[0].weights == (80.0, 9.1, -4.0)
    with pytest.raises(ConflictError, match="no grid to explore"):
        registry.ramp(number, share=0.2, explore=0.01, by=ANNA)


def test_whoever_saw_an_older_version_changes_nothing(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA, expected=0)
    with pytest.raises(ConflictError, match="plan 1 came into force meanwhile, where plan 0 was"):
        registry.ramp(number, by=BERT, expected=0)
    registry.ramp(number, by=BERT, expected=1)
    assert registry.version() == 2


def test_a_preview_changes_nothing(registry: Registry) -> None:
    number = published(registry)
    change = registry.activate(number, share=0.05, by=ANNA, preview=True)
    assert (change.plan.version, change.activation, registry.version()) == (1, None, 0)
    assert len(registry.audit()) == 2


def test_the_same_key_does_the_same_thing_once(registry: Registry) -> None:
    number = published(registry)
    first = registry.activate(number, share=0.05, by=ANNA, key="k1")
    again = registry.activate(number, share=0.05, by=ANNA, key="k1")
    assert (first.repeated, again.repeated, again.plan, again.lines) == (False, True, first.plan, first.lines)
    assert registry.version() == 1
    with pytest.raises(ConflictError, match="used for another request"):
        registry.activate(number, share=0.25, by=ANNA, key="k1")
    with pytest.raises(ConfigError, match="idempotency key of 201"):
        registry.kill(by=ANNA, key="k" * 201)


def test_of_many_writers_that_saw_the_same_version_one_wins(where: str, registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.01, by=ANNA)
    outcomes: list[str] = []
    ready = threading.Barrier(8)

    def write(share: float) -> None:
        own = Registry(where)
        ready.wait()
        try:
            own.ramp(number, share=share, by=BERT, expected=1)
            outcomes.append("won")
        except ParetuneError as error:
            outcomes.append(type(error).__name__)

    registry.set_rules(Rules(evidence_days=9_999), by=CARA)
    threads = [threading.Thread(target=write, args=(0.1 + 0.05 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ConflictError"] * 7 + ["won"]
    assert registry.version() == 2
    assert registry.verify() == []


def test_of_kills_at_once_one_is_made_and_none_is_lost_to_a_ramp(where: str, registry: Registry) -> None:
    number = published(registry)
    registry.set_rules(Rules(evidence_days=9_999), by=CARA)
    registry.activate(number, share=0.01, by=ANNA)
    ready = threading.Barrier(4)
    errors: list[ParetuneError] = []

    def attempt(kill: bool) -> None:
        own = Registry(where)
        ready.wait()
        try:
            own.kill(by=BERT) if kill else own.ramp(number, by=ANNA)
        except ConflictError as error:
            errors.append(error)

    threads = [threading.Thread(target=attempt, args=(i == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plan = registry.current()
    assert plan is not None
    assert plan.killed
    assert registry.verify() == []


def test_what_is_read_is_of_one_moment(registry: Registry) -> None:
    number = published(registry)
    registry.activate(number, share=0.05, by=ANNA)

    def work(connection: Connection) -> tuple[int, int]:
        before = rows.version_in_force(connection)
        registry.ramp(number, share=0.25, by=ANNA)  # another comes into force between two looks
        return before, rows.version_in_force(connection)

    assert registry.database.read(work) == (1, 1)
    assert registry.version() == 2


def test_the_trail_is_read_from_any_place(registry: Registry) -> None:
    assert (registry.head(), registry.trail_before(None, limit=5), registry.trail_after(0, limit=5)) == ((0, ""), [], [])
    for days in range(1, 8):
        registry.set_rules(Rules(evidence_days=days), by=ANNA)
    everything = registry.audit()
    assert registry.head() == (7, everything[-1].hash)
    assert registry.trail_after(2, limit=3) == everything[2:5]
    assert registry.trail_before(None, limit=3) == everything[:3:-1]
    assert registry.trail_before(3, limit=3) == everything[1::-1]


def test_the_whole_trail_is_checked_a_batch_at_a_time(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_BATCH", 3)
    asked: list[int] = []
    real = rows.entries_after

    def counted(connection: Connection, seq: int, limit: int) -> list[audit.Entry]:
        asked.append(limit)
        return real(connection, seq, limit)

    monkeypatch.setattr(rows, "entries_after", counted)
    for days in range(1, 9):
        registry.set_rules(Rules(evidence_days=days), by=ANNA)
    assert registry.verify() == []
    assert asked == [3, 3, 3, 3]
    assert registry.verify(head=registry.head()[1]) == []
    assert "the noted head" in registry.verify(head="0" * 64)[0]
