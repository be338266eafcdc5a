"""The constrained optimum by its dual, against a linear programme over all mixed policies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from paretune.errors import DataError
from paretune.frontier.dual import dual_scalarisations, floor_multipliers


def values_of(n=200, n_actions=6, objectives=3, seed=0):
    rng = np.random.default_rng(seed)
    values = 1 + 0.1 * rng.normal(size=(n, n_actions, objectives))
    values[:, 0] = 1
    return values


def earned(values, weights):
    chosen = 1 + (values[:, 1:] @ weights).argmax(axis=1)
    return values[np.arange(len(values)), chosen].mean(axis=0)


def best_by_programme(values, floors):
    """The largest first total that any policy, also one that draws its action, can reach within the floors."""
    n, n_actions, _ = values[:, 1:].shape
    flat = values[:, 1:].reshape(n * n_actions, -1) / n
    one_each = np.kron(np.eye(n), np.ones(n_actions))
    found = linprog(-flat[:, 0], A_ub=-flat[:, 1:].T, b_ub=-(1 + floors[1:]), A_eq=one_each, b_eq=np.ones(n), bounds=(0, 1))
    return -found.fun


@pytest.mark.parametrize("seed", range(4))
def test_the_dual_reaches_the_best_policy_within_the_floors(seed):
    values, floors = values_of(seed=seed), np.array([0.0, 0.04, 0.02])
    weights = floor_multipliers(values, floors=floors)
    found, best = earned(values, weights), best_by_programme(values, floors)
    dual = np.einsum("nkm,m->nk", values[:, 1:], weights).max(axis=1).mean() - weights[1:] @ (1 + floors[1:])
    assert dual == pytest.approx(best, abs=1e-4)  # no gap
    assert (found[1:] > 1 + floors[1:] - 0.003).all()  # one request is a step of the totals
    assert found[0] == pytest.approx(best, abs=0.003)


def test_floors_that_do_not_bind_leave_the_target_alone():
    weights = floor_multipliers(values_of(), floors=np.array([0.0, -1.0, -1.0]))
    np.testing.assert_array_equal(weights, [1, 0, 0])
    np.testing.assert_array_equal(floor_multipliers(values_of(objectives=1), floors=np.zeros(1)), [1])


def test_tighter_floors_weigh_more_and_each_proposal_comes_once():
    proposals = dual_scalarisations(values_of(), floors=np.array([0.0, 0.03, 0.03]), margins=(0.0, 0.01, 0.02, 0.02))
    np.testing.assert_allclose(proposals.sum(axis=1), 1)
    assert len(proposals) == 3
    assert (np.diff(proposals[:, 0]) < 0).all()


def test_a_floor_out_of_reach_takes_the_largest_multiplier():
    assert floor_multipliers(values_of(), floors=np.array([0.0, 9.0, -1.0]))[1] == pytest.approx(50)


def test_values_that_are_missing_are_refused():
    with pytest.raises(DataError):
        floor_multipliers(np.empty((0, 3, 2)), floors=np.zeros(2))
