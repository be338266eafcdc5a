"""The exact curve in bounded memory: what is kept of many rows, and where the curve is still exact."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.frontier import curve
from paretune.frontier.curve import CurveSums, HitIntervals, curve_grid, hit_intervals, lift_curve, no_hits, residual_curve, reward_curve
from paretune.frontier.sweep import alpha_grid
from paretune.ope.lift import produced_sums


def rows_of(n: int, seed: int) -> HitIntervals:
    rng = np.random.default_rng(seed)
    values, action = rng.normal(size=(n, 5, 2)), rng.integers(0, 5, n)
    return hit_intervals(
        values, action, propensity=rng.uniform(0.1, 1, n), rewards=rng.random((n, 2)), expected=rng.random((n, 2)).astype(np.float32)
    )


def sums_of(rows: HitIntervals, alphas: np.ndarray, pieces: int = 1, order: np.random.Generator | None = None) -> CurveSums:
    cuts = np.array_split(np.arange(len(rows)), pieces)
    names = ("low", "high", "weight", "reward", "residual")
    parts = [CurveSums(curve_grid(alphas), HitIntervals(*(getattr(rows, name)[cut] for name in names))) for cut in cuts]
    if order is not None:
        parts = [parts[i] for i in order.permutation(pieces)]
    return reduce(add, parts, CurveSums(curve_grid(alphas), no_hits(2)))


@pytest.mark.parametrize("of", [reward_curve, residual_curve])
def test_many_rows_leave_a_curve_that_is_exact_at_every_alpha_of_the_grid(monkeypatch: pytest.MonkeyPatch, of) -> None:
    alphas, rows = alpha_grid(25), rows_of(4_000, 1)
    monkeypatch.setattr(curve, "MOST_ROWS", 100)
    sums = sums_of(rows, alphas)
    assert not sums.exact
    assert len(sums.rows) == 0
    exact, bounded, at = of(rows), of(sums), np.concatenate([alphas, np.linspace(0, 1, curve.GRID + 1)[::97]])
    np.testing.assert_allclose(bounded.at(at), exact.at(at), rtol=1e-9)
    taken = [c.hits[np.searchsorted(c.starts, at, side="right") - 1] for c in (bounded, exact)]
    np.testing.assert_array_equal(*taken)


def test_between_two_alphas_of_the_grid_it_is_what_it_was_at_the_lower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "MOST_ROWS", 10)
    monkeypatch.setattr(curve, "GRID", 8)
    rows = rows_of(500, 2)
    bounded, exact, between = residual_curve(sums_of(rows, alpha_grid(3))), residual_curve(rows), np.linspace(0.001, 0.999, 300)
    np.testing.assert_allclose(bounded.at(between), exact.at(np.floor(between * 8) / 8), rtol=1e-9)
    assert len(bounded.starts) <= 9


@pytest.mark.parametrize("most", [0, 150, 999, 10_000])
def test_what_is_kept_does_not_depend_on_how_the_rows_came(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(curve, "MOST_ROWS", most)
    rows, alphas = rows_of(1_500, 3), alpha_grid(7)
    whole = sums_of(rows, alphas)
    assert whole.exact == (len(rows) <= most)
    for pieces in (2, 9):
        parts = sums_of(rows, alphas, pieces, np.random.default_rng(pieces))
        assert parts.exact == whole.exact
        produced = produced_sums(np.ones((10, 2)), np.zeros(10, np.int64))
        mine, theirs = lift_curve(parts, produced), lift_curve(whole, produced)
        np.testing.assert_array_equal(mine.starts, theirs.starts)
        np.testing.assert_allclose(mine.values, theirs.values, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(mine.hits, theirs.hits)


def test_curves_on_different_grids_do_not_add_up() -> None:
    rows = rows_of(50, 4)
    with pytest.raises(DataError, match="different grids"):
        sums_of(rows, alpha_grid(7)) + sums_of(rows, alpha_grid(11))
