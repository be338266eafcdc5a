"""The laws of `ports.ValueModel`, held by every kind of model."""

from dataclasses import replace

import numpy as np
import pytest
from small_log import make_config, make_state, make_truth

from paretune.errors import DataError
from paretune.records import Categorical
from paretune.value.bundle import KINDS, load_model
from paretune.value.caution import Cautious
from paretune.value.ensemble import Averaged
from paretune.value.train import fit

CONFIG = make_config(max_epochs=25, patience=25, encoder="pooled")
ACTIONS = CONFIG.surface.build().actions


def trained(kind, log, seed=0):
    if kind == "cautious":
        members = (fit(rows, CONFIG, seed=seed, model="ridge") for rows in (log, log.take(slice(0, 1500))))
        return Cautious(Averaged(tuple(members)), 0.5, (1.0, -1.0))
    if kind == "averaged":
        return Averaged((fit(log, CONFIG, seed=seed, model="ridge"), fit(log, CONFIG, seed=seed, model="paper")))
    return fit(log, CONFIG, seed=seed, model=kind)


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request, log):
    return trained(request.param, log)


@pytest.fixture(scope="module")
def state():
    return make_state(200, np.random.default_rng(9))


def test_values_have_a_shape_a_type_and_names(model, state):
    values = model.values(state, ACTIONS)
    assert values.shape == (200, len(ACTIONS), 2)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert model.objectives == ("save", "p2p")
    assert model.name in KINDS
    assert model.values(state.take(slice(0, 0)), ACTIONS).shape == (0, len(ACTIONS), 2)


def test_rows_are_scored_independently_of_each_other(model, state):
    values = model.values(state, ACTIONS)
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_allclose(model.values(state.take(order), ACTIONS), values[order], atol=1e-5)
    np.testing.assert_allclose(model.values(state.take(slice(17, 18)), ACTIONS), values[17:18], atol=1e-5)


def test_actions_are_scored_independently_of_each_other(model, state):
    values = model.values(state, ACTIONS)
    np.testing.assert_allclose(model.values(state, ACTIONS[[5, 2]]), values[:, [5, 2]], atol=1e-5)


def test_values_stay_finite_for_missing_unknown_and_wild_features(model, state):
    strange = replace(
        state,
        numeric={"taste": np.full(200, np.nan), "age": np.full(200, 1e38)},
        categorical={"country": Categorical(np.arange(200, dtype=np.int32) % 3 - 1, ("zz", "yy"))},
        embedding={"vector": np.full((200, 3), np.nan)},
        sequence={"history": np.full((200, 6), -1), "items": np.full((200, 4), 30_000)},
    )
    assert np.isfinite(model.values(strange, ACTIONS)).all()


def test_infinite_features_and_impossible_weights_are_refused(model, state):
    with pytest.raises(DataError, match="infinity"):
        model.values(replace(state, numeric={**state.numeric, "taste": np.full(200, np.inf)}), ACTIONS)
    for wrong in (ACTIONS[:, :2], ACTIONS * 0, ACTIONS * np.nan):
        with pytest.raises(DataError):
            model.values(state, wrong)


def test_weights_between_the_levels_are_scored_too_and_lie_between(model, state):
    path = np.geomspace(ACTIONS[1], ACTIONS[2], 60)
    values = model.values(state, path)
    assert np.isfinite(values).all()
    ends = model.values(state, ACTIONS[[1, 2]])
    np.testing.assert_allclose(values[:, [0, -1]], ends, atol=1e-5)
    assert np.abs(np.diff(values, axis=1)).max() < 0.1  # no jumps


def test_saved_and_loaded_values_are_equal_to_the_bit(model, state, tmp_path):
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.values(state, ACTIONS), model.values(state, ACTIONS))
    assert (again.name, again.objectives) == (model.name, model.objectives)


def test_the_same_seed_gives_the_same_values_to_the_bit(model, state, log):
    np.testing.assert_array_equal(trained(model.name, log).values(state, ACTIONS), model.values(state, ACTIONS))


def test_what_the_weights_do_to_everyone_is_learned(model, state):
    truth, believed = make_truth(CONFIG, state, ACTIONS).mean(axis=0), model.values(state, ACTIONS).mean(axis=0)
    for objective in range(2):
        least = (
            0.6 if model.name == "replay" else 0.8
        )  # these candidates are random, so the ranker's word that replay starts from is not true
        assert np.corrcoef(truth[:, objective], believed[:, objective])[0, 1] > least
