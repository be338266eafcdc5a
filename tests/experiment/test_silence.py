"""Whether a service fell silent: by arm, not by chance, and not hidden by clocks that are wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.experiment.silence import AHEAD_S, Silence, silence_of
from paretune.records import Ints

MINUTE_US = 60_000_000
NOW = 1_000 * MINUTE_US
ARMS = {"policy-1": 0.5, "control": 0.25}
ELSEWHERE = 2


def rows(minutes_ago: tuple[int, int], n: int, *, arms: tuple[int, ...] = (0, 1, 2), seed: int = 0) -> tuple[Ints, Ints, Ints]:
    """Rows of n users in some arms, from so many minutes ago until so many."""
    rng = np.random.default_rng([seed, *minutes_ago])
    user = rng.integers(0, 10**9, n)
    time_us = NOW - rng.integers(minutes_ago[1] * MINUTE_US, minutes_ago[0] * MINUTE_US + 1, n)
    return time_us, np.array(arms)[rng.integers(0, len(arms), n)], user


def asked(*parts: tuple[Ints, Ints, Ints], arms: dict[str, float] = ARMS, since_us: int = 0) -> Silence:
    time_us, arm, user = (np.concatenate(column) for column in zip(*parts, strict=True))
    return silence_of(time_us, arm, user, arms=arms, since_us=since_us, now_us=NOW)


def test_one_arm_that_is_silent_is_named_however_much_the_others_say() -> None:
    found = asked(rows((90, 30), 3_000), rows((30, 0), 3_000, arms=(1, ELSEWHERE)))
    assert (found.arm, found.ahead) == ("policy-1", 0)
    assert found.silent_s == pytest.approx(30 * 60, abs=30)
    found = asked(rows((90, 30), 3_000), rows((30, 0), 3_000, arms=(0, ELSEWHERE)))
    assert found.arm == "control"


def test_an_arm_that_never_spoke_is_silent_since_it_began() -> None:
    found = asked(rows((90, 0), 3_000, arms=(1, ELSEWHERE)), since_us=NOW - 200 * MINUTE_US)
    assert (found.arm, found.silent_s) == ("policy-1", 200 * 60)
    nothing = (np.array([], dtype=np.int64),) * 3
    assert asked(nothing, since_us=NOW - 200 * MINUTE_US) == Silence(200 * 60, "", 0, 0.0)


def test_a_small_arm_at_a_quiet_hour_is_not_called_silent() -> None:
    quiet = (rows((90, 30), 3_000), rows((30, 0), 200, arms=(1, ELSEWHERE)))
    assert asked(*quiet, arms={"policy-1": 0.01, "control": 0.25}).arm == ""  # 0.99 ^ 200 is 13 %
    assert asked(*quiet, arms={"policy-1": 0.2, "control": 0.25}).arm == "policy-1"


def test_users_count_once_however_often_they_come() -> None:
    time_us, arm, user = rows((30, 0), 3_000, arms=(1, ELSEWHERE))
    assert asked(rows((90, 30), 3_000), (time_us, arm, user % 7)).arm == ""


def test_rows_of_the_future_hide_no_silence_and_are_reported() -> None:
    old = rows((90, 30), 3_000)
    ahead = (np.array([NOW + 3 * 60 * MINUTE_US, NOW + 5 * MINUTE_US]), np.array([0, 1]), np.array([1, 2]))
    found = asked(old, ahead)
    assert (found.ahead, found.ahead_s) == (2, 3 * 3600)
    assert found.silent_s == pytest.approx(30 * 60, abs=30)


def test_clocks_that_differ_by_less_than_a_minute_are_no_matter() -> None:
    slightly = (np.array([NOW + int(1e6 * (AHEAD_S - 1))]), np.array([0]), np.array([1]))
    assert asked(rows((90, 30), 3_000), slightly) == Silence(0.0, "", 0, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.integers(1, 300), st.floats(0.0, 1.0), st.integers(0, 9))
def test_a_silence_is_never_longer_than_the_arms_were_served_nor_shorter_than_that_of_all(
    ago: int, n: int, share: float, seed: int
) -> None:
    since_us = NOW - 90 * MINUTE_US
    part = rows((90, ago), n, seed=seed)
    found = asked(part, arms={"policy-1": share}, since_us=since_us)
    assert (NOW - part[0].max()) / 1e6 <= found.silent_s <= 90 * 60
