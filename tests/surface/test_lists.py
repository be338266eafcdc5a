"""What a weight vector does to a list: laws, definitions, and that numba and numpy agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.records import Candidates, Floats, Ints
from paretune.surface import lists as lists_module
from paretune.surface.lists import examination, list_union, list_values, top_lists, utility

needs_numba = pytest.mark.skipif(lists_module.compiled is None, reason="numba is not installed")


@pytest.fixture(params=["numpy", pytest.param("numba", marks=needs_numba)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(lists_module, "compiled", None)
    return request.param


def ragged(seed: int, *, rows: int = 6, longest: int = 12, m: int = 3, exact: bool = True) -> Candidates:
    """Candidates with short and empty rows; exact scores are multiples of 1/16, so that float32 sums do not round and ties abound."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, longest + 1, size=rows))])
    scores = rng.integers(0, 17, size=(offsets[-1], m)) / 16 if exact else rng.uniform(size=(offsets[-1], m))
    return Candidates(offsets, rng.integers(0, 1000, size=offsets[-1]), scores.astype(np.float32))


def by_definition(candidates: Candidates, actions: Floats, k: int) -> Ints:
    """Sort by (-utility, position), one row and action at a time."""
    lists = np.full((len(candidates), len(actions), k), -1)
    for row in range(len(candidates)):
        scores = candidates.scores[candidates.offsets[row] : candidates.offsets[row + 1]].astype(np.float64)
        for action, weights in enumerate(actions):
            best = sorted(range(len(scores)), key=lambda x: (-float(scores[x] @ weights), x))[:k]
            lists[row, action, : len(best)] = best
    return lists


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [1, 4, 15])
def test_lists_equal_their_definition_with_ties_by_candidate_order(backend: str, seed: int, k: int) -> None:
    candidates = ragged(seed)
    actions = np.random.default_rng(seed).integers(-3, 9, size=(7, 3)).astype(float)
    np.testing.assert_array_equal(top_lists(candidates, actions, k), by_definition(candidates, actions, k))


def test_equal_scores_are_served_in_candidate_order(backend: str) -> None:
    candidates = Candidates(np.array([0, 6]), np.arange(6), np.full((6, 2), 0.25, np.float32))
    served = top_lists(candidates, np.array([[1.0, 2.0], [0.0, 0.0], [5.0, -1.0]]), 4)
    np.testing.assert_array_equal(served[0], [[0, 1, 2, 3]] * 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.125, 0.5, 2, 3, 5, 64]))
def test_scaling_all_weights_leaves_every_list_unchanged(seed: int, scale: float) -> None:
    candidates = ragged(seed)
    actions = np.random.default_rng(seed).integers(1, 9, size=(5, 3)).astype(float)
    np.testing.assert_array_equal(top_lists(candidates, actions * scale, 5), top_lists(candidates, actions, 5))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_rows_do_not_depend_on_each_other(seed: int) -> None:
    candidates = ragged(seed)
    actions = np.random.default_rng(seed).integers(1, 9, size=(4, 3)).astype(float)
    order = np.random.default_rng(seed + 1).permutation(len(candidates))
    shuffled = candidates.take(order)
    whole = top_lists(candidates, actions, 5)
    np.testing.assert_array_equal(top_lists(shuffled, actions, 5), whole[order])
    np.testing.assert_array_equal(list_values(shuffled, whole[order], (0, 2)), list_values(candidates, whole, (0, 2))[order])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_a_shorter_list_is_the_start_of_a_longer_one(seed: int, k: int) -> None:
    candidates = ragged(seed)
    actions = np.random.default_rng(seed).integers(-2, 9, size=(4, 3)).astype(float)
    np.testing.assert_array_equal(top_lists(candidates, actions, k + 3)[:, :, :k], top_lists(candidates, actions, k))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_union_of_all_lists_is_enough_to_find_every_list_again(seed: int) -> None:
    candidates = ragged(seed, rows=4, longest=20)
    actions = np.random.default_rng(seed).integers(1, 9, size=(6, 3)).astype(float)
    lists = top_lists(candidates, actions, 4)
    width = int(np.diff(candidates.offsets).max(initial=0))
    kept = list_union(lists, width)
    for row in range(len(candidates)):
        items = np.flatnonzero(kept[row])
        assert set(items) == set(lists[row][lists[row] >= 0].ravel())
        first = candidates.offsets[row]
        logged = Candidates(np.array([0, len(items)]), candidates.ids[first + items], candidates.scores[first + items])
        again = top_lists(logged, actions, 4)[0]
        np.testing.assert_array_equal(np.where(again >= 0, np.append(items, -1)[again], -1), lists[row])


