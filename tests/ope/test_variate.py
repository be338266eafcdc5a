"""The list-replay variate: ridge regression through production, whose sums add up."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.ope.variate import PENALTIES, variate_sums


def some_rows(n=4000, seed=0, *, noise=0.3):
    rng = np.random.default_rng(seed)
    wide = rng.normal(size=(n, 3)).astype(np.float32)
    change = rng.normal(size=(n, 2)) * 0.2
    belief = np.stack([0.8 + 0.3 * wide[:, 0], np.full(n, 0.2)], axis=1)
    return wide, change, belief * change + noise * rng.normal(size=(n, 2)), rng.integers(0, 2, n)


def test_without_noise_it_finds_how_far_the_ranker_is_to_be_believed():
    wide, change, residual, half = some_rows(noise=0.0)
    coefficients = variate_sums(wide, change, residual, half=half).solve().coefficients
    np.testing.assert_allclose(coefficients, [[0.8, 0.3, 0, 0], [0.2, 0, 0, 0]], atol=2e-3)


def test_it_is_zero_for_production_and_explains_new_rows():
    wide, change, residual, half = some_rows(20_000, 1)
    variate = variate_sums(wide[:15_000], change[:15_000], residual[:15_000], half=half[:15_000]).solve()
    listed = np.stack([np.full_like(change, 0.3), 0.3 + change], axis=1)[15_000:]
    found = variate.advantages(wide[15_000:], listed)
    assert (found[:, 0] == 0).all()
    before, after = residual[15_000:].var(axis=0), (residual[15_000:] - found[:, 1]).var(axis=0)
    assert (after < before).all()
    assert after[0] < 0.85 * before[0]


def test_parts_add_up_to_the_whole():
    wide, change, residual, half = some_rows(900, 2)
    parts = [variate_sums(wide[a:b], change[a:b], residual[a:b], half=half[a:b]) for a, b in ((0, 100), (100, 640), (640, 900))]
    whole = variate_sums(wide, change, residual, half=half)
    np.testing.assert_allclose((parts[2] + parts[0] + parts[1]).gram, whole.gram, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose((parts[0] + parts[1] + parts[2]).solve().coefficients, whole.solve().coefficients, rtol=1e-6, atol=1e-9)


def test_noise_alone_is_shrunk_away_but_for_the_average_belief():
    rng = np.random.default_rng(3)
    wide, change, _, half = some_rows(600, 3)
    coefficients = variate_sums(wide, change, rng.normal(size=change.shape), half=half).solve().coefficients
    free = np.linalg.lstsq(np.concatenate([np.ones((600, 1)), wide], axis=1) * change[:, :1], rng.normal(size=600), rcond=None)[0]
    assert np.abs(coefficients[:, 1:]).max() < max(0.1, np.abs(free[1:]).max())
    assert tuple(sorted(PENALTIES)) == PENALTIES


def test_a_column_that_never_varies_gets_nothing_and_no_rows_are_refused():
    wide, change, residual, half = some_rows(500, 4)
    wide[:, 1] = 0
    assert variate_sums(wide, change, residual, half=half).solve().coefficients[:, 2] == pytest.approx(0)
    with pytest.raises(DataError, match="no exploration rows"):
        variate_sums(wide[:0], change[:0], residual[:0], half=half[:0])
