"""The stability index: closed forms, its law under no change, and the control of false discoveries."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.monitor.psi import CLUSTERS, discoveries, shift_between, stability_index
from paretune.seeds import stream


def counted(bins: np.ndarray, cluster: np.ndarray, *, size: int) -> np.ndarray:
    return np.bincount(cluster * size + bins, minlength=CLUSTERS * size).reshape(CLUSTERS, size).astype(float)


def test_the_index_of_two_coins_is_the_closed_form() -> None:
    expected = 0.1 * log(0.6 / 0.5) + (-0.1) * log(0.4 / 0.5)
    assert stability_index(np.array([0.5, 0.5]), np.array([0.6, 0.4])) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.lists(st.floats(0.01, 1), min_size=8, max_size=8))
def test_the_index_is_never_negative_symmetric_and_zero_only_for_equals(first: list[float], second: list[float]) -> None:
    p = np.array(first) / sum(first)
    q = np.array(second[: len(first)]) / sum(second[: len(first)])
    assert stability_index(p, q) >= 0
    assert stability_index(p, q) == pytest.approx(stability_index(q, p), abs=1e-12)
    assert stability_index(p, p) == 0


def test_the_noise_of_independent_rows_is_bins_less_one_over_the_sample_sizes() -> None:
    rng, n, m, size = stream(0, "psi"), 40_000, 20_000, 10
    old, new = rng.integers(0, size, n), rng.integers(0, size, m)
    shift = shift_between(counted(old, rng.integers(0, CLUSTERS, n), size=size), counted(new, rng.integers(0, CLUSTERS, m), size=size))
    assert shift.noise == pytest.approx((size - 1) * (1 / n + 1 / m), rel=0.15)


def test_under_no_change_small_p_values_are_as_rare_as_they_say_with_users_who_repeat_themselves() -> None:
    """Each user always shows the same bin: rows are five to a user, users come in both windows, and the plain test alarms far too often."""
    rng, size, below, plain = stream(1, "psi"), 8, 0, 0
    rounds = 400
    for _ in range(rounds):
        users = 2_000
        own = rng.integers(0, size, users)
        old, new = rng.choice(users, 3_000), rng.choice(users // 2, 1_500)
        new = np.repeat(new, 5)
        shift = shift_between(counted(own[old], old % CLUSTERS, size=size), counted(own[new], new % CLUSTERS, size=size))
        below += shift.p_value < 0.05
        plain += shift.psi > 14.07 * (1 / 3_000 + 1 / 7_500)
    assert below / rounds == pytest.approx(0.05, abs=0.03)
    assert plain / rounds > 0.5


def test_a_shift_is_found_and_its_size_is_that_of_the_distributions() -> None:
    rng, size = stream(2, "psi"), 4
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.25, 0.25, 0.25, 0.25])
    old, new = rng.choice(size, 20_000, p=p), rng.choice(size, 20_000, p=q)
    shift = shift_between(counted(old, np.arange(20_000) % CLUSTERS, size=size), counted(new, np.arange(20_000) % CLUSTERS, size=size))
    assert shift.psi == pytest.approx(stability_index(p, q), rel=0.1)
    assert shift.p_value < 1e-10
    np.testing.assert_allclose(shift.reference, p, atol=0.02)


def test_a_category_that_was_never_there_before_counts_without_being_infinite() -> None:
    before, now = np.zeros((CLUSTERS, 3)), np.zeros((CLUSTERS, 3))
    before[:, :2] = 10
    now[:, :] = 10
    shift = shift_between(before, now)
    assert np.isfinite(shift.psi)
    assert shift.excess > 1


def test_many_categories_of_a_few_rows_are_counted_as_one() -> None:
    rng = stream(3, "psi")
    before, now = (np.zeros((CLUSTERS, 1_000)) for _ in range(2))
    before[:, 0] = now[:, 0] = 40
    for counts, start in ((before, 1), (now, 500)):
        counts[rng.integers(0, CLUSTERS, 499), np.arange(start, start + 499)] = 1  # nobody is in the same rare bin twice
    assert shift_between(before, now).p_value > 0.05


def test_an_empty_window_or_one_bin_is_no_shift() -> None:
    full = np.full((CLUSTERS, 3), 5.0)
    assert shift_between(full, np.zeros_like(full)).p_value == 1
    assert shift_between(full[:, :1], full[:, :1]).psi == 0


def test_windows_counted_in_other_bins_are_refused() -> None:
    with pytest.raises(DataError, match="no common bins"):
        shift_between(np.ones((CLUSTERS, 3)), np.ones((CLUSTERS, 4)))


def test_discoveries_are_those_of_the_step_up_rule_word_for_word() -> None:
    p = np.array([0.010, 0.001, 0.5, 0.041, 0.039])
    assert discoveries(p, level=0.05).tolist() == [True, True, False, False, False]  # 0.039 > 3/5 of 0.05, 0.041 > 4/5 of it
    assert discoveries(np.array([0.04, 0.045]), level=0.05).tolist() == [True, True]  # the larger one carries the smaller one
    assert not discoveries(np.array([]), level=0.05).size


def test_where_nothing_moved_any_discovery_is_as_rare_as_the_level() -> None:
    rng = stream(4, "psi")
    any_found = np.mean([discoveries(rng.random(40), level=0.05).any() for _ in range(2_000)])
    assert any_found == pytest.approx(0.05, abs=0.015)
