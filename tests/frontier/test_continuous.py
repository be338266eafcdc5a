"""Weights between the levels: never worse than the grid by the model's word, never outside the box."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.frontier.continuous import continuous_weights
from paretune.records import State
from paretune.surface.heads import Head, Surface

SURFACE = Surface((Head("save", 5.0, (1.0, 4.0, 10.0)), Head("p2p", 2.0, (1.0, 3.0, 9.0)), Head("hide", -1.0)), k=5)
BOX = np.array([[1.0, 10.0], [1.0, 9.0]])
ONE = np.ones(2)


class Bowl:
    """Two objectives whose best log weights depend on the request."""

    name, objectives = "bowl", ("save", "p2p")

    def values(self, state, actions):
        logs = np.log(actions[:, :2])
        best = np.stack([state.numeric["save"], state.numeric["p2p"]], axis=1)
        miss = np.square(logs[None] - best[:, None]).sum(axis=2)
        return np.stack([1 - 0.3 * miss, 1 - 0.1 * miss + 0.02 * logs[:, 0]], axis=2).astype(np.float32)

    def save(self, folder):
        raise AssertionError(folder)


def requests(n=200, *, spread=1.0):
    rng = np.random.default_rng(0)
    return State({"save": np.log(3) + spread * rng.normal(size=n), "p2p": np.log(4) + spread * rng.normal(size=n)}, {}, {}, {})


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_value_is_never_below_the_best_grid_action_and_the_weights_never_leave_the_box(alpha):
    state, blend = requests(), np.array([alpha, 1 - alpha])
    weights = continuous_weights(Bowl(), state, SURFACE, scalarisation=blend, scale=ONE)
    grid = (Bowl().values(state, SURFACE.actions[1:]) @ blend).max(axis=1)
    own = [Bowl().values(state.take(slice(i, i + 1)), weights[[i]])[0, 0] @ blend for i in range(len(state))]
    assert (np.array(own) >= grid - 1e-6).all()
    assert np.mean(np.array(own) > grid + 1e-3) > 0.5
    assert ((weights[:, :2] >= BOX[:, 0]) & (weights[:, :2] <= BOX[:, 1])).all()
    assert (weights[:, 2] == -1).all()


def test_inside_the_box_the_optimum_is_found():
    state = requests(spread=0.15)
    weights = continuous_weights(Bowl(), state, SURFACE, scalarisation=np.array([1.0, 0.0]), scale=ONE, rounds=5)
    np.testing.assert_allclose(np.log(weights[:, 0]), state.numeric["save"], atol=0.02)
    np.testing.assert_allclose(np.log(weights[:, 1]), state.numeric["p2p"], atol=0.02)


def test_without_a_round_the_best_grid_action_stays():
    weights = continuous_weights(Bowl(), requests(), SURFACE, scalarisation=ONE, scale=ONE, rounds=0)
    assert (SURFACE.index(weights) > 0).all()
