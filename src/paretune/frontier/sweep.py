"""The sweep: every member of a policy family chooses on every exploration row, and the log answers for those it agrees with (Eq. 5).

The rule: chunks of the hold-out log are fed in and only sums stay (per cohort, per bucket of users, per policy), so two sweeps of the same
family add up. With a kernel, rows also speak for policies whose action is only alike. What grows with the log are the distinct users alone,
8 bytes each. Every grid action is swept along as a static policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from operator import add

import numpy as np

from paretune.errors import DataError
from paretune.frontier.curve import CurveSums, curve_grid, hit_intervals, no_hits
from paretune.ope.clusters import BUCKETS, user_buckets
from paretune.ope.lift import AnchoredSums, explored_sums, produced_sums
from paretune.ope.pooled import no_pooled_sums, pooled_sums
from paretune.ope.pooling import Kernel, Likeness
from paretune.records import PRODUCTION, Bools, Categorical, Floats, Ints, Log

ROWS_PER_BLOCK = 256  # the scores of 25 policies on 49 actions then stay in the cache
ROWS_PER_FLUSH = 131_072  # of 50 actions; fewer of larger grids
ROWS_PER_POOL = 65_536  # with a kernel: a row then waits with some 1.5 kB


def alpha_grid(points: int = 25) -> Floats:
    """Return (points,) weights of the first objective, evenly spaced over [0, 1]; the paper's 25."""
    return np.linspace(0.0, 1.0, points)


def scalarise(alphas: Floats) -> Floats:
    """Return (P, 2) scalarisations (alpha, 1 - alpha)."""
    return np.column_stack([alphas, 1 - alphas])


def simplex_grid(objectives: int, divisions: int) -> Floats:
    """Return (P, M) scalarisations evenly spread over the simplex (Das and Dennis, 1998); M = 1 gives one, M = 2 `divisions` + 1."""
    places = list(combinations(range(divisions + objectives - 1), objectives - 1))
    bars = np.array(places, dtype=np.int64).reshape(len(places), objectives - 1)
    edges = np.column_stack([np.full(len(bars), -1), bars, np.full(len(bars), divisions + objectives - 1)])
    return (np.diff(edges, axis=1) - 1) / divisions


def choose(values: Floats, scalarisations: Floats, *, allowed: Ints | None = None) -> Ints:
    """Return the action that each scalarisation takes for each request: argmax_a sum_j c_j v_j(s, a), ties to the lowest index.

    Args:
        values: (n, K, M) finite, in relative-lift units.
        scalarisations: (P, M).
        allowed: indices among which to choose; by default the grid, since exploration never draws production.

    Returns:
        (n, P) int16 indices into the K actions.
    """
    allowed = np.arange(PRODUCTION + 1, values.shape[1]) if allowed is None else np.asarray(allowed)
    weights = np.asarray(scalarisations, dtype=values.dtype)
    chosen = np.empty((len(values), len(weights)), dtype=np.int16)
    for start in range(0, len(values), ROWS_PER_BLOCK):
        part = np.ascontiguousarray(values[start : start + ROWS_PER_BLOCK, allowed].transpose(2, 0, 1))  # (M, rows, A)
        score = weights[:, 0, None] * part[0][:, None]
        term = np.empty_like(score)
        for j in range(1, len(part)):
            score += np.multiply(weights[:, j, None], part[j][:, None], out=term)
        chosen[start : start + ROWS_PER_BLOCK] = allowed[score.argmax(axis=2)]
    return chosen


def choose_each(values: Floats, scalarisation: Floats, *, allowed: Ints | None = None) -> Ints:
    """Return the action of each request under its own scalarisation, e.g. its cohort's.

    Args:
        values: (n, K, M) finite, in relative-lift units.
        scalarisation: (n, M), one per request.
        allowed: indices among which to choose; by default the grid.

    Returns:
        (n,) int16.
    """
    allowed = np.arange(PRODUCTION + 1, values.shape[1]) if allowed is None else np.asarray(allowed)
    score = np.einsum("nkm,nm->nk", values[:, allowed], scalarisation)
    return allowed[score.argmax(axis=1)].astype(np.int16)


