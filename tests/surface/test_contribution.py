"""Head contribution, weight ranges and engagement bins: App. A of the paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.surface.contribution import (
    contribution_sum,
    engagement_bins,
    head_contribution,
    weight_range_curve,
    weight_range_sum,
)


def drawn(seed: int, n: int = 60, m: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, m)), rng.normal(size=m) * 5


def test_contribution_is_equation_eleven_word_for_word() -> None:
    scores, static = drawn(0)
    expected = np.mean(
        [
            [abs(w * h) / sum(abs(v * g) for v, g in zip(static, row, strict=True)) for w, h in zip(static, row, strict=True)]
            for row in scores
        ],
        axis=0,
    )
    np.testing.assert_allclose(head_contribution(scores, static), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.floats(0.01, 100))
def test_chunks_add_up_and_the_unit_of_the_weights_does_not_matter(seed: int, cut: int, unit: float) -> None:
    scores, static = drawn(seed)
    whole = contribution_sum(scores, static)
    parts = contribution_sum(scores[:cut], static * unit) + contribution_sum(scores[cut:], static * unit)
    np.testing.assert_allclose(parts.mean, whole.mean)
    assert whole.mean.sum() == pytest.approx(1)


def test_a_weighted_candidate_counts_as_often_as_its_weight() -> None:
    scores, static = drawn(1, n=5)
    repeats = np.array([0, 1, 3, 2, 1])
    np.testing.assert_allclose(
        head_contribution(scores, static, weights=repeats), head_contribution(np.repeat(scores, repeats, axis=0), static)
    )


def test_a_candidate_without_utility_is_left_out_and_a_log_of_such_is_refused() -> None:
    scores = np.array([[0.2, 0.2], [0.0, 0.0]])
    np.testing.assert_allclose(head_contribution(scores, np.array([3.0, 1.0])), [0.75, 0.25])
    with pytest.raises(DataError, match="utility"):
        head_contribution(scores[1:], np.array([3.0, 1.0]))


def test_logs_longer_than_a_pass_are_summed_over_passes() -> None:
    scores, static = drawn(2, n=70_000, m=2)
    halves = contribution_sum(scores[:1234], static) + contribution_sum(scores[1234:], static)
    np.testing.assert_allclose(head_contribution(scores, static), halves.mean)
    np.testing.assert_allclose(weight_range_curve(scores, static, 0, np.abs(static[:1])), head_contribution(scores, static)[:1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_a_heads_share_rises_with_its_weight_and_passes_through_its_contribution(seed: int, head: int) -> None:
    scores, static = drawn(seed)
    sweep = np.array([0.0, 0.1, 1, 10, 1000]) * abs(static[head])
    curve = weight_range_curve(scores, static, head, sweep)
    assert (np.diff(curve) >= -1e-12).all()
    assert curve[0] == 0
    assert curve[2] == pytest.approx(head_contribution(scores, static)[head])
    parts = weight_range_sum(scores[:17], static, head, sweep) + weight_range_sum(scores[17:], static, head, sweep)
    np.testing.assert_allclose(parts.mean, curve)


def test_two_equal_heads_share_utility_in_proportion_to_their_weights() -> None:
    scores = np.full((10, 2), 0.3)
    np.testing.assert_allclose(weight_range_curve(scores, np.array([1.0, 4.0]), 0, np.array([0, 1, 4, 12])), [0, 0.2, 0.5, 0.75])


@pytest.mark.parametrize(
    "call",
    [
        lambda: head_contribution(np.array([[np.nan, 1.0]]), np.ones(2)),
        lambda: head_contribution(np.ones((3, 2)), np.array([1.0, np.inf])),
        lambda: head_contribution(np.ones((3, 2)), np.ones(3)),
        lambda: head_contribution(np.ones((3, 2)), np.ones(2), weights=np.array([1.0, -1.0, 1.0])),
        lambda: weight_range_curve(np.ones((3, 2)), np.ones(2), 2, np.ones(4)),
        lambda: weight_range_curve(np.ones((3, 2)), np.ones(2), 0, np.array([np.nan])),
        lambda: engagement_bins(np.array([1, 2]), 3),
        lambda: engagement_bins(np.array([1, -2]), 1),
        lambda: engagement_bins(np.array([1, 2]), 2, order=np.array([0.0, np.nan])),
    ],
)
def test_numbers_that_are_no_numbers_and_shapes_that_disagree_are_refused(call: object) -> None:
    with pytest.raises(DataError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.hint


def test_bins_are_of_equal_size_and_show_the_tail() -> None:
    counts = np.array([0, 5, 0, 1, 0, 0, 30, 0, 1, 0])
    found = engagement_bins(counts, 5)
    np.testing.assert_array_equal(found.n_requests, 2)
    np.testing.assert_allclose(found.mean_count, [0, 0, 0, 1, 17.5])
    assert found.at_most_one == 0.8


def test_bins_follow_the_order_they_are_given() -> None:
    np.testing.assert_allclose(engagement_bins(np.array([3, 1, 2, 0]), 2, order=np.array([4.0, 3, 2, 1])).mean_count, [1, 2])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.data())
def test_bins_hold_every_request_once(counts: list[int], data: st.DataObject) -> None:
    bins = data.draw(st.integers(1, len(counts)))
    found = engagement_bins(np.array(counts), bins)
    assert np.ptp(found.n_requests) <= 1
    assert found.mean_count @ found.n_requests == pytest.approx(sum(counts))
