"""Model selection: the R-loss word for word, what it is blind to, and that the better model is kept."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import make_config, make_log, make_truth

from paretune.errors import ConfigError, DataError
from paretune.report.learning_tables import selection_table
from paretune.value.bundle import load_model
from paretune.value.selection import (
    RLoss,
    as_losses,
    clustered_mean,
    fit_expectation,
    from_losses,
    judging_users,
    r_losses,
    relative_scale,
    row_losses,
    uniform_weights,
)
from paretune.value.train import fit, judge_kinds

CONFIG = make_config()
ACTIONS = CONFIG.surface.build().actions


@dataclass
class Known:
    """The truth of the small log, each effect made larger or smaller."""

    factor: float
    name: str = "known"
    objectives: tuple[str, ...] = ("save", "p2p")

    def values(self, state, actions):
        truth = make_truth(CONFIG, state, actions)
        return (truth[:, :1] + self.factor * (truth - truth[:, :1])).astype(np.float32)

    def save(self, folder):
        raise NotImplementedError


def drawn(n=5, seed=0):
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(n, 4, 2))
    effects -= effects[:, :1]
    return rng.random((n, 2)), rng.random((n, 2)), effects, rng.integers(1, 4, n), rng.uniform(1, 5, 2)


def test_the_loss_of_a_row_is_the_definition_word_for_word():
    rewards, expected, effects, action, scale = drawn()
    for i, loss in enumerate(row_losses(rewards, expected, effects, action, scale=scale)):
        total = 0.0
        for j in range(2):
            average = sum(effects[i, a, j] for a in (1, 2, 3)) / 3
            total += (scale[j] * (rewards[i, j] - expected[i, j] - (effects[i, action[i], j] - average))) ** 2
        assert loss == pytest.approx(total)


@given(st.integers(0, 2**32 - 1), st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_what_all_actions_gain_alike_does_not_count(seed, shift):
    rewards, expected, effects, action, scale = drawn(seed=seed)
    moved = effects + np.concatenate([np.zeros((5, 1, 2)), np.full((5, 3, 2), shift)], axis=1)
    np.testing.assert_allclose(
        row_losses(rewards, expected, moved, action, scale=scale), row_losses(rewards, expected, effects, action, scale=scale)
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(max_examples=50, deadline=None)
def test_the_standard_error_takes_the_rows_of_a_user_together(seed, n):
    rng = np.random.default_rng(seed)
    value, weight, user = rng.normal(size=n), rng.uniform(0.5, 2, n), np.concatenate([[0, 1], rng.integers(0, 5, n - 2)])
    mean, error = clustered_mean(value, weight, user)
    assert mean == pytest.approx(np.average(value, weights=weight))
    parts = [sum(weight[i] * (value[i] - mean) for i in range(n) if user[i] == u) / weight.sum() for u in set(user.tolist())]
    assert error == pytest.approx(np.sqrt(len(parts) / (len(parts) - 1) * sum(part**2 for part in parts)))
    with pytest.raises(DataError, match="1 user"):
        clustered_mean(value, weight, np.zeros(n))


def test_true_effects_beat_larger_smaller_and_no_effects_whatever_requests_are_thought_to_be_worth():
    log = make_log(20_000, CONFIG, seed=5)
    held_out, other = log.take(judging_users(log.user)), log.take(~judging_users(log.user))
    models = {"none": Known(0.0), "half": Known(0.5), "true": Known(1.0), "thrice": Known(3.0)}
    expectation = fit_expectation(other.exploration(), CONFIG)
    for wrong in (0.0, 0.3):
        skewed = replace(expectation, coefficients=expectation.coefficients + wrong)
        judged = r_losses(models, held_out, skewed, CONFIG, scale=relative_scale(other))
        assert judged[0].name == "true"
        assert judged[0].helps
        assert {one.name: one for one in judged}["none"].difference == pytest.approx(0)
        assert {one.name: one for one in judged}["half"].difference < -3 * judged[1].std_error


def test_a_uniform_design_has_weight_one_and_others_are_weighted_to_it():
    log = make_log(400, CONFIG).exploration()
    np.testing.assert_allclose(uniform_weights(log, len(ACTIONS)), 1)
    np.testing.assert_allclose(uniform_weights(replace(log, propensity=log.propensity / 2), len(ACTIONS)), 2)


def test_judgements_pass_through_an_origins_losses_and_back():
    judged = [RLoss("ridge", 4.0, -0.25, 0.125), RLoss("smooth", 4.5, 0.25, 0.125)]
    assert from_losses({"validation": 0.5, **as_losses(judged)}) == judged
    assert from_losses({"validation": 0.5}) == []


def test_best_keeps_the_kind_with_the_lowest_loss_and_remembers_the_table(log, tmp_path):
    config = make_config(candidates=["ridge", "smooth"], max_epochs=2, seeds=2)
    judged = judge_kinds(log, config, seed=1)
    told = []
    model = fit(log, config, seed=1, model="best", progress=lambda share, _: told.append(share))
    assert told == sorted(told)
    assert [one.loss for one in judged] == sorted(one.loss for one in judged)
    assert {one.name for one in judged} == {"ridge", "smooth"}
    assert {member.name for member in model.members} == {judged[0].name}
    model.save(tmp_path / "model")
    assert from_losses(load_model(tmp_path / "model").members[0].origin.losses) == judged
    assert model.members[0].origin.rows == model.members[1].origin.rows > 0.9 * len(log)  # fitted again on everyone


def test_best_compares_replay_only_where_the_log_allows_it(log, monkeypatch):
    fitted = []

    def record(kind, *_, **__):
        fitted.append(kind)
        return Known(1.0)

    monkeypatch.setattr("paretune.value.train._members", record)
    judge_kinds(log, CONFIG)
    judge_kinds(replace(log, candidates=None), CONFIG)
    assert fitted == ["replay", "smooth", "ridge", "smooth", "ridge"]


def test_faults_are_named(log):
    with pytest.raises(ConfigError, match="best"):
        fit(log, CONFIG, model="tree")
    with pytest.raises(DataError, match="users"):
        judging_users(np.zeros(10, np.uint64))
    with pytest.raises(DataError, match="relative"):
        relative_scale(replace(log, rewards=log.rewards * 0))
    with pytest.raises(DataError, match="no held-out"):
        r_losses({}, log.production(), fit_expectation(log.exploration(), CONFIG), CONFIG, scale=np.ones(2))


def test_the_table_names_the_kept_model_and_says_when_none_helps():
    table = selection_table([RLoss("ridge", 4.0, -0.25, 0.125), RLoss("smooth", 4.5, 0.25, 0.125)])
    assert table.rows[0] == ("ridge", "4.00000", "−0.25000 ± 0.12500", "✓ kept")
    assert "No model" not in table.note
    assert "No model" in selection_table([RLoss("ridge", 4.0, 0.25, 0.125)]).note
