"""Where three objectives make an action the best one, against brute force over scalarisations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError, NoOverlapError
from paretune.frontier import regions
from paretune.frontier.regions import lattice_sums, optimal_regions
from paretune.frontier.sweep import choose, simplex_grid
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, produced_sums

shapes = st.tuples(st.integers(1, 30), st.integers(1, 14), st.integers(0, 2**32 - 1))


def drawn(shape):
    n, n_actions, seed = shape
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_actions, 3)), rng.integers(0, n_actions, n), rng


def batch(n=400, n_actions=9, seed=5):
    values, action, rng = drawn((n, n_actions, seed))
    return {
        "values": values.astype(np.float32),
        "action": action,
        "propensity": rng.uniform(0.1, 1, n),
        "rewards": rng.random((n, 3)),
        "expected": rng.random((n, 3)),
    }


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_a_point_lies_in_the_region_exactly_when_the_action_is_the_argmax_there(shape):
    values, action, rng = drawn(shape)
    points = rng.dirichlet(np.ones(3), 50)
    wanted = np.einsum("nkm,pm->npk", values, points).argmax(axis=2) == action[:, None]
    found = np.zeros_like(wanted)
    part = optimal_regions(values, action)
    found[part.row] = part.contains(points)
    np.testing.assert_array_equal(found, wanted)


@settings(max_examples=30, deadline=None)
@given(shapes)
def test_the_regions_of_all_actions_tile_the_simplex(shape):
    values = drawn(shape)[0]
    area = np.zeros(shape[0])
    for action in range(shape[1]):
        part = optimal_regions(values, np.full(shape[0], action))
        x, y = part.corners[:, :, 0], part.corners[:, :, 1]
        area[part.row] += (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1) / 2
    np.testing.assert_allclose(area, 0.5)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("divisions", [1, 4, 24])
def test_lattice_sums_equal_the_sweep_over_every_point(monkeypatch, fast, divisions):
    if fast:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(regions, "compiled", None)
    rows, grid, rng = batch(), simplex_grid(3, divisions), np.random.default_rng(1)
    hits = choose(rows["values"].astype(float), grid, allowed=np.arange(9)) == rows["action"][:, None]
    sums = lattice_sums(**rows, divisions=divisions)
    np.testing.assert_array_equal(sums.hits, hits.sum(axis=0))
    cluster = rng.integers(0, 8, len(hits))
    produced = produced_sums(rows["rewards"] + 1, cluster, clusters=8, expected=rows["expected"])
    explored = explored_sums(rows["rewards"], rows["propensity"], hits, cluster, clusters=8, expected=rows["expected"])
    np.testing.assert_allclose(sums.lifts(produced), anchored_lift(AnchoredSums(explored, produced)).value, rtol=1e-9)
    weight = hits / rows["propensity"][:, None]
    np.testing.assert_allclose(sums.rewards(), weight.T @ rows["rewards"] / weight.sum(axis=0)[:, None])


@pytest.mark.parametrize("fast", [True, False])
def test_of_equal_actions_the_first_has_the_region(monkeypatch, fast):
    if fast:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(regions, "compiled", None)
    values = np.ones((3, 4, 3))
    for action, hits in ((0, 3), (2, 0)):
        sums = lattice_sums(values, np.full(3, action), divisions=5, propensity=np.ones(3), rewards=np.ones((3, 3)))
        assert (sums.hits == hits).all()
        assert len(optimal_regions(values, np.full(3, action)).row) == hits
    with pytest.raises(NoOverlapError):
        sums.rewards()


def test_batches_add_up_on_one_lattice_only():
    rows = batch()
    first, second = ({name: column[part] for name, column in rows.items()} for part in (slice(0, 150), slice(150, None)))
    merged = lattice_sums(**first, divisions=6) + lattice_sums(**second, divisions=6)
    np.testing.assert_allclose(merged.sums, lattice_sums(**rows, divisions=6).sums)
    with pytest.raises(DataError, match="one lattice"):
        merged + lattice_sums(**rows, divisions=5)


def test_an_empty_batch_has_empty_sums():
    rows = {name: column[:0] for name, column in batch().items()}
    assert not lattice_sums(**rows, divisions=3).sums.any()


def test_values_of_two_objectives_are_refused():
    with pytest.raises(DataError, match="3 objectives"):
        optimal_regions(np.zeros((2, 4, 2)), np.zeros(2, int))
