from dataclasses import replace

import numpy as np
import pytest
from small_log import make_config

from paretune.errors import ConfigError, DataError
from paretune.records import Candidates
from paretune.value.bundle import load_model
from paretune.value.ensemble import Averaged
from paretune.value.lessons import training_rows
from paretune.value.ridge import fit_ridge
from paretune.value.train import fit, resolve


def test_auto_is_replay_only_where_the_rankers_own_predictions_can_be_replayed(log, config):
    assert resolve("auto", log, config) == "replay"
    assert resolve("auto", replace(log, candidates=None), config) == "smooth"
    for change in ({"head": None}, {"transform": "log1p"}):
        raw = config.model_dump(mode="json")
        raw["objectives"][1] |= change
        assert resolve("auto", log, type(config).model_validate(raw)) == "smooth"
    with pytest.raises(ConfigError, match="no value model 'tree'"):
        resolve("tree", log, config)


def test_auto_replays_where_most_rows_have_candidates_and_learns_from_those(log, config):
    def without(rows):
        lengths = np.where(rows, 0, np.diff(log.candidates.offsets))
        kept = np.repeat(~rows, np.diff(log.candidates.offsets))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return replace(log, candidates=Candidates(offsets, log.candidates.ids[kept], log.candidates.scores[kept]))

    few, most = (without(np.arange(len(log)) % 10 < tenths) for tenths in (1, 9))
    assert resolve("auto", few, config) == "replay"
    assert resolve("auto", most, config) == "smooth"
    listed = few.exploration().candidates
    assert fit(few, make_config(max_epochs=1), model="replay").origin.rows == (np.diff(listed.offsets) > 0).sum()


def test_a_transformer_is_asked_of_the_papers_network_only(log):
    with pytest.raises(ConfigError, match="pooled"):
        fit(log, make_config(encoder="transformer"), model="ridge")


def test_a_log_without_exploration_teaches_nothing(log, config):
    with pytest.raises(DataError, match="explored"):
        fit(log.production(), config, model="ridge")


def test_several_seeds_are_averaged_and_survive_a_kill(log, tmp_path):
    config, log = make_config(seeds=2, encoder="pooled", max_epochs=1), log.take(slice(0, 600))
    told = []

    class Killed(BaseException):
        pass

    def mortal(share, doing):
        told.append(share)
        if share > 0.6:
            raise Killed

    with pytest.raises(Killed):
        fit(log, config, seed=3, model="paper", checkpoint=tmp_path, progress=mortal)
    assert told == sorted(told)
    resumed, whole = (fit(log, config, seed=3, model="paper", checkpoint=folder) for folder in (tmp_path, None))
    actions, state = config.surface.build().actions, log.state.take(slice(0, 50))
    np.testing.assert_array_equal(resumed.values(state, actions), whole.values(state, actions))
    assert isinstance(whole, Averaged)
    assert whole.spread(state, actions).mean() > 0
    mean = np.mean([member.values(state, actions) for member in whole.members], axis=0)
    np.testing.assert_allclose(whole.values(state, actions), mean, atol=1e-6)


def test_models_of_other_objectives_are_not_averaged(log, config):
    raw = config.model_dump(mode="json")
    raw["objectives"][1]["name"] = "related"
    with pytest.raises(DataError, match="cannot average"):
        Averaged((fit_ridge(log, config), fit_ridge(log, type(config).model_validate(raw))))


def test_an_average_is_read_back_member_by_member(log, config, tmp_path):
    model = Averaged((fit_ridge(log, config), fit_ridge(log.take(slice(0, 1500)), config)))
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    state, actions = log.state.take(slice(0, 20)), config.surface.build().actions
    np.testing.assert_array_equal(again.values(state, actions), model.values(state, actions))


def test_production_rows_join_the_training_up_to_four_for_each_exploration_row(log):
    alone, joined = training_rows(log), training_rows(log, with_production=True)
    assert (alone.action > 0).all()
    assert len(joined) == len(alone) + int(log.produced.sum())
    few = log.take(np.concatenate([np.flatnonzero(log.explored)[:10], np.flatnonzero(log.produced)]))
    assert len(training_rows(few, with_production=True)) == 50
    assert joined.candidates is None
