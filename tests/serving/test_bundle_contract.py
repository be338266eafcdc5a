"""The laws of `serving.scoring.Scorer`, held by both hosts of every kind of model."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "value"))
from small_log import make_config, make_log, make_state

from paretune.records import Categorical
from paretune.serving.bundle import load_bundle, save_bundle
from paretune.serving.inputs import features_of, state_inputs, taken
from paretune.serving.parts import model_parts
from paretune.serving.reference import best_actions, reference_values, wide_columns
from paretune.value.bundle import KINDS
from paretune.value.caution import Cautious
from paretune.value.ensemble import Averaged
from paretune.value.train import fit

CONFIG = make_config(max_epochs=3)
LOG = make_log(1500, CONFIG)
SURFACE = CONFIG.surface.build()
SCALE = np.array([2.5, -4.0])  # the second objective is minimised
ALPHAS = np.stack([np.linspace(0, 1, 7), 1 - np.linspace(0, 1, 7)], axis=1)


def trained(kind):
    if kind == "cautious":
        members = (fit(LOG, CONFIG, model="ridge"), fit(LOG.take(slice(0, 1000)), CONFIG, model="smooth"))
        return Cautious(Averaged(members), 0.5, (1.0, -1.0))
    if kind == "averaged":
        return Averaged((fit(LOG, CONFIG, model="smooth"), fit(LOG, CONFIG, model="paper")))
    return fit(LOG, CONFIG, model=kind)


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request):
    return trained(request.param)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / model.name
    parity = save_bundle(model, folder, scale=SCALE)
    assert parity.agreement >= 0.9999
    assert parity.pairs > 50_000
    return folder


@pytest.fixture(scope="module", params=["onnx", "numpy"])
def scorer(request, folder):
    return load_bundle(folder, prefer=request.param)


def inputs_of(model, state):
    return state_inputs(state, features_of(model_parts(model).encoders))


def strange_state():
    """Return states with unknown words, empty histories, wild numbers, everything missing, and tokens beyond the vocabulary."""
    state = make_state(200, np.random.default_rng(3))
    return replace(
        state,
        numeric={"taste": np.geomspace(1e-3, 3e38, 200).astype(np.float32), "age": np.full(200, np.nan, np.float32)},
        categorical={"country": Categorical(np.arange(200, dtype=np.int32) % 4 - 1, ("zz", "at", ""))},
        sequence={"history": np.full((200, 6), -1), "items": np.random.default_rng(0).integers(-1, 30_000, (200, 4))},
    )


@pytest.mark.parametrize("state", [make_state(300, np.random.default_rng(9)), strange_state()], ids=["usual", "strange"])
def test_a_host_answers_what_the_model_says_and_float64_confirms(model, scorer, state):
    inputs = inputs_of(model, state)
    said = model.values(state, SURFACE.actions) * SCALE
    true = reference_values(model_parts(model), inputs, scale=SCALE)
    for alpha in ALPHAS:
        each = np.tile(alpha, (len(state), 1))
        actions, values = scorer.score(inputs, each)
        np.testing.assert_allclose(values, said, atol=2e-5)
        np.testing.assert_allclose(values, true, atol=2e-5)
        assert (actions == best_actions(true, each)).mean() > 0.999
        assert actions.min() > 0  # never production


def test_one_request_is_answered_as_in_a_batch_and_twice_alike(model, scorer):
    inputs = inputs_of(model, make_state(20, np.random.default_rng(5)))
    actions, values = scorer.score(inputs, np.tile([0.3, 0.7], (20, 1)))
    for i in range(20):
        one = taken(inputs, slice(i, i + 1))
        choice, again = scorer.choose(one, np.array([0.3, 0.7])), scorer.choose(one, np.array([0.3, 0.7]))
        np.testing.assert_allclose(choice.values, values[i], atol=1e-5)
        assert choice.action == again.action == actions[i]
        assert isinstance(choice.action, int)


def test_a_request_read_from_plain_values_is_the_logged_row(model, scorer):
    state = make_state(8, np.random.default_rng(6))
    inputs = inputs_of(model, state)
    for i in range(8):
        code = state.categorical["country"].codes[i]
        age = float(state.numeric["age"][i])
        read = scorer.read(
            {
                "taste": float(state.numeric["taste"][i]),
                "age": None if np.isnan(age) else age,
                "country": None if code < 0 else state.categorical["country"].vocabulary[code],
                "vector": state.embedding["vector"][i].astype("<f2").tobytes(),
                "history": [int(token) for token in state.sequence["history"][i] if token >= 0],
                "items": state.sequence["items"][i].tolist(),
            }
        )
        for name, column in taken(inputs, slice(i, i + 1)).items():
            np.testing.assert_array_equal(read[name], column)
            assert read[name].dtype == column.dtype


def test_a_scorer_says_what_it_serves(scorer, folder):
    assert scorer.heads == ("save", "p2p", "click")
    assert scorer.objectives == ("save", "p2p")
    np.testing.assert_array_equal(scorer.actions, SURFACE.actions)
    assert len(scorer.fingerprint) == 64


def test_a_bundle_is_still_a_model_and_the_same_to_the_byte_when_made_again(model, folder, tmp_path):
    from paretune.value.bundle import load_model

    state = make_state(10, np.random.default_rng(1))
    np.testing.assert_array_equal(load_model(folder).values(state, SURFACE.actions), model.values(state, SURFACE.actions))
    save_bundle(model, tmp_path / "again", scale=SCALE)
    assert load_bundle(tmp_path / "again").fingerprint == load_bundle(folder).fingerprint


def test_the_reference_encodes_as_training_does(model):
    for state in (make_state(200, np.random.default_rng(2)), strange_state()):
        for member in model_parts(model).members:
            inputs = state_inputs(state, features_of([member.encoder]))
            np.testing.assert_allclose(wide_columns(inputs, member.encoder, np.float64), member.encoder.wide(state), atol=2e-5)
