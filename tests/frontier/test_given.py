"""Given policies: the sweep's own estimate, paired differences, sums that add up."""

import numpy as np
import pytest
from test_calibration import Known
from test_sweep import COHORTS, SURFACE, config_of, swept, world_log

from paretune.errors import DataError, GateError
from paretune.frontier.anchor import Anchor
from paretune.frontier.evaluate import sweep_sums
from paretune.frontier.given import compare, given_sums
from paretune.frontier.sweep import choose, scalarise
from paretune.ope.lift import anchored_lift, pooled_lift
from paretune.report.learning_tables import comparison_table

CONFIG = config_of(estimator="hit")
LOG, MEANS = world_log(6000)
EXPLORED = MEANS[LOG.explored & (LOG.action > 0)]
WEIGHTS = np.array([0.5, 0.5])
ANCHOR = Anchor(LOG.production().rewards.mean(axis=0), ())


def chooser(log, means):
    """Policies whose choices are looked up by request: the middle of the front, the same again, one static action."""

    def decide(rows):
        full = choose(means[rows.request.astype(int)] / ANCHOR.value, scalarise(np.array([0.5])))
        return np.column_stack([full, full, np.full(len(rows), 5)])

    return decide


@pytest.fixture(scope="module")
def sums():
    return given_sums(chooser(LOG, MEANS), [LOG], CONFIG, anchor=ANCHOR)


def test_lifts_are_those_of_a_sweep_of_the_same_policies(sums):
    found = compare(sums, ("full", "again", "static"), CONFIG, weights=WEIGHTS)
    lifts = anchored_lift(swept(LOG, MEANS, alphas=3).total()).value  # alphas 0, 0.5, 1, then the static actions 1..
    np.testing.assert_allclose(found.estimate, lifts[[1, 1, 3 + 4]])
    np.testing.assert_allclose(found.score, found.estimate.mean(axis=1))


def test_pooled_lifts_are_those_of_a_sweep_too():
    config = config_of(estimator="action-kernel", alphas=3)
    LOG.state.numeric["row"] = np.arange(len(LOG), dtype=np.float64)
    anchor = Anchor(ANCHOR.value, COHORTS)
    sums = given_sums(chooser(LOG, MEANS), [LOG], config, anchor=anchor)
    found = compare(sums, ("full", "again", "static"), config, weights=WEIGHTS)
    lifts = pooled_lift(sweep_sums(Known(MEANS), LOG, config, anchor=anchor).total()).value
    np.testing.assert_allclose(found.estimate, lifts[[1, 1, 3 + 4]])
    assert "kernel" in found.estimator
    hits = compare(given_sums(chooser(LOG, MEANS), [LOG], CONFIG, anchor=anchor), ("full", "again", "static"), CONFIG, weights=WEIGHTS)
    assert (found.std_error < hits.std_error).all()


def test_the_same_policy_loses_nothing_and_a_static_one_does(sums):
    found = compare(sums, ("full", "again", "static"), CONFIG, weights=WEIGHTS)
    assert (found.gap[1] == 0).all()
    assert (found.gap_std_error[1] == 0).all()
    assert found.agreement.tolist()[:2] == [1, 1]
    assert found.score_gap[2] < -3 * found.score_gap_std_error[2]
    table = comparison_table(found)
    assert len(table.rows) == 3 * 2 + 2
    assert table.rows[2][1] == "100 %"


def test_parts_of_a_log_add_up(sums):
    parts = [LOG.take(rows) for rows in np.array_split(np.arange(len(LOG)), 5)]
    again = given_sums(chooser(LOG, MEANS), parts, CONFIG, anchor=ANCHOR)
    one, other = (compare(s, ("full", "again", "static"), CONFIG, weights=WEIGHTS) for s in (sums, again))
    np.testing.assert_allclose(one.estimate, other.estimate)
    np.testing.assert_allclose(one.gap_std_error, other.gap_std_error)
    np.testing.assert_allclose(one.agreement, other.agreement)


def test_production_no_rows_and_few_hits_are_refused(sums):
    with pytest.raises(DataError, match="off the grid"):
        given_sums(lambda rows: np.zeros((len(rows), 1), int), [LOG], CONFIG, anchor=ANCHOR)
    with pytest.raises(DataError, match="no held-out exploration"):
        given_sums(lambda rows: np.ones((len(rows), 1), int), [], CONFIG, anchor=ANCHOR)
    scarce = CONFIG.model_copy(update={"evaluation": CONFIG.evaluation.model_copy(update={"min_hits": 10**6})})
    with pytest.raises(GateError, match="fewer than"):
        compare(sums, ("full", "again", "static"), scarce, weights=WEIGHTS)
    assert len(SURFACE) == 10
