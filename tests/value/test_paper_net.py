from dataclasses import replace

import numpy as np
import pytest
import torch
from small_log import make_config, make_log, make_state

from paretune.surface.grid import linear_coordinates
from paretune.value.features import Encoder
from paretune.value.fitting import seeded
from paretune.value.paper_net import Network, Sizes, _tensors, fit_paper, squared_error


@pytest.fixture(scope="module", params=["transformer", "pooled"])
def fitted(request, log, config):
    return fit_paper(log, config, learning_rates=(3e-3,), sizes=Sizes(encoder=request.param))


def test_split_and_folded_scoring_equals_the_network_asked_once_per_pair(fitted, log, config):
    state, surface = log.state.take(slice(0, 40)), config.surface.build()
    coordinates = torch.from_numpy(linear_coordinates(surface, surface.actions).astype(np.float32))
    with torch.no_grad():
        parts = _tensors(fitted.encoder, state)
        naive = torch.stack([fitted.network(*parts, row.expand(40, -1)) for row in coordinates], dim=1)
    np.testing.assert_allclose(fitted.values(state, surface.actions), naive.numpy(), atol=1e-5)
    assert not torch.allclose(naive[:, 0], naive[:, 7], atol=1e-3)


def test_padding_says_nothing_and_an_empty_history_is_safe(config):
    state = make_state(30, np.random.default_rng(3))
    encoder = Encoder.fit(state, config.features)
    network = seeded(lambda: Network(encoder, 2, (True, True), Sizes()), 1)
    empty = replace(state, sequence={name: np.full_like(tokens, -1) for name, tokens in state.sequence.items()})
    dense, words, tokens = _tensors(encoder, empty)
    loss = squared_error(network(dense, words, tokens, torch.zeros(30, 2)), torch.ones(30, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    network.eval()
    with torch.no_grad():
        before = network.encode(dense, words, tokens)
        network.positions += 1.0
        assert torch.equal(before, network.encode(dense, words, tokens))


def test_attention_looks_at_real_positions_only(config):
    state = make_state(30, np.random.default_rng(3))
    encoder = Encoder.fit(state, config.features)
    network = seeded(lambda: Network(encoder, 2, (True, True), Sizes()), 1).eval()
    dense, words, tokens = _tensors(encoder, state)
    tokens[:, :, :3] = 0
    with torch.no_grad():
        before = network.encode(dense, words, tokens)
        network.positions[:3] += 1.0
        torch.testing.assert_close(before, network.encode(dense, words, tokens))
        network.positions[3:] += torch.randn(network.positions[3:].shape)
        assert not torch.allclose(before, network.encode(dense, words, tokens))


def test_the_learning_rate_with_the_lowest_held_out_loss_is_kept(log, config):
    rates = (1e-6, 3e-3)
    alone = [fit_paper(log, config, learning_rates=(rate,)).origin.losses["validation"] for rate in rates]
    model = fit_paper(log, config, learning_rates=rates)
    assert model.origin.losses["validation"] == min(alone)
    assert model.origin.losses["learning_rate"] == rates[int(np.argmin(alone))]


def test_rewards_beyond_one_are_not_squeezed_through_a_sigmoid(config):
    raw = config.model_dump(mode="json")
    raw["objectives"][0]["transform"] = "log1p"
    raw["training"] |= {"max_epochs": 40, "patience": 40}
    changed = type(config).model_validate(raw)
    log = make_log(1500, changed)
    log = replace(log, rewards=log.rewards + np.array([3.0, 0.0], np.float32))
    values = fit_paper(log, changed, learning_rates=(1e-2,), sizes=Sizes(encoder="pooled")).values(
        log.state, changed.surface.build().actions
    )
    assert values[..., 0].mean() == pytest.approx(float(log.rewards[:, 0].mean()), abs=0.5)
    assert values[..., 1].max() <= 1


def test_the_transformer_is_the_default_unless_the_file_says_otherwise(log):
    assert fit_paper(log, make_config(max_epochs=1), learning_rates=(1e-3,)).sizes.encoder == "transformer"
    assert fit_paper(log, make_config(max_epochs=1, encoder="pooled"), learning_rates=(1e-3,)).sizes.encoder == "pooled"
