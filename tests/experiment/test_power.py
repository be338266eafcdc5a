"""Users, lifts and power say the same thing from three sides; a split that is not the plan's is noticed."""

from __future__ import annotations

import numpy as np
import pytest
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paretune.errors import ConfigError
from paretune.experiment.power import detectable_lift, error_needed, users_needed
from paretune.experiment.sample_ratio import sample_ratio


@settings(deadline=None)
@given(lift=st.floats(0.001, 0.5), critical=st.floats(1.6, 5), power=st.floats(0.3, 0.99))
def test_the_error_needed_gives_the_power_that_was_asked_for(lift: float, critical: float, power: float) -> None:
    error = error_needed(lift, critical=critical, power=power)
    away = np.log1p(lift) / error
    assert stats.norm.cdf(away - critical) + stats.norm.cdf(-away - critical) == pytest.approx(power, abs=0.02)
    assert detectable_lift(error, critical=critical, power=power) == pytest.approx(lift)


def test_half_the_error_takes_four_times_the_users() -> None:
    error = error_needed(0.02, critical=1.96)
    assert users_needed(1_000, 2 * error, lift=0.02, critical=1.96) == pytest.approx(4_000, abs=1)


def test_users_needed_are_those_of_a_peer_library() -> None:
    rng = np.random.default_rng(1)
    clicks = rng.poisson(2.0, 4_000).astype(float)
    metric = tt.Mean("click", alpha=0.05, power=0.8, rel_effect_size=0.05, use_t=False)
    peer = metric.solve_power_from_aggregates(
        tt.aggr.Aggregates(count_=4_000, mean_={"click": clicks.mean()}, var_={"click": clicks.var(ddof=1)}, cov_={}), "n_obs"
    )[0].n_obs
    sd = clicks.std(ddof=1) / clicks.mean()
    error = sd * np.sqrt(1 / 2_000 + 1 / 2_000)
    # the peer counts in differences of means, we in ratios: 0.05 against log 1.05
    assert users_needed(4_000, error, lift=np.expm1(0.05), critical=stats.norm.ppf(0.975)) == pytest.approx(peer, rel=1e-3)


def test_no_test_sees_no_lift() -> None:
    for lift, power in ((0.0, 0.8), (-1.0, 0.8), (0.1, 1.0)):
        with pytest.raises(ConfigError, match="no test sees"):
            error_needed(lift, critical=1.96, power=power)


def test_the_sample_ratio_test_is_pearson_s_and_a_peer_library_s() -> None:
    found = sample_ratio({"a": 5_100, "b": 4_900}, {"a": 0.5, "b": 0.5})
    assert found.p_value == pytest.approx(stats.chisquare([5_100, 4_900]).pvalue)
    assert not found.failed
    three = sample_ratio({"a": 500, "b": 300, "c": 200}, {"a": 5, "b": 3, "c": 2})
    assert three.p_value == pytest.approx(1.0)
    count = {"a": tt.aggr.Aggregates(count_=5_100), "b": tt.aggr.Aggregates(count_=4_900)}
    peer = tt.SampleRatio(method="norm", correction=False).analyze(count, "b", "a")
    assert found.p_value == pytest.approx(peer.pvalue, abs=1e-9)


def test_a_split_that_is_not_the_plan_s_fails() -> None:
    assert sample_ratio({"a": 5_300, "b": 4_700}, {"a": 0.5, "b": 0.5}).failed
    assert sample_ratio({"a": 1_000, "b": 10}, {"a": 1.0, "b": 0.0}).failed  # nobody should be there
    assert sample_ratio({"a": 1_000}, {"a": 0.5, "b": 0.5}).failed  # and nobody is
    np.testing.assert_allclose(sample_ratio({"a": 30, "b": 10}, {"a": 3, "b": 1}).expected, [30, 10])


def test_shares_that_are_none_are_refused_and_one_arm_alone_is_not_compared() -> None:
    with pytest.raises(ConfigError, match="no share is known"):
        sample_ratio({"a": 1, "z": 1}, {"a": 1.0})
    with pytest.raises(ConfigError, match="parts of a whole"):
        sample_ratio({"a": 1}, {"a": -1.0})
    assert not sample_ratio({"a": 1}, {"a": 1.0}).failed
