"""Proposed heads and ranges: two heads that carry the utility are found, with ranges a person would choose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import SurfaceError
from paretune.surface.contribution import head_contribution, weight_range_curve
from paretune.surface.grid import spaced
from paretune.surface.heads import Head, Surface
from paretune.surface.propose import propose_heads

NAMES = ("save", "p2p", "click", "hide", "share")
STATIC = np.array([91.6, 9.1, 1.0, -4.0, 5.0])


def scores(seed: int = 0, n: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.beta(2, 40, size=(n, 5)) * [0.4, 3, 1, 0.2, 0.05]


def test_the_heads_that_carry_ninety_per_cent_are_tuned_and_the_others_kept() -> None:
    proposals = propose_heads(scores(), NAMES, STATIC)
    assert [p.name for p in proposals if p.tune] == ["save", "p2p"] == [p.name for p in proposals[:2]]
    assert [p.contribution for p in proposals] == sorted((p.contribution for p in proposals), reverse=True)
    assert sum(p.contribution for p in proposals[:2]) >= 0.9
    assert all(p.levels == 7 for p in proposals[:2])
    assert all("only" in p.why or "negative" in p.why for p in proposals[2:])


def test_ranges_run_from_negligible_to_dominant_and_hold_production() -> None:
    logged = scores()
    for proposal in propose_heads(logged, NAMES, STATIC)[:2]:
        head = NAMES.index(proposal.name)
        assert proposal.low <= proposal.weight / 2 < 2 * proposal.weight <= proposal.high
        assert 0.005 < proposal.low_share < 0.015
        assert proposal.high_share >= 0.5
        np.testing.assert_allclose(
            weight_range_curve(logged, STATIC, head, np.array([proposal.low, proposal.high])), [proposal.low_share, proposal.high_share]
        )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 1), st.integers(1, 3))
def test_every_proposal_makes_a_surface(seed: int, enough: float, at_most: int) -> None:
    proposals = propose_heads(scores(seed, 200), NAMES, STATIC, enough=enough, at_most=at_most)
    heads = tuple(Head(p.name, p.weight, spaced(p.low, p.high, p.levels, log=p.spacing == "log") if p.tune else ()) for p in proposals)
    assert 1 <= len(Surface(heads, k=10).tuned) <= at_most
    assert len(Surface(heads, k=10)) <= 65
    assert sorted(p.name for p in proposals) == sorted(NAMES)


def test_a_head_with_a_negative_weight_is_never_tuned_however_much_it_carries() -> None:
    proposals = propose_heads(scores(), NAMES, np.array([91.6, 9.1, 1.0, -4000.0, 5.0]))
    assert proposals[0].name == "hide"
    assert not proposals[0].tune
    assert "negate" in proposals[0].why
    assert not {p.name for p in proposals if p.tune} & {"hide"}


def test_a_cap_on_tuned_heads_is_said_to_be_the_reason() -> None:
    proposals = propose_heads(scores(), NAMES, STATIC, enough=1.0, at_most=1)
    assert [p.tune for p in proposals] == [True, False, False, False, False]
    assert "too many actions" in proposals[1].why


def test_a_head_that_is_alone_gets_room_around_production() -> None:
    (proposal,) = propose_heads(np.full((5, 1), 0.3), ("only",), np.array([8.0]))
    assert (proposal.low, proposal.high, proposal.contribution) == (4.0, 16.0, 1.0)


def test_shares_are_those_of_head_contribution() -> None:
    shares = head_contribution(scores(), STATIC)
    for proposal in propose_heads(scores(), NAMES, STATIC):
        assert proposal.contribution == pytest.approx(shares[NAMES.index(proposal.name)])


def test_no_head_to_tune_and_options_out_of_range_are_refused() -> None:
    with pytest.raises(SurfaceError, match="no head"):
        propose_heads(scores(), NAMES, -np.abs(STATIC))
    for options in ({"enough": 0.0}, {"at_most": 4}, {"low_share": 0.6}, {"high_share": 1.0}):
        with pytest.raises(SurfaceError, match="out of range"):
            propose_heads(scores(), NAMES, STATIC, **options)
