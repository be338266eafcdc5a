"""Simulated decisions, some timed out: actions come as often as their propensities say, and importance weights average one."""

import time
from dataclasses import dataclass

import numpy as np
import pytest
from fake_scorer import FINGERPRINT, GRID, FakeScorer, exploring, fake_values, plan_of
from scipy import stats

from paretune.explore.design import mixture
from paretune.frontier.sweep import choose
from paretune.serving.decide import Reason, Request
from paretune.serving.limits import Breaker
from paretune.serving.runtime import Runtime

LATE = 0.97  # requests with a larger x are received when their budget is already spent; a few others meet a model that sleeps
STATES = np.linspace(0, 1, 1024, endpoint=False)  # what x may be, so that the target's actions need no model per row


@dataclass(frozen=True)
class Served:
    """Columns of a simulated log."""

    state: np.ndarray  # (n,) index into STATES
    action: np.ndarray  # (n,)
    propensity: np.ndarray  # (n,)
    reason: np.ndarray  # (n,) Reason's value

    @property
    def explored(self) -> np.ndarray:
        return self.reason == str(Reason.EXPLORE)


def simulate(design: str, n: int, *, share: float) -> Served:
    """Return what the real runtime decides, model and deadline and all."""

    def sleeps(x: float) -> None:
        if 0.5 < x < 0.5005 + 1 / 1024:
            time.sleep(0.012)

    plan = plan_of(default="policy", exploration=exploring(design, share=share))
    runtime = Runtime({FINGERPRINT: FakeScorer(before=sleeps)}, plan, deadline_s=0.008, threads=8, breaker=lambda: Breaker(failures=np.inf))
    state = np.random.default_rng(7).integers(0, len(STATES), n)
    action, propensity, reason = np.empty(n, np.int64), np.empty(n), np.empty(n, dtype="U32")
    for i, s in enumerate(state.tolist()):
        x = float(STATES[s])
        request = Request(i, i // 3, {"x": 20 * x}, cohort=("new", "core")[i % 2], time_us=3_600_000_000 * (i // 5000))
        decision = runtime.decide(request, received=0.0 if x > LATE else None)
        action[i] = -1 if decision.action is None else decision.action
        propensity[i], reason[i] = decision.propensity, decision.reason.value
    runtime.close()
    return Served(state, action, propensity, reason)


def choices(family: np.ndarray) -> np.ndarray:
    """Return the action (states, P) of each scalarisation in each state."""
    return choose(np.stack([fake_values(20 * x) for x in STATES]), family)


@pytest.mark.parametrize("rows", [40_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=["forty thousand", "a million"])
def test_logged_propensities_are_those_of_what_was_served(rows: int) -> None:
    total, late = 0, 0
    for design, part, share in (("uniform", 0.6, 0.7), ("blocked", 0.3, 0.7), ("stage2", 0.1, 0.9)):
        served = simulate(design, int(rows * part), share=share)
        total += len(served.state)
        late += int((served.reason == str(Reason.TIMEOUT)).sum())
        explored, state, action = served.explored, served.state[served.explored], served.action[served.explored]
        mu = served.propensity[explored]
        fell = np.char.startswith(served.reason, "FALLBACK")
        assert (served.propensity[~explored] == 1).all()
        assert (served.action[fell] == 0).all()
        target = choices(np.array([[1.0, 0.5]]))[:, 0]
        if design == "stage2":
            family = choices(np.array(exploring("stage2").family))
            exact = mixture(family, actions=GRID, floor=0.2)[state]
            assert (mu == exact[np.arange(len(mu)), action]).all()
            expected, spread = exact.sum(axis=0)[1:], np.sqrt((exact * (1 - exact)).sum(axis=0))[1:]
            seen = np.bincount(action, minlength=GRID + 1)[1:]
            assert stats.chi2.sf((((seen - expected) / spread) ** 2).sum(), GRID) > 1e-3
        else:
            assert abs(explored.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(explored))  # no time-out costs an explored row
            assert stats.chisquare(np.bincount(action, minlength=GRID + 1)[1:]).pvalue > 1e-3
        for weight in ((action == target[state]) / mu, 1 / (GRID * mu)):
            if weight.std() > 0:
                assert abs(weight.mean() - 1) < 3 * weight.std() / np.sqrt(len(weight))
            else:
                assert weight.mean() == pytest.approx(1)
    assert total >= rows
    assert late > 0.005 * rows
