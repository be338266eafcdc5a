"""Decisions: who is served what and why, and that a switch neither drops nor mixes one."""

import threading
import time
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from fake_scorer import FINGERPRINT, GRID, HEADS, LEVELS, STATIC, FakeScorer, everybody, exploring, fake_values, plan_of
from hypothesis import given
from hypothesis import strategies as st

from paretune.errors import ArtefactError, ConfigError
from paretune.explore.assign import arm_of, explored_requests, scaled
from paretune.explore.design import block_actions, mixture, numbered, strata
from paretune.frontier.sweep import choose
from paretune.logs.hashing import hash_integers, hash_texts, salted
from paretune.policy.plan import Arm, Plan
from paretune.records import Categorical
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.limits import Breaker
from paretune.serving.runtime import Runtime
from paretune.serving.scoring import Scorer


def runtime_of(plan: Plan | None, scorer: Scorer | None = None, **options: object) -> Runtime:
    scorers = {FINGERPRINT: scorer or FakeScorer()}
    return Runtime(scorers, plan, **{"deadline_s": 0.5} | options)  # type: ignore[arg-type]


def ask(i: int, **changes: object) -> Request:
    return Request(**{"request_id": f"r{i}", "user": f"u{i}", "features": {"x": i / 7}} | changes)  # type: ignore[arg-type]


def test_users_are_served_their_arm_and_the_log_can_recompute_it() -> None:
    runtime, n = runtime_of(plan_of()), 2000
    decisions = [runtime.decide(ask(i)) for i in range(n)]
    arm = arm_of(hash_texts([f"u{i}".encode() for i in range(n)]), shares=(0.5, 0.1), salt="arms")
    values = np.stack([fake_values(i / 7) for i in range(n)])
    best = choose(values, np.array([[1.0, 0.5]]))[:, 0]
    for i, decision in enumerate(decisions):
        if arm[i] == 0:
            assert (decision.arm, decision.action, decision.reason) == ("policy", best[i], Reason.POLICY)
            assert decision.weights == LEVELS[best[i]]
        elif arm[i] == 1:
            assert (decision.arm, decision.action, decision.weights) == ("fixed", None, (1.0, 2.0, 3.0))
        else:
            assert (decision.arm, decision.action, decision.weights, decision.reason) == ("static", 0, STATIC, Reason.STATIC)
        assert (decision.plan, decision.propensity, decision.request_id) == (1, 1.0, f"r{i}")
    assert Counter(arm.tolist()).keys() == {-1, 0, 1}


@given(user=st.one_of(st.text(), st.integers(-(2**63), 2**63)), share=st.floats(0, 1), salt=st.sampled_from(["a", "b"]))
def test_an_arm_depends_on_nothing_but_user_salt_and_shares(user: str | int, share: float, salt: str) -> None:
    arms = (Arm("fixed", share, weights=(1.0, 2.0, 3.0)),)
    one = Runtime({}, plan_of(arms=arms, salt=salt), deadline_s=None)
    two = Runtime({}, plan_of(7, arms=arms, salt=salt, note="x", static=(0.0, 0.0, 0.0)), deadline_s=None, process="other")
    mine = one.decide(Request("r", user))
    assert mine.arm == two.decide(Request("another", user, {"x": 1}, cohort="new", session=3, time_us=5)).arm
    ids = hash_texts([user.encode("utf-8", "surrogatepass")]) if isinstance(user, str) else None
    if ids is not None:
        assert (mine.arm == "fixed") == (arm_of(ids, shares=(share,), salt=salt)[0] == 0)


def test_the_default_arm_takes_the_rest_and_a_killed_plan_takes_everybody() -> None:
    plan = plan_of(default="policy", exploration=exploring(share=0.5))
    assert {runtime_of(msgspec.structs.replace(plan, exploration=exploring(share=0))).decide(ask(i)).arm for i in range(99)} == {
        "policy",
        "fixed",
    }
    killed = runtime_of(msgspec.structs.replace(plan, killed=True))
    for i in range(99):
        decision = killed.decide(ask(i))
        assert (decision.reason, decision.weights, decision.arm, decision.action) == (Reason.STATIC, STATIC, "static", 0)


def test_a_cohort_is_served_its_scalarisation_and_others_that_of_everybody() -> None:
    runtime, strict = (
        runtime_of(plan_of(default="policy", arms=plan_of().arms[:1])),
        runtime_of(plan_of(default="policy"), strict_cohorts=True),
    )
    own, all_ = (1 + int((fake_values(0.3)[1:] @ np.array(c)).argmax()) for c in ((0.0, 1.0), (1.0, 0.5)))
    request = ask(0, features={"x": 0.3}, user=next(f"u{i}" for i in range(99) if strict.decide(ask(0, user=f"u{i}")).arm == "policy"))
    assert runtime.decide(replace(request, cohort="new")).action == own != all_
    assert runtime.decide(replace(request, cohort="core")).action == all_
    assert runtime.decide(request).action == strict.decide(request).action == all_
    refused = strict.decide(replace(request, cohort="core"))
    assert (refused.reason, refused.weights, refused.detail) == (Reason.UNKNOWN_COHORT, STATIC, "core")
    assert runtime.decide(replace(request, cohort=7)).reason is Reason.UNKNOWN_COHORT  # type: ignore[arg-type]


