"""Feature groups compared: the gain word for word, paired differences, and only on the same rows."""

import numpy as np
import pytest
from test_sweep import config_of, swept, world_log

from paretune.errors import DataError, GateError
from paretune.frontier.isolation import isolate
from paretune.ope.lift import anchored_lift
from paretune.report.learning_figures import isolation_figure
from paretune.report.learning_tables import isolation_table


@pytest.fixture(scope="module")
def sums():
    log, means = world_log(6000)
    blind = np.broadcast_to(means.mean(axis=0), means.shape)
    return {"all features": swept(log, means), "taste": swept(log, means), "nothing": swept(log, blind)}


def test_the_gain_is_the_scalarised_lift_averaged_over_the_sweep(sums):
    found = isolate(sums, config_of(), rng=np.random.default_rng(0))
    for g, each in enumerate(sums.values()):
        lifts = anchored_lift(each.total().of_policies(np.arange(9))).value
        total = 0.0
        for p, (c, d) in enumerate(each.family.scalarisations):
            total += (c * lifts[p, 0] + d * lifts[p, 1]) / 9
        assert found.gain[g] == pytest.approx(total)
        np.testing.assert_allclose(found.points(g), lifts)


def test_the_same_model_has_no_gap_and_a_blind_one_has(sums):
    found = isolate(sums, config_of(), rng=np.random.default_rng(0))
    assert (found.gap[1], found.gap_std_error[1]) == (0, 0)
    assert found.gap[2] < -3 * found.gap_std_error[2]
    assert found.gap[2] == pytest.approx(found.gain[2] - found.gain[0])


def test_a_minimised_objective_counts_the_other_way_round(sums):
    one = {"all features": sums["all features"]}
    up, down = (isolate(one, config_of(d), rng=np.random.default_rng(0)).gain for d in (("maximise",) * 2, ("minimise",) * 2))
    assert down[0] == pytest.approx(-up[0])


def test_other_rows_and_too_few_hits_are_refused(sums):
    log, means = world_log(500, seed=1)
    with pytest.raises(DataError, match="different rows"):
        isolate({**sums, "other": swept(log, means)}, config_of(), rng=np.random.default_rng(0))
    config = config_of()
    scarce = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"min_hits": 10**6})})
    with pytest.raises(GateError, match="enough hits"):
        isolate(sums, scarce, rng=np.random.default_rng(0))


def test_picture_and_table_say_who_gains_what(sums):
    found = isolate(sums, config_of(), rng=np.random.default_rng(0))
    drawn = isolation_figure(found).to_dict()
    assert "Taste alone gains" in drawn["title"]["text"]
    points = [row for rows in drawn["datasets"].values() for row in rows if "order" in row] if "datasets" in drawn else []
    text = str(drawn)
    assert points == [] or len(points) == 27
    assert all(name in text for name in ("all features: gain", "nothing: gain", "production"))
    table = isolation_table(found, {"taste": ("taste",), "nothing": ("noise",)})
    assert [row[:2] for row in table.rows] == [("all features", "all"), ("taste", "taste"), ("nothing", "noise")]
    assert table.rows[1][3] == "+0.00 % ± 0.00 %"
    with pytest.raises(DataError, match="table"):
        isolation_figure(found, axes=(0, 2))
