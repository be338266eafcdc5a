"""Pictures of the front: what is drawn, in which units, and what is left out."""

from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pytest
import vl_convert
from fake_front import SURFACE, fake_front, fake_truth

from paretune.errors import DataError
from paretune.frontier.front import Front, Pick, Policy
from paretune.report.diagnostics import (
    WeightRange,
    contribution_figure,
    engagement_figure,
    log_figure,
    weight_range_figure,
    weights_figure,
)
from paretune.report.figures import MOST_POINTS, front_figure, lift_figure, picks_figure
from paretune.report.front_labels import better_lines, pick_labels
from paretune.report.tables import Outcome
from paretune.surface.contribution import engagement_bins, weight_range_curve
from paretune.surface.heads import Head, Surface


def rows(chart: Any) -> list[dict[str, Any]]:
    """Every row of data in the specification."""
    return [row for values in chart.to_dict().get("datasets", {}).values() for row in values]


def sentences(chart: Any) -> str:
    title = chart.to_dict()["title"]
    subtitle = title.get("subtitle", "")
    return " ".join([title["text"], *([subtitle] if isinstance(subtitle, str) else subtitle)])


def outcome(front: Front) -> Outcome:
    lifts = fake_truth()[[pick.policy for pick in front.picks]]
    return Outcome(lifts, lifts - 0.01, lifts + 0.01)


def log_picture(**changes: Any) -> alt.TopLevelMixin:
    arrays: dict[str, Any] = {
        "days": np.arange(20_000, 20_005),
        "explored": np.full(5, 98),
        "production": np.full(5, 1000),
        "action_counts": np.full(49, 10),
        "action_expected": np.full(49, 10.0),
    }
    return log_figure(**(arrays | changes))


def every_figure() -> dict[str, Any]:
    front, rng = fake_front(), np.random.default_rng(0)
    sweep = np.geomspace(1, 1000, 30)
    counts = rng.poisson(0.2, 100)
    shares = weight_range_curve(rng.uniform(size=(50, 4)), SURFACE.static, 0, sweep)
    return {
        "front": lambda: front_figure(front, truth=fake_truth()),
        "lift": lambda: lift_figure(front, truth=fake_truth()),
        "picks": lambda: picks_figure(front, online=outcome(front), truth=fake_truth()),
        "weights": lambda: weights_figure(front, SURFACE),
        "contribution": lambda: contribution_figure(SURFACE.names, np.array([0.6, 0.3, 0.06, 0.04]), tuned=("save", "p2p")),
        "ranges": lambda: weight_range_figure((WeightRange("save", sweep, shares, 91.6, 10, 200),)),
        "engagement": lambda: engagement_figure({"save": engagement_bins(counts, 10)}),
        "log": log_picture,
    }


@pytest.mark.parametrize("name", sorted(every_figure()))
def test_every_figure_compiles_and_says_in_a_sentence_what_it_shows(name: str) -> None:
    chart = every_figure()[name]()
    assert len(sentences(chart).split()) >= 5
    assert chart.to_dict()["description"]
    svg = vl_convert.vegalite_to_svg(chart.to_json())
    assert svg.startswith("<svg")
    assert "NaN" not in svg


@pytest.mark.parametrize("name", sorted(every_figure()))
def test_the_same_input_gives_the_same_figure(name: str) -> None:
    make = every_figure()[name]
    assert make().to_json() == make().to_json()


def test_the_front_is_drawn_in_per_cent_with_picks_and_references_named() -> None:
    front = fake_front()
    drawn = rows(front_figure(front))
    points = {row["policy"]: (row["x"], row["y"]) for row in drawn if "alpha" in row}
    assert len(points) == 25
    np.testing.assert_allclose(points["α=0.50"], 100 * front.lifts.estimate[12])
    named = {row["text"] for row in drawn if "text" in row}
    assert named == {"p2p-leaning", "knee", "constrained", "save-leaning", "production", "best static", "matched static"}


def test_the_title_of_the_front_states_the_constrained_pick() -> None:
    front = fake_front()
    estimate = 100 * front.lifts.estimate[front.picks[2].policy]
    assert f"The constrained pick is estimated at +{estimate[0]:.1f} % save and +{estimate[1]:.1f} % p2p" in sentences(front_figure(front))
    assert "No policy" in sentences(front_figure(replace(front, picks=())))


def test_truth_is_drawn_and_named_only_when_it_is_given() -> None:
    truth = fake_truth()
    with_truth = rows(front_figure(fake_front(), truth=truth))
    assert any(row.get("x") == pytest.approx(100 * truth[7, 0]) for row in with_truth)
    assert "truth" in {row.get("text") for row in with_truth}
    assert "truth" not in {row.get("text") for row in rows(front_figure(fake_front()))}
    assert "truth" not in {row.get("line") for row in rows(lift_figure(fake_front()))}


