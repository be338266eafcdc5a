from dataclasses import replace

import numpy as np
import pytest
from small_log import make_config, make_log, make_truth

from paretune.errors import DataError
from paretune.surface.grid import log_coordinates, polynomial_basis
from paretune.value.features import Encoder
from paretune.value.ridge import DEGREE, _bases, _moments, fit_ridge


def test_moments_equal_those_of_the_design_matrix_written_out(log, config):
    rows = log.exploration().take(slice(0, 300))
    encoder = Encoder.fit(rows.state, config.features)
    surface = config.surface.build()
    phi = log_coordinates(surface, surface.actions)[rows.action]
    x = np.column_stack([np.ones(300), encoder.wide(rows.state)]).astype(np.float64)
    design = np.column_stack([x, phi[:, :1] * x, phi[:, 1:] * x, polynomial_basis(phi, DEGREE)[:, 2:]])
    personal, curved = _bases(log_coordinates(surface, surface.actions))
    index = np.arange(300)
    whole = _moments(rows, encoder, index, personal, curved)
    np.testing.assert_allclose(whole.gram, design.T @ design, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(whole.cross, design.T @ rows.rewards, atol=1e-3, rtol=1e-4)
    halves = _moments(rows, encoder, index[:120], personal, curved) + _moments(rows, encoder, index[120:], personal, curved)
    np.testing.assert_allclose(halves.gram, whole.gram, atol=1e-3, rtol=1e-4)
    coefficients = np.random.default_rng(0).normal(size=(design.shape[1], 2)) / 10
    np.testing.assert_allclose(whole.loss(coefficients), ((rows.rewards - design @ coefficients) ** 2).sum(axis=0), rtol=1e-4)


def test_a_linear_truth_is_recovered(config):
    log = make_log(3000, config)
    surface = config.surface.build()
    phi = log_coordinates(surface, surface.actions)

    def truth(state, phi):
        taste = state.numeric["taste"][:, None, None]
        return 1 + taste + 0.5 * phi[:, :1] - phi[:, :1] * phi[:, 1:] + 2 * taste * phi[:, 1:]

    rewards = truth(log.state, phi)[np.arange(3000), log.action] * np.array([1, -1], np.float32)
    model = fit_ridge(replace(log, rewards=rewards.astype(np.float32)), config)
    np.testing.assert_allclose(model.values(log.state, surface.actions)[:, :, 0], truth(log.state, phi)[..., 0], atol=0.1)


def test_personal_effects_point_the_way_the_truth_does():
    config = make_config()
    log, fresh = make_log(4000, config), make_log(2000, config, seed=1)
    actions = config.surface.build().actions
    model = fit_ridge(log, config)
    truth = make_truth(config, fresh.state, actions)
    gap, believed = (q[:, 7] - q[:, 3] for q in (truth, model.values(fresh.state, actions)))  # save high and p2p low, and the reverse
    for objective in range(2):
        assert np.corrcoef(gap[:, objective], believed[:, objective])[0, 1] > 0.7


def test_one_user_is_too_few_to_choose_a_penalty(log, config):
    with pytest.raises(DataError, match="too few users"):
        fit_ridge(replace(log, user=np.zeros_like(log.user)), config)
