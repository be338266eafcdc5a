"""What each user did in each arm, day by day: rows of a log, summed as they are read, and the moments of every look.

The rule: an arm is its users, whatever they were served: explored and fallen-back requests stay in the arm of their user (intention to
treat; coins of exploration and of arms are independent, so every arm holds the same share of them). Where users were assigned, a user is
in the arm of the first request and in the cohort of the first request, both of which no treatment can have moved; users whose arm changed
are counted. A session is counted once, on its first day, and is successful once any objective to be maximised has earned something.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from paretune.errors import DataError
from paretune.experiment.moments import Moments, user_moments
from paretune.records import NO_TIME, Bools, Floats, Ints, Log

Unit = Literal["user", "session", "request"]
REQUESTS, SESSIONS, SUCCESSFUL, EXPLORED = "requests", "sessions", "successful", "explored"
NO_ARM = ""  # logged where no arm was looked up
_KEYS = ("user", "arm", "day")


@dataclass(frozen=True, slots=True)
class Counted:
    """Sums per user, arm and day, and the sessions they were made in; those of two parts of a log add up."""

    daily: pl.DataFrame  # user, arm, day; first (us), cohort; requests, explored, reward:j
    sessions: pl.DataFrame  # session, user, arm; day, first (us), success
    whole: bool  # the log says which requests make a session

    def __add__(self, other: Counted) -> Counted:
        """Return the sums of both parts."""
        daily, sessions = pl.concat([self.daily, other.daily]), pl.concat([self.sessions, other.sessions])
        return Counted(_daily(daily), _sessions(sessions), self.whole and other.whole)


@dataclass(frozen=True, slots=True)
class Exposure:
    """A test's users, arms and days as arrays, ready for moments."""

    arms: tuple[str, ...]
    cohorts: tuple[str, ...]
    columns: tuple[str, ...]  # (K,) names of the columns of the moments
    days: tuple[int, ...]  # (T,) of the test
    user: Ints  # (G,) a user in an arm
    arm: Ints  # (G,)
    cohort: Ints  # (G,)
    before: Floats  # (G, J) what the user did before the test; (G, 0) where it is not known
    place: Ints  # (n,) which of the G, a row per day
    day: Ints  # (n,)
    numbers: Floats  # (n, J) requests, sessions, successful, rewards
    moved: int  # users whose arm changed; they count in their first
    armless: int  # requests of no arm, left out
    units: dict[str, int]  # assigned units by arm
    explored: dict[str, float]  # share of explored requests by arm

    def moments(self, *, since: int | None = None, until: int | None = None, cohort: int | None = None) -> Moments:
        """Return the moments of all that users did from the beginning of a day until the end of one, of everybody or of one cohort."""
        rows = np.ones(len(self.day), dtype=np.bool_) if until is None else self.day <= until
        rows &= True if since is None else self.day >= since
        size = len(self.user)
        there = np.bincount(self.place[rows], minlength=size) > 0
        if cohort is not None:
            there &= self.cohort == cohort
        sums = np.stack([np.bincount(self.place[rows], column, minlength=size) for column in self.numbers[rows].T], axis=1)
        columns = np.concatenate([sums, self.before], axis=1)[there]
        return user_moments(self.user[there], self.arm[there], columns, arms=len(self.arms))


def counted(log: Log, *, arms: bool = True, wanted: Bools) -> Counted:
    """Return the sums of one part of a log.

    Args:
        log: n rows, with arms where they are asked for.
        arms: keep them apart; False sums a user over all arms.
        wanted: (M,) objectives of which more is better.

    Raises:
        DataError: the arms were not read.
    """
    n = len(log)
    if arms and log.arm is None:
        raise DataError("the rows carry no arms", hint="read them with arms=True")
    names = np.full(n, NO_ARM, dtype=object) if not arms or log.arm is None else _words(log.arm.vocabulary, log.arm.codes)
    midnight = log.day.astype(np.int64) * 86_400_000_000
    time = midnight if log.time_us is None else np.where(log.time_us == NO_TIME, midnight, log.time_us)
    rewards = log.rewards.astype(np.float64)
    frame = pl.DataFrame(
        {
            "user": log.user,
            "arm": pl.Series(names, dtype=pl.String),
            "day": log.day.astype(np.int32),
            "first": time,
            "cohort": pl.Series(_words(log.cohort.vocabulary, log.cohort.codes), dtype=pl.String),
            "session": log.session,
            "success": (rewards[:, wanted] > 0).any(axis=1),
            REQUESTS: np.ones(n),
            EXPLORED: log.explored.astype(np.float64),
            **{f"reward:{j}": rewards[:, j] for j in range(rewards.shape[1])},
        }
    )
    return Counted(
        _daily(frame.drop("session", "success")),
        _sessions(frame.select("session", "user", "arm", "day", "first", "success")),
        bool((log.session != log.request).any()),
    )


def total_of(parts: Iterable[Counted]) -> Counted:
    """Return the sum of all parts; many are added at once, since each adding sorts.

    Raises:
        DataError: there is no part.
    """
    waiting: list[Counted] = []
    for part in parts:
        waiting.append(part)
        if len(waiting) >= 16:
            waiting = [_joined(waiting)]
    if not waiting:
        raise DataError("no rows to read a test out of", hint="check the path and the days")
    return _joined(waiting)


