"""Rows, days and lifts of a plan: closed forms, and laws that link them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.errors import ConfigError, DataError
from paretune.explore.planner import (
    ESTIMATORS,
    Aim,
    Estimator,
    Grid,
    Plan,
    detectable_lift,
    enough_within,
    explore_options,
    resolved_lift,
    rows_needed,
    usual_grids,
)
from paretune.explore.rates import Rate

SAVE, P2P = Rate.clipped("save", 0.18), Rate.clipped("p2p", 0.35)
SEVEN = Grid((7, 7))


def test_a_one_per_cent_lift_on_49_actions_takes_about_69_million_rows_in_the_papers_way() -> None:
    rows = rows_needed(Aim(0.01), relative_variance=Rate.clipped("save", 0.1).relative_variance, actions=49)
    assert rows == pytest.approx(69e6, rel=0.01)
    assert rows == pytest.approx(2 * 49 * 9 * (2.8 / 0.01) ** 2, rel=2e-3)


def test_the_z_term_is_2_8_at_80_per_cent_power_and_known_values_elsewhere() -> None:
    assert Aim().z == pytest.approx(2.8, abs=2e-3)
    assert Aim(power=0.9).z == pytest.approx(1.959964 + 1.281552, abs=1e-5)
    assert Aim(power=0.8, confidence=0.9).z == pytest.approx(1.644854 + 0.841621, abs=1e-5)
    assert Aim(power=0.5).z == pytest.approx(1.959964, abs=1e-5)


@given(
    lift=st.floats(1e-4, 0.5),
    power=st.floats(0.5, 0.99),
    variance=st.floats(0.1, 100),
    actions=st.integers(1, 200),
    gain=st.floats(0.5, 50),
)
def test_the_rows_of_a_lift_resolve_exactly_that_lift(lift: float, power: float, variance: float, actions: int, gain: float) -> None:
    aim = Aim(lift, power)
    rows = rows_needed(aim, relative_variance=variance, actions=actions, gain=gain)
    assert detectable_lift(aim, rows=rows, relative_variance=variance, actions=actions, gain=gain) == pytest.approx(lift)
    assert rows_needed(aim, relative_variance=variance, actions=actions, gain=2 * gain) == pytest.approx(rows / 2)
    assert rows_needed(aim, relative_variance=variance, actions=actions, sides=1, gain=gain) == pytest.approx(rows / 2)
    assert rows_needed(Aim(2 * lift, power), relative_variance=variance, actions=actions, gain=gain) == pytest.approx(rows / 4)


def test_so_many_rows_see_the_lift_as_often_as_the_power_says() -> None:
    rng = np.random.default_rng(0)
    aim, p, actions = Aim(0.2), 0.3, 4
    hits = rows_needed(aim, relative_variance=(1 - p) / p, actions=actions) / actions
    better, plain = (rng.binomial(round(hits), rate, 4000) / round(hits) for rate in (p * 1.2, p))
    error = np.sqrt(better * (1 - better) / hits + plain * (1 - plain) / hits)
    power = np.mean((better - plain) / error > 1.959964)
    assert power == pytest.approx(0.8, abs=0.04)  # the formula takes the variance of production for both


def test_the_hardest_objective_decides_and_days_follow_from_the_share() -> None:
    (option,) = explore_options(Aim(), (SAVE, P2P), grids=[SEVEN], shares=[0.0125], estimator=ESTIMATORS["replay"], requests_per_day=10e6)
    assert option.hardest == 0
    assert option.needed == option.rows[0] > option.rows[1]
    assert option.rows[0] == pytest.approx(2 * 49 * (0.82 / 0.18) * (Aim().z / 0.01) ** 2 / 15)
    assert option.days == pytest.approx(option.needed / 125_000)
    (unknown,) = explore_options(Aim(), (SAVE,), grids=[SEVEN], shares=[0.1], estimator=ESTIMATORS["hits"], requests_per_day=math.nan)
    assert math.isnan(unknown.days)


def test_a_coarser_grid_saves_rows_for_hits_and_hardly_any_for_pooled_estimators() -> None:
    def rows(name: str, levels: int) -> float:
        estimator = ESTIMATORS[name]
        return explore_options(Aim(), (SAVE,), grids=[Grid((levels,) * 2)], shares=[0.1], estimator=estimator, requests_per_day=1e6)[
            0
        ].needed

    assert rows("hits", 4) / rows("hits", 7) == pytest.approx(16 / 49)
    assert rows("replay", 4) == pytest.approx(rows("replay", 7))
    assert rows("kernel", 3) == pytest.approx(rows("hits", 3))  # nothing near enough to pool
    assert all(rows(name, levels) <= rows("hits", levels) for name in ("kernel", "replay") for levels in (2, 3, 5, 7, 9))


def test_enough_is_the_smallest_share_then_the_finest_grid() -> None:
    grids = usual_grids(SEVEN)
    assert [grid.name for grid in grids] == ["3×3", "4×4", "5×5", "7×7"]
    assert [grid.name for grid in usual_grids(Grid((6, 2)))] == ["3×3", "6×2", "4×4", "5×5", "7×7"]
    options = explore_options(
        Aim(0.02), (SAVE,), grids=grids, shares=(0.01, 0.02, 0.04), estimator=ESTIMATORS["hits"], requests_per_day=10e6
    )
    best = enough_within(options, 12)
    assert best is not None
    assert (best.share, best.grid.name) == (0.01, "3×3")
    larger = enough_within(options, 6)
    assert larger is not None
    assert larger.days <= 6
    assert (larger.share, larger.grid.name) == (0.02, "3×3")
    assert enough_within(options, 1e-3) is None


def test_a_plan_resolves_its_own_lift_in_its_own_days() -> None:
    plan = Plan(Aim(), (SAVE, P2P), SEVEN, (SEVEN,), 0.02, (0.02,), ESTIMATORS["kernel"], 1e6, 7.0)
    days = plan.asked().days
    rows = 1e6 * 0.02 * days
    assert resolved_lift(plan.aim, plan.rates, SEVEN, estimator=plan.estimator, rows=rows) == pytest.approx(0.01)
    assert plan.resolved() == pytest.approx(0.01 * math.sqrt(days / 7))
    assert plan.enough() is None
    assert plan.asked(Estimator("mine", "mine", 1000.0)).days == pytest.approx(days * 5 / 1000)


@pytest.mark.parametrize("aim", [{"lift": 0}, {"lift": -1}, {"lift": math.nan}, {"power": 1}, {"power": 0}, {"confidence": 1}])
def test_an_impossible_aim_is_refused(aim: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="aim"):
        Aim(**aim)


def test_impossible_rates_grids_shares_and_traffic_are_refused() -> None:
    with pytest.raises(ConfigError, match="rate of 1"):
        Rate.clipped("save", 1.0)
    with pytest.raises(ConfigError, match="grid"):
        Grid((7, 1))
    options = {"grids": [SEVEN], "estimator": ESTIMATORS["hits"]}
    with pytest.raises(ConfigError, match="shares"):
        explore_options(Aim(), (SAVE,), shares=[1.25], requests_per_day=1e6, **options)
    with pytest.raises(DataError, match="requests per day"):
        explore_options(Aim(), (SAVE,), shares=[0.1], requests_per_day=0, **options)
    with pytest.raises(DataError, match="relative variance"):
        rows_needed(Aim(), relative_variance=0, actions=49)
