"""Calibration of predicted gains: word for word on few rows, slope one for the truth, below one for boasting."""

import numpy as np
import pytest
from test_sweep import SURFACE, config_of, world_log

from paretune.errors import DataError, GateError
from paretune.frontier.anchor import Anchor
from paretune.frontier.calibration import Arm, calibrate, policy_arms
from paretune.report.learning_figures import calibration_figure
from paretune.report.learning_tables import calibration_table

EVEN = np.array([0.5, 0.5])


def gains(n, *, boast=1.0, seed=0, share=0.3):
    """Arms with a known gain per request, predicted with a factor."""
    rng = np.random.default_rng(seed)
    gain = rng.normal(0.05, 0.1, n)
    hit = rng.random(n) < share
    explored = Arm(boast * gain, gain + rng.normal(0, 0.5, n), np.where(hit, 1 / share, 0.0), rng.integers(0, 2048, n))
    other = rng.normal(0.05, 0.1, n)
    produced = Arm(boast * other, rng.normal(0, 0.5, n), np.ones(n), rng.integers(0, 2048, n))
    return explored, produced


def test_gains_of_deciles_and_the_slope_are_the_definition_word_for_word():
    explored, produced = gains(400, seed=3)
    found = calibrate(explored, produced, deciles=4)
    cuts = np.quantile(explored.predicted, [0.25, 0.5, 0.75])
    points = []
    for d, (low, high) in enumerate(zip([-np.inf, *cuts], [*cuts, np.inf], strict=True)):
        inside = [[low <= p < high for p in arm.predicted] for arm in (explored, produced)]
        hit = [i for i in range(400) if inside[0][i] and explored.weight[i] > 0]
        top = sum(explored.weight[i] * explored.outcome[i] for i in hit) / sum(explored.weight[i] for i in hit)
        static = [produced.outcome[i] for i in range(400) if inside[1][i]]
        points.append((np.mean(explored.predicted[inside[0]]), top - sum(static) / len(static), len(hit)))
        assert found.measured[d] == pytest.approx(points[-1][1])
        assert found.hits[d] == len(hit)
    x, y, n = np.array(points).T
    np.testing.assert_allclose(found.predicted, x)
    assert found.slope == pytest.approx(np.polyfit(x, y, 1, w=np.sqrt(n))[0])
    assert found.mean_measured == pytest.approx(np.average(y, weights=n))


def test_the_slope_is_one_for_the_truth_and_smaller_the_more_a_model_boasts():
    for boast in (1.0, 2.0, 5.0):
        found = calibrate(*gains(60_000, boast=boast))
        assert abs(found.slope - 1 / boast) < 3 * found.slope_std_error
        assert found.slope_std_error < 0.1


def test_the_standard_error_is_that_of_repetitions():
    slopes = [calibrate(*gains(4000, seed=seed)) for seed in range(60)]
    spread = np.std([found.slope for found in slopes], ddof=1)
    stated = np.mean([found.slope_std_error for found in slopes])
    assert 0.75 < stated / spread < 1.3


class Known:
    name = "known"
    objectives = ("save", "p2p")

    def __init__(self, means):
        self.means = means

    def values(self, state, actions):
        return self.means[state.numeric["row"].astype(int)]


def test_arms_of_a_log_predict_the_policys_gain_and_hit_where_it_agrees():
    log, means = world_log(8000)
    log.state.numeric["row"] = np.arange(8000, dtype=np.float64)
    anchor = Anchor(log.production().rewards.mean(axis=0), ())
    explored, produced = policy_arms(Known(means), [log], config_of(), anchor=anchor, scalarisation=EVEN)
    assert (len(explored.predicted), len(produced.predicted)) == (len(log.exploration()), len(log.production()))
    relative = means / anchor.value
    best = relative[:, 1:].mean(axis=2).max(axis=1) - relative[:, 0].mean(axis=1)
    rows = np.flatnonzero(log.explored & (log.action > 0))
    np.testing.assert_allclose(explored.predicted, best[rows], atol=1e-5)
    assert explored.weight.mean() == pytest.approx(1, abs=0.1)
    with pytest.raises(DataError, match="no production"):
        policy_arms(Known(means), [log.exploration()], config_of(), anchor=anchor, scalarisation=EVEN)
    assert len(SURFACE) == 10


def test_too_few_deciles_and_one_prediction_for_all_are_refused():
    explored, produced = gains(300)
    nobody = Arm(explored.predicted, explored.outcome, 0 * explored.weight, explored.cluster)
    with pytest.raises(GateError, match="deciles"):
        calibrate(nobody, produced)
    with pytest.raises(GateError):
        calibrate(Arm(0 * explored.predicted, explored.outcome, explored.weight, explored.cluster), produced)


def test_picture_and_table_say_the_slope_and_leave_out_what_is_not_known():
    found = calibrate(*gains(20_000))
    drawn = calibration_figure(found, policy="alpha 0.5").to_dict()
    assert f"{found.slope:.2f}" in drawn["title"]["text"]
    table = calibration_table(found, policy="alpha 0.5")
    assert len(table.rows) == 11
    assert f"{found.slope:.2f}" in table.note
