"""A simulated A/B test answers like a live one, and the truth is what it converges to."""

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.frontier.front import Policy
from paretune.frontier.sweep import choose
from paretune.records import OFF_GRID, PRODUCTION, Floats, State
from paretune.sim.abtest import SUCCESSFUL, Readout, arm_of, run_abtest
from paretune.sim.lineup import chooser, line_up
from paretune.sim.traffic import Arrivals
from paretune.sim.truth import true_lifts
from paretune.sim.world import World, open_world

SAVER = Policy("all for saves", "static", weights=np.array([200.0, 1.0, 1.1, -4.0, 5.0, 0.2]))
OFF = Policy("off the grid", "matched static", weights=np.array([77.0, 3.3, 1.1, -4.0, 5.0, 0.2]))
BALANCED = Policy("alpha 0.5", "alpha", 0.5, scalarisation=(0.5, 0.5))
COHORTS = Policy("cohort", "cohort", cohort_alphas=(("CORE", 1.0), ("REST", 0.0)))


class ByActivity:
    """A value model whose best action depends on one feature; what it says is known in closed form."""

    name = "by activity"
    objectives = ("save", "p2p")

    def values(self, state: State, actions: Floats) -> Floats:
        place = np.linspace(-1, 1, len(actions))
        active = np.asarray(state.numeric["activity"])[:, None] * place
        return np.stack([1 + active, 1 - active], axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("homefeed", setting="demo", seed=2)


@pytest.fixture(scope="module")
def arrivals(world: World) -> Arrivals:
    return world.arrive(500, day=0, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def readout(world: World) -> Readout:
    arms = line_up(world, [Policy("again production", "static", weights=world.surface.static), SAVER])
    named = [("A/A", chooser(arms, 0)), ("saver", chooser(arms, 1))]
    return run_abtest(world, named, days=range(2), requests_per_arm=12_000, seed=3)


def test_a_line_up_serves_static_weights_on_and_off_the_grid(world: World, arrivals: Arrivals) -> None:
    line = line_up(world, [Policy("production", "static", weights=world.surface.static), SAVER, OFF])
    served = line.decide(arrivals)
    assert (served[:, 0] == PRODUCTION).all()
    np.testing.assert_allclose(line.actions[served[0]], [world.surface.static, SAVER.weights, OFF.weights])
    choice = chooser(line, 2)(arrivals, np.random.default_rng(0))
    assert (choice.action == OFF_GRID).all()
    np.testing.assert_allclose(choice.weights, np.tile(OFF.weights, (len(arrivals), 1)))  # type: ignore[arg-type]


def test_a_line_up_chooses_as_the_sweep_does(world: World, arrivals: Arrivals) -> None:
    scale = np.array([2.0, 0.5])
    line = line_up(world, [SAVER, BALANCED], model=ByActivity(), scale=scale)
    relative = ByActivity().values(arrivals.state, world.surface.actions) * scale.astype(np.float32)
    np.testing.assert_array_equal(line.decide(arrivals)[:, 1], choose(relative, np.array([[0.5, 0.5]]))[:, 0])


def test_each_cohort_gets_its_own_trade_off_and_the_unnamed_keep_the_static_weights(world: World, arrivals: Arrivals) -> None:
    served = line_up(world, [COHORTS], model=ByActivity()).decide(arrivals)[:, 0]
    active = np.asarray(arrivals.state.numeric["activity"]) > 0
    core, rest = (arrivals.cohort == world.cohorts.index(name) for name in ("CORE", "REST"))
    last = len(world.surface) - 1
    np.testing.assert_array_equal(served[core], np.where(active[core], last, 1))
    np.testing.assert_array_equal(served[rest], np.where(active[rest], 1, last))
    assert (served[~core & ~rest] == PRODUCTION).all()


def test_a_policy_that_chooses_needs_a_model(world: World, arrivals: Arrivals) -> None:
    with pytest.raises(DataError, match="chooses by a model"):
        line_up(world, [BALANCED]).decide(arrivals)


def test_users_are_split_evenly_and_salts_are_independent() -> None:
    users = np.arange(40_000)
    first, second = arm_of(users, 4, salt="a"), arm_of(users, 4, salt="b")
    table = np.histogram2d(first, second, bins=4)[0]
    assert np.abs(table - 2500).max() < 5 * 50
    np.testing.assert_array_equal(first[:100], arm_of(users[:100], 4, salt="a"))


def test_arms_get_about_the_requests_asked_for(readout: Readout) -> None:
    assert readout.arms == ("A/A", "saver")
    assert readout.metrics == ("save", "p2p", SUCCESSFUL)
    assert np.abs(readout.requests / 12_000 - 1).max() < 0.1
    assert (readout.users > 2000).all()
    assert (readout.sessions < readout.requests).all()


def test_an_arm_with_productions_weights_shows_no_lift(readout: Readout) -> None:
    assert (np.abs(readout.lift[0]) < 3.5 * (readout.high - readout.lift)[0] / 1.96).all()


def test_an_arm_that_favours_saves_gains_saves_and_loses_the_rest(readout: Readout) -> None:
    assert readout.low[1, 0] > 0
    assert readout.high[1, 1] < 0


def test_intervals_follow_from_the_arms_by_the_delta_method(readout: Readout) -> None:
    v, e = readout.value, readout.std_error
    ratio = v[1:] / v[0]
    np.testing.assert_allclose(readout.lift, ratio - 1)
    np.testing.assert_allclose(
        readout.high - readout.low, 2 * 1.959964 * np.sqrt((e[1:] / v[0]) ** 2 + (ratio * e[0] / v[0]) ** 2), rtol=1e-5
    )


def test_standard_errors_know_that_requests_of_a_user_are_alike(readout: Readout) -> None:
    alone = np.sqrt(readout.value[:, :2] * (1 - readout.value[:, :2]) / readout.requests[:, None])
    assert (readout.std_error[:, :2] > alone).all()
    assert (readout.std_error[:, :2] < 4 * alone).all()


def test_the_same_seed_gives_the_same_test(world: World) -> None:
    arms = [("saver", chooser(line_up(world, [SAVER]), 0))]
    first, second = (run_abtest(world, arms, days=range(1), requests_per_arm=1500, seed=8) for _ in range(2))
    np.testing.assert_array_equal(first.lift, second.lift)


def test_a_test_that_saw_nothing_is_refused(world: World) -> None:
    with pytest.raises(DataError, match="too few events"):
        run_abtest(world, [("saver", chooser(line_up(world, [SAVER]), 0))], days=range(1), requests_per_arm=1)


def test_the_truth_of_production_is_zero_and_of_others_what_ab_tests_find(world: World, readout: Readout) -> None:
    line = line_up(world, [Policy("production", "static", weights=world.surface.static), SAVER, OFF])
    truth = true_lifts(world, line, n=4000, days=range(2), seed=1)
    np.testing.assert_allclose(truth.lift[0], 0, atol=1e-12)
    np.testing.assert_allclose(truth.std_error[0], 0, atol=1e-6)
    online = (readout.high - readout.low)[1, :2] / (2 * 1.96)
    assert (np.abs(truth.lift[1] - readout.lift[1, :2]) < 3.5 * np.hypot(online, truth.std_error[1])).all()
    assert truth.production == pytest.approx([0.21, 0.46], abs=0.06)


def test_the_error_of_the_truth_is_that_of_its_requests(world: World) -> None:
    line = line_up(world, [SAVER])
    found = [true_lifts(world, line, n=400, days=range(1), seed=seed) for seed in range(8)]
    spread = np.std([each.lift[0] for each in found], axis=0, ddof=1)
    claimed = np.mean([each.std_error[0] for each in found], axis=0)
    assert ((spread / claimed > 0.5) & (spread / claimed < 1.9)).all()
