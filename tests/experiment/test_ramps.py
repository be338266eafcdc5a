"""One error for the whole life of a policy's arm: what a release, a ramp or another policy's activation does to it."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registries import ANNA, Clock, published

from paretune.errors import ConflictError
from paretune.experiment.guarding import Ramp
from paretune.experiment.guardrails import Spending
from paretune.experiment.stepping import ramps_of
from paretune.policy.audit import AUTOMAT
from paretune.policy.registry import Registry

DAY_S = 86_400.0


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "r.db", clock=Clock())


def ramps(registry: Registry) -> dict[str, Ramp]:
    plan = registry.current()
    assert plan is not None
    return ramps_of(registry, plan, registry.history())


def later(registry: Registry, days: float) -> int:
    """Turn the clock, and return the time in microseconds."""
    clock = registry._clock
    assert isinstance(clock, Clock)
    clock.now += days * DAY_S
    return int(1e6 * clock.now)


def test_a_release_goes_on_where_the_ramp_stood(registry: Registry) -> None:
    published(registry)
    began = later(registry, 0)
    registry.activate(1, share=0.05, control=0.25, by=ANNA)
    assert ramps(registry) == {"policy-1": Ramp(began, 1)}
    later(registry, 1)
    registry.ramp(1, share=0.25, by=AUTOMAT)
    later(registry, 1)
    registry.kill(by=AUTOMAT)
    later(registry, 5)
    registry.release(by=ANNA)
    assert ramps(registry) == {"policy-1": Ramp(began, 4)}
    later(registry, 1)
    registry.rollback(to=1, by=AUTOMAT)
    assert ramps(registry) == {"policy-1": Ramp(began, 5)}


def test_each_policy_has_a_ramp_of_its_own_and_one_that_comes_back_a_new_one(registry: Registry) -> None:
    published(registry)
    published(registry, "other", label="balanced", policy="α=0.25", scalarisation=[0.25, 0.75])
    first = later(registry, 0)
    registry.activate(1, share=0.05, control=0.25, by=ANNA)
    second = later(registry, 3)
    registry.activate(2, share=0.05, by=ANNA)
    assert ramps(registry) == {"policy-1": Ramp(first, 2), "policy-2": Ramp(second, 1)}
    later(registry, 1)
    registry.ramp(1, share=0.0, by=ANNA)
    again = later(registry, 1)
    registry.activate(1, share=0.05, by=ANNA)
    assert ramps(registry) == {"policy-1": Ramp(again, 1), "policy-2": Ramp(second, 3)}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 30), st.floats(0.001, 0.2), st.integers(1, 60))
def test_all_sequences_of_an_arm_are_numbered_apart_and_spend_at_most_alpha(gaps: list[int], last: int, alpha: float, horizon: int) -> None:
    """A version begins a sequence on its first day and another on each day until the next version, through every release."""
    begins = [20_000]
    for gap in gaps:
        begins.append(begins[-1] + gap)
    numbers, spent = [], 0.0
    for step, (day, until) in enumerate(pairwise([*begins, begins[-1] + last]), 1):
        sequences = Spending(alpha, step - begins[0], horizon)
        for each in range(day, until + 1):
            numbers.append(each + sequences.offset)
            spent += sequences.on(each)
    assert min(numbers) == 1
    assert len(set(numbers)) == len(numbers)
    assert spent <= alpha * (1 + 1e-9)


def test_a_kill_that_expects_a_version_takes_no_other(registry: Registry) -> None:
    published(registry)
    registry.activate(1, share=0.05, control=0.25, by=ANNA)
    registry.ramp(1, share=0.25, by=ANNA)
    with pytest.raises(ConflictError, match="plan 2 came into force meanwhile, where plan 1 was"):
        registry.kill(by=AUTOMAT, expected=1)
    assert registry.version() == 2
    assert registry.kill(by=AUTOMAT, expected=2).plan.killed
    registry.release(by=ANNA)
    assert registry.kill(by=ANNA).plan.killed  # a person's takes whatever it finds


def test_what_is_remarked_of_a_plan_is_in_the_trail_once_and_changes_nothing(registry: Registry) -> None:
    published(registry)
    registry.activate(1, share=1.0, by=ANNA)
    assert [registry.remark(1, "unwatched", {"what": ["p2p"]}, by=AUTOMAT) for _ in range(2)] == [True, False]
    assert [entry.what for entry in registry.audit()].count("unwatched") == 1
    assert (registry.version(), registry.verify()) == (1, [])
