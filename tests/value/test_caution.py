"""Acting by a lower bound: what caution changes and what it must not, bootstraps of users, and the way there by configuration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import make_config

from paretune.errors import ArtefactError, ConfigError
from paretune.frontier.sweep import choose
from paretune.value.bundle import load_model
from paretune.value.caution import Cautious, doubted
from paretune.value.ensemble import Averaged, bootstrap_rows
from paretune.value.ridge import fit_ridge
from paretune.value.train import fit

ACTIONS = make_config().surface.build().actions


def drawn(seed, members=4, n=6, actions=5):
    rng = np.random.default_rng(seed)
    changes = rng.normal(size=(members, n, actions, 2)) + rng.normal(size=(1, n, actions, 2))
    changes[:, :, 0] = 0.0
    return changes, rng.random((3, 2))


def choose_cautiously(changes, weights, *, caution):
    return choose(doubted(changes, caution=caution), weights, allowed=np.arange(changes.shape[2]))


@given(st.integers(0, 2**32 - 1), st.floats(0, 5))
@settings(max_examples=50, deadline=None)
def test_production_is_left_only_for_a_gain_whose_lower_bound_is_positive_and_the_largest(seed, caution):
    changes, weights = drawn(seed)
    chosen = choose_cautiously(changes, weights, caution=caution)
    for i in range(6):
        for p, c in enumerate(weights):
            bounds = [0.0]
            for a in range(1, 5):
                bound = 0.0
                for j in range(2):
                    gains = [float(changes[s, i, a, j]) for s in range(4)]
                    mean = sum(gains) / 4
                    bound += c[j] * (mean - caution * (sum((gain - mean) ** 2 for gain in gains) / 3) ** 0.5)
                bounds.append(bound)
            assert bounds[chosen[i, p]] == pytest.approx(max(bounds))
            assert chosen[i, p] == 0 or bounds[chosen[i, p]] > 0


@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.floats(0, 3))
@settings(max_examples=50, deadline=None)
def test_more_caution_never_leaves_production_where_less_kept_it(seed, first, more):
    changes, weights = drawn(seed)
    less, greater = (choose_cautiously(changes, weights, caution=c) for c in (first, first + more))
    assert not ((less == 0) & (greater != 0)).any()


@given(st.integers(0, 2**32 - 1), st.floats(0, 10))
@settings(max_examples=50, deadline=None)
def test_without_caution_or_doubt_it_is_the_plain_choice_among_all_actions(seed, caution):
    changes, weights = drawn(seed)
    plain = choose(changes.mean(axis=0), weights, allowed=np.arange(5))
    np.testing.assert_array_equal(choose_cautiously(changes, weights, caution=0.0), plain)
    agreed = np.repeat(changes.mean(axis=0, keepdims=True), 3, axis=0)
    np.testing.assert_array_equal(choose_cautiously(agreed, weights, caution=caution), plain)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_units_and_the_order_of_members_do_not_matter(seed, factor):
    changes, weights = drawn(seed)
    chosen = choose_cautiously(changes, weights, caution=1.0)
    np.testing.assert_array_equal(choose_cautiously(factor * changes[::-1], weights, caution=1.0), chosen)


@pytest.fixture(scope="module")
def averaged(log):
    config = make_config()
    return Averaged(tuple(fit_ridge(log.take(bootstrap_rows(log.user, seed=0, member=i)), config) for i in range(3)))


def test_values_are_productions_plus_the_change_less_its_spread_and_minimised_objectives_are_doubted_upwards(averaged, log):
    state = log.state.take(slice(0, 40))
    member = np.stack([m.values(state, ACTIONS).astype(float) for m in averaged.members])
    change = member - member[:, :, :1]
    for signs in ((1.0, 1.0), (1.0, -1.0)):
        values = Cautious(averaged, 2.0, signs).values(state, ACTIONS)
        expected = member[:, :, :1].mean(axis=0) + change.mean(axis=0) - 2.0 * np.array(signs) * change.std(axis=0, ddof=1)
        np.testing.assert_allclose(values, expected, atol=1e-6)
        np.testing.assert_allclose(values[:, 0], averaged.values(state, ACTIONS)[:, 0], atol=1e-6)
    np.testing.assert_allclose(Cautious(averaged, 0.0, (1.0, 1.0)).values(state, ACTIONS), averaged.values(state, ACTIONS), atol=1e-6)
    np.testing.assert_allclose(doubted(np.array([[1.0], [3.0]]), caution=1.0), 2 - np.sqrt(2))


def test_caution_is_read_back_and_needs_several_models(averaged, tmp_path, log):
    model = Cautious(averaged, 1.5, (1.0, -1.0))
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    state = log.state.take(slice(0, 9))
    np.testing.assert_array_equal(again.values(state, ACTIONS), model.values(state, ACTIONS))
    assert again.name == "cautious"
    for members, caution in ((averaged.members[:1], 1.0), (averaged.members, -1.0), (averaged.members, np.nan)):
        with pytest.raises(ConfigError, match="caution"):
            Cautious(Averaged(members), caution, (1.0, 1.0))
    with pytest.raises(ArtefactError):
        load_model(tmp_path / "nowhere")


def test_a_bootstrap_draws_whole_users_about_poisson_and_the_same_everywhere():
    user = np.repeat(np.arange(20_000, dtype=np.uint64), 2)
    rows = bootstrap_rows(user, seed=1, member=0)
    times = np.bincount(rows, minlength=len(user))
    np.testing.assert_array_equal(times[::2], times[1::2])
    share = np.bincount(times[::2], minlength=4)[:4] / 20_000
    np.testing.assert_allclose(share, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.01)
    assert (np.diff(rows) >= 0).all()
    order = np.random.default_rng(0).permutation(len(user))
    np.testing.assert_array_equal(np.bincount(bootstrap_rows(user[order], seed=1, member=0), minlength=len(user)), times[order])
    for other in ({"seed": 2, "member": 0}, {"seed": 1, "member": 1}):
        again = np.bincount(bootstrap_rows(user, **other), minlength=len(user))
        assert abs(np.corrcoef(times, again)[0, 1]) < 0.03


def test_the_configuration_asks_for_bootstraps_and_caution(log):
    model = fit(log, make_config(model="ridge", seeds=3, ensemble="bootstrap", caution=1.0))
    assert (model.name, len(model.members), model.signs) == ("cautious", 3, (1.0, 1.0))
    assert len({member.origin.rows for member in model.members}) > 1
    state = log.state.take(slice(0, 50))
    assert (model.averaged.spread(state, ACTIONS) > 0).all()
    for wrong in ({"ensemble": "bootstrap"}, {"caution": 1.0}, {"caution": -1.0, "seeds": 3}):
        with pytest.raises(ConfigError):
            make_config(**wrong)
