"""Rows become users: sums that do not depend on how the log was cut, arms by intention to treat, sessions once, cohorts that add up."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.experiment.users import Counted, Exposure, counted, exposure, total_of
from paretune.records import Categorical, Log, State

WANTED = np.array([True, False])
DAY_US = 86_400_000_000


def log_of(rows: list[tuple], *, cohorts: tuple[str, ...] = ("A", "B"), arms: tuple[str, ...] = ("control", "new")) -> Log:
    """(user, arm, day, second, session, saves, hides, cohort, explored) each."""
    user, arm, day, second, session, saves, hides, cohort, explored = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    return Log(
        request=np.arange(n, dtype=np.uint64),
        user=user.astype(np.uint64),
        session=session.astype(np.uint64) + np.uint64(10**6),
        day=day.astype(np.int32),
        cohort=Categorical(cohort.astype(np.int32), cohorts),
        action=np.zeros(n, np.int32),
        propensity=np.ones(n),
        explored=explored.astype(bool),
        rewards=np.stack([saves, hides], axis=1).astype(np.float32),
        state=State({}, {}, {}, {}),
        time_us=day.astype(np.int64) * DAY_US + second.astype(np.int64) * 1_000_000,
        arm=Categorical(arm.astype(np.int32), arms),
    )


def many(n: int, *, seed: int, users: int = 12, days: int = 3, sticky: bool = True) -> Log:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n)
    arm = user % 2 if sticky else rng.integers(0, 2, n)
    rows = zip(
        user, arm, rng.integers(0, days, n), rng.permutation(n), 100 * user + rng.integers(0, 4, n), rng.integers(0, 2, n),
        rng.integers(0, 2, n), user % 3 % 2, rng.integers(0, 2, n), strict=True,
    )  # fmt: skip
    return log_of(list(rows))


def read(log: Log, **options: object) -> Exposure:
    return exposure(counted(log, wanted=WANTED), **options)  # type: ignore[arg-type]


def same(a: Exposure, b: Exposure) -> None:
    for name in ("user", "arm", "cohort", "before", "place", "day", "numbers"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.arms, a.cohorts, a.columns, a.days, a.moved, a.units) == (b.arms, b.cohorts, b.columns, b.days, b.moved, b.units)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), pieces=st.integers(1, 40), sticky=st.booleans())
def test_a_log_cut_in_any_pieces_gives_the_same_users(seed: int, pieces: int, sticky: bool) -> None:
    log = many(200, seed=seed, sticky=sticky)
    piece = np.random.default_rng(seed).integers(0, pieces, 200)
    parts = [counted(log.take(piece == p), wanted=WANTED) for p in range(pieces) if (piece == p).any()]
    same(exposure(total_of(parts)), read(log))
    added = parts[0]
    for part in parts[1:]:
        added = added + part
    same(exposure(added), read(log))


def test_columns_are_what_the_user_did() -> None:
    log = log_of([
        (1, 0, 0, 10, 1, 1, 0, 0, 0),
        (1, 0, 0, 20, 1, 0, 1, 0, 1),
        (1, 0, 1, 10, 2, 0, 0, 0, 0),
        (2, 1, 1, 10, 3, 1, 1, 1, 0),
    ])  # fmt: skip
    found = read(log)
    assert found.columns == ("requests", "sessions", "successful", "reward:0", "reward:1")
    assert found.arms == ("control", "new")
    moments = found.moments()
    np.testing.assert_array_equal(moments.total, [[3, 2, 1, 1, 1], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(moments.users, [1, 1])
    np.testing.assert_array_equal(found.moments(until=0).total, [[2, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    assert found.explored == {"control": pytest.approx(1 / 3), "new": 0.0}


def test_a_session_past_midnight_or_across_files_is_counted_once_and_succeeds_once() -> None:
    log = log_of([(1, 0, 0, 86_000, 7, 1, 0, 0, 0), (1, 0, 1, 60, 7, 1, 0, 0, 0), (2, 1, 1, 60, 8, 0, 1, 0, 0)])
    found = read(log)
    np.testing.assert_array_equal(found.moments().total[:, 1:3], [[1, 1], [1, 0]])
    np.testing.assert_array_equal(found.moments(until=0).total[:, 1:3], [[1, 1], [0, 0]])
    first, second = (counted(log.take(log.day == day), wanted=WANTED) for day in (0, 1))
    np.testing.assert_array_equal(exposure(first + second).moments().total, found.moments().total)


def test_a_user_whose_arm_changes_stays_in_the_first_and_is_counted() -> None:
    log = log_of([(1, 0, 0, 10, 1, 0, 0, 0, 0), (1, 1, 1, 10, 2, 1, 0, 0, 0), (2, 1, 0, 5, 3, 1, 0, 0, 0)])
    found = read(log)
    assert found.moved == 1
    np.testing.assert_array_equal(found.moments().total[:, 0], [2, 1])
    np.testing.assert_array_equal(found.moments().total[:, 3], [1, 1])
    by_request = read(log, unit="request")
    assert by_request.moments().crossed == 1
    np.testing.assert_array_equal(by_request.moments().total[:, 0], [1, 2])


def test_explored_requests_stay_with_their_user_and_requests_without_an_arm_are_counted_out() -> None:
    log = log_of(
        [(1, 0, 0, 10, 1, 1, 0, 0, 1), (1, 0, 0, 20, 1, 1, 0, 0, 0), (3, 2, 0, 5, 2, 1, 0, 0, 0), (4, -1, 0, 5, 4, 1, 0, 0, 0)],
        arms=("control", "new", ""),
    )
    found = read(log)
    assert found.armless == 2
    np.testing.assert_array_equal(found.moments().total, [[2, 1, 1, 2, 0]])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_cohorts_add_up_to_everybody(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log = many(300, seed=seed)
    log = log.take(np.arange(300))
    rows = Categorical(rng.integers(0, 2, 300).astype(np.int32), ("A", "B"))  # a user's cohort may change
    changed = Log(**{name: getattr(log, name) for name in Log.__slots__} | {"cohort": rows})
    found = read(changed)
    parts = [found.moments(cohort=c) for c in range(len(found.cohorts))]
    whole, total = found.moments(), parts[0]
    for part in parts[1:]:
        total = total + part
    for name in ("users", "total", "product"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name))


def test_what_users_did_before_is_theirs_whatever_arm_they_come_to() -> None:
    test = log_of([(1, 0, 5, 10, 1, 1, 0, 0, 0), (1, 0, 6, 10, 2, 1, 0, 0, 0), (2, 1, 5, 10, 3, 0, 0, 0, 0)])
    before = log_of([(1, 1, 1, 10, 11, 1, 1, 0, 0), (1, 0, 2, 10, 12, 0, 0, 0, 0), (9, 0, 2, 10, 13, 1, 0, 0, 0)])
    found = read(test, before=counted(before, arms=False, wanted=WANTED))
    assert found.columns[5:] == tuple(f"before {name}" for name in found.columns[:5])
    np.testing.assert_array_equal(found.moments().total[:, 5:], [[2, 2, 1, 1, 1], [0, 0, 0, 0, 0]])


def test_a_log_without_sessions_is_known_as_one() -> None:
    log = many(50, seed=1)
    alone = Log(**{name: getattr(log, name) for name in Log.__slots__} | {"session": log.request})
    assert counted(log, wanted=WANTED).whole
    assert not counted(alone, wanted=WANTED).whole


def test_assigned_units_are_counted() -> None:
    log = many(200, seed=2, sticky=False)
    assert sum(read(log, unit="request").units.values()) == 200
    users = (
        pl.DataFrame({"user": log.user, "time": log.time_us, "arm": log.arm.codes}).sort("time").group_by("user").agg(pl.col("arm").first())
    )  # type: ignore[union-attr]
    assert read(log, unit="user").units["new"] == int(users["arm"].sum())


def test_what_cannot_be_read_out_is_refused() -> None:
    log = many(20, seed=3)
    armless = Log(**{name: getattr(log, name) for name in Log.__slots__} | {"arm": None})
    with pytest.raises(DataError, match="carry no arms"):
        counted(armless, wanted=WANTED)
    with pytest.raises(DataError, match="no request has an arm"):
        exposure(counted(armless, arms=False, wanted=WANTED))
    with pytest.raises(DataError, match="no rows"):
        total_of(iter(()))
    part: Counted = counted(log, wanted=WANTED)
    with pytest.raises(DataError, match="says nothing of sessions"):
        exposure(part, before=part, unit="session")