@needs_numba
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_numba_and_numpy_give_the_same_lists_and_list_values(seed: int, k: int) -> None:
    candidates = ragged(seed)
    actions = np.random.default_rng(seed).integers(-4, 9, size=(9, 3)).astype(float)
    with pytest.MonkeyPatch.context() as patch:
        fast = top_lists(candidates, actions, k)
        fast_values = list_values(candidates, fast, (2, 0))
        patch.setattr(lists_module, "compiled", None)
        slow = top_lists(candidates, actions, k)
        slow_values = list_values(candidates, slow, (2, 0))
    assert fast.dtype == slow.dtype == np.int16
    assert fast_values.dtype == slow_values.dtype == np.float32
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_allclose(fast_values, slow_values, atol=1e-6)


@needs_numba
def test_where_float32_sums_round_numba_and_numpy_differ_only_between_items_of_equal_utility(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = ragged(5, rows=40, longest=60, m=6, exact=False)
    actions = np.random.default_rng(5).uniform(0.5, 100, size=(50, 6))
    fast = top_lists(candidates, actions, 10)
    monkeypatch.setattr(lists_module, "compiled", None)
    slow = top_lists(candidates, actions, 10)
    for row, action, slot in np.argwhere(fast != slow):
        first = candidates.offsets[row]
        pair = candidates.scores[[first + fast[row, action, slot], first + slow[row, action, slot]]].astype(np.float64) @ actions[action]
        assert pair[0] == pytest.approx(pair[1], rel=1e-6)


def test_a_nan_score_is_refused_and_its_row_named(backend: str) -> None:
    candidates = ragged(1)
    item = int(candidates.offsets[3])
    candidates.scores[item, 1] = np.nan
    row = int(np.searchsorted(candidates.offsets, item, side="right") - 1)
    with pytest.raises(DataError, match=f"row {row}\\b"):
        top_lists(candidates, np.ones((2, 3)), 3)
    with pytest.raises(DataError, match="NaN"):
        utility(candidates.scores, np.ones(3))


def test_utility_is_equation_one() -> None:
    scores = np.array([[0.5, 0.25], [1.0, 0.0]])
    np.testing.assert_allclose(utility(scores, np.array([2.0, 4.0])), [2.0, 2.0])
    np.testing.assert_allclose(utility(scores, np.array([[2.0, 4.0], [0.0, 1.0]])), [[2.0, 0.25], [2.0, 0.0]])


@pytest.mark.parametrize("seed", range(4))
def test_list_values_equal_their_definition(backend: str, seed: int) -> None:
    candidates = ragged(seed)
    actions = np.random.default_rng(seed).integers(1, 9, size=(4, 3)).astype(float)
    lists = top_lists(candidates, actions, 5)
    values = list_values(candidates, lists, (1, 2))
    for row in range(len(candidates)):
        for action in range(4):
            for j, head in enumerate((1, 2)):
                miss = 1.0
                for slot, item in enumerate(lists[row, action]):
                    if item >= 0:
                        miss *= 1 - 0.85**slot * float(candidates.scores[candidates.offsets[row] + item, head])
                assert values[row, action, j] == pytest.approx(1 - miss, abs=1e-6)


def test_no_candidates_means_an_empty_list_of_value_zero(backend: str) -> None:
    candidates = Candidates(np.array([0, 0, 1]), np.array([7]), np.array([[0.5, 0.5]], np.float32))
    lists = top_lists(candidates, np.ones((2, 2)), 3)
    np.testing.assert_array_equal(lists[0], -1)
    np.testing.assert_array_equal(lists[1], [[0, -1, -1]] * 2)
    np.testing.assert_allclose(list_values(candidates, lists, (0,))[:, 0, 0], [0, 0.5])


def test_examination_falls_by_the_same_factor_at_every_position() -> None:
    np.testing.assert_allclose(examination(4), [1, 0.85, 0.85**2, 0.85**3])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_list_values_lie_in_zero_one_and_rise_with_the_scores(seed: int) -> None:
    candidates = ragged(seed)
    lists = top_lists(candidates, np.ones((1, 3)), 6)
    values = list_values(candidates, lists, (0, 1, 2))
    higher = Candidates(candidates.offsets, candidates.ids, np.minimum(candidates.scores + np.float32(1 / 16), 1))
    assert ((values >= 0) & (values <= 1)).all()
    assert (list_values(higher, lists, (0, 1, 2)) >= values - 1e-6).all()


def test_the_union_of_no_rows_is_empty() -> None:
    assert list_union(np.empty((0, 5, 3), np.int16), 7).shape == (0, 7)
