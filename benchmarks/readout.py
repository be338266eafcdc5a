"""What a readout promises and what it keeps: python benchmarks/readout.py [--quick] --json OUT.

Requests of 21 days of the `homefeed` world with three objectives are drawn once, under production, with the exact probability of every
objective under production and under two other weight vectors: the first 7 days come before the test, 14 are the test. A test draws users of
this population with replacement and their events afresh, splits them with the product's own salted hash, by user (sticky) or by session
(not sticky), and is read out by `paretune.experiment` at 280 looks of equal traffic and at its planned end. So the truth is known exactly:
the population's totals under each arm's weights.

- A/A tests, three arms: a false alarm is any of the 8 lifts (2 arms x 4 metrics) whose interval excludes zero; at the planned end by the
  bands (fixed), and at any of the 280 looks by the sequences (peeking). `alone` is how often one number's own 95 % sequence excludes zero
  at any look, `naive_peeking` what the bands do when they are peeked at.
- A/B tests of two other weight vectors: how often each lift's own 95 % interval holds the truth; the worst metric is printed too.
- Power: a lift of the first objective is added to its probability; a pilot A/A test says how many users 80 % power by the bands takes, and
  tests of that size say how often the band shows it.
World seeds are used nowhere else.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paretune.experiment.lifts import Ratio, arm_values, lifts_over
from paretune.experiment.metrics import Metric
from paretune.experiment.moments import Moments
from paretune.experiment.power import users_needed
from paretune.experiment.readout import Design, Readout, read_out
from paretune.experiment.sample_ratio import sample_ratio
from paretune.experiment.sequences import critical, planned_error, tells
from paretune.explore.assign import arm_of
from paretune.logs.hashing import hash_integers
from paretune.records import Bools, Floats, Ints
from paretune.seeds import stream
from paretune.sim.response import exact_values
from paretune.sim.traffic import explore_uniformly, sessions
from paretune.sim.world import World, open_world

FIRST_SEED = 4401
BEFORE, TEST = 7, 14  # days
LOOKS = 280
POWER, LIFT = 0.8, 0.06
ARMS = ("control", "first", "second")
TARGETS = {
    "false_alarm_fixed": ("<=", 0.05),
    "false_alarm_peeking": ("<=", 0.05),
    "coverage_sticky": ("in", (0.93, 0.97)),
    "coverage_not_sticky": ("in", (0.93, 0.97)),
    "sequences_hold_all": (">=", 0.95),
    "power": ("in", (0.75, 0.85)),
}


@dataclass(frozen=True, slots=True)
class Population:
    """Requests by user and in time; rows of user i are first[i]:first[i + 1]."""

    first: Ints  # (users + 1,)
    when: Floats  # (n,) days since the world began
    session: Ints  # (n,)
    chance: Floats  # (n, A, M) exact, under production and under the weights of the other arms
    wanted: Bools  # (M,) more is better

    def truth(self) -> Floats:
        """Return the true lifts (A - 1, M + 1) of the test's days, sessions last."""
        rows = self.when >= BEFORE
        value = self.chance[rows].mean(axis=0, dtype=np.float64)
        none = np.log1p(-self.chance[rows][:, :, self.wanted].astype(np.float64)).sum(axis=2)
        _, place = np.unique(self.session[rows], return_inverse=True)
        success = [1 - np.exp(np.bincount(place, column)).mean() for column in none.T]
        both = np.concatenate([value, np.array(success)[:, None]], axis=1)
        return both[1:] / both[0] - 1


def populate(world: World, actions: Floats, sessions_per_day: int, rng: np.random.Generator) -> Population:
    """Return the requests of all days."""
    user, when, session, chance = [], [], [], []
    for day in range(BEFORE + TEST):
        for served in sessions(world, sessions_per_day, day=day, choose=explore_uniformly(world, 0.0), rng=rng):
            user.append(served.arrivals.user)
            when.append(day + np.minimum(served.arrivals.hour / 24 + served.position / 1440, 0.9999))
            session.append(day * sessions_per_day + served.session)
            chance.append(exact_values(world, served.arrivals, actions))
    of, at = np.concatenate(user), np.concatenate(when)
    order = np.lexsort((at, of))
    first = np.concatenate([[0], np.flatnonzero(np.diff(of[order])) + 1, [len(of)]])
    wanted = np.array([objective.direction == "maximise" for objective in world.config().objectives])
    return Population(first, at[order], np.concatenate(session)[order], np.concatenate(chance)[order], wanted)


