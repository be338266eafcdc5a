"""The `replay` model: replayed lists, mixing between levels, components, and what the teacher learns."""

from dataclasses import replace

import numpy as np
import pytest
from small_log import make_config, make_log, make_state

from paretune.errors import DataError
from paretune.records import Candidates, Log
from paretune.surface.grid import log_coordinates
from paretune.surface.lists import examination
from paretune.value import replay_net
from paretune.value.bundle import load_model
from paretune.value.replay import component_scores, fit_replay, grid_weights, replayed_logits, smooth_weights
from paretune.value.smooth import steps_basis

CONFIG = make_config(max_epochs=4, patience=4)
SURFACE = CONFIG.surface.build()


def test_replayed_logits_are_those_of_the_list_that_the_weights_make():
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 8, (12, len(SURFACE.heads))).astype(np.float32)
    logits = replayed_logits(Candidates(np.array([0, 12]), np.arange(12), scores), SURFACE, (0, 1))
    for action in (0, 3, len(SURFACE) - 1):
        order = np.argsort(-(scores @ SURFACE.actions[action].astype(np.float32)), kind="stable")[: SURFACE.k]
        for j in (0, 1):
            value = 1 - np.prod(1 - examination(SURFACE.k)[: len(order)] * scores[order, j])
            assert logits[0, action, j] == pytest.approx(np.log(value / (1 - value)), abs=5e-3)


def test_a_row_without_candidates_is_refused():
    with pytest.raises(DataError, match="no candidates"):
        replayed_logits(Candidates(np.array([0, 0]), np.empty(0, int), np.empty((0, 3), np.float32)), SURFACE, (0, 1))


def test_every_action_mixes_from_itself_alone():
    mix = grid_weights(SURFACE, SURFACE.actions)
    np.testing.assert_allclose(mix @ SURFACE.actions, SURFACE.actions)
    np.testing.assert_allclose(mix.max(axis=1), 1)


def test_weights_between_levels_mix_their_neighbours_and_weights_beyond_them_stop_at_the_edge():
    tuned = list(SURFACE.tuned)
    between = np.sqrt(SURFACE.actions[1] * SURFACE.actions[2])
    mix = grid_weights(SURFACE, between[None])[0]
    assert mix.sum() == pytest.approx(1)
    assert set(np.flatnonzero(mix > 1e-9)) == {1, 2}
    beyond = SURFACE.actions[1:2].copy()
    beyond[:, tuned] /= 10
    np.testing.assert_allclose(grid_weights(SURFACE, beyond)[0], np.eye(len(SURFACE))[1], atol=1e-9)


def test_components_rebuild_the_changes_and_the_values_of_production():
    rng = np.random.default_rng(1)
    base, slope = rng.uniform(0.1, 0.3, (50, 1, 2)), rng.normal(size=(50, 1, 1))
    values = base + 0.02 * slope * np.linspace(0, 1, 6)[None, :, None] * np.array([1.0, -2.0])
    production = values[:, 0].mean(axis=0)
    targets, centre, components = component_scores(lambda rows: values[rows], 50, production=production)
    r = len(components)
    rebuilt = (targets[:, :r] @ components + centre[:-2]).reshape(values.shape) + (targets[:, None, r:] + centre[-2:])
    np.testing.assert_allclose(rebuilt, values, atol=1e-9)


def test_a_log_without_candidates_or_with_an_unclipped_reward_is_refused():
    log = make_log(400, CONFIG)
    with pytest.raises(DataError, match="candidates"):
        fit_replay(replace(log, candidates=None), CONFIG)


def test_values_lie_where_probabilities_lie():
    model = fit_replay(make_log(6000, CONFIG), CONFIG)
    values = model.values(make_state(500, np.random.default_rng(2)), SURFACE.actions)
    assert values.mean() == pytest.approx(0.42, abs=0.15)
    assert (values > -0.3).all()
    assert (values < 1.3).all()


def test_the_smooth_basis_carries_what_it_can_tell_to_weights_between_the_levels():
    surface = SURFACE
    rng = np.random.default_rng(3)
    basis = steps_basis(surface, log_coordinates(surface, surface.actions))
    slope = np.linalg.pinv(basis, rcond=1e-6) @ rng.normal(size=(len(surface), 2))
    between = np.sqrt(surface.actions[1:4] * surface.actions[2:5])
    wanted = steps_basis(surface, log_coordinates(surface, between)) @ slope
    np.testing.assert_allclose(smooth_weights(surface, between) @ (basis @ slope), wanted, atol=1e-6)
    told = smooth_weights(surface, surface.actions)
    np.testing.assert_allclose(told @ told, told, atol=1e-8)
    np.testing.assert_allclose(told[0], 0, atol=1e-12)  # production changes nothing


def test_a_smooth_student_has_values_of_its_own_between_the_levels_and_is_read_back(tmp_path):
    config = make_config(max_epochs=3, patience=3, student="smooth")
    model = fit_replay(make_log(3000, config), config)
    state = make_state(200, np.random.default_rng(4))
    grid = model.values(state, SURFACE.actions)
    change = grid - grid[:, :1]
    told = smooth_weights(SURFACE, SURFACE.actions)
    np.testing.assert_allclose(np.einsum("ab,nbm->nam", told, change), change, atol=1e-4)  # it lies in the span of the basis
    between = np.sqrt(SURFACE.actions[1:4] * SURFACE.actions[2:5])
    mixed = np.einsum("ab,nbm->nam", grid_weights(SURFACE, between), grid)
    assert np.abs(model.values(state, between) - mixed).max() > 1e-3
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").values(state, between), model.values(state, between))


def test_the_student_also_learns_from_requests_that_explored_nothing_and_whose_reward_is_unknown(monkeypatch):
    seen = {}

    def told(name, function):
        def kept(rows, *arguments, **options):
            seen[name] = rows
            return function(rows, *arguments, **options)

        return kept

    for name in ("fit_teacher", "fit_student"):
        monkeypatch.setattr(replay_net, name, told(name, getattr(replay_net, name)))
    log = make_log(2000, CONFIG)
    log = replace(log, rewards=np.where(log.explored[:, None], log.rewards, np.nan))
    model = fit_replay(log, CONFIG)
    assert len(seen["fit_teacher"]) == log.explored.sum() == model.origin.rows
    assert len(seen["fit_student"]) == len(log)
    assert np.isfinite(model.values(make_state(50, np.random.default_rng(5)), SURFACE.actions)).all()

    few = log.explored & (np.arange(len(log)) < 100)
    thin = log.take(few | ~log.explored)
    fit_replay(thin, CONFIG)
    assert len(seen["fit_student"]) == few.sum() + min((~log.explored).sum(), 4 * few.sum())

    empty = Candidates(np.zeros((~log.explored).sum() + 1, np.int64), np.empty(0, np.int64), np.empty((0, 3), np.float32))
    unlisted = Log.concat([log.take(log.explored), replace(log.take(~log.explored), candidates=empty)])
    fit_replay(unlisted, CONFIG)
    assert len(seen["fit_student"]) == log.explored.sum()
