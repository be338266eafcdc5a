"""The `replay` model: replayed lists, mixing between levels, components, and what the teacher learns."""

import numpy as np
import pytest
from small_log import make_config, make_log, make_state

from paretune.errors import DataError
from paretune.records import Candidates
from paretune.surface.lists import examination
from paretune.value.replay import component_scores, fit_replay, grid_weights, replayed_logits

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
    from dataclasses import replace

    with pytest.raises(DataError, match="candidates"):
        fit_replay(replace(log, candidates=None), CONFIG)


def test_values_lie_where_probabilities_lie():
    model = fit_replay(make_log(6000, CONFIG), CONFIG)
    values = model.values(make_state(500, np.random.default_rng(2)), SURFACE.actions)
    assert values.mean() == pytest.approx(0.42, abs=0.15)
    assert (values > -0.3).all()
    assert (values < 1.3).all()
