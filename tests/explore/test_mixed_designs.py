"""Logs that mix designs, evaluated with logged propensities: exactly right in a world one can count, covered in one that is drawn."""

from itertools import product

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.explore.cost import explored_designs, produced_designs
from paretune.explore.design import draw_actions, mixture
from paretune.ope.clusters import user_buckets
from paretune.ope.estimators import ips, policy_sums, reward_at_hit, snips
from paretune.ope.intervals import intervals
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, produced_sums
from paretune.records import Categorical, Floats, Ints, Log, State

CHANCE = np.array([[0.3, 0.3, 0.4, 0.5], [0.2, 0.2, 0.6, 0.1]])  # (states, actions) of a reward, production first
FREQUENT = np.array([3, 2])  # how often each state arrives
FAMILY = np.array([[1, 1, 1, 1, 2], [2, 2, 2, 2, 3]])  # (states, P) what each policy takes; policies 0 to 3 agree
OUTSIDER = np.array([3, 1])  # a policy that the design knew nothing of
POLICIES = np.column_stack([FAMILY[:, [0, 4]], OUTSIDER])
STAGE_2 = mixture(FAMILY, actions=3, floor=0.25)
STAGE_1 = np.tile([0, 1 / 3, 1 / 3, 1 / 3], (2, 1))
TRUTH = np.array([FREQUENT @ CHANCE[[0, 1], policy] for policy in POLICIES.T]) / FREQUENT.sum()
PRODUCTION_VALUE = FREQUENT @ CHANCE[:, 0] / FREQUENT.sum()


def counted_log() -> tuple[Ints, Ints, Floats, Floats]:
    """Every possible row of a mixed log, as often as it is expected: state, action, propensity, reward."""
    np.testing.assert_allclose(12 * STAGE_2[:, 1:], [[7, 4, 1], [1, 7, 4]])  # so that multiples of 12 rows are whole numbers
    shares = {0: (1, 3), 1: (2, 2)}  # of stage 1 and 2 in each state: who is explored how may depend on the state
    rows = []
    for state, action, reward, stage in product((0, 1), (1, 2, 3), (0, 1), (0, 1)):
        mu = (STAGE_1, STAGE_2)[stage][state, action]
        chance = CHANCE[state, action] if reward else 1 - CHANCE[state, action]
        count = FREQUENT[state] * shares[state][stage] * 12 * mu * 10 * chance
        rows += [(state, action, mu, reward)] * round(count)
    columns = np.array(rows).T
    return columns[0].astype(int), columns[1].astype(int), columns[2], columns[3, :, None]


def test_the_expectation_over_every_row_of_a_mixed_log_is_each_policys_value() -> None:
    state, action, propensity, reward = counted_log()
    assert len(state) == 120 * 4 * 5
    hits = POLICIES[state] == action[:, None]
    sums = policy_sums(reward, propensity, hits, user_buckets(np.arange(len(state))))
    np.testing.assert_allclose(ips(sums).value[:, 0], TRUTH, rtol=1e-12)
    np.testing.assert_allclose(snips(sums).value[:, 0], TRUTH, rtol=1e-12)
    assert np.abs(reward_at_hit(sums).value[:, 0] - TRUTH).max() > 0.02  # the paper's weighs every hit alike, and is wrong here


def test_the_anchored_lift_of_a_mixed_log_is_exact_for_any_baseline() -> None:
    state, action, propensity, reward = counted_log()
    hits, cluster = POLICIES[state] == action[:, None], user_buckets(np.arange(len(state)))
    produced = np.array([(s, r) for s in (0, 1) for r in (0, 1) for _ in range(round(FREQUENT[s] * 10 * abs(1 - r - CHANCE[s, 0])))])
    guess = np.array([[0.7], [-0.2]])
    sums = AnchoredSums(
        explored_sums(reward, propensity, hits, cluster, expected=guess[state]),
        produced_sums(produced[:, [1]].astype(float), user_buckets(np.arange(len(produced))), expected=guess[produced[:, 0]]),
    )
    np.testing.assert_allclose(anchored_lift(sums).value[:, 0], TRUTH / PRODUCTION_VALUE - 1, rtol=1e-12)


def drawn_log(rng: np.random.Generator, n: int) -> tuple[Log, Ints]:
    """A log whose first half is explored by stage 1 and the second by stage 2, a third of it under production; and the states."""
    state = (rng.random(n) < 0.4).astype(int)
    mu = np.where((np.arange(n) < n // 2)[:, None], STAGE_1[state], STAGE_2[state])
    action, propensity = draw_actions(mu, rng.random(n))
    explored = rng.random(n) < 2 / 3
    action, propensity = np.where(explored, action, 0).astype(np.int32), np.where(explored, propensity, 1.0)
    user = rng.integers(0, n // 4, n).astype(np.uint64)
    taste = 0.1 * np.sin(user)  # so that rows of a user are dependent
    rewards = (rng.random(n) < CHANCE[state, action] + taste)[:, None].astype(np.float32)
    ids, zero = np.arange(n, dtype=np.uint64), np.zeros(n, np.int32)
    columns = State({"state": state.astype(np.float32)}, {}, {}, {})
    return Log(ids, user, ids, zero, Categorical(zero, ("ALL",)), action, propensity, explored, rewards, columns), state


def test_intervals_of_a_mixed_log_hold_the_truth_as_often_as_they_say() -> None:
    rng, held, reps = np.random.default_rng(5), np.zeros(3), 300
    truth = TRUTH / PRODUCTION_VALUE - 1
    for _ in range(reps):
        log, state = drawn_log(rng, 2500)
        cluster, e, p = user_buckets(log.user, buckets=512), log.explored, ~log.explored
        hits = POLICIES[state[e]] == log.action[e, None]
        sums = AnchoredSums(
            explored_sums(log.rewards[e], log.propensity[e], hits, cluster[e], clusters=512),
            produced_sums(log.rewards[p], cluster[p], clusters=512),
        )
        found = intervals(anchored_lift(sums), confidence=0.95, replicates=2, rng=rng)
        held += (found.low[:, 0] <= truth) & (truth <= found.high[:, 0])
    assert (np.abs(held / reps - 0.95) < 4 * np.sqrt(0.95 * 0.05 / reps)).all()


def test_the_cost_of_a_design_is_what_the_log_says_it_would_earn() -> None:
    log, state = drawn_log(np.random.default_rng(1), 60_000)
    explored, designs = log.exploration(), []
    for design in (STAGE_1, STAGE_2):
        designs.append(design[state[log.explored], explored.action])
    mu = np.column_stack(designs)
    sums = explored_designs(explored, mu) + produced_designs(log.production(), 2)
    cost = sums.costs()
    assert cost is not None
    expected = [FREQUENT @ (design * CHANCE).sum(axis=1) / FREQUENT.sum() / PRODUCTION_VALUE - 1 for design in (STAGE_1, STAGE_2)]
    assert (np.abs(cost.relative[:, 0] - expected) < 4 * cost.std_error[:, 0]).all()
    assert cost.relative[1] > cost.relative[0]  # the family goes where rewards are
    half = len(explored) // 2
    parts = explored_designs(explored.take(slice(0, half)), mu[:half]) + explored_designs(explored.take(slice(half, None)), mu[half:])
    merged = (parts + produced_designs(log.production(), 2)).costs()
    assert merged is not None
    np.testing.assert_allclose(merged.relative, cost.relative, rtol=1e-12)
    assert explored_designs(explored, mu).costs() is None
    with pytest.raises(DataError, match="designs"):
        explored_designs(explored, mu[:5])
