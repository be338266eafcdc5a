"""Arms and draws, one id at a time: bit for bit what the vectorised functions say, whatever the ids."""

import numpy as np
import pytest
from fake_scorer import GRID, fake_values
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.explore.assign import arm_of, explored_requests, scaled, uniforms
from paretune.explore.design import block_actions, draw_actions, mixture, numbered, strata
from paretune.frontier.sweep import choose
from paretune.logs.hashing import hash_integers, hash_texts, salted
from paretune.logs.hashing import mixed as mixed_array
from paretune.records import Categorical
from paretune.serving import arms
from paretune.serving.arms import Blocks, Split, coin, family_choices, hash_id, hash_text, key_of, mixed, mixture_action, uniform_action

IDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=6).map(lambda parts: [p / max(1.0, sum(parts)) for p in parts])


@given(values=st.lists(st.text(max_size=400), min_size=1, max_size=8))
def test_a_text_hashes_as_the_column_of_texts_does(values: list[str]) -> None:
    texts = [value.encode("utf-8", "surrogatepass") for value in values]
    assert [hash_text(text) for text in texts] == hash_texts(texts).tolist()
    assert [hash_id(value) for value in values] == hash_texts(texts).tolist()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 255, 256, 257, 1000])
def test_texts_at_the_edges_of_words_and_digests_hash_alike(length: int) -> None:
    text = bytes(i % 251 for i in range(length))
    assert hash_text(text) == hash_texts([text])[0]


@given(value=st.integers(-(2**63), 2**64 - 1))
def test_an_integer_hashes_as_the_column_of_integers_does(value: int) -> None:
    column = np.array([value], dtype=np.int64 if value < 2**63 else np.uint64)
    assert hash_id(value) == hash_integers(column)[0]


@pytest.mark.parametrize("value", [None, 1.5, b"x", ["x"], 2**64, -(2**63) - 1])
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="an id is"):
        hash_id(value)  # type: ignore[arg-type]


@given(ids=IDS, salt=st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
def test_mixing_and_coins_are_those_of_arrays(ids: list[int], salt: str) -> None:
    array = np.array(ids, dtype=np.uint64)
    assert [mixed(each) for each in ids] == mixed_array(array).tolist()
    assert [coin(each, key_of(salt)) for each in ids] == salted(array, salt).tolist()


@given(ids=IDS, shares=SHARES, salt=st.sampled_from(["a", "b", "arms"]))
def test_arms_and_explored_requests_are_those_of_arrays(ids: list[int], shares: list[float], salt: str) -> None:
    array = np.array(ids, dtype=np.uint64)
    assert [Split.of(shares, salt).part(each) for each in ids] == arm_of(array, shares=shares, salt=salt).tolist()
    explored = explored_requests(array, share=shares[0], salt=salt)
    assert [Split.of(shares[:1], salt).part(each) == 0 for each in ids] == explored.tolist()


def test_the_share_of_an_arm_is_kept_within_four_sigma() -> None:
    split, n = Split.of((0.05, 0.5), "arms"), 40_000
    parts = np.array([split.part(hash_id(f"user {i}")) for i in range(n)])
    for part, share in ((0, 0.05), (1, 0.5), (-1, 0.45)):
        assert abs((parts == part).mean() - share) < 4 * np.sqrt(share * (1 - share) / n)


@given(ids=IDS, actions=st.integers(1, 2000))
def test_uniform_actions_are_those_of_arrays_and_on_the_grid(ids: list[int], actions: int) -> None:
    mine = [uniform_action(each, key_of("draw"), actions=actions) for each in ids]
    assert mine == (1 + scaled(salted(np.array(ids, dtype=np.uint64), "draw"), actions)).tolist()
    assert all(1 <= action <= actions for action in mine)


@given(ids=IDS, choices=st.lists(st.integers(0, 9), min_size=1, max_size=6), floor=st.floats(0.01, 1))
def test_stage_2_draws_with_the_exact_propensity_of_the_mixture(ids: list[int], choices: list[int], floor: float) -> None:
    propensities = mixture(np.array([choices]), actions=9, floor=floor)
    assert propensities.sum() == pytest.approx(1, abs=1e-12)
    for each in ids:
        action, propensity = mixture_action(each, key_of("draw"), choices, actions=9, floor=floor)
        drawn, exact = draw_actions(propensities, uniforms(np.array([each], dtype=np.uint64), salt="draw"))
        assert (action, propensity) == (drawn[0], exact[0])
        assert propensity == propensities[0, action] > 0


@given(x=st.floats(-50, 50), dtype=st.sampled_from([np.float32, np.float64]), family=st.integers(1, 5))
def test_a_family_chooses_as_the_sweep_does(x: float, dtype: type, family: int) -> None:
    values = fake_values(x).astype(dtype)
    scalarisations = np.random.default_rng(family).normal(size=(family, 2))
    assert family_choices(values, scalarisations) == choose(values[None], scalarisations)[0].tolist()


@settings(max_examples=30)
@given(
    cohorts=st.lists(st.sampled_from(["", "new", "core"]), min_size=1, max_size=120),
    hour=st.integers(-5, 10**6),
    actions=st.integers(1, 12),
)
def test_blocks_are_those_of_arrays_also_across_strata(cohorts: list[str], hour: int, actions: int) -> None:
    words = ("core", "new")
    column = Categorical(np.array([words.index(c) if c else -1 for c in cohorts], dtype=np.int32), words)
    hours = np.array([hour + i % 2 for i in range(len(cohorts))])
    stratum = strata(column, hours)
    number, _ = numbered(stratum, {})
    blocks = Blocks(actions=actions, salt="exploration/3")
    mine = [blocks.draw(arms.stratum_of(cohort, int(h))) for cohort, h in zip(cohorts, hours, strict=True)]
    assert mine == block_actions(stratum, number, actions=actions, salt="exploration/3").tolist()


def test_every_block_shows_every_action_once() -> None:
    blocks = Blocks(actions=GRID, salt="x")
    shown = np.array([blocks.draw(7) for _ in range(GRID * 50)]).reshape(50, GRID)
    assert (np.sort(shown, axis=1) == np.arange(1, GRID + 1)).all()
    assert len({tuple(block) for block in shown.tolist()}) > 45


def test_strata_that_never_come_back_are_forgotten() -> None:
    blocks = Blocks(actions=3, salt="x")
    for stratum in range(arms.STRATA + 500):
        blocks.draw(stratum)
    assert len(blocks._seen) == arms.STRATA
