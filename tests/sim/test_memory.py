"""Logs drawn in memory are what the Parquet way writes and reads."""

import numpy as np

from paretune.sim import open_world
from paretune.sim.memory import draw_log

WORLD = open_world("homefeed", setting="paper", seed=3)


def test_the_same_seed_draws_the_same_log_and_another_seed_another():
    first, again, other = (draw_log(WORLD, 600, seed=seed, days=3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.rewards, again.rewards)
    np.testing.assert_array_equal(first.candidates.scores, again.candidates.scores)
    assert (first.user != other.user).any()


def test_rows_explore_the_grid_with_their_propensity_and_carry_candidates():
    log = draw_log(WORLD, 900, seed=1, days=3, explore_share=0.5)
    assert len(log) == 900
    assert 0.4 < log.explored.mean() < 0.6
    assert (log.action[log.explored] > 0).all()
    assert (log.action[~log.explored] == 0).all()
    np.testing.assert_allclose(log.propensity[log.explored], 1 / 49)
    assert (np.diff(log.candidates.offsets) >= WORLD.surface.k).all()
    assert len(np.unique(log.day)) == 3


def test_candidates_can_be_left_out():
    assert draw_log(WORLD, 100, seed=1, candidates=False).candidates is None