@dataclass(frozen=True, slots=True)
class Family:
    """What is swept."""

    actions: Floats  # (K, m) full weight vectors, production first
    scalarisations: Floats  # (P, M) in relative-lift units
    scale: Floats  # (M,) direction (+1 or -1) / production's value: turns predicted values into relative-lift units
    cohorts: tuple[str, ...]  # cohorts that are kept apart; rows of others count in totals only

    @property
    def groups(self) -> int:
        """Cohorts kept apart, plus one for everybody else."""
        return len(self.cohorts) + 1

    def cohort_index(self, cohort: Categorical) -> Ints:
        """Return (n,) the position of each row's cohort, the last for unknown ones."""
        known = {name: i for i, name in enumerate(self.cohorts)}
        table = np.array([*(known.get(word, len(known)) for word in cohort.vocabulary), len(known)])
        return table[cohort.codes]


@dataclass(frozen=True, slots=True)
class SweepSums:
    """All that a sweep keeps of a log. Policies: the P of the family, then K - 1 static ones, one per grid action."""

    family: Family
    anchored: AnchoredSums  # cluster = cohort x BUCKETS + bucket
    choices: Ints  # (groups, P, K) exploration rows on which a policy takes an action
    users: Ints  # (u,) distinct, sorted
    curve: CurveSums | None  # with two objectives: what the exact curve needs
    changed: Ints | None = None  # (groups, P + K - 1) exploration rows whose list is not production's; None without candidates

    def __add__(self, other: SweepSums) -> SweepSums:
        """Return the sums over both logs, swept with the same family.

        Raises:
            DataError: the families differ.
        """
        mine, theirs = self.family, other.family
        if mine.cohorts != theirs.cohorts or not all(
            np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in ("actions", "scalarisations", "scale")
        ):
            raise DataError("the two sweeps are of different policy families", hint="sweep every part of the log with one family")
        curve = None if self.curve is None or other.curve is None else self.curve + other.curve
        users = np.union1d(self.users, other.users)
        changed = None if self.changed is None or other.changed is None else self.changed + other.changed
        return SweepSums(mine, self.anchored + other.anchored, self.choices + other.choices, users, curve, changed)

    @property
    def size(self) -> int:
        """P, members of the family."""
        return len(self.family.scalarisations)

    def total(self, half: Bools | None = None) -> AnchoredSums:
        """Return the sums over all cohorts, per bucket of users; of some buckets only where a mask (BUCKETS,) is given."""
        groups = self.anchored.groups(self.family.groups)
        total = reduce(add, groups)
        return total if half is None else total.of_clusters(half)

    def cohort(self, cohort: int, half: Bools | None = None) -> AnchoredSums:
        """Return the sums of one cohort (the last group: everybody else), per bucket of users."""
        sums = self.anchored.groups(self.family.groups)[cohort]
        return sums if half is None else sums.of_clusters(half)

    def n_users(self, half: Bools | None = None) -> int:
        """Return the number of distinct users, of some buckets only where a mask is given."""
        return len(self.users) if half is None else int(half[user_buckets(self.users)].sum())

    def action_shares(self) -> Floats:
        """Return (P, K) share of requests on which each member takes each action."""
        counts = self.choices.sum(axis=0)
        return counts / np.maximum(1, counts.sum(axis=1, keepdims=True))

    def changed_share(self, column: int | Ints) -> float:
        """Return the share of exploration rows on which a policy serves another list than production; NaN without candidates.

        Args:
            column: of the policy among all, or (groups,) one for each cohort and for everybody else.
        """
        if self.changed is None:
            return float("nan")
        rows = self.choices[:, 0].sum()
        columns = np.broadcast_to(column, len(self.changed))
        return float(self.changed[np.arange(len(self.changed)), columns].sum() / max(1, rows))


