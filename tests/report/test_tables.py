"""Tables as text: signs, dashes for what is not known, the columns that apply."""

from dataclasses import replace

import numpy as np
import pytest
from fake_front import fake_front, fake_truth

from paretune.errors import DataError
from paretune.frontier.front import CohortLifts, Expectation, Guarded, Pick
from paretune.report.tables import (
    Outcome,
    cohorts_table,
    guardrails_table,
    interval,
    percent,
    picks_table,
    policies_table,
    signed,
    with_error,
)


@pytest.mark.parametrize(
    ("lift", "text"),
    [(0.0135, "+1.35 %"), (-0.003, "−0.30 %"), (0.0, "+0.00 %"), (-0.00001, "+0.00 %"), (float("nan"), "–"), (float("inf"), "–")],
)
def test_lifts_are_signed_per_cents_and_a_dash_when_unknown(lift: float, text: str) -> None:
    assert signed(lift) == text


def test_an_interval_without_ends_is_the_estimate_alone() -> None:
    assert interval(0.0135, 0.002, 0.025) == "+1.35 % (+0.20 … +2.50)"
    assert interval(0.0135, np.nan, 0.025) == "+1.35 %"
    assert interval(np.nan, 0.0, 0.1) == "–"
    assert percent(0.95) == "95 %"
    assert percent(float("nan")) == "–"


def test_the_table_of_picks_has_a_row_per_pick_and_objective_and_only_the_columns_that_apply() -> None:
    front, truth = fake_front(), fake_truth()
    bare = picks_table(front)
    assert bare.columns == ("pick", "policy", "objective", "offline lift (95 % band)", "rows that speak", "P(degrading)")
    assert len(bare.rows) == 8
    lifts = truth[[pick.policy for pick in front.picks]]
    full = picks_table(front, online=Outcome(lifts, lifts - 0.01, lifts + 0.01), truth=truth)
    assert full.columns[-2:] == ("online lift", "truth")
    assert all(len(row) == len(full.columns) for row in full.rows)
    knee = full.rows[2]
    assert knee[0] == "knee"
    assert knee[-1] == signed(truth[12, 0])
    assert knee[-2].startswith(signed(truth[12, 0]))
    assert full.rows[3][0] == ""
    assert [row[5] for row in full.rows[::2]] == ["31 %", "4 %", "< 1 %", "62 %"]
    assert "54 numbers" in full.note


def test_the_note_says_what_expectations_are_shrunk_towards() -> None:
    front = fake_front()
    same, nothing = front.lifts.estimate, np.zeros(len(front.policies))
    note = picks_table(replace(front, expectation=Expectation(same, same, same, nothing, nothing))).note
    assert "gains at its own trade-off is pulled towards what its neighbours gain and towards nothing" in note
    assert "a single objective may move either way" in note
    assert "production, as far" not in note


def test_a_pick_whose_lift_is_unknown_shows_a_dash_never_zero() -> None:
    front = fake_front()
    estimate = front.lifts.estimate.copy()
    estimate[front.picks[0].policy] = np.nan
    table = picks_table(replace(front, lifts=replace(front.lifts, estimate=estimate)))
    assert [row[3] for row in table.rows[:2]] == ["–", "–"]


def test_the_table_of_policies_lists_each_once() -> None:
    front = fake_front()
    table = policies_table(front, truth=fake_truth())
    assert [row[0] for row in table.rows] == [policy.name for policy in front.policies]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert sum(row[2] == "yes" for row in table.rows) == front.non_dominated.sum()


def test_a_judged_front_says_what_to_expect_and_its_verdicts() -> None:
    front = fake_front()
    size = front.lifts.estimate.shape
    half = front.lifts.estimate / 2
    expectation = Expectation(half, half - 0.01, half + 0.01, np.full(size[0], 0.2), np.full(size[0], 0.5))
    picks = tuple(replace(pick, verdict="cannot tell") for pick in front.picks)
    table = picks_table(replace(front, expectation=expectation, picks=picks))
    assert table.columns[4:] == ("to expect", "rows that speak", "P(degrading)", "verdict")
    assert table.rows[0][4].startswith(signed(half[front.picks[0].policy, 0]))
    assert [row[-1] for row in table.rows[:2]] == ["cannot tell", ""]
    assert "P(on the front)" in policies_table(replace(front, expectation=expectation)).columns


def test_picks_by_cohort_have_a_row_per_policy_and_cohort() -> None:
    front = fake_front()
    numbers = np.full((2, 1, 2), 0.01)
    told = CohortLifts(("CORE", "REST"), np.array([front.picks[1].policy]), numbers, numbers - 0.02, numbers + 0.02, np.full((2, 1), 900))
    table = cohorts_table(replace(front, by_cohort=told))
    assert [row[:3] for row in table.rows] == [("knee", "CORE", "900"), ("", "REST", "900")]
    with pytest.raises(DataError, match="cohort"):
        cohorts_table(front)


def test_tables_say_of_which_objectives_less_is_better() -> None:
    front, less = fake_front(), frozenset({"p2p"})
    assert [row[2] for row in picks_table(front, minimised=less).rows[:2]] == ["save", "p2p (lower is better)"]
    assert "p2p (lower is better) lift (band)" in policies_table(front, minimised=less).columns
    numbers = np.full((1, 1, 2), 0.01)
    told = CohortLifts(("CORE",), np.array([front.picks[1].policy]), numbers, numbers, numbers, np.full((1, 1), 900))
    assert any("p2p (lower is better)" in column for column in cohorts_table(replace(front, by_cohort=told), minimised=less).columns)


def test_guardrails_show_the_harmful_end_in_the_objectives_own_direction() -> None:
    front = fake_front()
    size = len(front.policies)
    low = np.stack([np.full(size, -0.002), np.full(size, -0.2)], axis=1)
    guarded = Guarded(("save", "p2p"), np.array([1.0, -1.0]), np.array([-0.005, -0.005]), low)
    table = guardrails_table(replace(front, guarded=guarded))
    assert len(table.rows) == 2 * len(front.picks)
    save, p2p = table.rows[:2]
    assert save[1:3] == ("save", "may fall by 0.50 %")
    assert save[5:] == ("−0.20 %", "sure")
    assert p2p[1:3] == ("p2p (lower is better)", "may rise by 0.50 %")
    p = front.picks[0].policy
    assert p2p[4:6] == (signed(front.lifts.band_high[p, 1]), "+20.00 %")
    assert p2p[6] == "open"
    low[:] = np.nan
    assert {row[6] for row in guardrails_table(replace(front, guarded=guarded)).rows} == {"–"}
    with pytest.raises(DataError, match="guardrail"):
        guardrails_table(front)


def test_an_estimate_with_its_error_is_told_with_its_95_per_cent_interval() -> None:
    assert with_error(0.01, 0.005) == "+1.00 % (+0.02 … +1.98)"
    assert with_error(float("nan"), 0.005) == "–"


def test_a_policy_keeps_every_label_it_was_picked_under_in_the_order_of_the_picks() -> None:
    front = replace(fake_front(), picks=(Pick("knee", 5, 0.1), Pick("balanced", 3, 0.1), Pick("constrained", 5, 0.1)))
    assert front.labels() == {5: ("knee", "constrained"), 3: ("balanced",)}
