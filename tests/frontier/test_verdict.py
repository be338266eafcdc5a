"""Verdicts, refusals and shrunk expectations on numbers small enough to check by eye, and their calibration where the prior holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paretune.errors import GateError
from paretune.frontier.judge import Judge, nothing_to_choose
from paretune.frontier.shrinkage import believe
from paretune.frontier.sweep import alpha_grid, scalarise
from paretune.frontier.verdict import CANNOT_TELL, CONFIRMED, PROMISING, Refusal, balanced, refusal, verdicts
from paretune.ope.estimators import Estimate

ZERO = np.zeros(2)


def test_bands_confirm_a_small_risk_is_promising_and_an_estimate_below_a_floor_is_neither() -> None:
    points = np.array([[0.03, 0.02], [0.03, 0.02], [0.03, -0.001], [0.03, 0.02], [np.nan, np.nan]])
    lower = np.array([[0.001, 0.0], [-0.01, -0.01], [0.001, -0.02], [-0.01, -0.01], [np.nan, np.nan]])
    said = verdicts(points, lower=lower, risk=np.array([0.01, 0.1, 0.0, 0.11, np.nan]), floors=ZERO, tolerated=0.1)
    assert said == (CONFIRMED, PROMISING, CANNOT_TELL, CANNOT_TELL, CANNOT_TELL)
    with_floor = verdicts(points[[2]], lower=lower[[2]], risk=np.array([0.5]), floors=np.array([0, -0.02]), tolerated=0.1)
    assert with_floor == (CONFIRMED,)
    assert nothing_to_choose(("", CANNOT_TELL))
    assert not nothing_to_choose(("", CANNOT_TELL, PROMISING))


def test_the_balanced_policy_is_best_on_its_worst_objective_at_the_tolerated_risk() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 3, 2)) * 0.01 + np.array([[0.05, 0.005], [0.02, 0.02], [0.03, 0.03]])
    assert balanced(draws, floors=ZERO, tolerated=0.1, among=np.array([True, True, False])) == 1
    assert balanced(draws, floors=ZERO, tolerated=0.1, among=np.ones(3, bool)) == 2
    assert balanced(draws, floors=np.array([0.0, -1.0]), tolerated=0.1, among=np.ones(3, bool)) == 0


def test_a_refusal_asks_for_the_rows_that_resolve_the_lift_at_eighty_per_cent_power() -> None:
    said = {"floors": ZERO, "objectives": ("save", "p2p"), "rows": 20_000, "smallest": 0.01}
    found = refusal(3, expected=np.array([0.002, 0.02]), std_error=np.array([0.02, 0.02]), **said)
    assert (found.policy, found.objective, found.lift) == (3, "save", 0.01)
    assert found.needed == int(np.ceil(20_000 * (2.8 * 0.02 / 0.01) ** 2))
    assert found.short
    assert f"{found.needed:,}" in found.reason
    assert "the safest policy alone to show a lift of 1 % in save (80 % power)" in found.reason
    assert "held-out exploration rows in all" in found.reason
    enough = refusal(3, expected=np.array([-0.05, 0.02]), std_error=np.array([0.001, 0.001]), **said)
    assert not enough.short
    assert "static weights" in enough.remedy


def family(seed: int, *, gain: float, error: float, size: int = 9) -> tuple[np.ndarray, Estimate]:
    """True lifts of a family whose gain over production is small, and an estimate with errors that neighbours share."""
    rng = np.random.default_rng(seed)
    weights = scalarise(alpha_grid(size))
    square = np.square(weights).sum(axis=1)
    along = 0.5 * (weights[:, 0] - 0.5 + 0.1 * rng.normal())
    true = rng.normal() * gain * weights / square[:, None] + along[:, None] * np.column_stack([weights[:, 1], -weights[:, 0]])
    walks = np.cumsum(rng.normal(size=(200, size, 2)) * np.array([1.0] + [0.3] * (size - 1))[:, None], axis=1)
    influence = walks * error / np.sqrt(200) / 1.2
    influence -= influence.mean(axis=0)
    return true, Estimate("made up", true + np.einsum("c,cpm->pm", rng.standard_normal(200), influence), influence, np.full(size, 1000))


def test_the_gain_of_the_best_looking_policy_overstates_and_its_expectation_does_not() -> None:
    weights, claimed, raw, risks, lost = scalarise(alpha_grid(9)), [], [], [], []
    for seed in range(60):
        true, estimate = family(seed, gain=0.01, error=0.03)
        belief = believe(estimate, weights, floors=np.full(2, -1.0), replicates=100, rng=np.random.default_rng(seed))
        gain = (weights * estimate.value).sum(axis=1)
        best = int(gain.argmax())
        claimed.append((weights[best] * (belief.mean[best] - true[best])).sum())
        raw.append((weights[best] * (estimate.value[best] - true[best])).sum())
        risks.append((belief.draws[:, best] < -0.02).any(axis=1).mean())
        lost.append((true[best] < -0.02).any())
    assert np.mean(raw) > 0.01
    assert abs(np.mean(claimed)) < np.mean(raw) / 2
    assert abs(np.mean(risks) - np.mean(lost)) < 0.1


def test_gains_are_pulled_together_and_a_single_lift_may_move_away_from_production() -> None:
    weights = scalarise(alpha_grid(9))
    _, estimate = family(0, gain=0.02, error=0.01)
    belief = believe(estimate, weights, floors=np.full(2, -1.0), replicates=100, rng=np.random.default_rng(0))
    seen, expected = ((weights * lifts).sum(axis=1) for lifts in (estimate.value, belief.mean))
    assert (np.abs(expected) < np.abs(seen)).all()
    assert np.ptp(expected) < np.ptp(seen)
    further = np.abs(belief.mean) > np.abs(estimate.value)
    assert further.any()
    assert not further.all()


def test_the_order_in_which_numbers_were_added_decides_no_draw() -> None:
    weights = scalarise(alpha_grid(25))
    _, estimate = family(0, gain=0.02, error=0.3, size=25)  # errors so large that many directions are as uncertain as each other
    noise = 1 + 1e-14 * np.random.default_rng(1).normal(size=estimate.influence.shape)
    one, other = (
        believe(made, weights, floors=np.full(2, -1.0), replicates=100, rng=np.random.default_rng(0))
        for made in (estimate, replace(estimate, influence=estimate.influence * noise))
    )
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9)
    np.testing.assert_allclose(one.draws, other.draws, atol=1e-6)


def test_clear_families_stay_where_they_are_and_policies_without_an_estimate_get_none() -> None:
    weights = scalarise(alpha_grid(9))
    true, estimate = family(5, gain=0.03, error=0.0005)
    value = estimate.value.copy()
    value[2] = np.nan
    belief = believe(Estimate("x", value, estimate.influence, estimate.hits), weights, floors=ZERO, rng=np.random.default_rng(0))
    assert np.isnan(belief.mean[2]).all()
    assert np.isnan(belief.draws[:, 2]).all()
    np.testing.assert_allclose(np.delete(belief.mean, 2, axis=0), np.delete(true, 2, axis=0), atol=0.004)


def test_policies_clearly_below_a_floor_are_left_as_estimated() -> None:
    weights = scalarise(alpha_grid(9))
    _, estimate = family(7, gain=0.01, error=0.005)
    belief = believe(estimate, weights, floors=ZERO, rng=np.random.default_rng(0))
    clearly = (estimate.value < -0.05).any(axis=1)
    assert clearly.any()
    np.testing.assert_array_equal(belief.mean[clearly], estimate.value[clearly])


def test_an_objective_to_minimise_is_expected_in_its_own_direction() -> None:
    weights = scalarise(alpha_grid(9))
    _, estimate = family(3, gain=0.02, error=0.01)
    up = Judge(np.ones(2), ZERO, 0.1, 0.95, 300)
    down = Judge(np.array([1.0, -1.0]), ZERO, 0.1, 0.95, 300)
    turned = Estimate("x", estimate.value * [1, -1], estimate.influence * [1, -1], estimate.hits)
    plain = up.expectation(estimate, weights, family=9, rng=np.random.default_rng(0))
    other = down.expectation(turned, weights, family=9, rng=np.random.default_rng(0))
    np.testing.assert_allclose(other.mean, plain.mean * [1, -1])
    np.testing.assert_allclose(other.degrading, plain.degrading)
    assert (other.low[1:] <= other.high[1:]).all()
    assert np.isnan(plain.on_front[0])
    assert ((plain.on_front[1:] >= 0) & (plain.on_front[1:] <= 1)).all()
    assert up.safest(estimate, weights, rng=np.random.default_rng(0))[0].label == "balanced"


@pytest.mark.parametrize("objectives", [1, 3])
def test_one_or_three_objectives_can_be_judged(objectives: int) -> None:
    rng = np.random.default_rng(0)
    weights = np.ones((1, 1)) if objectives == 1 else rng.dirichlet(np.ones(3), 6)
    influence = rng.normal(size=(100, len(weights), objectives)) * 0.001
    influence -= influence.mean(axis=0)
    estimate = Estimate("x", rng.normal(size=(len(weights), objectives)) * 0.01, influence, np.full(len(weights), 99))
    belief = believe(estimate, weights, floors=np.zeros(objectives), rng=rng)
    assert np.isfinite(belief.mean).all()
    assert belief.draws.shape == (1000, len(weights), objectives)


def test_a_candidate_without_an_estimate_is_refused_in_words() -> None:
    nothing = np.full(2, np.nan)
    with pytest.raises(GateError, match="too few of 500 held-out exploration rows"):
        refusal(1, expected=nothing, std_error=nothing, floors=ZERO, objectives=("save", "p2p"), rows=500, smallest=0.01)


@pytest.mark.parametrize(("lift", "text"), [(0.0123, "1.2 %"), (0.5, "50 %"), (1.234, "123 %"), (0.0005, "0.05 %")])
def test_a_refusal_writes_large_lifts_in_full(lift: float, text: str) -> None:
    for needed in (500, 5):
        assert f"a lift of {text} in save" in Refusal(1, "save", 100, needed, lift).reason
