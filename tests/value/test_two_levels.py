"""Rewards of two levels through the models: values above one are learned, replay says why it cannot."""

import numpy as np
import pytest
from small_log import make_config, make_log

from paretune.errors import DataError
from paretune.value.replay import fit_replay
from paretune.value.train import fit, resolve


def test_rewards_of_two_levels_are_fitted_by_squared_error_and_not_replayed():
    raw = make_config(max_epochs=12, patience=12).model_dump(mode="json")
    raw["objectives"][0]["transform"] = "two-level"
    config = type(make_config()).model_validate(raw)
    log = make_log(3000, config, seed=2)
    log.rewards[:, 0] *= 1.5
    assert resolve("auto", log, config) == "smooth"
    values = fit(log, config, model="smooth").values(log.state, config.surface.build().actions)
    assert values[:, :, 0].mean() == pytest.approx(log.rewards[:, 0].mean(), abs=0.15)
    assert values[:, :, 0].max() > 1
    assert np.isfinite(values).all()
    with pytest.raises(DataError, match="clip"):
        fit_replay(log, config)