def user_half(half: int) -> Bools:
    """Return a mask (BUCKETS,) of one half of the users: 0 to choose on, 1 to report on."""
    return np.arange(BUCKETS) % 2 == half


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows that were taken in and are not yet in the sums."""

    log: Log  # without state and candidates
    chosen: Ints  # (n, P)
    expected: Floats  # (n, M)
    likeness: Likeness | None
    advantages: Floats | None  # (n, K, M)
    differs: Bools | None  # (n, K)


class Sweep:
    """A running sweep: feed chunks, then ask for the sums."""

    def __init__(self, family: Family, *, kernel: Kernel | None = None, replayed: bool = False) -> None:
        """Begin.

        Args:
            family: what is swept.
            kernel: also keep sums pooled by it; None keeps hits alone.
            replayed: advantages will come with the rows.

        Raises:
            DataError: scalarisations and scale do not fit, or are not finite.
        """
        if family.scalarisations.ndim != 2 or family.scalarisations.shape[1] != len(family.scale):
            raise DataError(
                f"scalarisations have shape {family.scalarisations.shape} for {len(family.scale)} objectives", hint="give (P, M) weights"
            )
        if not (np.isfinite(family.scale).all() and np.isfinite(family.scalarisations).all()):
            raise DataError(
                f"the scale of the objectives is {family.scale}", hint="an objective that production never earns cannot be swept"
            )
        self.family, self._kernel, self._replayed = family, kernel, replayed
        clusters, policies, objectives = family.groups * BUCKETS, self._policies, len(family.scale)
        nobody = np.empty(0, np.int64)
        nothing = np.empty((0, objectives))
        self._explored = explored_sums(nothing, np.empty(0), np.empty((0, policies), np.bool_), nobody, clusters=clusters)
        self._produced = produced_sums(nothing, nobody, clusters=clusters)
        shape = {"policies": policies, "objectives": objectives, "clusters": clusters}
        self._pooled = None if kernel is None else no_pooled_sums(kernel, **shape, replayed=replayed)
        self._choices = np.zeros((family.groups, len(family.scalarisations), len(family.actions)), dtype=np.int64)
        self._changed: Ints | None = np.zeros((family.groups, policies), dtype=np.int64)
        self._users: list[Ints] = []
        self._curve = CurveSums(curve_grid(family.scalarisations[:, 0]), no_hits(2)) if objectives == 2 else None
        self._waiting: list[_Waiting] = []

    @property
    def _policies(self) -> int:
        return len(self.family.scalarisations) + len(self.family.actions) - 1

    def add_explored(
        self,
        log: Log,
        values: Floats,
        *,
        expected: Floats | None = None,
        likeness: Likeness | None = None,
        advantages: Floats | None = None,
        differs: Bools | None = None,
    ) -> None:
        """Take in exploration rows that lie on the grid (`Log.exploration()`).

        Args:
            log: n rows.
            values: (n, K, M) predicted values of all actions, in the model's units.
            expected: m(s) (n, M), fitted on earlier production rows; zero where not given.
            likeness: of the rows towards the K actions; with a kernel.
            advantages: g(s, a) (n, K, M), fitted on earlier rows; with a kernel that is replayed.
            differs: (n, K) whether an action's list is not production's; None where that is not known.

        Raises:
            DataError: values or rewards are not finite, shapes disagree, an action is off the grid, or what the kernel needs is missing.
        """
        n_actions, objectives = len(self.family.actions), len(self.family.scale)
        if values.shape != (len(log), n_actions, objectives):
            raise DataError(
                f"values have shape {values.shape}, not {(len(log), n_actions, objectives)}", hint="score every action of every row"
            )
        if not np.isfinite(values).all():
            raise DataError("predicted values hold NaN or infinity", hint="check the model's inputs")
        if len(log) and (log.action.min() <= PRODUCTION or log.action.max() >= n_actions):
            raise DataError("exploration rows hold actions that are not on the grid", hint="feed `log.exploration()`")
        if (likeness is None) != (self._kernel is None) or (advantages is None) == self._replayed:
            raise DataError("what the kernel needs does not come with the rows", hint="give likeness, and advantages where it is replayed")
        expected = np.zeros_like(log.rewards) if expected is None else expected
        relative = values * self.family.scale.astype(values.dtype)
        slim = replace(log, candidates=None, state=log.state.take(slice(0, 0)))
        self._waiting.append(_Waiting(slim, choose(relative, self.family.scalarisations), expected, likeness, advantages, differs))
        if self._curve is not None:
            part = hit_intervals(relative[:, 1:], log.action - 1, propensity=log.propensity, rewards=log.rewards, expected=expected)
            self._curve = self._curve + replace(self._curve, rows=part, steps=None)
        most = ROWS_PER_FLUSH if self._kernel is None else ROWS_PER_POOL
        if sum(len(part.log) for part in self._waiting) >= most * min(1, 50 / n_actions):
            self._flush()

    def add_produced(self, log: Log, *, expected: Floats | None = None) -> None:
        """Take in production rows (`Log.production()`).

        Args:
            log: n rows.
            expected: m(s) (n, M), the same m as on the exploration rows.

        Raises:
            DataError: rewards are not finite, or shapes disagree.
        """
        cluster = self._cluster(log)
        self._produced = self._produced + produced_sums(log.rewards, cluster, clusters=self.family.groups * BUCKETS, expected=expected)
        self._meet(log.user)

    def sums(self) -> SweepSums:
        """Return the sums of everything fed so far."""
        self._flush()
        users = np.unique(np.concatenate(self._users)) if self._users else np.empty(0, np.uint64)
        return SweepSums(
            self.family, AnchoredSums(self._explored, self._produced, self._pooled), self._choices.copy(), users, self._curve, self._changed
        )

    def _flush(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        action = np.concatenate([part.log.action for part in waiting])
        cluster = np.concatenate([self._cluster(part.log) for part in waiting])
        chosen = np.concatenate([part.chosen for part in waiting])
        self._count(chosen, cluster // BUCKETS)
        static = np.broadcast_to(np.arange(1, len(self.family.actions), dtype=chosen.dtype), (len(chosen), len(self.family.actions) - 1))
        policies = np.concatenate([chosen, static], axis=1)
        self._count_changed(policies, [part.differs for part in waiting], cluster // BUCKETS)
        rewards = np.concatenate([part.log.rewards for part in waiting])
        expected = np.concatenate([part.expected for part in waiting])
        clusters = self.family.groups * BUCKETS
        propensity = np.concatenate([part.log.propensity for part in waiting])
        self._explored = self._explored + explored_sums(
            rewards, propensity, policies == action[:, None], cluster, clusters=clusters, expected=expected
        )
        for part in waiting:
            self._meet(part.log.user)
        if self._kernel is not None and self._pooled is not None:
            advantages = [part.advantages for part in waiting if part.advantages is not None]
            self._pooled = self._pooled + pooled_sums(
                rewards,
                Likeness.concat([part.likeness for part in waiting if part.likeness is not None]),
                policies,
                cluster,
                kernel=self._kernel,
                action=action,
                clusters=clusters,
                expected=expected,
                advantages=np.concatenate(advantages) if advantages else None,
            )

    def _count(self, chosen: Ints, group: Ints) -> None:
        n_actions, n_family = len(self.family.actions), chosen.shape[1]
        cell = group[:, None] * n_family + np.arange(n_family)
        self._choices += np.bincount((cell * n_actions + chosen).ravel(), minlength=self._choices.size).reshape(self._choices.shape)

    def _count_changed(self, policies: Ints, differs: list[Bools | None], group: Ints) -> None:
        known = [part for part in differs if part is not None]
        if self._changed is None or len(known) < len(differs):
            self._changed = None  # a share of some of the rows only would say nothing of all
            return
        changed = np.take_along_axis(np.concatenate(known), policies.astype(np.int64), axis=1)
        self._changed = self._changed + np.stack([changed[group == g].sum(axis=0) for g in range(self.family.groups)])

    def _cluster(self, log: Log) -> Ints:
        return self.family.cohort_index(log.cohort) * BUCKETS + user_buckets(log.user)

    def _meet(self, user: Ints) -> None:
        self._users.append(np.unique(user))
        if len(self._users) > 32:
            self._users = [np.unique(np.concatenate(self._users))]
