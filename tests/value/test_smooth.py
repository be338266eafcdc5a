"""The `smooth` model: its basis, its form, and what it learns."""

import numpy as np
import torch
from small_log import make_config, make_log, make_state, make_truth

from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Head, Surface
from paretune.value.smooth import fit_smooth, steps_basis
from paretune.value.trunk import TRUNK_ARRAYS, trunk_output
from paretune.value.trunk_net import TrunkNet, UnitDropout

CONFIG = make_config(max_epochs=8, patience=8)


def surface(tuned):
    return Surface(tuple(Head(f"h{i}", 2.0 + i, (1.0 + i, 5.0, 9.0 + i) if i < tuned else ()) for i in range(4)), 5)


def test_the_basis_is_zero_at_production_and_bounded_in_the_ratio():
    for tuned in (1, 2, 3):
        s = surface(tuned)
        basis = steps_basis(s, log_coordinates(s, s.actions))
        assert basis.shape[0] == len(s)
        np.testing.assert_allclose(basis[0], 0, atol=1e-12)
        assert np.abs(basis).max() < 4


def test_scaling_all_tuned_weights_moves_only_the_scale_columns():
    s = surface(2)
    twice = s.actions.copy()
    twice[:, list(s.tuned)] *= 2
    change = steps_basis(s, log_coordinates(s, twice)) - steps_basis(s, log_coordinates(s, s.actions))
    np.testing.assert_allclose(change[:, 1:6], 0, atol=1e-12)
    assert (change[:, 0] > 0).all()


def test_numpy_and_torch_read_a_state_alike():
    torch.manual_seed(0)
    net = TrunkNet(7, 3, hidden=5, dropout=0.5)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    net.eval()
    x = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    arrays = {name: net.state_dict()[name].numpy() for name in TRUNK_ARRAYS}
    np.testing.assert_allclose(trunk_output(x, arrays), net(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_a_trunk_starts_at_zero():
    assert not TrunkNet(4, 2, hidden=8, dropout=0.1).eval()(torch.ones(3, 4)).any()


def test_who_gains_from_a_larger_save_weight_is_learned():
    log = make_log(20_000, CONFIG, seed=1)
    model = fit_smooth(log, CONFIG)
    state = make_state(3000, np.random.default_rng(5))
    actions = CONFIG.surface.build().actions
    truth, believed = make_truth(CONFIG, state, actions)[..., 0], model.values(state, actions)[..., 0]
    gap = np.diff(log_coordinates(CONFIG.surface.build(), actions)[:, ::-1], axis=1)[:, 0]  # save over p2p
    gains = [values[:, gap.argmax()] - values[:, gap.argmin()] for values in (truth, believed)]
    assert np.corrcoef(*gains)[0, 1] > 0.5


def test_dropped_units_are_dropped_for_the_whole_batch_and_keep_the_mean():
    torch.manual_seed(1)
    drop, x = UnitDropout(0.2), torch.ones(3, 20_000)
    dropped = drop(x)
    assert torch.equal(dropped[0], dropped[2])
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert abs(float(dropped.mean()) - 1) < 0.02
    assert drop.eval()(x) is x
