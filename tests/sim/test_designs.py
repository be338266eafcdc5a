"""Traffic under the designs: exact propensities, balanced blocks, and more said by the same rows."""

import numpy as np
import pytest
from scipy import stats

from paretune.frontier.anchor import fit_anchor
from paretune.frontier.evaluate import sweep_sums
from paretune.ope.intervals import clustered_std_error
from paretune.ope.lift import anchored_lift
from paretune.records import Log
from paretune.sim import open_world
from paretune.sim.designs import explore_by_family, explore_in_blocks
from paretune.sim.memory import draw_log
from paretune.sim.world import World
from paretune.value.ridge import fit_ridge

WORLD = open_world("homefeed", setting="demo", seed=4)
FAMILY = np.array([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]])


def balance(world: World, log: Log) -> np.ndarray:
    """Exploration rows of each grid action."""
    return np.bincount(log.action[log.explored], minlength=len(world.surface))[1:]


def test_blocks_show_every_action_almost_equally_often_with_the_uniform_propensity() -> None:
    log = draw_log(WORLD, 4000, seed=1, days=1, candidates=False, choose=explore_in_blocks(WORLD, 0.9))
    counts = balance(WORLD, log)
    assert log.explored.mean() == pytest.approx(0.9, abs=0.02)
    np.testing.assert_allclose(log.propensity[log.explored], 1 / 49)
    np.testing.assert_allclose(log.propensity[~log.explored], 1)
    assert (log.action[~log.explored] == 0).all()
    by_chance = draw_log(WORLD, 4000, seed=1, days=1, candidates=False, explore_share=0.9)
    assert counts.var() < 0.8 * balance(WORLD, by_chance).var()
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.e2e
def test_the_same_rows_say_more_of_the_family_when_it_draws_them() -> None:
    config = WORLD.config()
    train = draw_log(WORLD, 12_000, seed=2, candidates=False, explore_share=0.7)
    model, anchor = fit_ridge(train, config), fit_anchor(train, config)
    scale = 1 / anchor.value
    stage_2 = explore_by_family(WORLD, model, FAMILY, scale=scale, share=0.6)
    errors = {}
    for name, choose in (("uniform", None), ("stage 2", stage_2)):
        log = draw_log(WORLD, 16_000, seed=3, candidates=False, explore_share=0.6, choose=choose)
        mean_weight = (1 / log.propensity[log.explored]).mean()
        assert mean_weight == pytest.approx(49, rel=0.15)  # weights of any design average the number of actions
        chosen = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"alphas": 5})})
        sums = sweep_sums(model, log, chosen, anchor=anchor)
        errors[name] = clustered_std_error(anchored_lift(sums.total().of_policies(np.arange(5))).influence)
    assert (errors["stage 2"] < 0.6 * errors["uniform"]).all()
