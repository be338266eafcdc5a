"""Weights between the levels: never worse than the grid by the model's word, never outside the box."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.config import Config, parse_config
from paretune.errors import DataError
from paretune.frontier.anchor import fit_anchor
from paretune.frontier.continuous import continuous_weights, judge_continuous
from paretune.records import Categorical, Floats, Log, State
from paretune.report.learning_tables import continuous_table
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


FINE = {"low": 1.0, "high": 9.0, "levels": 7, "spacing": "log"}


def fine_config() -> Config:
    heads = [{"name": name, "weight": 3.0, "tune": FINE} for name in ("save", "p2p")]
    objectives = [{"name": name, "column": name} for name in ("save", "p2p")]
    features = {"features": {"numeric": ["save", "p2p"]}, "evaluation": {"replicates": 200, "min_hits": 50}}
    return parse_config({"surface": {"k": 5, "heads": heads}, "objectives": objectives, **features})


class Known:
    """A model that knows a truth whose best log ratio is the request's own, smooth beside the kernel's bandwidth."""

    name, objectives = "known", ("save", "p2p")

    def values(self, state: State, actions: Floats) -> Floats:
        ratio = np.log(actions[:, 0] / actions[:, 1])
        hill = np.exp(-np.square(ratio[None] - state.numeric["save"][:, None]) / 8)
        return np.stack([0.2 + 0.3 * hill, 0.2 + 0.1 * hill], axis=2).astype(np.float32)

    def save(self, folder):
        raise AssertionError(folder)


class OnTheGrid(Known):
    """A model whose best weights are a grid action, whatever the request."""

    def values(self, state: State, actions: Floats) -> Floats:
        level = np.log(np.array([1.0, 9.0]))
        miss = np.square(np.log(actions[:, :2]) - level).sum(axis=1)
        return np.broadcast_to((0.5 - 0.01 * miss)[None, :, None], (len(state), len(actions), 2)).astype(np.float32)


def fine_log(n: int, seed: int) -> Log:
    rng, actions = np.random.default_rng(seed), fine_config().surface.build().actions
    state = State({"save": rng.uniform(-1.5, 1.5, n).astype(np.float32), "p2p": np.zeros(n, np.float32)}, {}, {}, {})
    explored = rng.random(n) < 0.6
    action = np.where(explored, rng.integers(1, len(actions), n), 0).astype(np.int32)
    mean = Known().values(state, actions)[np.arange(n), action]
    ids, user = np.arange(n, dtype=np.uint64), rng.integers(0, n // 3, n).astype(np.uint64)
    propensity = np.where(explored, 1 / (len(actions) - 1), 1.0)
    rewards = (rng.random((n, 2)) < mean).astype(np.float32)
    return Log(
        ids, user, ids, np.zeros(n, np.int32), Categorical(np.zeros(n, np.int32), ("ALL",)), action, propensity, explored, rewards, state
    )


def judged(model, log):
    config = fine_config()
    anchor = fit_anchor(fine_log(4000, 1), config)
    blends = np.array([[1.0, 0.0], [0.3, 0.7]])
    batches = [log.take(slice(0, 7000)), log.take(slice(7000, None))]
    rng = np.random.default_rng(0)
    return judge_continuous(model, batches, config, anchor=anchor, scalarisations=blends, scale=1 / anchor.value, rng=rng)


def test_weights_between_the_levels_are_judged_by_the_log_beside_the_grids():
    log = fine_log(30_000, 2)
    found = judged(Known(), log)
    actions = fine_config().surface.build().actions
    truth = Known().values(log.state, actions)
    best = np.array([0.5, 0.3]) / truth[:, 0].mean(axis=0) - 1  # every request at the top of its hill
    grid = truth[:, 1:].max(axis=1).mean(axis=0) / truth[:, 0].mean(axis=0) - 1
    assert (found.off_grid > 0.9).all()
    assert (np.abs(found.estimate[0] - best) < 4 * found.std_error[0] + 0.02).all()  # the kernel blurs the top by at most this
    assert (np.abs(found.estimate[1] - grid) < 4 * found.std_error[1] + 0.02).all()
    np.testing.assert_allclose(found.estimate[2], found.estimate[0] - found.estimate[1], atol=1e-12)
    assert (found.std_error[2] < found.std_error[0]).all()  # paired: most rows speak for both
    assert (found.low <= found.estimate).all()
    assert (found.estimate <= found.high).all()
    assert found.n_rows == len(log)
    table = continuous_table(found, ("knee", "save-leaning"), minimised=frozenset({"p2p"}))
    assert [row[:2] for row in table.rows] == [
        ("knee", "save"),
        ("", "p2p (lower is better)"),
        ("save-leaning", "save"),
        ("", "p2p (lower is better)"),
    ]


def test_where_the_best_weights_are_on_the_grid_nothing_is_gained_between_the_levels():
    found = judged(OnTheGrid(), fine_log(20_000, 3))
    assert (found.off_grid == 0).all()
    np.testing.assert_allclose(found.estimate[2], 0, atol=1e-6)
    np.testing.assert_allclose(found.effective[0], found.effective[1], rtol=1e-6)


def test_a_log_that_explored_nothing_or_has_no_production_judges_no_weights():
    log = fine_log(9000, 4)
    with pytest.raises(DataError, match="no held-out exploration rows"):
        judged(Known(), log.take(~log.explored))
    with pytest.raises(DataError, match="no production rows"):
        judged(Known(), log.take(log.explored))
