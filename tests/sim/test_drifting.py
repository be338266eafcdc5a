"""Worlds that change on a day: each disturbance does what it says, from its day on, and nothing before."""

import numpy as np
import pytest

from paretune.errors import ConfigError
from paretune.seeds import stream
from paretune.sim import open_world
from paretune.sim.drifting import Disturbance, open_drifting
from paretune.sim.homefeed import HEADS, Homefeed
from paretune.sim.memory import draw_log
from paretune.sim.response import ranker_scores, sigmoid, true_probabilities
from paretune.sim.traffic import explore_uniformly, sessions
from paretune.sim.world import Arrivals, World

PLAIN = open_world("homefeed", seed=3)
SAVE = HEADS.index("save")


def arrived(world: World, *, day: int, n: int = 400) -> Arrivals:
    return world.arrive(n, day=day, rng=stream(1, "drift", day))


@pytest.mark.parametrize(
    "drift",
    [
        Disturbance(7, scale=(("save", 2.0),)),
        Disturbance(7, logit=(("save", 0.5),)),
        Disturbance(7, relearned=True),
        Disturbance(7, season=1.0),
    ],
)
def test_before_its_day_a_drift_changes_no_number(drift: Disturbance) -> None:
    world = open_drifting("homefeed", drift, seed=3)
    plain, drifting = (draw_log(each, 300, seed=2, days=2, explore_share=0.5) for each in (PLAIN, world))
    np.testing.assert_array_equal(plain.user, drifting.user)
    np.testing.assert_array_equal(plain.rewards, drifting.rewards)
    assert plain.candidates is not None
    assert drifting.candidates is not None
    np.testing.assert_array_equal(plain.candidates.scores, drifting.candidates.scores)


def test_a_drift_of_nothing_is_the_undisturbed_world_after_its_day_too() -> None:
    world = open_drifting("homefeed", Disturbance(0), seed=3)
    np.testing.assert_array_equal(draw_log(PLAIN, 300, seed=2).rewards, draw_log(world, 300, seed=2).rewards)


def test_a_rescaled_head_has_its_scores_multiplied_and_nothing_else_changes() -> None:
    world = open_drifting("homefeed", Disturbance(7, scale=(("save", 2.0),)), seed=3)
    old, new = (ranker_scores(arrived(each, day=8), each.catalogue) for each in (PLAIN, world))
    np.testing.assert_allclose(new[..., SAVE], np.minimum(2 * old[..., SAVE], 1), rtol=1e-6)
    np.testing.assert_array_equal(np.delete(new, SAVE, axis=2), np.delete(old, SAVE, axis=2))


def test_a_shifted_head_moves_by_as_much_in_log_odds_and_keeps_its_ranks() -> None:
    world = open_drifting("homefeed", Disturbance(7, logit=(("p2p", -0.7),)), seed=3)
    head = HEADS.index("p2p")
    old, new = (ranker_scores(arrived(each, day=8), each.catalogue)[..., head].astype(float) for each in (PLAIN, world))
    np.testing.assert_allclose(np.log(new / (1 - new)) - np.log(old / (1 - old)), -0.7, atol=1e-3)


def test_a_relearned_ranker_makes_other_errors_of_the_same_size_and_the_truth_stays() -> None:
    world = open_drifting("homefeed", Disturbance(7, relearned=True), seed=3)
    old, new = arrived(PLAIN, day=8, n=4000), arrived(world, day=8, n=4000)
    np.testing.assert_array_equal(old.theta_true, new.theta_true)
    items = np.tile(np.arange(5), (len(old), 1))
    np.testing.assert_array_equal(true_probabilities(old, PLAIN.catalogue, items), true_probabilities(new, world.catalogue, items))
    errors = []
    for each in (old, new):
        error = (each.theta_ranker - each.theta_true)[:, SAVE, 0]
        errors.append(
            error - np.array([error[each.intent == i].mean() for i in range(3)])[each.intent]
        )  # of segments; intents stay unknown
    assert abs(np.corrcoef(*errors)[0, 1]) < 0.6  # a few main effects of many rows each, so not near 0
    assert 0.5 < errors[1].std() / errors[0].std() < 2
    seen = [each.catalogue.ranker[-len(PLAIN.catalogue.ids) :] - PLAIN.catalogue.true for each in (PLAIN, world)]
    assert abs(np.corrcoef(*(each[..., 1].ravel() for each in seen))[0, 1]) < 0.02


def test_a_refresh_draws_nothing_else_anew() -> None:
    refreshed = Homefeed("demo", seed=3, refresh=1)
    np.testing.assert_array_equal(refreshed.catalogue.true, PLAIN.catalogue.true)
    first, again = (arrived(each, day=0) for each in (PLAIN, refreshed))
    np.testing.assert_array_equal(first.state.embedding["user_embedding"], again.state.embedding["user_embedding"])


def test_a_season_brings_more_of_the_first_cohort_and_the_first_intent() -> None:
    world = open_drifting("homefeed", Disturbance(7, season=1.0), seed=3)
    before, after = arrived(world, day=1, n=4000), arrived(world, day=8, n=4000)
    for name in ("cohort", "intent"):
        old, new = (np.bincount(getattr(each, name), minlength=3) for each in (before, after))
        assert 1.8 < (new[0] / new[2]) / (old[0] / old[2]) < 3.5, name


def test_sessions_go_on_under_the_new_ranker() -> None:
    world = open_drifting("homefeed", Disturbance(0, scale=(("save", 3.0),), relearned=True), seed=3)
    waves = list(sessions(world, 300, day=1, choose=explore_uniformly(world, 0.5), rng=stream(0, "waves")))
    assert len(waves) > 1
    for wave in waves:
        assert (wave.arrivals.pool >= len(PLAIN.catalogue.ids)).all()
        raw = sigmoid(np.einsum("nhd,ncd->nch", wave.arrivals.theta_ranker, world.catalogue.ranker[wave.arrivals.pool]))
        np.testing.assert_allclose(wave.scores[..., SAVE], np.minimum(3 * raw[..., SAVE], 1), rtol=2e-4, atol=1e-6)


def test_a_drift_of_an_unknown_head_or_of_a_world_without_a_second_ranker_is_refused() -> None:
    with pytest.raises(ConfigError, match="heads are save"):
        open_drifting("homefeed", Disturbance(0, scale=(("saves", 2.0),)))
    with pytest.raises(ConfigError, match="needs its data"):
        open_drifting("kuairand", Disturbance(0, relearned=True))