def test_uniform_exploration_is_what_the_hashes_say_with_its_propensity() -> None:
    runtime, n = runtime_of(plan_of(exploration=exploring(share=0.3))), 3000
    ids = hash_integers(np.arange(n))
    explored = explored_requests(ids, share=0.3, salt="exploration")
    action = 1 + scaled(salted(ids, "exploration/action"), GRID)
    for i in range(n):
        decision = runtime.decide(ask(i, request_id=i))
        assert (decision.reason is Reason.EXPLORE) == explored[i]
        if explored[i]:
            assert (decision.action, decision.propensity, decision.weights) == (action[i], 1 / GRID, LEVELS[action[i]])


def test_blocked_exploration_counts_per_stratum_with_the_process_in_the_salt() -> None:
    runtime = runtime_of(plan_of(exploration=exploring("blocked")), process="3")
    cohorts = [("new", "core")[i % 3 == 0] for i in range(200)]
    shown = [runtime.decide(ask(i, cohort=cohorts[i], time_us=7_200_000_000)).action for i in range(200)]
    column = Categorical(np.array([c == "new" for c in cohorts], dtype=np.int32), ("core", "new"))
    stratum = strata(column, np.full(200, 2))
    expected = block_actions(stratum, numbered(stratum, {})[0], actions=GRID, salt="exploration/3")
    assert shown == expected.tolist()
    assert runtime.switch(plan_of(2, exploration=exploring("blocked"), note="ramped"))
    more = [runtime.decide(ask(i, cohort=cohorts[i], time_us=7_200_000_000)).action for i in range(200)]
    both = np.concatenate([stratum, stratum])
    assert more == block_actions(both, numbered(both, {})[0], actions=GRID, salt="exploration/3")[200:].tolist()


def test_stage_2_logs_the_propensity_of_the_mixture_and_falls_back_where_its_model_fails() -> None:
    plan = plan_of(exploration=exploring("stage2"))
    runtime = runtime_of(plan)
    for i in range(500):
        decision = runtime.decide(ask(i))
        family = choose(fake_values(i / 7)[None], np.array(plan.exploration.family))
        assert decision.reason is Reason.EXPLORE
        assert decision.action is not None
        assert decision.propensity == mixture(family, actions=GRID, floor=0.2)[0, decision.action]
    wrong = runtime.decide(ask(1, features={}))
    assert (wrong.reason, wrong.action, wrong.propensity, wrong.weights) == (Reason.MISSING_FEATURES, 0, 1.0, STATIC)


def test_a_request_over_the_cap_is_served_its_arm() -> None:
    now = [0.0]
    plan = everybody(exploration=exploring(most_per_s=5.0))
    runtime = runtime_of(plan, deadline_s=None, clock=lambda: now[0])
    reasons = []
    for i in range(1000):
        now[0] = i / 100  # ten seconds
        reasons.append(runtime.decide(ask(i)).reason)
    count = Counter(reasons)
    assert 45 <= count[Reason.EXPLORE] <= 56
    assert count[Reason.EXPLORE] + count[Reason.POLICY] == 1000


def test_without_a_plan_the_static_weights_are_served_and_without_those_there_is_no_runtime() -> None:
    runtime = runtime_of(None, static=(HEADS, STATIC))
    decision = runtime.decide(ask(1))
    assert (decision.reason, decision.weights, decision.plan, decision.action) == (Reason.NO_PLAN, STATIC, 0, 0)
    assert not runtime.state().ready
    assert runtime.switch(plan_of())
    assert runtime.state().ready
    with pytest.raises(ConfigError, match="no weights to serve"):
        Runtime({}, None)


def test_a_model_that_is_not_here_costs_its_arm_only() -> None:
    runtime = Runtime({}, plan_of(exploration=exploring("stage2", share=0.1)))
    reasons = Counter((d.arm, d.reason) for d in (runtime.decide(ask(i)) for i in range(500)))
    assert set(reasons) == {(arm, Reason.NO_MODEL) for arm in ("policy", "fixed", "static")} | {
        ("fixed", Reason.STATIC),
        ("static", Reason.STATIC),
    }
    assert "not loaded" in runtime.state().problems[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"heads": ("save", "click", "share")}, "heads"),
        ({"objectives": ("saves",)}, "objectives"),
        ({"actions": np.ones((4, 3))}, "levels"),
    ],
)
def test_a_bundle_that_does_not_fit_its_plan_is_not_switched_to(change: dict[str, object], word: str) -> None:
    runtime = runtime_of(Plan(1, HEADS, STATIC), FakeScorer(**change))  # type: ignore[arg-type]
    with pytest.raises(ArtefactError, match=word):
        runtime.switch(everybody(2, exploration=exploring("stage2", share=0.1)))
    assert runtime.state().plan == 1


