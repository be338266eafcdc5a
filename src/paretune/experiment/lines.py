"""A straight line through points whose two numbers both have errors, with the interval of its slope.

    Q(b) = min_a sum_i (y_i - a - b x_i)^2 / (sy_i^2 + b^2 sx_i^2),    slope = argmin Q,    interval = {b : Q(b) <= Q_min + c}

The rule: an error of x is not taken for a flat line. Least squares of y on x would be pulled towards zero by the errors of x; this line
is Deming's with an error of its own for each point. c is z^2, or t^2 Q_min / df where that is more (the points scatter more than their
errors say), and always where no errors are known: both are then taken as equal, Deming's ratio of 1. An interval may have no ends: where x
may be nothing but errors, any slope fits. Sources: Deming (1943); York, Evensen, Martinez and Delgado (2004) for errors per point; Fieller
(1954) for the interval, which this one is for a single point through the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtri, stdtrit

from paretune.errors import DataError
from paretune.records import Floats

_ANGLES = 720  # of the scan over all slopes; with equal errors Q has one valley, with unequal ones few
_FLAT = 1e-12  # of an angle


@dataclass(frozen=True, slots=True)
class Points:
    """Pairs of numbers with their errors."""

    x: Floats  # (n,)
    y: Floats  # (n,)
    x_error: Floats | None  # (n,) standard errors; None with y_error = unknown
    y_error: Floats | None  # (n,)

    @property
    def known(self) -> bool:
        """Whether the errors are known."""
        return self.x_error is not None and self.y_error is not None

    def without(self, left_out: Floats) -> Points:
        """Return the points that a mask (n,) does not name."""
        kept = ~np.asarray(left_out, np.bool_)
        errors = [None if error is None else error[kept] for error in (self.x_error, self.y_error)]
        return Points(self.x[kept], self.y[kept], *errors)


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + slope x."""

    slope: float  # NaN where no line can be told
    low: float  # -inf where the interval has no lower end
    high: float
    intercept: float  # 0 of a line through the origin
    misfit: float  # Q_min
    degrees: int  # of freedom


NO_LINE = Line(np.nan, -np.inf, np.inf, np.nan, np.nan, 0)


def fitted_line(points: Points, *, through_origin: bool, confidence: float = 0.95) -> Line:
    """Return the line, NaN where there are too few points: one through the origin, else two.

    Args:
        points: finite.
        through_origin: without an intercept.
        confidence: of the slope's interval.

    Raises:
        DataError: shapes differ, a number is not finite, an error is negative, or a point has no error at all beside known ones.
    """
    x, y, sx, sy = _checked(points)
    degrees = len(x) - (1 if through_origin else 2)
    spread = (x, y) if through_origin else (x - x.mean() if len(x) else x, y - y.mean() if len(y) else y)
    if degrees < 0 or not any(np.abs(part).max() > 0 for part in spread):
        return NO_LINE
    scale = _scale(sx, sy, *spread)
    y, sy = y / scale, sy / scale

    def misfit(angle: Floats | float) -> Floats:
        return _misfit(np.asarray(angle, np.float64), x, y, sx, sy, through_origin)[0]

    step = np.pi / _ANGLES
    angles = (np.arange(_ANGLES) + 0.5) * step - np.pi / 2
    scanned = misfit(angles)
    middle = angles[int(np.argmin(scanned))]
    best = float(minimize_scalar(misfit, bounds=(middle - step, middle + step), method="bounded", options={"xatol": _FLAT}).x)
    least, across = _misfit(np.asarray(best), x, y, sx, sy, through_origin)
    limit = float(least) + _allowed(float(least), degrees, known=points.known, confidence=confidence)
    ends = _ends(misfit, best, limit, step)
    low, high = (float(scale * np.tan(end)) for end in ends) if ends else (-np.inf, np.inf)
    return Line(float(scale * np.tan(best)), low, high, float(scale * across / np.cos(best)), float(least), degrees)


def _misfit(angle: Floats, x: Floats, y: Floats, sx: Floats, sy: Floats, through_origin: bool) -> tuple[Floats, Floats]:
    """Return Q and the intercept, seen across the line, at each angle of the line; Q of an angle is that of the angle plus pi."""
    sine, cosine = np.sin(angle)[..., None], np.cos(angle)[..., None]
    across = y * cosine - x * sine
    weight = 1 / (np.square(sy * cosine) + np.square(sx * sine))
    level = np.zeros(angle.shape) if through_origin else (weight * across).sum(axis=-1) / weight.sum(axis=-1)
    return (weight * np.square(across - level[..., None])).sum(axis=-1), level


def _ends(misfit: object, best: float, limit: float, step: float) -> tuple[float, float] | None:
    """Return the angles where the misfit first reaches the limit, walking both ways; None where the walk passes the vertical."""
    found = []
    for way in (-1, 1):
        wall = way * np.pi / 2
        steps = np.append(np.arange(best + way * step, wall, way * step), wall - way * 1e-9)
        beyond = np.flatnonzero(misfit(steps) > limit)  # type: ignore[operator]
        if not len(beyond):
            return None
        outer = float(steps[beyond[0]])
        inner = best if beyond[0] == 0 else float(steps[beyond[0] - 1])
        found.append(float(brentq(lambda angle: float(misfit(angle)) - limit, inner, outer, xtol=_FLAT)))  # type: ignore[operator]
    return found[0], found[1]


def _allowed(least: float, degrees: int, *, known: bool, confidence: float) -> float:
    """Return by how much more than the least a misfit may be for its slope to be possible."""
    place = 0.5 + confidence / 2
    by_scatter = np.inf if degrees == 0 else float(stdtrit(degrees, place)) ** 2 * least / degrees
    if not known:
        return by_scatter
    by_errors = float(ndtri(place)) ** 2
    return by_errors if degrees == 0 else max(by_errors, by_scatter)


def _scale(sx: Floats, sy: Floats, x: Floats, y: Floats) -> float:
    """Return a slope of the usual size, so that angles tell slopes apart."""
    for above, below in ((sy, sx), (y, x)):
        if np.square(above).sum() > 0 and np.square(below).sum() > 0:
            return float(np.sqrt(np.square(above).sum() / np.square(below).sum()))
    return 1.0


def _checked(points: Points) -> tuple[Floats, Floats, Floats, Floats]:
    x, y = np.asarray(points.x, np.float64), np.asarray(points.y, np.float64)
    if points.x_error is None or points.y_error is None:
        sx = sy = np.ones(len(x))
    else:
        sx, sy = np.asarray(points.x_error, np.float64), np.asarray(points.y_error, np.float64)
    shapes = {part.shape for part in (x, y, sx, sy)}
    if len(shapes) != 1 or x.ndim != 1:
        raise DataError(f"points of shapes {sorted(shapes)}", hint="give as many x as y, and an error for each")
    if not all(np.isfinite(part).all() for part in (x, y, sx, sy)):
        raise DataError("a point or its error is not finite", hint="leave out what was not measured")
    if (sx < 0).any() or (sy < 0).any() or (np.maximum(sx, sy) <= 0).any():
        raise DataError("a point has no error, or a negative one", hint="give the standard errors, or none of them")
    return x, y, sx, sy
