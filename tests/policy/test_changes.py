"""Changes of what is in force; pure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from paretune.errors import ConfigError, ConflictError
from paretune.policy import changes
from paretune.policy.draft import Operating, as_next, with_control
from paretune.policy.plan import Arm, Exploration, Plan, checked

HEADS, STATIC = ("save", "p2p"), (91.6, 9.1)


def policy(number: int) -> Operating:
    return Operating(f"{number} knee", HEADS, STATIC, fingerprint=f"{number:064d}", scalarisation=(0.5, 0.5), identity=f"{number:064x}")


def activated(plan: Plan | None, number: int, share: float) -> Plan:
    return as_next(changes.activate(plan, policy(number), number=number, share=share), *([plan] if plan else []))


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8), st.floats(0.0, 0.5))
def test_whatever_is_activated_has_its_share_and_all_shares_fit(shares: list[float], control: float) -> None:
    plan: Plan | None = None
    for number, share in enumerate(shares, 1):
        if control and plan is not None and number == 2:
            plan = with_control(replace(plan, arms=tuple(replace(arm, share=arm.share / 2) for arm in plan.arms)), share=control)
        fixed = sum(arm.share for arm in plan.arms if arm.name == "control") if plan else 0.0
        if share > 1 - fixed + 1e-9:  # what a plan takes for a rounding
            with pytest.raises(ConflictError, match="do not fit beside control"):
                activated(plan, number, share)
            return
        plan = activated(plan, number, share)
        assert changes.share_of(plan, number) == share
        assert sum(arm.share for arm in plan.arms) <= 1 + 1e-9
        assert checked(plan) == plan


def test_the_control_arm_never_gives_way() -> None:
    plan = with_control(activated(None, 1, 0.9), share=0.1)
    made = activated(plan, 2, 0.5)
    assert [(arm.name, round(arm.share, 9)) for arm in made.arms] == [("policy-1", 0.4), ("control", 0.1), ("policy-2", 0.5)]
    with pytest.raises(ConflictError, match="95 % of users do not fit beside control 10 %"):
        activated(plan, 2, 0.95)


def test_steps_go_up_to_everybody_from_any_share() -> None:
    assert [changes.next_step(share) for share in (0.0, 0.01, 0.03, 0.05, 0.25, 0.3, 0.5, 0.99, 1.0)] == [
        0.01,
        0.05,
        0.05,
        0.25,
        0.5,
        0.5,
        1.0,
        1.0,
        None,
    ]


def test_a_ramp_without_approval_only_goes_down_and_keeps_what_is_served() -> None:
    plan = activated(None, 1, 0.25)
    lower = changes.ramp(plan, None, number=1, share=0.05)
    assert replace(lower.arms[0], share=0.25) == plan.arms[0]
    assert changes.ramp(plan, None, number=1, share=0.0).arms == ()
    for share in (0.5, None):
        with pytest.raises(ConflictError, match="is to go up"):
            changes.ramp(plan, None, number=1, share=share)
    with pytest.raises(ConflictError, match="policy 2 is not in force"):
        changes.ramp(plan, policy(2), number=2)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="% of users"):
        changes.activate(None, policy(1), number=1, share=share)


def test_activating_under_a_kill_switch_keeps_it() -> None:
    killed = as_next(changes.kill(activated(None, 1, 0.05)))
    assert changes.activate(killed, policy(2), number=2, share=0.05).killed
    assert not changes.release(killed).killed


def test_a_plan_is_never_rolled_back_to_itself_or_to_something_later() -> None:
    first = activated(None, 1, 0.05)
    second = as_next(changes.ramp(first, policy(1), number=1, share=0.25), first)
    assert changes.rollback(second, first) == first
    with pytest.raises(ConflictError, match="not earlier"):
        changes.rollback(first, second)
    with pytest.raises(ConflictError, match="has the content"):
        changes.rollback(replace(first, version=3, note="other words"), first)


def test_only_arms_named_by_number_are_policies() -> None:
    arms = tuple(Arm(name, 0.1) for name in ("policy-12", "policy-x", "policy-", "policy-²", "control", "policy--3"))
    assert changes.numbers_in(Plan(1, HEADS, STATIC, arms=arms)) == (12,)
    assert changes.numbers_in(None) == ()


def test_a_difference_is_told_in_words_one_line_each() -> None:
    before = activated(None, 1, 0.05)
    exploration = Exploration(share=0.0125, levels=(STATIC, (60.0, 9.1)), most_per_s=5.0)
    arms = (replace(before.arms[0], share=0.25, scalarisation=(0.4, 0.6)), Arm("fixed", 0.1, weights=(80.0, 9.1)), Arm("control", 0.1))
    after = replace(before, version=2, arms=arms, exploration=exploration, killed=True, salt="other", note="week 12")
    assert changes.diff(before, after) == (
        "  policy-1: 5 % -> 25 % of users",
        "  policy-1: scalarisation (0.5, 0.5) -> (0.4, 0.6)",
        "+ fixed: 10 % of users, fixed weights",
        "+ control: 10 % of users, the static weights",
        "! killed: static weights for everybody",
        "  salt: arms -> other",
        "  exploration: 0 % -> 1.25 % of requests",
        "  exploration: most_per_s 0 -> 5",
        "  exploration: levels none -> 2 rows",
    )
    assert changes.diff(after, replace(after, version=3, note="")) == ()
    swapped = replace(after, arms=(arms[0], arms[2], arms[1]))
    assert changes.diff(after, swapped) == (
        "  order of arms: policy-1, fixed, control -> policy-1, control, fixed; users move between arms",
    )
    assert changes.diff(None, before) == (f"+ policy-1: 5 % of users, policy 1 knee {'0' * 12}",)


@pytest.mark.parametrize(
    "name", ["policy-007", "policy-0", "policy-", "policy-1 ", "policy-1\n", "Policy-1", "policy-1a", "policy-+1", "policy-１"]
)
def test_only_the_exact_name_of_a_policy_is_one(name: str) -> None:
    arms = (Arm(name, 0.1, weights=STATIC), Arm(changes.arm_name(17), 0.1, weights=STATIC))
    assert changes.numbers_in(Plan(1, HEADS, STATIC, arms=arms)) == (17,)


@settings(deadline=None)
@given(st.integers(1, 10**12))
def test_the_name_of_a_policys_arm_says_its_number(number: int) -> None:
    assert changes.numbers_in(Plan(1, HEADS, STATIC, arms=(Arm(changes.arm_name(number), 0.1, weights=STATIC),))) == (number,)
