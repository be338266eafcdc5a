"""How much exploration a question needs: rows and days for a target lift, and the smallest lift that given rows resolve.

    N = c K v (z_{1 - a/2} + z_power)^2 / (G L^2),    v = var(r) / E[r]^2,  (1 - p) / p for a clipped reward

with K grid actions drawn uniformly, L the relative lift, c = 2 where production too is estimated from hits and 1 where production rows
stand for it, G the gain of pooling over similar actions. At 5 % two-sided and 80 % power the z-term is 2.8^2.

The rules: rows are held-out exploration rows, those that train come on top; with several objectives the hardest one decides; what is not
known (traffic, cost) is NaN, never a guess. Source: the normal sample-size formula for a ratio of means, per policy, without correction for
looking at many policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from scipy.special import ndtri

from paretune.errors import ConfigError, DataError
from paretune.explore.rates import Cost, Rate
from paretune.records import Floats

MEASURED_ON = 49  # actions of the grid on which the gains of pooling were measured
FAR = 2.0  # shares that differ by this factor make days that differ by as much
HITS_GAIN = 2.0  # production rows instead of hits for production: half the variance of a lift, at any grid


@dataclass(frozen=True, slots=True)
class Estimator:
    """How a lift is estimated, and how much less variance it has than the paper's way on the same rows."""

    name: str
    title: str
    gain: float  # against the paper's estimator, so that its c = 2 stays in the formula
    measured_on: int | None = None  # grid actions at which the gain was measured; None = the same at every grid

    def gain_on(self, actions: int) -> float:
        """Return the gain on a grid of that many actions over the same ranges.

        Pooling uses the rows within a distance in weights, a fixed share of them, so its variance does not depend on the number of actions:
        the gain is proportional to it, and never below that of hits with production rows.
        """
        return self.gain if self.measured_on is None else max(HITS_GAIN, self.gain * actions / self.measured_on)