def play(population: Population, users: int, *, sticky: bool, salt: str, rng: np.random.Generator, arms: int = len(ARMS)) -> Moments:
    """Return the moments of one test at every look.

    Args:
        population: whose users are drawn.
        users: of the test, over all arms.
        sticky: assign users; else sessions.
        salt: of the split.
        rng: source of the users and of what they do.
        arms: of equal shares; the weights of arm a are those of column a.
    """
    drawn = rng.integers(0, len(population.first) - 1, users)
    length = np.diff(population.first)[drawn]
    begin = np.cumsum(length) - length
    row = np.arange(length.sum()) - np.repeat(begin - population.first[drawn], length)
    user = np.repeat(np.arange(users), length)
    when, tested = population.when[row], population.when[row] >= BEFORE
    visit = np.flatnonzero(np.diff(user * 2**40 + population.session[row], prepend=-1)).astype(np.int64)  # first row of each session
    of_visit = np.repeat(np.arange(len(visit)), np.diff(np.append(visit, len(row))))
    unit = user if sticky else of_visit
    arm = arm_of(hash_integers(unit), shares=(1 / arms,) * arms, salt=salt)
    arm[~tested] = 0
    earned = rng.random((len(row), population.chance.shape[2])) < population.chance[row, arm]
    success = np.logical_or.reduceat(earned[:, population.wanted].any(axis=1), visit)
    opens = np.zeros(len(row), dtype=np.bool_)
    opens[visit] = True
    numbers = np.concatenate([np.ones((len(row), 1)), earned, opens[:, None], (opens & success[of_visit])[:, None]], axis=1)
    before = np.stack([np.bincount(user[~tested], column[~tested], minlength=users) for column in numbers.T], axis=1)
    rows = np.flatnonzero(tested)[np.argsort(when[tested], kind="stable")]
    return at_looks(user[rows], arm[rows], numbers[rows], before, arms=arms, adjusted=sticky)


def at_looks(user: Ints, arm: Ints, numbers: Floats, before: Floats, *, arms: int, adjusted: bool) -> Moments:
    """Return the moments (T, ...) at looks of equal traffic: what a row adds to the products of its user is summed up in time.

    Args:
        user: (n,) of rows in time.
        arm: (n,).
        numbers: (n, J) what each row adds.
        before: (users, J) of before the test.
        arms: A.
        adjusted: carry the time before the test as columns; users are then in one arm.
    """
    n, size = numbers.shape
    columns = 2 * size if adjusted else size
    width = columns if adjusted else arms * columns  # of the vector of a user: one arm's, or all arms' side by side
    order = np.lexsort((np.arange(n), user))
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    added = np.zeros((n, width))
    if adjusted:
        added[:, :size] = numbers[order]
        added[starts, size:] = before[user[order][starts]]
    else:
        added[np.arange(n)[:, None], arm[order][:, None] * size + np.arange(size)] = numbers[order]
    run = np.cumsum(added, axis=0)
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, n)))
    after = run - (run[starts] - added[starts])[group]
    earlier = after - added
    seen = np.zeros((n, arms))
    pairs, firsts = np.unique(user[order] * arms + arm[order], return_index=True)
    seen[firsts, pairs % arms] = 1
    several = np.zeros(n)
    counted = np.cumsum(seen.sum(axis=1))
    place = counted - (counted[starts] - seen[starts].sum(axis=1))[group]
    several[(seen.sum(axis=1) > 0) & (place == 2)] = 1
    looks = (np.arange(1, LOOKS + 1) * n) // LOOKS
    look = np.searchsorted(looks, order, side="right")  # of each row, in user order
    cumulated = lambda values: np.cumsum(by_look(values, look), axis=0)  # noqa: E731
    users, crossed = cumulated(seen), cumulated(several[:, None])[:, 0]
    total, product = np.zeros((LOOKS, arms, columns)), np.zeros((LOOKS, arms, columns, arms, columns))
    where = arm[order]
    upper = [(i, j) for i in range(width) for j in range(i, width)]
    for a in range(arms) if adjusted else (0,):
        mine = where == a if adjusted else np.ones(n, dtype=np.bool_)
        new, old, at = after[mine], earlier[mine], look[mine]
        change = np.stack([new[:, i] * new[:, j] - old[:, i] * old[:, j] for i, j in upper], axis=1)
        summed = np.cumsum(by_look(change, at), axis=0)
        square = np.zeros((LOOKS, width, width))
        for k, (i, j) in enumerate(upper):
            square[:, i, j] = square[:, j, i] = summed[:, k]
        sums = np.cumsum(by_look(new - old, at), axis=0)
        if adjusted:
            total[:, a], product[:, a, :, a] = sums, square
        else:
            total, product = sums.reshape(LOOKS, arms, columns), square.reshape(LOOKS, arms, columns, arms, columns)
    return Moments(users, crossed, total, product)


