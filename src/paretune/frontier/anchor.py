"""What production is worth, on days before the held-out ones: its mean, m(s), and what the ranker's word on other lists is worth.

The rule: batches are taken in one by one and need not fit together. Of all rows sums are kept, of the first ANCHOR_ROWS production rows
the state, and of the first ANCHOR_ROWS exploration rows with candidates the state and what their lists promise, never the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.ope.baseline import Baseline, fit_baseline
from paretune.ope.clusters import user_buckets
from paretune.ope.variate import Variate, variate_sums
from paretune.records import PRODUCTION, Floats, Ints, Log
from paretune.surface.lists import list_values, top_lists
from paretune.value.features import Encoder

ANCHOR_ROWS = 200_000  # production rows are plenty for m(s): the lift is unbiased for any m
ROWS_SCORED = 16_384  # at a time, of up to 200 actions; bounds the (n, K, M) values
MOST_COHORTS = 8  # kept apart; the sums grow with their number


@dataclass(frozen=True, slots=True)
class Anchor:
    """What production is worth, as days before the held-out ones say."""

    value: Floats  # (M,) mean reward
    cohorts: tuple[str, ...]  # to keep apart, largest first
    encoder: Encoder | None = None  # with m(s); None where no production row was logged
    baseline: Baseline | None = None
    variate: Variate | None = None  # list-replay g(s, a); None where no exploration row had candidates
    proposed: Floats | None = None  # (D, M) scalarisations that the dual proposes for the floors, with three objectives and more

    def expected(self, log: Log) -> Floats | None:
        """Return m(s) (n, M) of a log's requests; None where there is no m."""
        return None if self.encoder is None or self.baseline is None else self.baseline.predict(self.encoder.wide(log.state))


def rows_scored(actions: int) -> int:
    """Return how many rows are scored at a time: ROWS_SCORED of small grids, fewer of large ones."""
    return max(256, min(ROWS_SCORED, ROWS_SCORED * 200 // actions))


def wants_replay(config: Config) -> bool:
    """Say whether the list-replay variate is wanted, and every objective has the head that it needs."""
    return config.evaluation.estimator in {"auto", "overlap-replay"} and config.objective_heads() is not None


@dataclass(slots=True)
class _Mean:
    """Mean reward and cohorts of some rows."""

    rows: int
    reward: Floats  # (M,) sum
    cohorts: dict[str, int]  # rows of each, in the order in which they were met

    def add(self, log: Log) -> None:
        self.rows += len(log)
        self.reward += log.rewards.sum(axis=0, dtype=np.float64)
        codes = log.cohort.codes[log.cohort.codes >= 0]
        counts = np.bincount(codes, minlength=len(log.cohort.vocabulary)).tolist()
        for name, count in zip(log.cohort.vocabulary, counts, strict=True):
            self.cohorts[name] = self.cohorts.get(name, 0) + count


class AnchorFit:
    """A running fit of the anchor: feed batches of the training days, the latest first, then solve."""

    def __init__(self, config: Config) -> None:
        """Begin, with features, cohorts and estimator of a configuration."""
        objectives = len(config.objectives)
        self._config, self._replayed = config, wants_replay(config)
        self._every, self._production = (_Mean(0, np.zeros(objectives), {}) for _ in range(2))
        self._states: list[Log] = []
        self._listed: list[tuple[Log, Floats]] = []

    @property
    def produced(self) -> int:
        """Production rows so far."""
        return self._production.rows

    @property
    def listed(self) -> int:
        """Exploration rows with candidates so far, of which no more than ANCHOR_ROWS are kept."""
        return sum(len(log) for log, _ in self._listed)

    def add(self, log: Log) -> None:
        """Take in rows of training days."""
        bare = replace(log, candidates=None)
        self._every.add(bare)
        production = bare.production()
        if len(production):
            self._production.add(production)
            kept = sum(map(len, self._states))
            self._states.append(production.take(slice(0, max(0, ANCHOR_ROWS - kept))))
        if self._replayed and log.candidates is not None:
            rows = np.flatnonzero(log.explored & (log.action > PRODUCTION) & (np.diff(log.candidates.offsets) > 0))
            rows = rows[: max(0, ANCHOR_ROWS - self.listed)]
            if len(rows):
                self._listed.append((bare.take(rows), self._promised(log, rows)))

    def solve(self) -> Anchor:
        """Return the anchor.

        Raises:
            DataError: there were no rows, or an objective never earned anything.
        """
        if not self._every.rows:
            raise DataError("no rows to anchor the lifts on", hint="give the log of the training days")
        rows = self._production if self.produced else self._every
        value = rows.reward / rows.rows
        if not (value > 0).all():
            earning = [objective.name for objective, mean in zip(self._config.objectives, value, strict=True) if not mean > 0]
            raise DataError(f"objectives {earning} earned nothing on the training days", hint="check their columns, or leave them out")
        met = [name for name in sorted(rows.cohorts, key=lambda name: -rows.cohorts[name]) if rows.cohorts[name]]
        cohorts = tuple((self._config.cohorts.values or met)[:MOST_COHORTS])
        if not self.produced:
            return Anchor(value, cohorts)
        used = Log.concat(self._states)
        encoder = Encoder.fit(used.state, self._config.features)
        baseline = fit_baseline(encoder.wide(used.state), used.rewards)
        return Anchor(value, cohorts, encoder, baseline, self._variate(encoder, baseline))

    def _promised(self, log: Log, rows: Ints) -> Floats:
        """Return (r, M) how much more than production's list the ranker promises of the served one."""
        surface, heads = self._config.surface.build(), self._config.objective_heads() or ()
        at_once, promised = rows_scored(len(surface)), []
        for start in range(0, len(rows), at_once):
            part = log.take(rows[start : start + at_once])
            if part.candidates is not None:
                both = np.stack([np.zeros(len(part), np.int64), part.action], axis=1)
                values = list_values(part.candidates, top_lists(part.candidates, surface.actions, surface.k), heads)
                values = np.take_along_axis(values, both[:, :, None], axis=1)
                promised.append(values[:, 1] - values[:, 0])
        return np.concatenate(promised)

    def _variate(self, encoder: Encoder, baseline: Baseline) -> Variate | None:
        if not self._listed:
            return None
        rows, promised = Log.concat(log for log, _ in self._listed), np.concatenate([listed for _, listed in self._listed])
        total = None
        for start in range(0, len(rows), ROWS_SCORED):
            part = rows.take(slice(start, start + ROWS_SCORED))
            wide = encoder.wide(part.state)
            half = (user_buckets(part.user) % 2).astype(np.int64)
            residual = part.rewards - baseline.predict(wide)
            sums = variate_sums(wide, promised[start : start + ROWS_SCORED], residual, half=half)
            total = sums if total is None else total + sums
        return None if total is None else total.solve()


def fit_anchor(log: Log, config: Config) -> Anchor:
    """Return what production is worth, and where exploration rows carry candidates, what the ranker's word on other lists is worth.

    Args:
        log: rows of training days; production rows where there are any, else the exploration rows stand in for the scale alone.
        config: features, cohorts, estimator.

    Raises:
        DataError: there are no rows, or an objective never earned anything.
    """
    running = AnchorFit(config)
    running.add(log)
    return running.solve()