def test_a_dense_sweep_is_thinned_to_twenty_five_points_and_keeps_its_ends_and_picks() -> None:
    front = fake_front(101)
    names = [row["policy"] for row in rows(front_figure(front)) if "alpha" in row]
    assert len(names) <= MOST_POINTS
    assert f"{len(names)} of 101 policies" in sentences(front_figure(front))
    assert {"α=0.00", "α=1.00", *(front.policies[pick.policy].name for pick in front.picks)} <= set(names)


def test_policies_without_overlap_are_left_out_and_counted() -> None:
    front = fake_front()
    estimate = front.lifts.estimate.copy()
    estimate[3:5] = np.nan
    front = replace(front, lifts=replace(front.lifts, estimate=estimate))
    chart = front_figure(front)
    assert "2 without overlap left out" in sentences(chart)
    assert {"α=0.12", "α=0.17"}.isdisjoint({row["policy"] for row in rows(chart) if "alpha" in row})
    with pytest.raises(DataError, match="no policy"):
        front_figure(replace(front, lifts=replace(front.lifts, estimate=np.full_like(estimate, np.nan))))


def test_a_pick_that_is_no_member_of_the_swept_family_is_drawn_once() -> None:
    front = fake_front()
    policies = (*front.policies[:-1], Policy("by cohort", "cohort", cohort_alphas=(("CORE", 0.3), ("REST", 0.6))))
    front = replace(front, policies=policies, picks=(Pick("cohorts", len(policies) - 1, 0.2),))
    texts = [row["text"] for row in rows(front_figure(front)) if "text" in row]
    assert texts.count("cohorts") == 1
    assert "by cohort" not in texts


def test_a_policy_picked_twice_carries_both_labels() -> None:
    front = replace(fake_front(), picks=(Pick("knee", 5, 0.1), Pick("constrained", 5, 0.1)))
    assert pick_labels(front) == {5: "knee = constrained"}


def test_static_weights_that_coincide_share_one_label() -> None:
    front = fake_front()
    estimate = front.lifts.estimate.copy()
    estimate[-1] = estimate[-2]
    named = tuple(
        replace(p, name=f"matched static of {of} (somewhere)", kind="matched static")
        for p, of in zip(front.policies[-2:], "ab", strict=True)
    )
    front = replace(front, policies=(*front.policies[:-2], *named), lifts=replace(front.lifts, estimate=estimate))
    texts = [row["text"] for row in rows(front_figure(front)) if "text" in row]
    assert "matched static of a = b" in texts
    assert not any(text.startswith("matched static of b") for text in texts)


def test_the_words_of_the_better_corner_fit_its_width() -> None:
    assert better_lines(([-1.0, 9.0], [-1.0, 9.0]), (570, 440)) == ["both better than production"]
    assert better_lines(([-80.0, 15.0], [-1.0, 9.0]), (570, 440)) == ["both better", "than", "production"]
    assert better_lines(([80.0, -15.0], [-1.0, 9.0]), (570, 440)) == ["both better", "than", "production"]


def test_lifts_along_the_sweep_hold_both_intervals_of_every_policy_and_objective() -> None:
    front = fake_front(objectives=3)
    drawn = rows(lift_figure(front))
    assert sum("line" in row for row in drawn) == 25 * 3
    assert sum("kind" in row for row in drawn) == 25 * 3 * 2
    assert "of 25 swept policies" in sentences(lift_figure(front))


def test_picks_show_each_source_beside_the_others() -> None:
    front = fake_front()
    assert {row["source"] for row in rows(picks_figure(front))} == {"offline estimate"}
    drawn = rows(picks_figure(front, online=outcome(front), truth=fake_truth()))
    assert {row["source"] for row in drawn} == {"offline estimate", "online", "truth"}
    assert len(drawn) == 4 * 2 * 3
    knee = next(row for row in drawn if (row["pick"], row["source"], row["objective"]) == ("knee", "online", "p2p"))
    assert knee["lift"] == pytest.approx(100 * fake_truth()[12, 1])
    assert all(row["low"] is None for row in drawn if row["source"] == "truth")