def by_look(values: Floats, look: Ints) -> Floats:
    """Return (LOOKS, d) sums of the rows that came in since the look before."""
    return np.stack([np.bincount(look, column, minlength=LOOKS) for column in values.T], axis=1)


def metrics_of(world: World, *, adjusted: bool) -> tuple[Metric, ...]:
    """Return the objectives and the sessions as metrics of the columns that `play` makes."""
    objectives = world.config().objectives
    size = len(objectives) + 3
    before = [(size + 1 + j, size) for j in range(len(objectives))]
    found = [
        Metric(o.name, Ratio(o.name, 1 + j, 0, before[j] if adjusted else None), 1 if o.direction == "maximise" else -1, 0.01)
        for j, o in enumerate(objectives)
    ]
    last = Ratio("sessions", size - 1, size - 2, (2 * size - 1, 2 * size - 2) if adjusted else None)
    return (*found, Metric("sessions", last, 1, 0.01))


def judged(world: World, moments: Moments, *, sticky: bool) -> Readout:
    """Return the readout; every look is a day of a plan that ends with the last."""
    names = ARMS[: moments.arms]
    counts = dict(zip(names, moments.users[-1].tolist(), strict=True))
    ratio = sample_ratio(counts if sticky else {}, dict.fromkeys(names, 1.0))
    return read_out(moments, metrics_of(world, adjusted=sticky), Design(names, LOOKS), days=range(LOOKS), ratio=ratio)


def measure(*, worlds: int, aa: int, ab: int, power: int, users: int, sessions_per_day: int, seed: int) -> dict[str, float]:
    """Return the figures over all worlds.

    Args:
        worlds: each with a population of its own.
        aa: A/A tests per world and kind of assignment.
        ab: A/B tests per world and kind of assignment.
        power: tests of the planned size per world.
        users: of a test of the first two kinds.
        sessions_per_day: of a population.
        seed: of everything drawn.
    """
    fixed: list[bool] = []
    peeked: list[bool] = []
    naive: list[bool] = []
    alone: list[Bools] = []
    alarms: list[str] = []
    ratio: list[bool] = []
    inside: dict[bool, list[Bools]] = {True: [], False: []}
    covered: list[Bools] = []
    shown: list[bool] = []
    result: dict[str, float] = {}
    for w in range(worlds):
        began = time.perf_counter()
        world = open_world("homefeed", setting="demo", seed=seed + FIRST_SEED + w, objectives=3)
        population = populate(world, two_others(world), sessions_per_day, stream(seed, "population", w))
        truth = population.truth()
        same = replace(population, chance=np.repeat(population.chance[:, :1], len(ARMS), axis=1))
        size = f"{len(population.first) - 1:,} users, {len(population.when):,} requests"
        print(f"world {w}: {size}; true lifts {np.round(100 * truth, 2).tolist()} %", flush=True)
        for sticky in (True, False):
            for i in range(aa):
                salt = f"aa {w} {sticky} {i}"
                moments = play(same, users, sticky=sticky, salt=salt, rng=stream(seed, salt))
                found = judged(world, moments, sticky=sticky)
                fixed.append(bool(((found.band_low > 0) | (found.band_high < 0)).any()))
                peeked.append(bool(((found.watched_low > 0) | (found.watched_high < 0)).any()))
                careless, left = peeks(found, moments)
                naive.append(careless)
                alone.append(left)
                ratio.append(found.ratio.failed)
                alarms += [verdict.answer for verdict in found.verdicts]
            for i in range(ab):
                salt = f"ab {w} {sticky} {i}"
                found = judged(world, play(population, users, sticky=sticky, salt=salt, rng=stream(seed, salt)), sticky=sticky)
                inside[sticky].append((found.low <= truth) & (truth <= found.high))
                covered.append(~((found.watched_low > truth) | (found.watched_high < truth)))  # before it says anything it holds all
        shown += powered(world, population, users, power, seed=seed, w=w)
        result = figures(fixed, peeked, naive, alone, ratio, alarms, inside, covered, shown)
        print(f"world {w}: {time.perf_counter() - began:.0f} s; " + ", ".join(f"{k} {v:.4f}" for k, v in result.items()), flush=True)
    return result


