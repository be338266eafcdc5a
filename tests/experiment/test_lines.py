"""Lines through points with errors both ways: closed forms, laws, and how often the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, norm
from scipy.stats import t as student

from paretune.errors import DataError
from paretune.experiment.lines import Points, fitted_line

FIVE = Points(
    np.array([1.0, 2.0, 3.0, 4.0, 6.0]), np.array([1.1, 1.7, 3.6, 3.9, 5.5]), np.full(5, 0.3), np.array([0.2, 0.3, 0.4, 0.3, 0.5])
)


def without_errors_of_x(points: Points) -> Points:
    return Points(points.x, points.y, np.zeros(len(points.x)), np.full(len(points.x), 1e-3))


def test_without_errors_of_x_it_is_least_squares_and_its_t_interval() -> None:
    found, known = fitted_line(without_errors_of_x(FIVE), through_origin=False), linregress(FIVE.x, FIVE.y)
    half = student.ppf(0.975, 3) * known.stderr
    assert (found.slope, found.intercept) == pytest.approx((known.slope, known.intercept), rel=1e-7)
    assert (found.low, found.high) == pytest.approx((known.slope - half, known.slope + half), rel=1e-7)


def test_through_the_origin_without_errors_of_x_it_is_sum_xy_over_sum_xx() -> None:
    found = fitted_line(without_errors_of_x(FIVE), through_origin=True)
    slope = FIVE.x @ FIVE.y / (FIVE.x @ FIVE.x)
    half = student.ppf(0.975, 4) * np.sqrt(np.square(FIVE.y - slope * FIVE.x).sum() / 4 / (FIVE.x @ FIVE.x))
    assert (found.slope, found.low, found.high) == pytest.approx((slope, slope - half, slope + half), rel=1e-7)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 9.0])
def test_equal_errors_give_deming_s_line_in_closed_form(ratio: float) -> None:
    """Ratio is var(y's errors) / var(x's)."""
    x, y = FIVE.x, FIVE.y
    xx, yy, xy = np.var(x), np.var(y), np.mean((x - x.mean()) * (y - y.mean()))
    slope = (yy - ratio * xx + np.sqrt((yy - ratio * xx) ** 2 + 4 * ratio * xy**2)) / (2 * xy)
    found = fitted_line(Points(x, y, np.full(5, 0.1), np.full(5, 0.1 * np.sqrt(ratio))), through_origin=False)
    assert found.slope == pytest.approx(slope, rel=1e-7)
    assert found.intercept == pytest.approx(y.mean() - slope * x.mean(), rel=1e-7)
    if ratio == 1.0:
        assert fitted_line(Points(x, y, None, None), through_origin=False).slope == pytest.approx(slope, rel=1e-7)


def test_one_point_through_the_origin_has_fieller_s_interval() -> None:
    x, y, sx, sy = 3.0, 2.0, 0.5, 0.4
    z = norm.ppf(0.975)
    a, b, c = x**2 - z**2 * sx**2, -2 * x * y, y**2 - z**2 * sy**2
    ends = np.sort(np.roots([a, b, c]))
    found = fitted_line(Points(*(np.array([each]) for each in (x, y, sx, sy))), through_origin=True)
    assert (found.slope, found.low, found.high) == pytest.approx((y / x, *ends), rel=1e-6)


def test_where_x_may_be_nothing_but_errors_any_slope_fits() -> None:
    found = fitted_line(Points(np.array([0.1]), np.array([2.0]), np.array([0.5]), np.array([0.4])), through_origin=True)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_york_s_data_have_york_s_line() -> None:
    """Pearson's data with York's weights, the classical example: York (1966), slope -0.4805, intercept 5.4799, misfit 11.866."""
    x = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
    y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
    wx = np.array([1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1.0])
    wy = np.array([1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500.0])
    found = fitted_line(Points(x, y, wx**-0.5, wy**-0.5), through_origin=False)
    assert (found.slope, found.intercept, found.misfit) == pytest.approx((-0.48053, 5.47991, 11.86635), abs=1e-5)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.sampled_from([-1, 1]), st.sampled_from([-1, 1]), st.booleans())
def test_units_and_signs_change_the_slope_as_they_should(a: float, b: float, one: int, other: int, through_origin: bool) -> None:
    plain = fitted_line(FIVE, through_origin=through_origin)
    found = fitted_line(
        Points(one * a * FIVE.x, other * b * FIVE.y, a * FIVE.x_error, b * FIVE.y_error),  # type: ignore[operator]
        through_origin=through_origin,
    )
    factor = one * other * b / a
    ends = sorted((plain.low * factor, plain.high * factor))
    assert (found.slope, found.low, found.high) == pytest.approx((plain.slope * factor, *ends), rel=1e-6)
    assert found.intercept == pytest.approx(other * b * plain.intercept, rel=1e-6, abs=1e-9 * b)
    assert found.misfit == pytest.approx(plain.misfit, rel=1e-6)


def test_swapping_the_axes_gives_the_same_line() -> None:
    plain = fitted_line(FIVE, through_origin=False)
    turned = fitted_line(Points(FIVE.y, FIVE.x, FIVE.y_error, FIVE.x_error), through_origin=False)
    assert (turned.slope, turned.low, turned.high) == pytest.approx((1 / plain.slope, 1 / plain.high, 1 / plain.low), rel=1e-6)


def test_too_few_points_have_no_line() -> None:
    none = Points(*(np.array([], float) for _ in range(4)))
    one = Points(*(np.array([1.0]) for _ in range(4)))
    assert np.isnan(fitted_line(none, through_origin=True).slope)
    assert np.isnan(fitted_line(one, through_origin=False).slope)
    alone = fitted_line(Points(np.array([2.0]), np.array([1.0]), None, None), through_origin=True)
    assert (alone.slope, alone.low, alone.high) == pytest.approx((0.5, -np.inf, np.inf))


@pytest.mark.parametrize(
    "points",
    [
        Points(np.ones(2), np.ones(3), np.ones(2), np.ones(2)),
        Points(np.array([np.nan]), np.ones(1), np.ones(1), np.ones(1)),
        Points(np.ones(1), np.ones(1), np.zeros(1), np.zeros(1)),
        Points(np.ones(1), np.ones(1), np.full(1, -1.0), np.ones(1)),
    ],
)
def test_what_is_no_point_is_refused(points: Points) -> None:
    with pytest.raises(DataError):
        fitted_line(points, through_origin=True)


@pytest.mark.slow
@pytest.mark.parametrize("through_origin", [True, False])
def test_the_interval_holds_the_true_slope_as_often_as_it_says_where_least_squares_does_not(through_origin: bool) -> None:
    rng, rounds = np.random.default_rng(31), 2_000
    true = np.linspace(-1, 2, 8)
    sx, sy = rng.uniform(0.3, 0.8, 8), rng.uniform(0.3, 0.8, 8)
    held = flat = 0
    for _ in range(rounds):
        x, y = true + sx * rng.normal(size=8), 0.7 * true + sy * rng.normal(size=8)
        found = fitted_line(Points(x, y, sx, sy), through_origin=through_origin)
        held += found.low <= 0.7 <= found.high
        least = linregress(x, y)
        flat += abs(least.slope - 0.7) <= student.ppf(0.975, 6) * least.stderr
    assert 0.935 <= held / rounds <= 0.985  # the wider of errors and scatter is a little too wide
    assert flat < held
