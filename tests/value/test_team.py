"""What a team fits is what one process would have fitted on all rows, up to rounding, or within the noise of seeds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_log import make_config, make_log
from teams import together
from torch import nn

from paretune.errors import DataError
from paretune.value.features import Encoder
from paretune.value.fitting import Recipe, arrays_of, fit_network, held_out_users, seeded
from paretune.value.lessons import training_rows
from paretune.value.paper_net import Sizes, fit_paper
from paretune.value.ridge import fit_ridge
from paretune.value.selection import clustered_mean, fit_expectation, relative_scale
from paretune.value.train import fit, judge_kinds, resolve

RECIPE = Recipe(learning_rate=3e-2, batch_size=32, max_epochs=5, patience=5, weight_decay=0.01, schedule="cosine")


def share(log, team):
    """Return a member's part of a log: parts of unequal size, so that means of means would be wrong."""
    edges = np.linspace(0, 1, team.size + 1) ** 1.5 * len(log)
    return log.take(slice(int(edges[team.rank]), int(edges[team.rank + 1])))


def squared(output, target):
    return (output - target).square().mean()


def columns(n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(np.stack([x[:, 0] - x[:, 1], np.abs(x[:, 2])], axis=1)), np.arange(n) % 5 == 0


def fit_part(team, *, build, recipe=RECIPE, loss=squared, checkpoint=None):
    x, y, validation = columns()
    part = slice(0, 70) if team.rank == 0 else slice(70, 200)
    part = part if team.size == 2 else slice(None)
    network = seeded(build, 1)
    fitted = fit_network(
        network, (x[part],), y[part], loss, validation=validation[part], seed=1, recipe=recipe, checkpoint=checkpoint, team=team
    )
    return arrays_of(network), fitted


def plain():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def rich():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def assert_same(one, other):
    assert one[1].train_losses == other[1].train_losses
    assert one[1].validation_losses == other[1].validation_losses
    for name, array in one[0].items():
        np.testing.assert_array_equal(array, other[0][name])


def test_steps_of_a_team_on_whole_batches_are_those_of_one_process() -> None:
    whole = replace(RECIPE, batch_size=1000, max_epochs=20, patience=20)
    (alone,) = together(1, lambda team: fit_part(team, build=plain, recipe=whole))
    one, other = together(2, lambda team: fit_part(team, build=plain, recipe=whole))
    assert_same(one, other)
    np.testing.assert_allclose(one[1].validation_losses, alone[1].validation_losses, rtol=1e-4)
    np.testing.assert_allclose(one[1].train_losses, alone[1].train_losses, rtol=1e-4)
    for name, array in alone[0].items():
        np.testing.assert_allclose(one[0][name], array, atol=1e-4)


def test_members_hold_one_network_with_batch_norm_and_dropout_too() -> None:
    one, other = together(2, lambda team: fit_part(team, build=rich))
    assert_same(one, other)
    assert_same(one, together(2, lambda team: fit_part(team, build=rich))[0])


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("calls_before_the_kill", [5, 40])
def test_a_team_of_which_a_member_was_killed_goes_on_to_the_bit(tmp_path, calls_before_the_kill) -> None:
    calls = 0

    def mortal(output, target):
        nonlocal calls
        calls += 1
        if calls > calls_before_the_kill:
            raise Killed
        return squared(output, target)

    uninterrupted = together(2, lambda team: fit_part(team, build=rich))[0]
    with pytest.raises(Killed):
        together(2, lambda team: fit_part(team, build=rich, loss=mortal, checkpoint=tmp_path / "run.npz"))
    resumed = together(2, lambda team: fit_part(team, build=rich, checkpoint=tmp_path / "run.npz"))
    assert_same(uninterrupted, resumed[0])
    assert_same(uninterrupted, resumed[1])
    (alone,) = together(1, lambda team: fit_part(team, build=rich, checkpoint=tmp_path / "run.npz"))
    assert alone[1].train_losses != uninterrupted[1].train_losses  # a checkpoint of another team is another run's


@pytest.mark.parametrize("size", [2, 3])
def test_the_encoding_of_a_team_is_that_of_all_rows(config, log, size) -> None:
    alone = Encoder.fit(log.state, config.features)
    found = together(size, lambda team: Encoder.fit(share(log, team).state, config.features, team=team))
    assert all(encoder == found[0] for encoder in found)
    assert found[0].categorical == alone.categorical
    assert found[0].columns() == alone.columns()
    np.testing.assert_allclose(found[0].wide(log.state), alone.wide(log.state), atol=1e-5)


def test_the_ridge_model_of_a_team_is_that_of_all_rows(config, log) -> None:
    alone = fit_ridge(log, config)
    one, other = together(2, lambda team: fit_ridge(share(log, team), config, team=team))
    np.testing.assert_array_equal(one.by_state, other.by_state)
    assert (one.origin.rows, one.origin.first_day, one.origin.last_day) == (
        alone.origin.rows,
        alone.origin.first_day,
        alone.origin.last_day,
    )
    actions = config.surface.build().actions
    np.testing.assert_allclose(one.values(log.state, actions), alone.values(log.state, actions), atol=1e-4)


def test_models_are_judged_on_the_rows_of_all_members(config, log) -> None:
    rows = training_rows(log)
    loss, weight = np.random.default_rng(0).normal(size=(2, len(rows))) ** 2
    alone = clustered_mean(loss, weight, rows.user)

    def judged(team):
        at = share(replace(rows, request=np.arange(len(rows))), team).request
        return clustered_mean(loss[at], weight[at], rows.user[at], team=team)

    for found in together(3, judged):
        np.testing.assert_allclose(found, alone, rtol=1e-12)
    expected = fit_expectation(rows, config).predict(rows)
    for found in together(2, lambda team: fit_expectation(share(rows, team), config, team=team).predict(rows)):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for found in together(2, lambda team: relative_scale(share(log, team), team=team)):
        np.testing.assert_allclose(found, relative_scale(log), rtol=1e-12)


def test_a_user_is_held_out_by_all_members_or_by_none() -> None:
    user = np.array([1, 2, 1, 2, 1, 2], dtype=np.uint64)  # too few for the share: the user of the lowest coin is held out
    alone = held_out_users(user, 1e-6)
    parts = together(2, lambda team: held_out_users(user[3 * team.rank : 3 * team.rank + 3], 1e-6, team=team))
    np.testing.assert_array_equal(np.concatenate(parts), alone)
    with pytest.raises(DataError, match="fewer than two users"):
        together(2, lambda team: held_out_users(np.full(3, 7, np.uint64), 0.5, team=team))


@pytest.mark.parametrize("kind", ["smooth", "replay"])
def test_a_team_learns_as_well_as_one_process_within_the_noise_of_seeds(kind) -> None:
    config = make_config(max_epochs=5, patience=5)
    log = make_log(3000, config)
    seeds = [fit(log, config, model=kind, seed=seed).origin.losses["validation"] for seed in range(3)]
    one, other = together(2, lambda team: fit(share(log, team), config, model=kind, seed=0, team=team))
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])
    assert abs(one.origin.losses["validation"] - np.mean(seeds)) < max(4 * np.std(seeds, ddof=1), 0.002 * np.mean(seeds))


