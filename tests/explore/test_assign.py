"""Who is explored and who is in which arm: exact shares, independent salts, the same decisions for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paretune.errors import ConfigError
from paretune.explore.assign import OUTSIDE, arm_of, explored_requests, scaled, sticky_actions, uniforms
from paretune.logs.hashing import hash_integers, hash_texts, salted

IDS = hash_integers(np.arange(200_000))
GOLDEN_ARMS = [1, 1, 0, 1, 0, 0, 0, 1]
GOLDEN_EXPLORED = [False, False, True, False, True, True, True, False]
GOLDEN_ACTIONS = [2, 30, 15, 27, 33, 24, 11, 9]
GOLDEN_UNIFORMS = [0.948695767374733, 0.8218600404927362, 0.22711193023054366]


def test_decisions_are_the_same_in_every_release() -> None:
    users = hash_texts([b"anna", b"bo", b"cy", b"d", b"e", b"f", b"g", b"h"])
    assert arm_of(users, shares=(0.5, 0.5), salt="checkout 1").tolist() == GOLDEN_ARMS
    assert explored_requests(users, share=0.5, salt="explore").tolist() == GOLDEN_EXPLORED
    assert sticky_actions(users, actions=49, period=np.full(8, 3), salt="weekly").tolist() == GOLDEN_ACTIONS
    np.testing.assert_allclose(uniforms(users[:3], salt="explore"), GOLDEN_UNIFORMS, rtol=0, atol=1e-15)


def test_a_share_is_exact_to_one_coin() -> None:
    coins = salted(IDS, "x").astype(object)
    for share in (0.0, 2.0**-64, 0.0125, 0.5, 1 - 2.0**-53, 1.0):
        assert (explored_requests(IDS, share=share, salt="x") == (coins < round(share * 2**64))).all()
    assert not explored_requests(IDS, share=0.0, salt="x").any()
    assert explored_requests(IDS, share=1.0, salt="x").all()


def test_a_larger_share_keeps_those_of_a_smaller_one_and_a_share_is_met_within_chance() -> None:
    small, large = (explored_requests(IDS, share=share, salt="x") for share in (0.0125, 0.05))
    assert (large | ~small).all()
    assert abs(small.mean() - 0.0125) < 4 * np.sqrt(0.0125 * 0.9875 / len(IDS))


@given(parts=st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda p: sum(p) > 0))
def test_arms_are_the_coins_place_among_the_cumulative_shares(parts: list[float]) -> None:
    shares = np.array(parts) / sum(parts)
    arm = arm_of(IDS[:500], shares=shares, salt="test")
    assert (arm >= 0).all()  # shares of one whole leave nobody out
    coin, ends = uniforms(IDS[:500], salt="test"), np.cumsum(shares)
    slow = [next((a for a, end in enumerate(ends) if c < end), len(ends) - 1) for c in coin.tolist()]
    assert (arm == slow).mean() > 0.99  # coins within a rounding of an edge may fall on either side
    assert (shares[arm] > 0).all()


def test_room_that_shares_leave_belongs_to_no_arm() -> None:
    arm = arm_of(IDS, shares=(0.1, 0.0, 0.2), salt="test")
    counts = np.array([(arm == a).sum() for a in (0, 1, 2, OUTSIDE)])
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], np.array([0.1, 0.2, 0.7]) * len(IDS)).pvalue > 1e-3


def test_salts_are_independent_and_users_even_within_each() -> None:
    table = np.zeros((4, 4))
    arms = [arm_of(IDS, shares=(0.25,) * 4, salt=salt) for salt in ("test 1", "test 2")]
    np.add.at(table, tuple(arms), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.chisquare(table.sum(axis=0)).pvalue > 1e-3
    explored = explored_requests(IDS, share=0.3, salt="explore")
    table = np.stack([np.bincount(arms[0][rows], minlength=4) for rows in (explored, ~explored)])
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.kstest(uniforms(IDS[:20_000], salt="test 1"), "uniform").pvalue > 1e-3


def test_consecutive_numbers_fall_like_any_others() -> None:
    arm = arm_of(IDS[:100_000], shares=(0.5, 0.5), salt="parity")
    pairs = np.bincount(2 * arm[::2] + arm[1::2], minlength=4)
    assert stats.chisquare(pairs).pvalue > 1e-3


def test_sticky_actions_hold_for_a_period_are_even_and_change_with_it() -> None:
    weeks = np.arange(len(IDS)) % 5
    action = sticky_actions(IDS, actions=49, period=weeks, salt="weekly")
    np.testing.assert_array_equal(action, sticky_actions(IDS, actions=49, period=weeks, salt="weekly"))
    assert (action.min(), action.max()) == (1, 49)
    assert stats.chisquare(np.bincount(action, minlength=50)[1:]).pvalue > 1e-3
    later = sticky_actions(IDS, actions=49, period=weeks + 1, salt="weekly")
    assert (action == later).mean() == pytest.approx(1 / 49, rel=0.1)
    explored = explored_requests(IDS, share=0.5, salt="weekly")  # even with the same salt the period's coin is another one
    assert stats.chisquare(np.bincount(action[explored], minlength=50)[1:]).pvalue > 1e-3


def test_coins_scale_to_every_place_evenly() -> None:
    assert scaled(np.array([0, 2**64 - 1, 2**63], dtype=np.uint64), 49).tolist() == [0, 48, 24]


@pytest.mark.parametrize("shares", [(), (0.6, 0.6), (-0.1, 0.5), (float("nan"),)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="shares"):
        arm_of(IDS[:5], shares=shares, salt="x")


def test_a_grid_without_actions_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 actions"):
        sticky_actions(IDS[:5], actions=0, period=np.zeros(5, int), salt="x")
