"""Blending: the order of a stable sort, without sorting everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.serving.blend import blend


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 80), st.integers(0, 10_000))
def test_the_order_is_that_of_a_stable_sort(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, weights = rng.integers(0, 3, (n, m)).astype(np.float32), rng.integers(-2, 3, m).astype(np.float32)
    np.testing.assert_array_equal(blend(scores, weights, k), np.argsort(-(scores @ weights), kind="stable")[:k])


def test_2000_candidates_of_10_heads_are_ordered_as_by_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, weights = rng.random((2000, 10), dtype=np.float32), rng.random(10, dtype=np.float32)
        np.testing.assert_array_equal(blend(scores, weights, 25), np.argsort(scores @ -weights, kind="stable")[:25])


@pytest.mark.parametrize("at", [0, 3, 99])
def test_a_missing_score_is_refused_wherever_it_is(at: int) -> None:
    scores = np.ones((100, 2), dtype=np.float32)
    scores[at, 1] = np.nan
    with pytest.raises(DataError, match=f"candidate {at} is NaN"):
        blend(scores, np.ones(2, np.float32), 25)


def test_infinite_utilities_are_ordered() -> None:
    scores = np.array([[1.0], [np.inf], [-np.inf], [2.0]])
    np.testing.assert_array_equal(blend(scores, np.ones(1), 3), [1, 3, 0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    for scores, weights, k in ((np.ones((3, 2)), np.ones(3), 1), (np.ones(3), np.ones(3), 1), (np.ones((3, 2)), np.ones(2), 0)):
        with pytest.raises(DataError, match="shape"):
            blend(scores, weights, k)
