"""Windows as sums: parts add up to the whole, JSON gives back what was kept, bins do what they say."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from drifted import ROWS, config_of, reference_of, rows_after, rows_before
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import ArtefactError, DataError
from paretune.monitor.bins import NumberBins, WordBins, listed_scores
from paretune.monitor.drift import compare
from paretune.monitor.watch import take_reference, take_window
from paretune.monitor.window import HeadSums, Window, WindowSums, window_from, window_plain
from paretune.records import Candidates, Categorical, Log, State
from paretune.seeds import stream
from paretune.sim.drifting import Disturbance
from paretune.surface.contribution import head_contribution

UNTOUCHED = Disturbance(0)


def assert_same(first: WindowSums, second: WindowSums) -> None:
    for name in WindowSums.__slots__:
        one, other = getattr(first, name), getattr(second, name)
        pairs = [(getattr(one, part), getattr(other, part)) for part in HeadSums.__slots__] if name == "heads" else [(one, other)]
        for left, right in pairs:
            np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9, err_msg=name)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, ROWS // 2 - 1), min_size=1, max_size=4, unique=True), st.randoms(use_true_random=False))
def test_any_split_of_a_window_in_any_order_adds_up_to_the_whole(cuts: list[int], chance: object) -> None:
    reference, log = reference_of(0), rows_after(0, UNTOUCHED)
    whole, _ = take_window([log], reference)
    edges = [0, *sorted(cuts), len(log)]
    parts = [log.take(slice(start, stop)) for start, stop in pairwise(edges)]
    chance.shuffle(parts)  # type: ignore[attr-defined]
    split, _ = take_window(parts, reference)
    assert_same(whole.sums, split.sums)
    assert split.days == whole.days


def test_a_reference_kept_as_json_says_the_same_of_a_current_window() -> None:
    reference = reference_of(0)
    kept = window_from(json.loads(json.dumps(window_plain(reference))))
    assert_same(reference.sums, kept.sums)
    assert replace(kept, sums=reference.sums, static=reference.static, ranges=reference.ranges) == reference
    current, _ = take_window([rows_after(0, UNTOUCHED)], kept)
    first, second = (compare(each, current) for each in (reference, kept))
    assert [(f.aspect, f.name) for f in first.findings] == [(f.aspect, f.name) for f in second.findings]
    np.testing.assert_allclose([f.size for f in first.findings], [f.size for f in second.findings], atol=1e-9)


def test_a_kept_reference_holds_no_user_and_no_row() -> None:
    log, text = rows_before(0), json.dumps(window_plain(reference_of(0)))
    assert not any(str(user) in text for user in log.user[:200].tolist())
    assert len(text) < 2_000_000


def test_another_format_or_a_torn_reference_is_refused() -> None:
    plain = window_plain(reference_of(0))
    with pytest.raises(ArtefactError, match="format 99"):
        window_from(plain | {"format": 99})
    with pytest.raises(ArtefactError, match="cannot be read"):
        window_from({key: value for key, value in plain.items() if key != "sums"})


def test_contribution_shares_of_a_window_are_those_of_the_listed_items_word_for_word() -> None:
    log, reference = rows_before(0), reference_of(0)
    explored = log.take(log.explored)
    assert explored.candidates is not None
    _, sizes = listed_scores(explored.candidates, reference.static, reference.k)
    per_item = head_contribution(np.exp(sizes).reshape(-1, len(reference.heads)), reference.static)
    heads = reference.sums.heads
    np.testing.assert_allclose(heads.share.sum(axis=0) / heads.rows.sum(), per_item, rtol=1e-9)


def test_listed_items_are_those_of_largest_utility() -> None:
    rng = stream(0, "listed")
    scores = rng.random((12, 2))
    candidates = Candidates(np.array([0, 2, 12]), np.arange(12), scores)
    rows, sizes = listed_scores(candidates, np.array([1.0, 2.0]), 3)
    assert rows.tolist() == [1]  # the first row has fewer than three
    best = 2 + np.argsort(-(scores[2:] @ [1.0, 2.0]))[:3]
    np.testing.assert_allclose(sizes[0], np.log(scores[best]), rtol=1e-6)


def test_moments_of_predictions_and_counts_of_rows_are_the_sums_over_production() -> None:
    log, sums = rows_before(0), reference_of(0).sums
    made = log.take(log.produced)
    r, h = made.rewards.astype(float), np.asarray(made.predicted, dtype=float)
    expected = [len(made) * np.ones(2), r.sum(0), h.sum(0), (r * h).sum(0), (h * h).sum(0)]
    np.testing.assert_allclose(sums.predicted.sum(axis=0).T, expected, rtol=1e-9)
    np.testing.assert_allclose(sums.reward.sum(axis=0), r.sum(axis=0))
    assert sums.rows.sum() == len(log)
    assert sums.drawn[0].sum() == log.explored.sum()
    np.testing.assert_allclose(sums.drawn[1], sums.drawn[0] * 49)


def test_every_feature_is_counted_once_per_row_and_sequences_once_per_token() -> None:
    log, reference = rows_before(0), reference_of(0)
    start = 0
    for name, size in reference.bins.state:
        tokens = log.state.sequence[name].shape[1] if name in log.state.sequence else 1
        assert reference.sums.state[:, start : start + size].sum() == len(log) * tokens, name
        start += size
    assert start == reference.sums.state.shape[1]


def test_numbers_fall_between_edges_and_missing_ones_apart() -> None:
    bins = NumberBins("x", (0.0, 1.0))
    assert bins.codes(np.array([-5.0, 0.0, 0.5, 1.0, 9.0, np.nan])).tolist() == [0, 1, 1, 2, 2, 3]
    assert bins.size == 4


def test_words_and_tokens_that_were_not_kept_are_other_and_missing_ones_apart() -> None:
    words = WordBins("country", ("DE", "FR"))
    assert words.codes(Categorical(np.array([0, 1, 2, -1]), ("FR", "US", "DE"))).tolist() == [1, 2, 0, 3]
    tokens = WordBins("history", ("7", "3"))
    assert tokens.token_codes(np.array([[3, 7], [5, -1]])).tolist() == [[1, 0], [2, 3]]
    assert WordBins("history", ()).token_codes(np.array([[3, -1]])).tolist() == [[0, 1]]


def test_a_window_without_rows_or_without_a_watched_feature_is_refused() -> None:
    reference, log = reference_of(0), rows_after(0, UNTOUCHED)
    with pytest.raises(DataError, match="no rows"):
        take_reference(lambda: [log.take(slice(0, 0))], config_of())
    with pytest.raises(DataError, match="no rows"):
        take_window([], reference)
    lacking = State(log.state.numeric, log.state.categorical, {}, log.state.sequence)
    with pytest.raises(DataError, match="user_embedding"):
        take_window([replace(log, state=lacking)], reference)


def test_a_log_without_candidates_predictions_or_a_policy_says_what_was_not_compared() -> None:
    log = replace(rows_before(0), candidates=None, predicted=None)
    reference = take_reference(lambda: [log], config_of())
    current, listed = take_window([replace(rows_after(0, UNTOUCHED), candidates=None, predicted=None)], reference)
    assert len(listed.user) == 0
    drift = compare(reference, current)
    assert {each.aspect for each in drift.findings} == {"state", "reward", "exploration"}
    assert len(drift.notes) == 4


def test_windows_of_other_heads_or_bins_are_not_compared() -> None:
    reference = reference_of(0)
    other = replace(reference, heads=("a",))
    with pytest.raises(DataError, match="differ in their heads"):
        compare(reference, other)


def test_a_reference_of_a_wide_embedding_watches_some_dimensions() -> None:
    rng = stream(0, "wide")
    n = 500
    base = rows_before(0).take(slice(0, n))
    wide: Log = replace(base, candidates=None, state=State({}, {}, {"e": rng.normal(size=(n, 300)).astype(np.float32)}, {}))
    window: Window = take_reference(lambda: [wide], config_of())
    assert len(window.bins.numbers) == 32
    assert window.bins.numbers[-1].name == "e[299]"
