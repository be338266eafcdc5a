"""The ladder and its test for remaining bias: silent where pooling is right, loud where it is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from paretune.errors import NoOverlapError
from paretune.frontier.ladder import EXACT, Ladder, bias_test, ladder_of
from paretune.ope.clusters import user_buckets
from paretune.ope.lift import AnchoredSums, anchored_lift, explored_sums, pooled_lift, produced_sums
from paretune.ope.pooled import pooled_sums
from paretune.ope.pooling import OVERLAP, overlap_likeness

CLUSTERS = 256
ALIKE = [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 6], [0, 1, 2, 3, 6, 4]]
LISTS = np.array([*ALIKE, [7, 8, 9, 10, 11, 12]], dtype=np.int16)  # actions 1 to 3 are nearly alike, 4 is like none


def log_of(n, effect, *, seed=0, production=True):
    """Sums of a log in which action a adds effect[a] to a reward of 0.4; one policy takes action 1, one action 4."""
    rng = np.random.default_rng(seed)
    action, user = rng.integers(1, 5, n), rng.integers(0, n // 3, n)
    rewards = (rng.random((n, 1)) < 0.4 + np.asarray(effect)[action][:, None]).astype(np.float32)
    cluster, propensity = user_buckets(user, buckets=CLUSTERS), np.full(n, 0.25)
    chosen = np.tile([1, 4], (n, 1))
    likeness = overlap_likeness(np.tile(LISTS, (n, 1, 1)), action, propensity)
    pooled = pooled_sums(rewards, likeness, chosen, cluster, kernel=OVERLAP, action=action, clusters=CLUSTERS)
    explored = explored_sums(rewards, propensity, chosen == action[:, None], cluster, clusters=CLUSTERS)
    rows = n if production else 0
    produced = produced_sums((rng.random((rows, 1)) < 0.4).astype(np.float32), cluster[:rows], clusters=CLUSTERS)
    return AnchoredSums(explored, produced, pooled)


def test_rungs_are_the_lifts_of_each_kernel_and_of_exact_hits():
    sums = log_of(4000, np.zeros(5))
    ladder = ladder_of(sums)
    assert ladder is not None
    assert ladder.rungs == ("p = 8", "p = 16", "p = 32", EXACT)
    np.testing.assert_array_equal(ladder.estimate[:, 0], 0)  # production
    for rung in range(3):
        np.testing.assert_allclose(ladder.estimate[rung, 1:], pooled_lift(sums, rung).value)
    np.testing.assert_allclose(ladder.estimate[3, 1:], anchored_lift(sums).value)
    assert ladder.speaks == 1
    assert ladder.effective[0, 1] > ladder.effective[2, 1] >= ladder.effective[3, 1]
    assert ladder.std_error[0, 1, 0] < ladder.std_error[3, 1, 0]


def test_equal_effects_are_not_suspicious_more_often_than_they_should_be():
    p = np.array([bias_test(log_of(1500, np.zeros(5), seed=seed))[1][0, 0] for seed in range(120)])
    assert 0.01 < (p < 0.1).mean() < 0.2


def test_lists_alike_with_other_rewards_are_found_out_and_the_shift_points_to_the_truth():
    sums = log_of(40_000, [0, 0, -0.3, -0.3, 0])
    ladder = ladder_of(sums)
    assert ladder is not None
    assert ladder.suspicious([1]).all()
    pooled = ladder.estimate[ladder.speaks, 1, 0]
    assert pooled < -0.03
    assert ladder.shift[1, 0] > 0
    assert np.isnan(ladder.bias_p[0, 0])
    assert not ladder.suspicious([0, 2]).any()  # production, and a policy with nothing to pool


def test_a_ladder_survives_json_and_needs_pooling_and_production_rows():
    sums = log_of(900, np.zeros(5))
    ladder = ladder_of(sums)
    assert ladder is not None
    again = Ladder.of_plain(ladder.plain())
    for field in dataclasses.fields(Ladder):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(ladder, field.name))
    assert ladder_of(dataclasses.replace(sums, pooled=None)) is None
    assert ladder_of(log_of(900, np.zeros(5), production=False)) is None
    with pytest.raises(NoOverlapError, match="not pooled"):
        bias_test(dataclasses.replace(sums, pooled=None))