def exposure(test: Counted, *, before: Counted | None = None, unit: Unit = "user", arms: Sequence[str] = ()) -> Exposure:
    """Return a test's users ready for moments.

    Args:
        test: sums of the days of the test.
        before: sums of days before it, over all arms; None = nothing is known.
        unit: what was assigned to arms.
        arms: that are known to the plan, in order; others that were seen follow.

    Raises:
        DataError: no request has an arm, or what users did before is asked of units that are no users.
    """
    if before is not None and unit != "user":
        raise DataError(f"what users did before says nothing of {unit}s", hint="leave out the days before the test, or assign users")
    daily, sessions = (frame.filter(pl.col("arm") != NO_ARM) for frame in (test.daily, test.sessions))
    if not len(daily):
        raise DataError("no request has an arm", hint="log the arm of each request's user; a killed plan has none")
    first = (
        daily.sort("first", "arm").group_by("user", maintain_order=True).agg(pl.col("arm", "cohort").first(), seen=pl.col("arm").n_unique())
    )
    moved = int((first["seen"] > 1).sum())
    homes = first.select("user", home="arm", at="cohort")
    daily, sessions = daily.join(homes, on="user"), sessions.join(homes, on="user")
    if unit == "user":
        daily, sessions = (frame.with_columns(arm="home") for frame in (daily, sessions))
    daily, sessions = _daily(daily.with_columns(cohort="at").drop("home", "at")), _sessions(sessions.drop("home", "at"))
    rewards = [name for name in daily.columns if name.startswith("reward:")]
    per_day = sessions.group_by("user", "arm", "day").agg(
        pl.len().cast(pl.Float64).alias(SESSIONS), pl.col("success").sum().cast(pl.Float64).alias(SUCCESSFUL)
    )
    table = daily.join(per_day, on=_KEYS, how="left").fill_null(0).sort(*_KEYS)
    columns = [REQUESTS, SESSIONS, SUCCESSFUL, *rewards]
    known = tuple(dict.fromkeys([*arms, *sorted(table["arm"].unique())]))
    cohorts = tuple(sorted(table["cohort"].unique()))
    pairs = table.group_by("user", "arm", maintain_order=True).agg(pl.col("cohort").first(), rows=pl.len())
    earlier = np.zeros((len(pairs), 0)) if before is None else _before(before, pairs["user"], columns)
    counts = {
        "user": table.group_by("arm").agg(n=pl.col("user").n_unique()),
        "session": sessions.group_by("arm").agg(n=pl.len()),
        "request": table.group_by("arm").agg(n=pl.col(REQUESTS).sum()),
    }[unit]
    shares = table.group_by("arm").agg(share=pl.col(EXPLORED).sum() / pl.col(REQUESTS).sum())
    return Exposure(
        arms=known,
        cohorts=cohorts,
        columns=(*columns, *(f"before {name}" for name in columns if earlier.shape[1])),
        days=tuple(sorted(table["day"].unique().to_list())),
        user=pairs["user"].to_numpy(),
        arm=_codes(pairs["arm"], known),
        cohort=_codes(pairs["cohort"], cohorts),
        before=earlier,
        place=np.repeat(np.arange(len(pairs)), pairs["rows"].to_numpy()),
        day=table["day"].to_numpy(),
        numbers=table.select(columns).to_numpy(),
        moved=moved,
        armless=int(test.daily.filter(pl.col("arm") == NO_ARM)[REQUESTS].sum()),
        units={arm: int(n) for arm, n in counts.iter_rows()},
        explored=dict(sorted(shares.iter_rows())),
    )


def _before(before: Counted, user: pl.Series, columns: list[str]) -> Floats:
    """Return what each user did before the test (G, J), zeros of users who were not there."""
    sums = before.daily.group_by("user").agg(pl.col(REQUESTS).sum(), pl.col("^reward:.*$").sum())
    made = before.sessions.group_by("user").agg(
        pl.len().cast(pl.Float64).alias(SESSIONS), pl.col("success").sum().cast(pl.Float64).alias(SUCCESSFUL)
    )
    known = pl.DataFrame({"user": user}).join(sums.join(made, on="user", how="left"), on="user", how="left", maintain_order="left")
    return known.select(columns).fill_null(0).to_numpy()


def _joined(parts: list[Counted]) -> Counted:
    if len(parts) == 1:
        return parts[0]
    daily, sessions = (pl.concat([getattr(part, name) for part in parts]) for name in ("daily", "sessions"))
    return Counted(_daily(daily), _sessions(sessions), all(part.whole for part in parts))


def _daily(frame: pl.DataFrame) -> pl.DataFrame:
    summed = [name for name in frame.columns if name in {REQUESTS, EXPLORED} or name.startswith("reward:")]
    earliest = pl.col("cohort").sort_by("first", "cohort").first()
    return frame.group_by(*_KEYS).agg(pl.col("first").min(), earliest, pl.col(summed).sum())


def _sessions(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("session", "user", "arm").agg(pl.col("day", "first").min(), pl.col("success").max())


def _words(vocabulary: tuple[str, ...], codes: Ints) -> list[str]:
    words = [*vocabulary, NO_ARM]  # a missing code is -1: the last
    return [words[code] for code in codes.tolist()]


def _codes(words: pl.Series, known: tuple[str, ...]) -> Ints:
    return words.replace_strict(dict(zip(known, range(len(known)), strict=True)), return_dtype=pl.Int64).to_numpy()
