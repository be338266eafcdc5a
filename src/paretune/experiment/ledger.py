"""The ledger: what was promised of each release, beside what a test with users saw of it, and how far that lets one trust the next promise.

    seen = slope x promised            within |seen - promised| <= z sqrt(promised_error^2 + seen_error^2), or else not covered
    next' = slope x next               where even the upper end of the slope is below 1

The rule: correlation is not trust. Predictions that are all off by a point, or all twice too large, correlate as well as true ones; so the
level error, the slope and the coverage stand beside it. Both sides have errors, so the slope is that of `experiment.lines`. Fewer than
three outcomes say nothing. Intervals hold each alone; answers hold for all rows at once (Bonferroni). Outcomes of one test share a control:
where a test has several, intervals of slope and level are also those of leaving out one test after the other, and the wider ones count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from paretune.errors import DataError
from paretune.experiment.lines import NO_LINE, Line, Points, fitted_line
from paretune.records import Bools, Floats

TOGETHER = "together"
FEWEST = 3  # outcomes, below which nothing is said
OVERSTATED, NOT_COVERED, UNDERSTATED, HOLDS, TOO_FEW = "overstated", "not covered", "understated", "nothing against them", "too few"


@dataclass(frozen=True, slots=True)
class Lift:
    """A relative lift as a fraction, with its own interval."""

    estimate: float
    std_error: float = np.nan  # NaN = unknown
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, slots=True)
class Entry:
    """One promise that was put to the test."""

    release: str
    objective: str
    predicted: Lift
    seen: Lift
    minimised: bool = False  # less of it is better
    test: str = ""  # outcomes of one test are not independent; empty = a test of its own


@dataclass(frozen=True, slots=True)
class Told:
    """A number with its interval; NaN = cannot be told."""

    value: float
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, slots=True)
class Account:
    """How promises and outcomes of an objective, or of all together, agree."""

    name: str
    outcomes: int
    tests: int
    correlation: Told  # Pearson's
    slope: Line  # through the origin: what promises are to be multiplied by
    line: Line  # with an intercept
    level: Told  # mean of seen minus promised; together: turned so that more is better
    coverage: Told  # share of outcomes inside promise and errors of both
    answer: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """All promises that were tested, and what they say of promises."""

    entries: tuple[Entry, ...]
    accounts: tuple[Account, ...]  # by objective in order of appearance
    together: Account
    confidence: float

    @property
    def against(self) -> tuple[Account, ...]:
        """The accounts that speak against the next promise: overstated, or not covered."""
        return tuple(account for account in (*self.accounts, self.together) if account.answer in {OVERSTATED, NOT_COVERED})

    @property
    def trusted(self) -> bool:
        """Whether neither slope nor coverage speaks against the next promise."""
        return not self.against

    def of(self, objective: str) -> Account | None:
        """Return the account of an objective, None where it has no outcome."""
        return next((account for account in self.accounts if account.name == objective), None)


def kept_ledger(entries: Sequence[Entry], *, confidence: float = 0.95) -> Ledger:
    """Return what promises and outcomes say.

    Args:
        entries: any number, none too.
        confidence: of each interval alone.

    Raises:
        DataError: an estimate is not finite.
    """
    for entry in entries:
        if not np.isfinite([entry.predicted.estimate, entry.seen.estimate]).all():
            raise DataError(f"{entry.objective} of {entry.release} has no number", hint="leave out what was not promised or not seen")
    names = tuple(dict.fromkeys(entry.objective for entry in entries))
    strict = 1 - (1 - confidence) / (len(names) + 1 if len(names) > 1 else 1)

    def account(name: str, chosen: Sequence[Entry], *, turned: bool) -> Account:
        return _account(name, chosen, turned=turned, confidence=confidence, strict=strict)

    accounts = tuple(account(name, [entry for entry in entries if entry.objective == name], turned=False) for name in names)
    together = account(TOGETHER, entries, turned=True)
    return Ledger(tuple(entries), accounts, together, confidence)


def covered(entry: Entry, *, confidence: float) -> bool | None:
    """Return whether an outcome lies inside its promise and the errors of both; None where an error is unknown."""
    error = float(np.hypot(entry.predicted.std_error, entry.seen.std_error))
    gap = abs(entry.seen.estimate - entry.predicted.estimate)
    return bool(gap <= ndtri(0.5 + confidence / 2) * error) if np.isfinite(error) else None


def shrunk(prediction: Lift, ledger: Ledger, *, objective: str) -> tuple[Lift, Account | None]:
    """Return a promise times the slope of earlier ones, and the account that says so; as it is, and None, where none does.

    The objective's own slope counts where its interval lies below 1, else that of all objectives together, if it does and the objective's
    own outcomes do not contradict it. The slope's own uncertainty is in the error: var = b^2 s^2 + m^2 s_b^2 + s^2 s_b^2.

    Args:
        prediction: a lift with its error.
        ledger: of earlier releases.
        objective: of the prediction.
    """
    own = ledger.of(objective)
    account = next((each for each in (own, ledger.together) if each is not None and _shrinks(each) and _agrees(own, each)), None)
    if account is None:
        return prediction, None
    z = float(ndtri(0.5 + ledger.confidence / 2))
    factor, spread = max(account.slope.slope, 0.0), (account.slope.high - account.slope.low) / (2 * z)
    m, s = prediction.estimate, prediction.std_error
    error = float(np.sqrt(factor**2 * s**2 + m**2 * spread**2 + s**2 * spread**2))
    return Lift(factor * m, error, factor * m - z * error, factor * m + z * error), account


def _shrinks(account: Account) -> bool:
    return account.outcomes >= FEWEST and bool(account.slope.high < 1)


def _agrees(own: Account | None, other: Account) -> bool:
    return own is None or own is other or own.outcomes < FEWEST or bool(own.slope.low <= other.slope.slope <= own.slope.high)


def _account(name: str, entries: Sequence[Entry], *, turned: bool, confidence: float, strict: float) -> Account:
    sign = np.array([-1.0 if turned and entry.minimised else 1.0 for entry in entries])
    x, y = (sign * np.array([getattr(entry, side).estimate for entry in entries]) for side in ("predicted", "seen"))
    errors = np.array([[entry.predicted.std_error, entry.seen.std_error] for entry in entries]).reshape(-1, 2)
    known = bool(len(entries)) and bool(np.isfinite(errors).all())
    points = Points(x, y, errors[:, 0], errors[:, 1]) if known else Points(x, y, None, None)
    tests = _tests(entries)
    if len(entries) < FEWEST:
        covered, level = _coverage(points, confidence), _level(points, tests, confidence)
        return Account(name, len(entries), len(tests), Told(np.nan), NO_LINE, NO_LINE, level, covered, TOO_FEW)
    slope = _line(points, tests, through_origin=True, confidence=confidence)
    line = _line(points, tests, through_origin=False, confidence=confidence)
    coverage = _coverage(points, confidence)
    correlation, level = _correlation(x, y, confidence), _level(points, tests, confidence)
    sure = slope if strict == confidence else _line(points, tests, through_origin=True, confidence=strict)
    answer = _answer(sure, _coverage(points, confidence, strict), confidence)
    return Account(name, len(entries), len(tests), correlation, slope, line, level, coverage, answer)


def _answer(slope: Line, coverage: Told, confidence: float) -> str:
    if slope.high < 1:
        return OVERSTATED
    if coverage.high < confidence:
        return NOT_COVERED
    return UNDERSTATED if slope.low > 1 else HOLDS


def _tests(entries: Sequence[Entry]) -> list[Bools]:
    """Return which entries (n,) belong to each test."""
    labels = [entry.test or f"\0{place}" for place, entry in enumerate(entries)]
    return [np.array([label == each for label in labels]) for each in dict.fromkeys(labels)]


def _line(points: Points, tests: Sequence[Bools], *, through_origin: bool, confidence: float) -> Line:
    """Return the line; where a test has several outcomes, its interval holds the jackknife's over tests."""
    found = fitted_line(points, through_origin=through_origin, confidence=confidence)
    if len(tests) < FEWEST or len(tests) == len(points.x):
        return found
    parts = [fitted_line(points.without(test), through_origin=through_origin).slope for test in tests]
    half = _jackknifed(np.array(parts), confidence)
    low, high = min(found.low, found.slope - half), max(found.high, found.slope + half)
    return Line(found.slope, float(low), float(high), found.intercept, found.misfit, found.degrees)


