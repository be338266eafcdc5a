"""What moved and what to do about it: silence in an undisturbed world, each disturbance by its name, weights that mean what they meant."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drifted import config_of, drift_after, reference_of, rows_after, rows_before

from paretune.config import Config
from paretune.errors import ConfigError, DataError
from paretune.monitor.drift import compare
from paretune.monitor.finding import Finding, Slope
from paretune.monitor.reanchor import reanchored, reanchored_model
from paretune.monitor.recalibration import recalibrated
from paretune.monitor.verdict import judge
from paretune.monitor.watch import take_reference, take_window, watched
from paretune.monitor.window import head_sums
from paretune.records import PRODUCTION, Candidates
from paretune.sim.drifting import Disturbance
from paretune.surface.lists import top_lists
from paretune.value.bundle import load_model, save_model
from paretune.value.train import fit

UNTOUCHED = Disturbance(0)
RESCALED = Disturbance(0, scale=(("save", 1.6),))
SHIFTED = Disturbance(0, logit=(("p2p", -0.5),))
RELEARNED = Disturbance(0, relearned=True)
SEASON = Disturbance(0, season=1.0)
SEEDS = range(2)  # ten of each world are slow tests


@pytest.mark.parametrize("seed", SEEDS)
def test_an_undisturbed_world_is_served(seed: int) -> None:
    drift = drift_after(seed, UNTOUCHED)
    verdict = judge(drift)
    assert verdict.answer == "serve"
    assert verdict.causes == ("nothing",)
    assert not verdict.reasons
    np.testing.assert_allclose(drift.recalibration.factor[:2], 1, atol=0.08)  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("disturbance", "head", "factor"), [(RESCALED, "save", 1.6), (SHIFTED, "p2p", np.exp(-0.45))])
def test_a_rescaled_head_asks_for_re_anchoring_by_its_factor(disturbance: Disturbance, head: str, factor: float, seed: int) -> None:
    drift = drift_after(seed, disturbance)
    verdict = judge(drift)
    assert verdict.answer == "re-anchor"
    assert drift.factors.keys() == {head}
    assert drift.factors[head] == pytest.approx(factor, rel=0.08)
    assert f"{head} by {drift.factors[head]:.2f}" in verdict.sentence


@pytest.mark.parametrize("setting", ["demo", "paper"])
@pytest.mark.parametrize("seed", SEEDS)
def test_new_errors_of_the_ranker_ask_for_new_data(seed: int, setting: str) -> None:
    drift = drift_after(seed, RELEARNED, setting=setting)
    verdict = judge(drift, enough=1_000)
    assert verdict.answer == "retrain"
    assert verdict.causes[0] == "ranker errors"
    assert judge(drift, enough=2_000).answer == "collect"


@pytest.mark.parametrize("seed", SEEDS)
def test_other_visitors_ask_for_new_data_and_are_called_visitors(seed: int) -> None:
    drift = drift_after(seed, SEASON)
    verdict = judge(drift)
    assert verdict.causes[0] == "visitors"
    assert verdict.answer == "retrain"  # half as many exploration rows as the reference's
    assert "cohort" in {each.name for each in drift.moved("state")}
    assert not drift.factors


def test_new_errors_on_top_of_a_new_scale_are_not_waved_through_as_a_rescaling() -> None:
    verdict = judge(drift_after(0, Disturbance(0, scale=(("save", 1.6),), relearned=True)))
    assert verdict.answer == "retrain"
    assert verdict.causes == ("ranker errors", "rescaled heads")


def test_people_who_answer_differently_to_the_same_lists_are_no_drift_of_the_ranker() -> None:
    """Rewards halve, nothing else moves: neither state nor heads explain it."""
    reference, log = reference_of(0), rows_after(0, UNTOUCHED)
    halved = log.rewards * (np.arange(len(log)) % 2)[:, None]
    verdict = judge(watched(reference, *take_window([replace(log, rewards=halved)], reference)))
    assert verdict.causes == ("answers",)
    assert verdict.answer == "retrain"
    assert any("per production request" in reason for reason in verdict.reasons)


def test_a_head_whose_scale_the_rewards_followed_is_not_re_anchored() -> None:
    """Scores and rewards rise together: the head is right, and a weight on it means what it meant."""
    reference, log = reference_of(0), rows_after(0, RESCALED)
    before = reference.sums.predicted.sum(axis=0)
    ratio = before[0, 1] / before[0, 2]  # observed over predicted saves of the reference
    rewards = log.rewards.copy()
    rewards[:, 0] = ratio * np.asarray(log.predicted)[:, 0]
    drift = watched(reference, *take_window([replace(log, rewards=rewards)], reference))
    assert drift.factors.keys() == {"save"}
    assert judge(drift).causes[0] == "answers"


@pytest.mark.parametrize(("factor", "alarms"), [(0.5, False), (4.0, True)])
def test_a_small_head_alarms_nobody_unless_its_scale_makes_it_matter(factor: float, alarms: bool) -> None:
    """1.3 % of utility: half as much is nothing, four times as much is more than 2 %."""
    drift = drift_after(0, Disturbance(0, scale=(("share", factor),)))
    found = next(each for each in drift.findings if each.aspect == "scale" and each.name == "share")
    assert found.p_value < 1e-6
    assert found.current == pytest.approx(factor, rel=0.1)
    assert found.moved == alarms
    assert (judge(drift).answer == "re-anchor") == alarms


def test_the_naive_ratio_of_listed_means_would_be_wrong_by_far_where_the_factor_is_right() -> None:
    drift = drift_after(1, RESCALED)
    before, after = drift.reference.sums.heads, drift.current.sums.heads
    naive = np.exp(after.size.sum(axis=0) / after.rows.sum() - before.size.sum(axis=0) / before.rows.sum())
    assert naive[0] > 2  # 1.6 is the truth
    assert naive[1] < 0.8  # nothing happened to this head
    assert drift.recalibration is not None
    np.testing.assert_allclose(drift.recalibration.factor[:2], [1.6, 1.0], rtol=0.08)


def test_a_factor_below_its_mark_is_named_where_it_moved_a_share_of_utility() -> None:
    drift = drift_after(2, Disturbance(0, scale=(("save", 1.18),)), rows=16_000)
    scale = next(each for each in drift.findings if each.aspect == "scale" and each.name == "save")
    assert scale.size < scale.threshold
    assert "save" in {each.name for each in drift.moved("contribution")}
    assert scale.moved
    assert judge(drift).answer == "re-anchor"


def test_shares_that_moved_for_no_reason_that_shows_are_called_that() -> None:
    drift = drift_after(0, UNTOUCHED)
    moved = replace(next(each for each in drift.findings if each.aspect == "contribution"), size=0.06, moved=True)
    verdict = judge(replace(drift, findings=(moved,)))
    assert verdict.causes == ("shares",)
    assert "do not tell why" in verdict.sentence


@pytest.mark.slow
def test_the_errors_of_factors_are_what_they_are_said_to_be() -> None:
    found = [[each for each in drift_after(seed, RESCALED, rows=3_000).findings if each.aspect == "scale"] for seed in range(40)]
    for head, factor in (("save", 1.6), ("p2p", 1.0), ("click", 1.0)):
        scores = [np.log(each.current / factor) / each.std_error for findings in found for each in findings if each.name == head]
        assert 0.75 < np.std(scores) < 1.25, head
        assert abs(np.mean(scores)) < 0.6, head


def test_re_anchored_weights_make_the_lists_and_shares_of_before_word_for_word() -> None:
    """On the same candidates: scores times c under weights over c are the same lists and the same shares."""
    log, config, reference = rows_before(0), config_of(), reference_of(0)
    factors = {"save": 1.6, "click": 0.7}
    anchored = reanchored(config, factors).surface.build()
    explored = log.take(log.explored)
    assert explored.candidates is not None
    old = explored.candidates
    c = np.array([factors.get(head, 1.0) for head in reference.heads])
    new = Candidates(old.offsets, old.ids, old.scores.astype(np.float64) * c)
    before, after = (top_lists(each, w, 15) for each, w in ((old, config.surface.build().actions), (new, anchored.actions)))
    assert (before == after).mean() > 0.999  # float32 ties
    members = np.ones((len(explored), 1))
    sums = [
        head_sums(each, explored.user, members, bins=reference.bins, weights=weights, k=15, divisor=np.ones(6))
        for each, weights in ((old, reference.static), (new, anchored.static))
    ]
    np.testing.assert_allclose(sums[0].share.sum(axis=0), sums[1].share.sum(axis=0), rtol=1e-3)


def test_re_anchoring_moves_static_weight_and_range_together_and_nothing_else() -> None:
    config = config_of()
    moved = reanchored(config, {"save": 2.0})
    save, p2p = moved.surface.heads[:2]
    assert (save.weight, save.tune.low, save.tune.high) == (91.6 / 2, 5.0, 100.0)  # type: ignore[union-attr]
    assert p2p == config.surface.heads[1]
    assert moved.model_copy(update={"surface": config.surface}) == config
    assert reanchored(moved, {"save": 0.5}) == config
    np.testing.assert_allclose(moved.surface.build().actions[:, 0] * 2, config.surface.build().actions[:, 0])
    assert isinstance(moved, Config)


@pytest.mark.parametrize("kind", ["ridge", "smooth", "replay", "cautious"])
def test_a_re_anchored_model_says_of_every_level_what_it_said_and_survives_being_kept(kind: str, tmp_path: Path) -> None:
    training = {"model": "ridge" if kind == "cautious" else kind, "max_epochs": 1}
    if kind == "cautious":
        training |= {"seeds": 2, "ensemble": "bootstrap", "caution": 1.0}
    config = config_of()
    config = config.model_copy(update={"training": config.training.model_copy(update=training)})
    log, factors = rows_before(0), {"save": 1.6, "p2p": 0.7}
    model = fit(log, config, seed=1)
    moved = reanchored_model(model, factors)
    old, new = config.surface.build().actions, reanchored(config, factors).surface.build().actions
    expected = model.values(log.state.take(slice(0, 50)), old)
    np.testing.assert_allclose(moved.values(log.state.take(slice(0, 50)), new), expected, atol=1e-5)
    save_model(moved, tmp_path / "model")  # type: ignore[arg-type]
    np.testing.assert_allclose(load_model(tmp_path / "model").values(log.state.take(slice(0, 50)), new), expected, atol=1e-5)


@pytest.mark.parametrize("factors", [{"nosuch": 2.0}, {"save": 0.0}, {"save": -1.0}, {"save": float("nan")}])
def test_factors_that_are_none_are_refused(factors: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="cannot rescale"):
        reanchored(config_of(), factors)


def test_a_scale_out_of_reach_of_the_grid_is_said_not_to_settle() -> None:
    reference = reference_of(0)
    current, listed = take_window([rows_after(0, Disturbance(0, logit=(("p2p", -6.0),)))], reference)
    recalibration = recalibrated(reference, listed)
    drift = compare(reference, current, recalibration=recalibration)
    assert not recalibration.settled
    assert any("did not settle" in note for note in drift.notes)
    assert judge(drift).causes[0] == "ranker errors"


def test_exploration_that_does_not_draw_what_it_says_is_mended_before_anything_is_learned() -> None:
    reference, log = reference_of(0), rows_after(0, UNTOUCHED)
    action = np.where(log.explored & (log.action > 40), 40, log.action).astype(np.int32)
    verdict = judge(watched(reference, *take_window([replace(log, action=action)], reference)))
    assert verdict.answer == "collect"
    assert verdict.causes[0] == "exploration"
    assert "mend exploration first" in verdict.sentence


def test_a_policy_that_serves_other_actions_is_seen() -> None:
    def elected(log, actions):  # type: ignore[no-untyped-def]
        arm = ~log.explored & (np.arange(len(log)) % 2 == 0)
        chosen = np.where(arm, actions[np.arange(len(log)) % len(actions)], log.action).astype(np.int32)
        return replace(log, elected=arm, action=np.where(arm, chosen, np.where(log.explored, log.action, PRODUCTION)))

    before = elected(rows_before(0), np.array([3, 9, 11]))
    reference = take_reference(lambda: [before], config_of())
    same = watched(reference, *take_window([elected(rows_after(0, UNTOUCHED), np.array([3, 9, 11]))], reference))
    other = watched(reference, *take_window([elected(rows_after(0, UNTOUCHED), np.array([3, 9, 30]))], reference))
    assert not same.moved("actions")
    assert [each.name for each in other.moved("actions")] == ["policy's arm"]
    assert judge(other).causes[0] == "visitors"


@pytest.mark.parametrize(
    ("reference_slope", "current_slope", "lost"),
    [
        (Slope(0.9, 0.1), Slope(0.8, 0.1), False),
        (Slope(0.9, 0.1), Slope(0.1, 0.05), True),
        (Slope(0.9, 0.1), Slope(0.1, 0.6), False),  # cannot tell
        (None, Slope(0.05, 0.05), True),
        (None, Slope(0.45, 0.1), False),
    ],
)
def test_gains_that_no_longer_come_true_are_seen_when_the_slope_is_surely_below_half(
    reference_slope: Slope | None, current_slope: Slope, lost: bool
) -> None:
    reference = reference_of(0)
    current, listed = take_window([rows_after(0, UNTOUCHED)], reference)
    drift = watched(reference, current, listed, slopes=(reference_slope, current_slope))
    assert bool(drift.moved("gain")) == lost
    assert judge(drift).causes == (("gains",) if lost else ("nothing",))


def test_a_large_certain_shift_counts_and_a_large_uncertain_or_small_certain_one_does_not() -> None:
    drift = drift_after(0, SEASON)
    for each in drift.findings:
        assert isinstance(each, Finding)
        if each.moved:
            assert each.size >= each.threshold
            assert each.p_value < 0.01
    assert any(each.p_value < 1e-6 and not each.moved for each in drift.findings)  # certain and small


def test_an_unlike_window_is_refused() -> None:
    reference = reference_of(0)
    with pytest.raises(DataError, match="differ in their k"):
        compare(reference, replace(reference, k=7))


@pytest.mark.slow
def test_no_more_than_five_of_a_hundred_windows_of_an_undisturbed_world_alarm() -> None:
    alarms = [
        (seed, traffic)
        for seed in range(10)
        for traffic in range(10)
        if judge(drift_after(seed, UNTOUCHED, rows=2_000, traffic=traffic)).answer != "serve"
    ]
    assert len(alarms) <= 5, alarms


def test_ten_small_windows_of_an_undisturbed_world_are_silent() -> None:
    alarms = [traffic for traffic in range(10) if judge(drift_after(7, UNTOUCHED, rows=2_000, traffic=traffic)).answer != "serve"]
    assert not alarms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("disturbance", "cause"),
    [(RESCALED, "rescaled heads"), (SHIFTED, "rescaled heads"), (RELEARNED, "ranker errors"), (SEASON, "visitors")],
)
def test_each_disturbance_is_named_rightly_in_nine_of_ten_seeds_of_both_worlds(disturbance: Disturbance, cause: str) -> None:
    for setting in ("demo", "paper"):
        named = [judge(drift_after(seed, disturbance, setting=setting)).causes[0] for seed in range(10, 20)]
        assert sum(each == cause for each in named) >= 9, (setting, named)
