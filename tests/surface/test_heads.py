"""The control surface: what it refuses, and that index and weights are each other's inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import ConfigError, SurfaceError
from paretune.records import OFF_GRID, PRODUCTION
from paretune.surface.grid import spaced
from paretune.surface.heads import Head, Surface

PAPER = Surface((Head("save", 91.6, spaced(10, 200, 7)), Head("hide", -4.0), Head("p2p", 9.1, spaced(1, 30, 7))), k=25)


@st.composite
def surfaces(draw: st.DrawFn) -> Surface:
    n_heads = draw(st.integers(1, 4))
    heads = []
    for i in range(n_heads):
        levels = draw(st.integers(2, 4)) if i == 0 else draw(st.sampled_from([0, 2, 3]))
        low, factor = draw(st.floats(0.1, 50)), draw(st.floats(1.5, 30))
        weight = draw(st.floats(0.1, 100)) if levels else draw(st.floats(-100, 100))
        heads.append(Head(f"h{i}", weight, spaced(low, low * factor, levels) if levels else ()))
    return Surface(tuple(heads), k=draw(st.integers(1, 20)))


def test_production_is_action_zero_and_the_grid_follows_with_the_first_tuned_head_slowest() -> None:
    actions = PAPER.actions
    assert actions.shape == (50, 3) == (len(PAPER), 3)
    np.testing.assert_array_equal(actions[PRODUCTION], [91.6, -4.0, 9.1])
    np.testing.assert_allclose(actions[1], [10, -4, 1])
    np.testing.assert_allclose(actions[2], [10, -4, 1 + 29 / 6])
    np.testing.assert_allclose(actions[8], [10 + 190 / 6, -4, 1])
    np.testing.assert_allclose(actions[-1], [200, -4, 30])


def test_untuned_heads_keep_their_static_weight_in_every_action() -> None:
    assert PAPER.tuned == (0, 2)
    assert (PAPER.actions[:, 1] == -4).all()


@settings(max_examples=40, deadline=None)
@given(surfaces())
def test_index_and_weights_are_inverse(surface: Surface) -> None:
    actions = surface.actions
    assert len(actions) == len(surface)
    index = surface.index(actions)
    np.testing.assert_allclose(actions[index], actions, rtol=2e-4)
    assert index[PRODUCTION] == PRODUCTION


@settings(max_examples=25, deadline=None)
@given(surfaces(), st.integers(0, 2**32 - 1))
def test_index_does_not_depend_on_the_order_or_the_repetition_of_rows(surface: Surface, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, len(surface), size=30)
    np.testing.assert_array_equal(surface.index(surface.actions[rows]), surface.index(surface.actions)[rows])


def test_weights_that_went_through_float32_are_found_again() -> None:
    np.testing.assert_array_equal(PAPER.index(PAPER.actions.astype(np.float32)), np.arange(50))


def test_weights_that_are_no_action_are_off_grid() -> None:
    np.testing.assert_array_equal(PAPER.index(np.array([[91.6, -4.0, 9.2], [91.6, -4.1, 9.1], [200, -4, 30]])), [OFF_GRID, OFF_GRID, 49])


def test_a_grid_action_that_equals_production_is_reported_as_production() -> None:
    surface = Surface((Head("a", 2.0, (1.0, 2.0, 3.0)),), k=3)
    np.testing.assert_array_equal(surface.index(np.array([[1.0], [2.0], [3.0]])), [1, PRODUCTION, 3])


def test_weights_of_another_number_of_heads_are_refused() -> None:
    with pytest.raises(SurfaceError, match="3 heads"):
        PAPER.index(np.ones((4, 2)))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda: Head("a", float("nan")), "not finite"),
        (lambda: Head("a", 1.0, (1.0, float("inf"))), "not finite"),
        (lambda: Head("a", 1.0, (1.0,)), "do not increase"),
        (lambda: Head("a", 1.0, (2.0, 2.0)), "do not increase"),
        (lambda: Head("a", 1.0, (3.0, 2.0)), "do not increase"),
        (lambda: Head("a", -1.0, (1.0, 2.0)), "not positive"),
        (lambda: Head("a", 1.0, (0.0, 2.0)), "not positive"),
        (lambda: Surface((Head("a", 1.0, (1.0, 2.0)), Head("a", 1.0)), k=5), "repeat"),
        (lambda: Surface((Head("a", 1.0),), k=5), "no head is tuned"),
        (lambda: Surface((Head("a", 1.0, (1.0, 2.0)),), k=0), "k is 0"),
    ],
)
def test_what_makes_no_surface_is_refused_with_a_hint(head: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        head()  # type: ignore[operator]
    assert caught.value.hint