def _jackknifed(parts: Floats, confidence: float) -> float:
    count = len(parts)
    error = np.sqrt((count - 1) / count * np.square(parts - parts.mean()).sum())
    return float(stdtrit(count - 1, 0.5 + confidence / 2) * error)


def _correlation(x: Floats, y: Floats, confidence: float) -> Told:
    """Return Pearson's r with Fisher's interval, which needs four points."""
    apart = np.ptp(x) > 0 and np.ptp(y) > 0
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1)) if apart else np.nan
    if len(x) < FEWEST + 1 or not abs(r) < 1:
        return Told(r)
    half = float(ndtri(0.5 + confidence / 2)) / np.sqrt(len(x) - 3)
    return Told(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))


def _level(points: Points, tests: Sequence[Bools], confidence: float) -> Told:
    """Return the mean difference, with the wider of the intervals by errors, by scatter, and by tests."""
    if not len(points.x):
        return Told(np.nan)
    gap, count, place = points.y - points.x, len(points.x), 0.5 + confidence / 2
    mean, halves = float(gap.mean()), []
    if points.x_error is not None and points.y_error is not None:
        halves.append(float(ndtri(place) * np.sqrt((points.x_error**2 + points.y_error**2).sum()) / count))
    if count > 1:
        halves.append(float(stdtrit(count - 1, place) * gap.std(ddof=1) / np.sqrt(count)))
    if FEWEST <= len(tests) < count:
        halves.append(_jackknifed(np.array([gap[~test].mean() for test in tests]), confidence))
    return Told(mean, mean - max(halves), mean + max(halves)) if halves else Told(mean)


def _coverage(points: Points, confidence: float, of_share: float | None = None) -> Told:
    """Return the share of covered outcomes with the interval of Clopper and Pearson; NaN where errors are unknown.

    Args:
        points: promised and seen.
        confidence: of what covers.
        of_share: confidence of the share's interval; the same where left out.
    """
    if points.x_error is None or points.y_error is None:
        return Told(np.nan)
    z = float(ndtri(0.5 + confidence / 2))
    count = len(points.x)
    inside = int((np.abs(points.y - points.x) <= z * np.sqrt(points.x_error**2 + points.y_error**2)).sum())
    tail = (1 - (confidence if of_share is None else of_share)) / 2
    low = 0.0 if inside == 0 else float(betaincinv(inside, count - inside + 1, tail))
    high = 1.0 if inside == count else float(betaincinv(inside + 1, count - inside, 1 - tail))
    return Told(inside / count, low, high)
