"""How a world answers: the exact value is the mean of what is drawn, and numba and numpy are the same world."""

import numpy as np
import pytest

from paretune.records import Floats
from paretune.sim import response
from paretune.sim.response import (
    REPEAT,
    draw_events,
    exact_values,
    pool_candidates,
    ranker_scores,
    satiated,
    served_lists,
    true_probabilities,
)
from paretune.sim.world import Arrivals, World, open_world
from paretune.surface import lists
from paretune.surface.lists import top_lists


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("homefeed", setting="paper", seed=3)


@pytest.fixture(scope="module")
def arrivals(world: World) -> Arrivals:
    return world.arrive(200, day=2, rng=np.random.default_rng(0))


def drawn_rewards(world: World, arrivals: Arrivals, weights: Floats, rng: np.random.Generator) -> Floats:
    served = served_lists(ranker_scores(arrivals, world.catalogue), np.tile(weights, (len(arrivals), 1)), world.surface.k)
    events = satiated(draw_events(true_probabilities(arrivals, world.catalogue, served), world.continuation, rng), rng)
    return events[:, :, list(world.objective_heads)].any(axis=1)


@pytest.mark.parametrize("action", [0, 1, 7, 43, 49])
def test_the_exact_value_is_the_mean_of_drawn_responses(world: World, arrivals: Arrivals, action: int) -> None:
    few = arrivals.take(slice(0, 20))
    exact = exact_values(world, few, world.surface.actions)[:, action]
    many = few.take(np.repeat(np.arange(len(few)), 1500))
    drawn = drawn_rewards(world, many, world.surface.actions[action], np.random.default_rng(action)).reshape(len(few), 1500, -1)
    error = np.sqrt(exact * (1 - exact) / 1500)
    off = (drawn.mean(axis=1) - exact) / error
    assert abs(off.mean()) < 3 / np.sqrt(off.size)
    assert np.abs(off).max() < 4.5  # the largest of 40 numbers
    assert off.std() == pytest.approx(1, abs=0.35)


def test_repeats_are_thinned_and_first_events_stay() -> None:
    rng = np.random.default_rng(0)
    events = (rng.random((2000, 15, 6)) < 0.2).astype(np.uint8)
    kept = satiated(events, rng)
    assert np.array_equal(kept.any(axis=1), events.any(axis=1))
    assert np.array_equal(kept.argmax(axis=1), events.argmax(axis=1))
    assert (kept <= events).all()
    repeats = events.sum() - events.any(axis=1).sum()
    share = (kept.sum() - kept.any(axis=1).sum()) / repeats
    assert share == pytest.approx(REPEAT, abs=3 * 0.5 / np.sqrt(repeats))


def test_nobody_looks_past_the_place_where_the_scan_ended(world: World, arrivals: Arrivals) -> None:
    certain = np.ones((50, 15, 6), dtype=np.float32)  # p_hide = 1: sigmoid(1.3 + .8 - 3), so most scans end early
    seen = draw_events(certain, world.continuation, np.random.default_rng(1))[:, :, 0].astype(bool)
    assert (np.diff(seen.astype(int), axis=1) <= 0).all()
    assert seen[:, 0].all()
    assert not seen[:, -1].all()


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "compiled", None)
    monkeypatch.setattr(lists, "compiled", None)


def test_numba_and_numpy_are_the_same_world(world: World, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    few, weights = arrivals.take(slice(0, 60)), world.surface.actions[np.arange(60) % len(world.surface)]

    def everything() -> tuple[Floats, Floats, Floats]:
        scores = ranker_scores(few, world.catalogue)
        return scores, served_lists(scores, weights, world.surface.k), exact_values(world, few, world.surface.actions, rows_per_chunk=25)

    fast = everything()
    without_numba(monkeypatch)
    plain = everything()
    np.testing.assert_allclose(fast[0], plain[0], rtol=2e-4, atol=2e-7)
    assert (fast[1] == plain[1]).mean() > 0.999  # rounding may turn a tie
    np.testing.assert_allclose(fast[2], plain[2], rtol=5e-3, atol=1e-4)
    assert np.abs(fast[2] - plain[2]).mean() < 1e-5


def test_the_compiled_scores_hold_at_extreme_logits() -> None:
    compiled = pytest.importorskip("paretune.sim.compiled")
    logits = np.array([-200, -60, -20, -7.35, -1e-3, 0, 1e-3, 5, 20, 60, 200], dtype=np.float32)
    theta = np.ones((1, 1, 1), dtype=np.float32)
    found = compiled.scores(theta, logits[None, :, None], np.zeros(1, dtype=np.int32))[0, :, 0]
    with np.errstate(over="ignore"):
        wanted = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-30)


def test_served_lists_are_the_top_lists_of_the_same_weights(world: World, arrivals: Arrivals) -> None:
    scores = ranker_scores(arrivals, world.catalogue)
    for action in (0, 5, 30):
        weights = world.surface.actions[action]
        served = served_lists(scores, np.tile(weights, (len(arrivals), 1)), world.surface.k)
        top = top_lists(pool_candidates(arrivals, world.catalogue, scores), weights[None], world.surface.k)[:, 0]
        assert (served == top).mean() > 0.999


def test_values_do_not_depend_on_how_requests_are_cut(world: World, arrivals: Arrivals) -> None:
    whole = exact_values(world, arrivals, world.surface.actions)
    parts = [exact_values(world, arrivals.take(rows), world.surface.actions) for rows in (slice(0, 70), slice(70, 200))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