ESTIMATORS = {
    "paper": Estimator("paper", "Reward@HIT, the paper's", 1.0),
    "hits": Estimator("hits", "hits anchored on production rows", HITS_GAIN),
    "kernel": Estimator("kernel", "action kernel", 5.0, MEASURED_ON),
    "replay": Estimator("replay", "list overlap with list-replay", 15.0, MEASURED_ON),
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be resolved."""

    lift: float = 0.01  # relative, a fraction
    power: float = 0.8  # probability of seeing a lift of this size
    confidence: float = 0.95  # two-sided

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lift) and self.lift > 0 and 0 < self.power < 1 and 0 < self.confidence < 1):
            raise ConfigError(
                f"lift {self.lift}, power {self.power}, confidence {self.confidence} are no aim",
                hint="give a positive lift, and power and confidence between 0 and 100 %",
            )

    @property
    def z(self) -> float:
        """z_{1 - a/2} + z_power; about 2.8."""
        return float(ndtri(0.5 + self.confidence / 2) + ndtri(self.power))


@dataclass(frozen=True, slots=True)
class Grid:
    """Levels per tuned head."""

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ConfigError(f"a grid of {self.name or 'nothing'}", hint="give at least two levels per tuned head, e.g. 7x7")

    @property
    def name(self) -> str:
        """Levels as they are spoken of, e.g. 7×7."""
        return "×".join(str(n) for n in self.levels)

    @property
    def actions(self) -> int:
        """K, without production."""
        return prod(self.levels)


@dataclass(frozen=True, slots=True)
class Option:
    """One way of exploring, and how long it takes."""

    grid: Grid
    share: float
    rows: Floats  # (M,) held-out exploration rows per objective
    days: float  # until the hardest objective is resolved; NaN where traffic is not known

    @property
    def hardest(self) -> int:
        """Index of the objective that needs the most rows."""
        return int(np.argmax(self.rows))

    @property
    def needed(self) -> float:
        """Rows until every objective is resolved."""
        return float(self.rows.max())


def rows_needed(aim: Aim, *, relative_variance: float, actions: int, sides: float = 2.0, gain: float = 1.0) -> float:
    """Return the held-out exploration rows that resolve a lift.

    Args:
        aim: lift, power and confidence.
        relative_variance: var(r) / E[r]^2 under production, per request.
        actions: K, drawn uniformly; 1 for a policy that is always hit.
        sides: c, 2 with hits for production, 1 with production rows (many more of them than hits).
        gain: G, of pooling.

    Raises:
        DataError: a number is not positive.
    """
    _positive(relative_variance=relative_variance, actions=actions, sides=sides, gain=gain)
    return sides * actions * relative_variance * (aim.z / aim.lift) ** 2 / gain


def detectable_lift(aim: Aim, *, rows: float, relative_variance: float, actions: int, sides: float = 2.0, gain: float = 1.0) -> float:
    """Return the smallest relative lift that so many held-out exploration rows resolve, at the aim's power and confidence.

    Args:
        aim: whose power and confidence; its lift is not used.
        rows: held-out exploration rows.
        relative_variance: see `rows_needed`, as are actions, sides and gain.
        actions: K.
        sides: c.
        gain: G.

    Raises:
        DataError: a number is not positive.
    """
    _positive(rows=rows, relative_variance=relative_variance, actions=actions, sides=sides, gain=gain)
    return aim.z * float(np.sqrt(sides * actions * relative_variance / (gain * rows)))


def explore_options(
    aim: Aim, rates: Sequence[Rate], *, grids: Sequence[Grid], shares: Sequence[float], estimator: Estimator, requests_per_day: float
) -> tuple[Option, ...]:
    """Return every combination of grid and share with its rows and days; grids in the given order, shares inside.

    Args:
        aim: what is to be resolved.
        rates: of M objectives; the hardest one decides.
        grids: to compare.
        shares: of requests explored, in (0, 1].
        estimator: of the lift.
        requests_per_day: all requests of the surface; NaN where not known.

    Raises:
        ConfigError: a share is outside (0, 1].
        DataError: an objective earns nothing, or traffic is not positive.
    """
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise ConfigError(f"shares {wrong} of requests", hint="explore more than nothing and at most every request")
    if not np.isnan(requests_per_day):
        _positive(requests_per_day=requests_per_day)
    found = []
    for grid in grids:
        actions, gain = grid.actions, estimator.gain_on(grid.actions)
        rows = np.array([rows_needed(aim, relative_variance=rate.relative_variance, actions=actions, gain=gain) for rate in rates])
        found += [Option(grid, share, rows, float(rows.max() / (requests_per_day * share))) for share in shares]
    return tuple(found)


def enough_within(options: Sequence[Option], days: float) -> Option | None:
    """Return the option that is ready in time: the smallest share, and at that share the finest grid; None where none is."""
    ready = [option for option in options if option.days <= days]
    return min(ready, key=lambda option: (option.share, -option.grid.actions), default=None)


def resolved_lift(aim: Aim, rates: Sequence[Rate], grid: Grid, *, estimator: Estimator, rows: float) -> float:
    """Return the smallest relative lift that so many held-out exploration rows resolve on every objective.

    Args:
        aim: whose power and confidence.
        rates: of M objectives.
        grid: explored uniformly.
        estimator: of the lift.
        rows: held-out exploration rows.

    Raises:
        DataError: an objective earns nothing, or rows are not positive.
    """
    gain = estimator.gain_on(grid.actions)
    return max(detectable_lift(aim, rows=rows, relative_variance=rate.relative_variance, actions=grid.actions, gain=gain) for rate in rates)


def usual_grids(asked: Grid) -> tuple[Grid, ...]:
    """Return the grid asked for among the usual ones of as many heads (3, 4, 5 and 7 levels), coarsest first."""
    heads = len(asked.levels)
    grids = {Grid((levels,) * heads) for levels in (3, 4, 5, 7)} | {asked}
    return tuple(sorted(grids, key=lambda grid: (grid.actions, grid.levels)))


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (np.isfinite(number) and number > 0):
            raise DataError(f"{name.replace('_', ' ')} is {number}", hint="give a positive number")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked, and what is known."""

    aim: Aim
    rates: tuple[Rate, ...]  # (M,)
    grid: Grid  # asked for, one of grids
    grids: tuple[Grid, ...]  # to compare, coarsest first
    share: float  # asked for, one of shares
    shares: tuple[float, ...]  # to compare, smallest first
    estimator: Estimator
    requests_per_day: float  # NaN = not known
    days: float  # to evaluate on
    cost: Cost | None = None  # of uniform exploration, where a log says it
    logged_share: float = float("nan")  # of a log's rows that explore; NaN without a log

    def options(self, *, share: float | None = None, estimator: Estimator | None = None) -> tuple[Option, ...]:
        """Return every combination of grid and share; of one share, or for another estimator, where given."""
        return explore_options(
            self.aim,
            self.rates,
            grids=self.grids,
            shares=self.shares if share is None else (share,),
            estimator=estimator or self.estimator,
            requests_per_day=self.requests_per_day,
        )

    @property
    def strays(self) -> bool:
        """Whether the log explores twice as much as is planned with, or half as much, and more so."""
        return not np.isnan(self.logged_share) and not self.share / FAR < self.logged_share < self.share * FAR

    def asked(self, estimator: Estimator | None = None) -> Option:
        """Return the combination that was asked for."""
        return next(o for o in self.options(share=self.share, estimator=estimator) if o.grid == self.grid)

    def enough(self) -> Option | None:
        """Return the option that is ready within the days: the smallest share, and at that share the finest grid."""
        return enough_within(self.options(), self.days)

    def resolved(self, estimator: Estimator | None = None) -> float:
        """Return the lift that grid and share resolve within the days; NaN where traffic is not known."""
        rows = self.requests_per_day * self.share * self.days
        if np.isnan(rows):
            return float("nan")
        return resolved_lift(self.aim, self.rates, self.grid, estimator=estimator or self.estimator, rows=rows)