def powered(world: World, population: Population, users: int, tests: int, *, seed: int, w: int) -> list[bool]:
    """Return in which tests of the planned size the band showed a lift of the first objective that is truly there."""
    chance = np.repeat(population.chance[:, :1], 2, axis=1)
    same = replace(population, chance=chance)
    pilot = judged(world, play(same, users, sticky=True, salt=f"pilot {w}", rng=stream(seed, "pilot", w), arms=2), sticky=True)
    band = float(((np.log1p(pilot.band_high) - np.log1p(pilot.lift)) / pilot.std_error)[0, 0])
    size = int(users_needed(users, pilot.std_error[0, 0], lift=LIFT, critical=band, power=POWER))
    level = chance[population.when >= BEFORE, 0, 0].mean(dtype=np.float64)
    lifted = chance.copy()
    lifted[:, 1, 0] += LIFT * level * (1 - chance[:, 0, 0]) / (1 - level)  # a mean of (1 + LIFT) level
    better = replace(population, chance=lifted)
    print(f"world {w}: {size:,} users are planned for a lift of {100 * LIFT:g} %", flush=True)
    shown = []
    for i in range(tests):
        salt = f"power {w} {i}"
        found = judged(world, play(better, size, sticky=True, salt=salt, rng=stream(seed, salt), arms=2), sticky=True)
        shown.append(bool(found.band_low[0, 0] > 0))
    return shown


def peeks(found: Readout, moments: Moments) -> tuple[bool, Bools]:
    """Return whether somebody who takes the bands' width at every look stops on a lift, and which numbers' own sequences do (A, M)."""
    every = lifts_over(arm_values(moments, [metric.ratio for metric in found.metrics]), 0)
    wide = (np.log1p(found.band_high) - np.log1p(found.lift)) / found.std_error
    smallest_arm = moments.users.min(axis=-1)
    told = tells(every.std_error, smallest_arm)
    planned = planned_error(every.std_error, smallest_arm, np.arange(1, LOOKS + 1), planned=LOOKS)
    away = np.where(told, np.abs(every.log_ratio), 0)
    alone = away > every.std_error * critical(every.std_error, planned=planned, alpha=0.05)
    return bool((away > wide * every.std_error).any()), alone.any(axis=0)


def two_others(world: World) -> Floats:
    """Return production's weights and two others (3, m): one that favours the first objective, one that favours the second."""
    static, (first, second) = world.surface.static, world.objective_heads[:2]
    others = np.tile(static, (2, 1))
    others[0, first] *= 1.6
    others[1, second] *= 1.6
    return np.concatenate([static[None], others])


def figures(
    fixed: list[bool], peeked: list[bool], naive: list[bool], alone: list[Bools], ratio: list[bool], alarms: list[str],
    inside: dict[bool, list[Bools]], covered: list[Bools], shown: list[bool],
) -> dict[str, float]:  # fmt: skip
    """Return the figures."""
    result = {
        "aa_tests": float(len(fixed)),
        "false_alarm_fixed": float(np.mean(fixed)),
        "false_alarm_peeking": float(np.mean(peeked)),
        "false_alarm_peeking_alone": float(np.mean(alone)),
        "false_alarm_peeking_alone_highest": float(np.mean(alone, axis=0).max()),
        "false_alarm_naive_peeking": float(np.mean(naive)),
        "false_alarm_sample_ratio": float(np.mean(ratio)),
        "wrong_verdicts": float(np.mean([answer in {"ships", "harms"} for answer in alarms])),
        "ab_tests": float(len(covered)),
    }
    for sticky, name in ((True, "sticky"), (False, "not_sticky")):
        held = np.stack(inside[sticky])
        result |= {f"coverage_{name}": float(held.mean()), f"coverage_{name}_lowest": float(held.mean(axis=0).min())}
        result[f"coverage_{name}_highest"] = float(held.mean(axis=0).max())
    result["coverage"] = (result["coverage_sticky"] + result["coverage_not_sticky"]) / 2
    result["sequences_hold_all"] = float(np.mean([held.all() for held in covered]))
    result |= {"power_tests": float(len(shown)), "power": float(np.mean(shown)), "power_planned": POWER}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one world, fewer tests; under 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    size: dict[str, Any] = {"worlds": 3, "aa": 500, "ab": 250, "power": 300, "users": 4_000, "sessions_per_day": 15_000}
    if options.quick:
        size |= {"worlds": 1, "aa": 150, "ab": 100, "power": 100}
    found = measure(**size, seed=options.seed)
    found["seconds"] = time.perf_counter() - began
    print()
    for name, value in found.items():
        print(f"{name:34s} {value:10.4f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