def test_the_papers_network_and_a_bootstrap_ensemble_train_in_a_team() -> None:
    config = make_config(max_epochs=2, seeds=2, ensemble="bootstrap")
    log = make_log(1500, config)
    one, other = together(
        2, lambda team: fit_paper(share(log, team), config, learning_rates=(1e-3,), sizes=Sizes("pooled", 8, 2, 1, 2, 8, 4, 8), team=team)
    )
    assert one.origin.losses == other.origin.losses
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])
    one, other = together(2, lambda team: fit(share(log, team), config, model="ridge", team=team))
    assert len(one.members) == 2
    np.testing.assert_array_equal(one.members[1].by_state, other.members[1].by_state)
    assert not np.array_equal(one.members[0].by_state, one.members[1].by_state)


def test_a_team_compares_kinds_and_agrees_on_what_auto_means(config, log) -> None:
    asked = make_config(candidates=["ridge"])
    one, other = together(2, lambda team: judge_kinds(share(log, team), asked, team=team))
    assert one == other
    (alone,) = judge_kinds(log, asked)
    np.testing.assert_allclose(
        [one[0].loss, one[0].difference, one[0].std_error], [alone.loss, alone.difference, alone.std_error], rtol=0.02
    )
    assert together(2, lambda team: resolve("auto", share(log, team), config, team=team)) == ["replay", "replay"]

    def without(team):
        part = share(log, team)
        return resolve("auto", replace(part, candidates=None) if team.rank else part, config, team=team)

    assert together(2, without) == ["smooth", "smooth"]


def test_a_part_without_exploration_is_refused_by_all(config, log) -> None:
    def rows(team):
        part = share(log, team)
        return training_rows(replace(part, explored=part.explored & (team.rank == 0)), team=team)

    with pytest.raises(DataError, match="1 of 2 workers"):
        together(2, rows)