def test_weight_shares_add_up_to_the_requests_that_left_production() -> None:
    front = fake_front()
    tiles = [row for row in rows(weights_figure(front, SURFACE)) if "share" in row]
    knee = front.picks[1].policy
    assert sum(row["share"] for row in tiles if row["policy"] == "knee") == pytest.approx(100 * (1 - front.action_shares[knee, 0]))
    corner = next(row for row in tiles if (row["policy"], row["x"], row["y"]) == ("knee", 6, 0))
    assert corner["share"] == pytest.approx(100 * front.action_shares[knee, SURFACE.index(np.array([[200, 1, 1.1, -4.0]]))[0]])


def test_weight_shares_of_three_tuned_heads_are_summed_and_one_head_is_a_strip() -> None:
    for levels, tiles in ((((1.0, 2.0), (1.0, 2.0, 3.0), (1.0, 2.0)), 6), (((1.0, 2.0, 3.0),), 3)):
        surface = Surface(tuple(Head(f"h{i}", 1.5, level) for i, level in enumerate(levels)), k=5)
        shares = np.full((27, len(surface)), 1 / len(surface))
        front = replace(fake_front(), action_shares=shares, mean_weights=shares @ surface.actions)
        chart = weights_figure(front, surface, policies=(12,))
        drawn = [row["share"] for row in rows(chart) if "share" in row]
        assert len(drawn) == tiles
        assert sum(drawn) == pytest.approx(100 * (1 - 1 / len(surface)))
        assert ("summed over h2" in sentences(chart)) == (len(levels) == 3)
        assert vl_convert.vegalite_to_svg(chart.to_json()).startswith("<svg")


def test_days_without_rows_and_actions_off_their_expected_count_are_named() -> None:
    assert "All 5 days have rows; every action is drawn as often as designed" in sentences(log_picture())
    counts = np.full(49, 1000)
    counts[[3, 8]] += [200, -200]
    chart = log_picture(days=np.array([1, 2, 4, 5, 9]), action_counts=counts, action_expected=np.full(49, 1000.0))
    assert "4 of 9 days have no rows; 2 of 49 actions off" in sentences(chart)
    assert {row["action"] for row in rows(chart) if row.get("kind") == "outside"} == {4, 9}


@pytest.mark.parametrize(
    "call",
    [
        lambda: front_figure(fake_front(objectives=1)),
        lambda: lift_figure(replace(fake_front(), policies=tuple(Policy("s", "static") for _ in range(27)))),
        lambda: picks_figure(replace(fake_front(), picks=())),
        lambda: weights_figure(fake_front(), SURFACE, policies=(25, 26)),
        lambda: weights_figure(replace(fake_front(), action_shares=np.ones((27, 7))), SURFACE),
        lambda: weight_range_figure(()),
        lambda: engagement_figure({}),
        lambda: log_picture(production=np.ones(4)),
        lambda: log_picture(action_expected=np.zeros(49)),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_hint(call: Any) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.hint


def test_an_objective_to_minimise_has_its_axis_turned_and_says_so():
    front = fake_front(objectives=3)
    chart = front_figure(front, axes=(0, 2), minimised=frozenset({"long view"})).to_dict()
    scales = [layer["encoding"]["y"] for layer in chart["layer"] if "y" in layer.get("encoding", {}) and "scale" in layer["encoding"]["y"]]
    assert scales
    assert all(y["scale"]["domain"][0] > y["scale"]["domain"][1] for y in scales)
    assert all(y["title"].startswith("long view (lower is better)") for y in scales)


@pytest.mark.parametrize(("draw", "axis"), [(picks_figure, "x"), (lift_figure, "y")])
def test_panels_of_objectives_to_minimise_are_turned_and_say_so(draw: Any, axis: str) -> None:
    front = fake_front(objectives=3)
    chart = draw(front, minimised=frozenset({"long view"}))
    panels = chart.to_dict()[next(key for key in ("hconcat", "concat") if key in chart.to_dict())]
    assert [panel["title"]["text"] for panel in panels] == ["save", "p2p", "long view (lower is better)"]
    for panel, turned in zip(panels, (False, False, True), strict=True):
        scales = [layer["encoding"][axis]["scale"] for layer in panel["layer"] if "scale" in layer["encoding"].get(axis, {})]
        assert len(scales) == 2
        assert all(scale["reverse"] == turned and scale["domain"][0] < 0 < scale["domain"][1] for scale in scales)
    assert "better is" in sentences(chart)
    assert "better is" not in sentences(draw(front))


def test_a_fall_counts_as_an_improvement_where_less_is_better() -> None:
    front = fake_front()
    lifts = front.lifts.estimate * [1, -1]
    turned = lift_figure(replace(front, lifts=replace(front.lifts, estimate=lifts)), minimised=frozenset({"p2p"}))
    assert sentences(turned).split(" swept")[0] == sentences(lift_figure(front)).split(" swept")[0]