def test_weights_come_in_the_order_of_the_plans_heads() -> None:
    order = [2, 0, 1]
    scorer = FakeScorer(heads=tuple(HEADS[i] for i in order), actions=np.array(LEVELS)[:, order])
    decision = runtime_of(everybody(), scorer).decide(ask(1))
    assert decision.action is not None
    assert decision.weights == LEVELS[decision.action]


def test_versions_only_go_up() -> None:
    runtime = runtime_of(plan_of(5))
    assert not runtime.switch(plan_of(5))
    for other in (plan_of(4), plan_of(5, note="another")):
        with pytest.raises(ConfigError, match="not newer"):
            runtime.switch(other)
    with pytest.raises(ConfigError, match="default arm"):
        runtime.switch(plan_of(6, default="nobody"))
    with pytest.raises(ArtefactError, match="is not here"):
        runtime.switch(plan_of(6, arms=(Arm("p", 1.0, bundle="e" * 64, scalarisation=(1.0, 1.0)),)))
    assert runtime.state().plan == 5
    assert runtime.switch(plan_of(6, killed=True, arms=(Arm("p", 1.0, bundle="e" * 64, scalarisation=(1.0, 1.0)),)))  # needs no bundle
    assert runtime.switch(plan_of(7))


def test_the_budget_counts_from_receipt_and_a_receipt_in_the_future_makes_it_no_longer() -> None:
    runtime = runtime_of(everybody(exploration=exploring(share=0.0)))
    now = time.monotonic()
    assert runtime.decide(ask(1), received=now - 1.0).reason is Reason.TIMEOUT
    slow = runtime_of(everybody(), FakeScorer(before=lambda x: time.sleep(0.3)), deadline_s=0.02)
    for received in (now + 100, float("nan"), None):
        before = time.monotonic()
        assert slow.decide(ask(1), received=received).reason is Reason.TIMEOUT
        assert time.monotonic() - before < 0.1
    assert runtime.decide(ask(1), received="noon").reason is Reason.BAD_INPUT  # type: ignore[arg-type]


def test_a_hundred_switches_under_load_drop_and_mix_nothing() -> None:
    def content(version: int) -> Plan:
        weights = (float(version), 0.0, 0.0)
        arms = (
            Arm(f"policy {version}", 0.5, bundle=FINGERPRINT, scalarisation=(1.0, version / 50)),
            Arm(f"fixed {version}", 0.2, weights=weights),
        )
        return plan_of(version, arms=arms, static=weights, exploration=exploring(share=0.1, levels=(weights, weights)))

    runtime = runtime_of(content(1), threads=16, deadline_s=5.0)
    stop = threading.Event()
    seen: list[list[Decision]] = [[] for _ in range(4)]

    def load(mine: list[Decision], offset: int) -> None:
        i = offset
        while not stop.is_set():
            mine.append(runtime.decide(ask(i)))
            i += 4

    threads = [threading.Thread(target=load, args=(mine, k)) for k, mine in enumerate(seen)]
    for thread in threads:
        thread.start()
    for version in range(2, 102):
        runtime.switch(content(version))
        time.sleep(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    decisions = [decision for mine in seen for decision in mine]
    assert len({decision.plan for decision in decisions}) > 50
    for decision in decisions:
        fallback = decision.reason.startswith("FALLBACK")
        assert not fallback, decision
        if decision.reason is not Reason.POLICY:
            assert decision.weights == (float(decision.plan), 0.0, 0.0)
        else:
            x = int(decision.request_id[1:]) / 7  # type: ignore[index]
            assert decision.action == 1 + int((fake_values(x)[1:] @ np.array([1.0, decision.plan / 50])).argmax())
        assert decision.arm in {"static", f"policy {decision.plan}", f"fixed {decision.plan}"}
    for mine in seen:
        versions = [decision.plan for decision in mine]
        assert versions == sorted(versions)


def test_the_breaker_opens_turns_requests_away_at_once_and_closes_again() -> None:
    broken = [True]

    def before(x: float) -> None:
        if broken[0]:
            raise OSError("the model host is gone")

    runtime = runtime_of(everybody(), FakeScorer(before=before), breaker=lambda: Breaker(failures=3, retry_s=0.05))
    reasons = [runtime.decide(ask(i)).reason for i in range(6)]
    assert reasons == [Reason.MODEL_ERROR] * 3 + [Reason.OVERLOAD] * 3
    assert runtime.state().breakers[FINGERPRINT] == "open"
    broken[0] = False
    time.sleep(0.06)
    assert [runtime.decide(ask(i)).reason for i in range(2)] == [Reason.POLICY] * 2
    assert runtime.state().breakers[FINGERPRINT] == "closed"


def test_malformed_requests_never_open_the_breaker() -> None:
    runtime = runtime_of(everybody())
    for i in range(50):
        assert runtime.decide(ask(i, features={"x": "y"})).reason is Reason.BAD_INPUT
    assert runtime.decide(ask(1)).reason is Reason.POLICY
