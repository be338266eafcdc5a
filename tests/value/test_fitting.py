import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paretune.errors import ArtefactError, DataError
from paretune.value.fitting import Lookup, Recipe, arrays_of, fit_network, held_out_users, load_arrays, seeded

RECIPE = Recipe(learning_rate=3e-2, batch_size=32, max_epochs=6, patience=6, weight_decay=0.01, schedule="cosine")


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def data(n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.stack([x[:, 0] - x[:, 1], np.abs(x[:, 2])], axis=1)
    return torch.from_numpy(x), torch.from_numpy(y), np.arange(n) % 5 == 0


def squared(output, target):
    return (output - target).square().mean()


def fit(loss=squared, checkpoint=None, recipe=RECIPE, seed=1):
    x, y, validation = data()
    network = seeded(build, seed)
    return network, fit_network(network, (x,), y, loss, validation=validation, seed=seed, recipe=recipe, checkpoint=checkpoint)


def assert_same(one, other):
    assert one[1].best_epoch == other[1].best_epoch
    assert one[1].train_losses == other[1].train_losses
    assert one[1].validation_losses == other[1].validation_losses
    for name, array in arrays_of(one[0]).items():
        np.testing.assert_array_equal(array, arrays_of(other[0])[name])


def test_the_same_seed_gives_the_same_network_to_the_bit_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = fit()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert_same(first, fit())
    assert fit(seed=2)[1].train_losses != first[1].train_losses


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


@pytest.mark.parametrize("calls_before_the_kill", [3, 14, 27])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, calls_before_the_kill):
    calls = 0

    def mortal(output, target):
        nonlocal calls
        calls += 1
        if calls > calls_before_the_kill:
            raise Killed
        return squared(output, target)

    with pytest.raises(Killed):
        fit(mortal, tmp_path / "run.npz")
    resumed = fit(checkpoint=tmp_path / "run.npz")
    assert_same(fit(), resumed)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = fit(checkpoint=tmp_path / "run.npz")

    def never(output, target):
        raise AssertionError("trained again")

    assert_same(first, fit(never, tmp_path / "run.npz"))


def test_a_checkpoint_that_is_torn_or_of_another_run_is_not_resumed(tmp_path):
    path = tmp_path / "run.npz"
    fit(checkpoint=path, seed=2)
    assert_same(fit(), fit(checkpoint=path))
    path.write_bytes(path.read_bytes()[:-100])
    assert_same(fit(), fit(checkpoint=path))
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_checkpoint_holds_plain_arrays_only(tmp_path):
    fit(checkpoint=tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind in "fiu" for name in stored.files)


def test_the_best_epoch_is_kept_and_training_stops_after_patience():
    x, y, validation = data()
    y = torch.where(torch.from_numpy(validation)[:, None], -y, y)  # what is learned is wrong for the held-out rows
    network = seeded(build, 1)
    recipe = Recipe(learning_rate=3e-2, batch_size=32, max_epochs=50, patience=3)
    fitted = fit_network(network, (x,), y, squared, validation=validation, seed=1, recipe=recipe)
    assert len(fitted.validation_losses) == fitted.best_epoch + 3 < 50
    assert fitted.best_loss == min(fitted.validation_losses)
    assert not network.training
    held_out = torch.from_numpy(validation)
    assert squared(network(x[held_out]), y[held_out]).item() == pytest.approx(fitted.best_loss, rel=1e-6)


def test_lookups_and_half_precision_columns_train_like_the_tensors_they_stand_for():
    x, y, validation = data()
    index = torch.arange(200) % 4
    table = torch.eye(4)[:, :3].contiguous()
    half = x.half()
    network, twin = seeded(build, 1), seeded(build, 1)

    class Sum(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, a, b):
            return self.inner(a + b)

    fit_network(Sum(network), (half, Lookup(table, index)), y, squared, validation=validation, seed=1, recipe=RECIPE)
    fit_network(Sum(twin), (half.float(), table[index]), y, squared, validation=validation, seed=1, recipe=RECIPE)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(network).values(), arrays_of(twin).values(), strict=True))


def test_bad_inputs_and_divergence_are_refused():
    x, y, validation = data()
    with pytest.raises(DataError, match="equal length"):
        fit_network(seeded(build, 1), (x[:-1],), y, squared, validation=validation, seed=1)
    for mask in (np.zeros(200, bool), np.ones(200, bool)):
        with pytest.raises(DataError, match="held out"):
            fit_network(seeded(build, 1), (x,), y, squared, validation=mask, seed=1)
    with pytest.raises(DataError, match="diverged"):
        fit_network(seeded(build, 1), (x,), y * torch.nan, squared, validation=validation, seed=1)


def test_arrays_go_back_only_into_a_network_of_their_shape():
    one, other = seeded(build, 1), seeded(build, 2)
    load_arrays(other, arrays_of(one))
    assert torch.equal(one.eval()(torch.ones(1, 3)), other(torch.ones(1, 3)))
    with pytest.raises(ArtefactError):
        load_arrays(nn.Linear(3, 3), arrays_of(one))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=200).filter(lambda users: len(set(users)) > 1), st.floats(0.01, 0.89))
@settings(max_examples=50, deadline=None)
def test_a_user_is_either_held_out_or_learned_from_and_neither_side_is_empty(users, share):
    user = np.array(users, dtype=np.uint64)
    mask = held_out_users(user, share)
    assert mask.any()
    assert not mask.all()
    assert all(len(set(mask[user == one])) == 1 for one in set(users))


def test_about_the_asked_share_of_users_is_held_out():
    assert held_out_users(np.arange(20_000, dtype=np.uint64), 0.1).mean() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(DataError, match="two users"):
        held_out_users(np.zeros(5, np.uint64), 0.1)


def test_threads_are_as_they_were_after_a_fit():
    before = torch.get_num_threads()
    fit(recipe=Recipe(max_epochs=1, threads=before + 1))
    assert torch.get_num_threads() == before
