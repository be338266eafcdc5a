"""What a good log is: the record of a check, and the rules about the log as a whole.

The rule: sums over batches come first and add up (`+`), verdicts are drawn once at the end, so any split of the log gives the same
check. Equations, over the n exploration rows on the grid, with p_i the logged propensity of the action a_i:

- mean importance weight:  mean_i 1 / (G p_i) = 1 for the uniform target on G grid actions, within 3 standard errors;
- per action:  T_a = mean_i 1[a_i = a] / p_i = 1, with variance (d_a - 1) / n, d_a = E[1 / p_a];
- sample ratio:  n sum_a (T_a - 1)^2 / d_a ~ chi-square, which for constant p is Pearson's test of the counts; alarm at p < 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from paretune.config import Config
from paretune.records import OFF_GRID, PRODUCTION, Bools, Floats, Ints, Log
from paretune.surface.heads import Surface

ALARM = 1e-3  # p-value of the sample-ratio test, and of all per-action tests together (Bonferroni)
STANDARD_ERRORS = 3.0
MIN_EXPECTED = 5.0  # rows per action below which chi-square is not asked
LARGEST_USER_SHARE = 0.05
LARGEST_MISSING_SHARE = 0.5
LARGEST_OFF_GRID_SHARE = 0.01
DAYS_ENOUGH = "days_enough"

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule, judged."""

    name: str
    ok: bool
    severity: Severity
    seen: str
    expected: str
    where: str = ""  # files, columns and first rows
    rows: int = 0  # rows that break it
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class LogCheck:
    """Whether a log is fit to learn from, and what speaks against it."""

    rules: tuple[RuleResult, ...]
    rows: int  # good + bad
    good: int
    bad: int
    users: int
    days: tuple[int, ...]  # since 1970-01-01
    explored_per_day: Ints  # (D,) good rows of reason EXPLORE on each of the days
    production_per_day: Ints  # (D,) good production rows
    explored: int  # good rows of reason EXPLORE
    production: int  # good rows of `Log.production`
    per_action: Ints  # (K,) good exploration rows per action, production first
    mean_weight: Floats  # (K,) T_a of each action, 1 in expectation; production is NaN
    quarantined: int  # bad rows that were written to the quarantine

    @property
    def ok(self) -> bool:
        """Whether no rule of severity error is broken; the command line exits 3 otherwise."""
        return not self.broken("error")

    @property
    def enough_days(self) -> bool:
        """Whether there are the days that training and judging ask for; without, a sound log cannot be swept yet."""
        return all(rule.ok for rule in self.rules if rule.name == DAYS_ENOUGH)

    def broken(self, severity: Severity) -> tuple[RuleResult, ...]:
        """Return the broken rules of one severity."""
        return tuple(rule for rule in self.rules if not rule.ok and rule.severity == severity)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over the good rows of a log; tallies of disjoint parts add up."""

    rows: int
    explored: int
    production: int
    off_grid: int
    off_grid_explored: int
    certain: int  # exploration rows with propensity 1
    count: Ints  # (K,) exploration rows per action
    inverse: Floats  # (K,) sums of 1 / p over them
    inverse_squared: Floats  # (K,) sums of 1 / p^2
    missing: dict[str, int]  # feature -> rows without it
    cohorts: frozenset[str]
    listed: int  # exploration rows with candidates
    users: Ints  # (u,) uint64, sorted
    user_rows: Ints  # (u,)

    @staticmethod
    def of(log: Log, n_actions: int) -> Tally:
        """Return the sums of good rows."""
        on_grid = log.explored & (log.action > PRODUCTION)
        action, inverse = log.action[on_grid], 1 / log.propensity[on_grid]
        users, user_rows = np.unique(log.user, return_counts=True)
        off = log.action == OFF_GRID
        listed = 0 if log.candidates is None else int((log.explored & (np.diff(log.candidates.offsets) > 0)).sum())
        return Tally(
            rows=len(log),
            explored=int(log.explored.sum()),
            production=int(log.produced.sum()),
            off_grid=int(off.sum()),
            off_grid_explored=int((off & log.explored).sum()),
            certain=int((log.explored & (log.propensity == 1)).sum()),
            count=np.bincount(action, minlength=n_actions),
            inverse=np.bincount(action, inverse, minlength=n_actions),
            inverse_squared=np.bincount(action, inverse**2, minlength=n_actions),
            missing=_missing(log),
            cohorts=frozenset(log.cohort.vocabulary),
            listed=listed,
            users=users,
            user_rows=user_rows,
        )

    def __add__(self, other: Tally) -> Tally:
        users, inverse = np.unique(np.concatenate([self.users, other.users]), return_inverse=True)
        user_rows = np.bincount(inverse, np.concatenate([self.user_rows, other.user_rows]), minlength=len(users)).astype(np.int64)
        return Tally(
            rows=self.rows + other.rows,
            explored=self.explored + other.explored,
            production=self.production + other.production,
            off_grid=self.off_grid + other.off_grid,
            off_grid_explored=self.off_grid_explored + other.off_grid_explored,
            certain=self.certain + other.certain,
            count=self.count + other.count,
            inverse=self.inverse + other.inverse,
            inverse_squared=self.inverse_squared + other.inverse_squared,
            missing={name: rows + other.missing[name] for name, rows in self.missing.items()},
            cohorts=self.cohorts | other.cohorts,
            listed=self.listed + other.listed,
            users=users,
            user_rows=user_rows,
        )


def mean_weights(tally: Tally) -> Floats:
    """Return (K,) T_a, the mean importance weight of each action; NaN for production, and for all where nothing was explored."""
    n = tally.count.sum()
    result = tally.inverse / n if n else np.full(len(tally.inverse), np.nan)
    result[PRODUCTION] = np.nan
    return result


def whole_log_rules(tally: Tally, config: Config, surface: Surface, *, has_candidates: bool) -> tuple[RuleResult, ...]:
    """Return the rules that only the log as a whole can keep or break."""
    return (
        _explored(tally),
        _production(tally),
        *(_design(tally, config, surface) if tally.count.sum() else ()),
        _off_grid(tally),
        _users(tally),
        _missing_features(tally),
        _cohorts(tally, config),
        *((_listed(tally),) if has_candidates else ()),
    )


def _explored(tally: Tally) -> RuleResult:
    remedy = "serve weights drawn from the grid to a share of requests first, or check that exploration rows carry reason EXPLORE"
    share = tally.explored / max(1, tally.rows)
    return RuleResult("explored_rows", tally.explored > 0, "error", f"{tally.explored:,} ({share:.2%})", "at least one", remedy=remedy)


def _production(tally: Tally) -> RuleResult:
    remedy = "log requests served with the static weights too (action 0, reason STATIC): lifts are then measured against production itself"
    return RuleResult("production_rows", tally.production > 0, "warning", f"{tally.production:,}", "at least one", remedy=remedy)


def _design(tally: Tally, config: Config, surface: Surface) -> tuple[RuleResult, ...]:
    n, grid = int(tally.count.sum()), len(surface) - 1
    uniform = config.exploration.design == "uniform"
    count, inverse, squared = tally.count[1:], tally.inverse[1:], tally.inverse_squared[1:]
    wrong = "the logged propensities are not those that were drawn from: log the probability of what was really served"
    certain = RuleResult(
        "propensity_logged",
        tally.certain < max(1, tally.explored) or grid == 1,
        "error",
        f"{tally.certain:,} of {tally.explored:,} exploration rows have propensity 1",
        "fewer than all",
        rows=tally.certain if tally.certain == tally.explored else 0,
        remedy="log the probability of the draw, 1/K for a uniform one",
    )
    weight = float(inverse.sum() / n / grid)
    error = float(np.sqrt(max(0.0, squared.sum() / n / grid**2 - weight**2) / n))
    mean = RuleResult(
        "mean_weight",
        abs(weight - 1) <= max(STANDARD_ERRORS * error, 1e-4),
        "error",
        f"{weight:.4f} ± {error:.4f}",
        "1 within 3 s.e.",
        remedy=wrong,
    )
    support = RuleResult(
        "support",
        bool((count > 0).all()),
        "error",
        f"fewest rows of an action: {count.min():,} (action {int(count.argmin()) + 1}); {int((count == 0).sum())} without any",
        "every grid action served",
        remedy="explore the whole grid, or take the levels that were never served out of surface.heads in paretune.toml",
    )
    hits = config.evaluation.min_hits
    enough = RuleResult(
        "support_enough",
        bool((count >= hits).all()),
        "warning",
        f"{int((count < hits).sum())} of {grid} actions have fewer than {hits} rows",
        f"at least {hits} rows per action",
        remedy="explore longer, or on a coarser grid",
    )
    constant = np.isclose(squared * count, inverse**2, rtol=1e-6)  # one propensity per action: its count is binomial, exactly
    spread = np.full(grid, float(grid)) if uniform else squared / np.where(count > 0, inverse, np.nan)
    ratio = _sample_ratio(count, inverse, spread, remedy=wrong)
    return certain, mean, support, enough, ratio, _action_weights(count, inverse, spread, constant=constant, remedy=wrong)


def _sample_ratio(count: Ints, inverse: Floats, spread: Floats, *, remedy: str) -> RuleResult:
    n, grid = int(count.sum()), len(count)
    tested = spread > 1 + 1e-9  # not: never served under a logged design (NaN), or always
    expected = f"chi-square p >= {ALARM:g}"
    if tested.sum() < 2 or n / spread[tested].max() < MIN_EXPECTED:
        return RuleResult("sample_ratio", False, "warning", f"not tested: {n:,} rows on {grid} actions", expected, remedy="explore longer")
    score = np.where(tested, (inverse / n - 1) / np.sqrt(spread), 0)
    freedom = int(tested.sum()) - int(np.isclose(np.sum(1 / spread[tested]), 1))
    p_value = float(stats.chi2.sf(n * np.sum(score**2), freedom))
    worst = int(np.argmax(np.abs(score)))
    seen = f"p = {p_value:.2g}; action {worst + 1} served {count[worst]:,} times, {inverse[worst] / n - 1:+.1%} against its propensity"
    return RuleResult("sample_ratio", p_value >= ALARM, "error", seen, expected, remedy=remedy)


def _action_weights(count: Ints, inverse: Floats, spread: Floats, *, constant: Bools, remedy: str) -> RuleResult:
    n, grid = int(count.sum()), len(count)
    spread = np.where(spread > 1 + 1e-9, spread, np.inf)  # the support rule speaks of actions never served
    chance = 1 / spread
    exact = np.minimum(1, 2 * np.minimum(stats.binom.cdf(count, n, chance), stats.binom.sf(count - 1, n, chance)))
    normal = 2 * stats.norm.sf(np.abs(inverse / n - 1) / np.sqrt((spread - 1) / n))
    p_values = np.where(constant, exact, np.where(count >= MIN_EXPECTED, normal, 1.0))
    worst = int(np.argmin(p_values))
    seen = f"farthest: action {worst + 1}, mean weight {inverse[worst] / n:.3f} (p = {p_values[worst]:.2g})"
    ok = bool(p_values[worst] * grid >= ALARM)
    return RuleResult("action_weights", ok, "error", seen, f"1 for every action, p >= {ALARM / grid:.2g} each", remedy=remedy)


def _off_grid(tally: Tally) -> RuleResult:
    share = tally.off_grid_explored / max(1, tally.explored)
    seen = f"{tally.off_grid_explored:,} exploration rows ({share:.2%}), {tally.off_grid:,} rows in all"
    remedy = "give surface.heads in paretune.toml the levels that were served"
    ok = share <= LARGEST_OFF_GRID_SHARE
    return RuleResult("on_grid", ok, "warning", seen, f"at most {LARGEST_OFF_GRID_SHARE:.0%} off the grid", "", tally.off_grid, remedy)


def _users(tally: Tally) -> RuleResult:
    n, largest = len(tally.users), int(tally.user_rows.max(initial=0))
    share, mean = largest / max(1, tally.rows), tally.rows / max(1, n)
    seen = f"{n:,} users, {mean:.1f} rows each, the busiest {largest:,} ({share:.2%})"
    ok = share <= LARGEST_USER_SHARE or largest <= 20 * mean
    remedy = "take robots and test accounts out; check that missing user ids are not one value"
    return RuleResult("rows_per_user", ok, "warning", seen, f"no user with over {LARGEST_USER_SHARE:.0%} of the rows", remedy=remedy)


def _missing_features(tally: Tally) -> RuleResult:
    shares = {name: rows / max(1, tally.rows) for name, rows in tally.missing.items()}
    sparse = {name: share for name, share in shares.items() if share > LARGEST_MISSING_SHARE}
    most = max(shares, key=lambda name: shares[name], default=None)
    shown = sparse or ({} if most is None else {most: shares[most]})
    seen = ", ".join(f"{name} missing in {share:.0%}" for name, share in shown.items())
    where = ", ".join(f"column {name!r}" for name in sparse)
    remedy = "check the join that fills the column, or take it out of features in paretune.toml"
    expected = f"no feature missing in over {LARGEST_MISSING_SHARE:.0%} of rows"
    return RuleResult("features_present", not sparse, "warning", seen or "no features", expected, where, remedy=remedy)


def _cohorts(tally: Tally, config: Config) -> RuleResult:
    known = config.cohorts.values
    unknown = sorted(tally.cohorts - set(known)) if known else []
    seen = ", ".join(sorted(tally.cohorts)[:10]) or "none"
    expected = ", ".join(known) or "any"
    remedy = "name them in cohorts.values in paretune.toml"
    return RuleResult("cohorts_known", not unknown, "warning", seen, expected, ", ".join(unknown[:10]), remedy=remedy)


def _listed(tally: Tally) -> RuleResult:
    share = tally.listed / max(1, tally.explored)
    remedy = "log candidates on every exploration row: `replay` learns from those rows only, and from far fewer of them"
    return RuleResult("candidates_logged", share > 0.99, "warning", f"{share:.1%} of exploration rows", "all", remedy=remedy)


def days_rules(days: tuple[int, ...], config: Config) -> tuple[RuleResult, ...]:
    """Return the rules about which days there are (increasing, since 1970-01-01)."""
    wanted = config.evaluation.train_days + config.evaluation.hold_out_days
    gaps = days[-1] - days[0] + 1 - len(days) if days else 0
    lower = "collect more days, or lower evaluation.train_days and evaluation.hold_out_days in paretune.toml"
    return (
        RuleResult(DAYS_ENOUGH, len(days) >= wanted, "warning", f"{len(days)} days", f"{wanted} to train and hold out", remedy=lower),
        RuleResult("days_complete", gaps == 0, "warning", f"{gaps} days missing in between", "none", remedy="look for the missing folders"),
    )


def _missing(log: Log) -> dict[str, int]:
    state = log.state
    counts = {name: int(np.isnan(column).sum()) for name, column in state.numeric.items()}
    counts |= {name: int((column.codes < 0).sum()) for name, column in state.categorical.items()}
    counts |= {name: int(np.isnan(column).all(axis=1).sum()) for name, column in state.embedding.items()}
    return counts
