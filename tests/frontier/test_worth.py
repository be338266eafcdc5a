"""Is it worth it: fronts with known lifts and errors, and what must be said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.cli import main
from paretune.errors import GateError
from paretune.frontier.cohort_static import cohort_statics
from paretune.frontier.front import Front, Lifts, Pick, Policy
from paretune.frontier.worth import ENOUGH, excluded, family_bands, judge_worth, rows_needed, valued
from paretune.records import Floats
from paretune.report.archive import save_run
from paretune.report.contents import Findings
from paretune.surface.grid import spaced
from paretune.surface.heads import Head, Surface

SURFACE = Surface((Head("save", 91.6, spaced(10, 200, 7)), Head("p2p", 9.1, spaced(1, 30, 7))), k=5)
SIGNS, FLOORS, DELTA = np.ones(2), np.zeros(2), 0.01
ALPHAS = np.linspace(0, 1, 5)
NOTHING = np.zeros((9, 2))  # production, five alphas, best static, matched static, cohort table


def front_of(lifts: Floats, *, error: float, shared: float = 0.0, seed: int = 0, rows: int = 100_000) -> Front:
    """A front of nine policies whose estimates are the given lifts, with joint draws of a known spread."""
    rng = np.random.default_rng(seed)
    kinds = ["static", *["alpha"] * 5, "best static", "matched static", "cohort table"]
    policies = [Policy("production", "static", weights=SURFACE.static)]
    policies += [Policy(f"alpha {a}", "alpha", alpha=float(a), scalarisation=(float(a), 1 - float(a))) for a in ALPHAS]
    policies.append(Policy("best static (save 105, p2p 5.8)", "best static", weights=SURFACE.actions[9]))
    policies.append(Policy("matched static of knee", "matched static", weights=SURFACE.actions[10]))
    policies.append(Policy("cohort table", "cohort table", cohort_weights=(("A", (10.0, 1.0)), ("B", (200.0, 1.0)))))
    draws = lifts + error * rng.normal(size=(600, *lifts.shape)) + shared * rng.normal(size=(600, 1, 2))
    draws[:, 0] = 0
    spread = draws.std(axis=0)
    assert [policy.kind for policy in policies] == kinds
    record = Lifts(
        tuple(policy.name for policy in policies),
        ("save", "p2p"),
        lifts,
        spread,
        lifts - 2 * spread,
        lifts + 2 * spread,
        lifts - 3 * spread,
        lifts + 3 * spread,
        draws,
        np.full(2, 0.2),
        np.full(9, rows),
        "made up",
        0.95,
        2 * rows,
        rows // 2,
    )
    picks = (Pick("save-leaning", 5, 0.4), Pick("knee", 3, 0.1), Pick("constrained", 3, 0.1))
    shares = np.full((9, len(SURFACE)), 1 / len(SURFACE))
    return Front(tuple(policies), record, np.zeros(9, np.bool_), picks, shares @ SURFACE.actions, shares)


def with_lifts(**changes: tuple[float, float]) -> Floats:
    lifts = NOTHING.copy()
    for name, pair in changes.items():
        lifts[{"family": slice(1, 6), "knee": 3, "best": 6, "matched": 7, "table": 8}[name]] = pair
    return lifts


def answer(front: Front, **changes: Floats | float) -> str:
    return judge_worth(front, **({"signs": SIGNS, "floors": FLOORS, "smallest_lift": DELTA} | changes)).answer


def test_a_gain_that_static_weights_cannot_give_says_personalise() -> None:
    worth = judge_worth(front_of(with_lifts(knee=(0.03, 0.04)), error=0.002), signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    assert worth.answer == "personalise"
    assert worth.sentence.startswith("Personalise: ")
    assert worth.sentence.count(". ") == 0
    assert [c.name for c in worth.personalised if c.name.startswith("constrained")] == [
        "constrained − production",
        "constrained − best static",
        "constrained − matched static",
        "constrained − best cohort table",
    ]
    assert np.isnan(worth.explored_needed)


def picked(front: Front, **labels: int) -> Front:
    """The front with other picks, and its one matched static policy named after the first of them."""
    picks = tuple(Pick(label.replace("_", "-"), policy, 0.1) for label, policy in labels.items())
    policies = tuple(
        replace(policy, name=f"matched static of {picks[0].label}") if policy.kind == "matched static" else policy
        for policy in front.policies
    )
    return replace(front, policies=policies, picks=picks)


@pytest.mark.parametrize("label", ["balanced", "save_leaning"])
def test_any_pick_of_the_sweep_may_be_the_one_that_is_worth_it(label: str) -> None:
    front = picked(front_of(with_lifts(knee=(0.03, 0.04)), error=0.002), **{label: 3}, knee=2, constrained=2)
    worth = judge_worth(front, signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    assert worth.answer == "personalise"
    assert f"the {label.replace('_', '-')} pick gains" in worth.sentence


def test_the_preferred_pick_is_named_where_several_are_worth_it() -> None:
    front = picked(front_of(with_lifts(family=(0.03, 0.04)), error=0.002), balanced=5, save_leaning=5, knee=3, constrained=2)
    worth = judge_worth(front, signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    assert "the balanced pick gains" in worth.sentence  # the only one whose average is in the front
    roles = [name.removeprefix("personalised: ") for name, _ in worth.standings if name.startswith("personalised")]
    assert roles == ["constrained", "knee", "balanced = save-leaning"]
    first = judge_worth(picked(front, constrained=2, balanced=5), signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    assert "the constrained pick gains" in first.sentence


def test_a_pick_without_its_own_average_is_not_recommended() -> None:
    front = picked(front_of(with_lifts(knee=(0.03, 0.04)), error=0.002), knee=2, balanced=3)
    assert answer(front) == "not enough data"


@pytest.mark.parametrize("rival", ["best", "matched", "table"])
def test_a_gain_that_some_static_weights_give_too_is_not_personal(rival: str) -> None:
    lifts = with_lifts(knee=(0.03, 0.04)) + with_lifts(**{rival: (0.03, 0.04)})
    assert answer(front_of(lifts, error=0.002)) == {"best": "retune", "table": "retune", "matched": "not enough data"}[rival]


def test_a_gain_beside_a_loss_is_no_gain() -> None:
    assert answer(front_of(with_lifts(knee=(0.20, -0.03)), error=0.001)) == "keep"
    assert answer(front_of(with_lifts(knee=(0.20, -0.03)), error=0.002), floors=np.array([0.0, -0.05])) == "personalise"


def test_a_proven_value_beside_a_loss_that_is_open_says_which_loss() -> None:
    worth = judge_worth(front_of(with_lifts(knee=(0.30, 0.001)), error=0.01), signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    assert worth.answer == "not enough data"
    assert "the value of the constrained pick is proven, but p2p (+0.10 % by its estimate) may truly be at −" in worth.sentence
    assert "and 1 point past its floor is too far" in worth.sentence
    half = judge_worth(front_of(with_lifts(knee=(0.30, 0.001)), error=0.01), signs=SIGNS, floors=FLOORS, smallest_lift=0.005)
    assert "and 0.5 points past its floor is too far" in half.sentence
    against = next(c for c in worth.personalised if c.name == "constrained − production")
    half = against.estimate[1] - against.low[1]
    assert worth.explored_needed == pytest.approx(worth.explored * (half / (0.5 * DELTA)) ** 2)


def test_keep_needs_evidence_that_there_is_nothing() -> None:
    assert answer(front_of(NOTHING, error=0.001)) == "keep"
    assert answer(front_of(NOTHING, error=0.01)) == "not enough data"
    assert answer(front_of(NOTHING, error=0.01), smallest_lift=0.2) == "keep"


def test_a_front_with_a_member_that_was_never_seen_does_not_say_keep() -> None:
    front = front_of(NOTHING, error=0.001)
    estimate, draws = front.lifts.estimate.copy(), front.lifts.replicates.copy()
    estimate[2], draws[:, 2] = np.nan, np.nan
    assert answer(replace(front, lifts=replace(front.lifts, estimate=estimate, replicates=draws))) == "not enough data"
    estimate[1:6] = np.nan
    with pytest.raises(GateError, match="enough hits"):
        answer(replace(front, lifts=replace(front.lifts, estimate=estimate)))


def test_an_objective_to_minimise_is_judged_by_its_fall() -> None:
    signs, lifts = np.array([1.0, -1.0]), with_lifts(knee=(0.03, -0.04))
    assert answer(front_of(lifts, error=0.002), signs=signs) == "personalise"
    assert answer(front_of(lifts, error=0.001)) == "keep"


def test_the_sentence_says_that_a_fall_is_the_gain() -> None:
    signs, fall = np.array([1.0, -1.0]), with_lifts(best=(0.0, -0.04))
    retuned = judge_worth(front_of(fall, error=0.002), signs=signs, floors=FLOORS, smallest_lift=DELTA)
    assert retuned.answer == "retune"
    assert "changes p2p, of which less is better, by −4.00 % (−4." in retuned.sentence
    personal = judge_worth(front_of(with_lifts(knee=(0.03, -0.04)), error=0.002), signs=signs, floors=FLOORS, smallest_lift=DELTA)
    assert "less p2p counts as a gain" in personal.sentence
    kept = judge_worth(front_of(NOTHING, error=0.001), signs=signs, floors=FLOORS, smallest_lift=DELTA)
    assert kept.sentence.startswith("Keep")
    assert "less p2p counts as a gain" in kept.sentence
    plain = judge_worth(front_of(with_lifts(best=(0.04, 0.0)), error=0.002), signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    assert "gains +4.00 % save (+" in plain.sentence
    assert "less" not in plain.sentence


def test_noise_that_both_policies_share_does_not_widen_their_difference() -> None:
    alone = family_bands(front_of(NOTHING, error=0.002), signs=SIGNS)
    beside = family_bands(front_of(NOTHING, error=0.002, shared=0.05), signs=SIGNS)
    np.testing.assert_allclose(beside.std_error[:, 1], alone.std_error[:, 1], rtol=0.15)
    assert (beside.std_error[:, 0, :2] > 10 * alone.std_error[:, 0, :2]).all()


def test_the_rows_needed_shrink_the_band_to_half_the_smallest_lift() -> None:
    worth = judge_worth(front_of(NOTHING, error=0.02), signs=SIGNS, floors=FLOORS, smallest_lift=DELTA)
    widest = max(c.high[-1] - c.estimate[-1] for c in worth.personalised)
    assert widest * np.sqrt(worth.explored / worth.explored_needed) == pytest.approx(ENOUGH * DELTA)
    assert worth.explored == 100_000
    assert f"here are {worth.explored:,}" in worth.sentence
    assert "to tell a gain of 1 % from none, of every pick over production and static weights at once, takes about" in worth.sentence
    assert rows_needed(0.005, explored=1000, smallest_lift=0.01) == pytest.approx(1000)


def test_the_value_weighs_the_objectives_by_the_policys_own_trade_off() -> None:
    np.testing.assert_allclose(valued(np.array([[0.02, 0.04]]), np.array([[0.25, 0.75]])), [[0.02, 0.04, 0.035]])


def loop_excluded(high: Floats, floors: Floats, delta: float) -> bool:
    """Word for word: every objective either cannot gain the smallest lift, or would do so beside another that breaks its floor."""
    for j in range(len(high)):
        others_hold = all(high[i] >= floors[i] for i in range(len(high)) if i != j)
        if high[j] >= delta and others_hold:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.05, 0.05), min_size=1, max_size=4), st.floats(0.001, 0.04))
def test_exclusion_is_what_its_words_say(high: list[float], delta: float) -> None:
    ends, floors = np.array(high), np.linspace(-0.01, 0, len(high))
    assert excluded(ends, floors=floors, smallest_lift=delta) == loop_excluded(ends, floors, delta)


def test_in_a_world_without_gain_noise_hardly_ever_says_personalise() -> None:
    answers = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        noise = 0.01 * rng.normal(size=(9, 2))
        noise[0] = 0
        answers.append(answer(front_of(noise, error=0.01, seed=seed)))
    assert answers.count("personalise") + answers.count("retune") + answers.count("keep") <= 8


def test_each_cohort_gets_the_weights_that_serve_it_best() -> None:
    from test_evaluate import GAIN, Knows, config_with, make_log

    from paretune.frontier.anchor import fit_anchor
    from paretune.frontier.assemble import assemble_front, signs_of
    from paretune.frontier.evaluate import sweep_sums

    config, log = config_with(), make_log(40_000, 1)
    better = np.where(log.cohort.codes == 1, 3, 2)  # the action that gives CORE and REST twice as much
    rewards = np.where((log.action == better)[:, None], np.maximum(log.rewards, log.rewards[::-1]), log.rewards)
    log = replace(log, rewards=rewards)
    sums = sweep_sums(Knows(), log, config, anchor=fit_anchor(log, config))
    surface = config.surface.build()
    actions = cohort_statics(sums, surface, signs_of(config))
    assert dict(zip(sums.family.cohorts, actions.tolist(), strict=False)) == {"CORE": 2, "REST": 3}
    front = assemble_front(sums, surface, config, rng=np.random.default_rng(0))
    table = next(p for p, policy in enumerate(front.policies) if policy.kind == "cohort table")
    assert front.action_shares[table, [2, 3]] == pytest.approx([0.5, 0.5], abs=0.02)
    best = next(p for p, policy in enumerate(front.policies) if policy.kind == "best static")
    assert front.lifts.estimate[table].sum() > front.lifts.estimate[best].sum()
    assert len(GAIN) == len(surface)


def test_the_command_ends_in_the_sentence_and_draws_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_evaluate import config_with

    front = front_of(with_lifts(knee=(0.03, 0.04)), error=0.002)
    save_run(Findings(config_with(), front), tmp_path / "run")
    assert main(["worth", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    last = printed.splitlines()[-1]
    assert last.startswith("Personalise: ")
    assert "constrained − best cohort table" in printed
    assert (tmp_path / "run" / "figures" / "worth.svg").exists()

    assert main(["worth", str(tmp_path / "run"), "--smallest-lift", "50", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == "keep"
    assert told["objectives"] == ["save", "p2p", "value"]
    save_run(Findings(config_with(), front_of(NOTHING, error=0.01)), tmp_path / "thin")
    assert main(["worth", str(tmp_path / "thin")]) == 4
    said = capsys.readouterr()
    assert "Not enough data: " in said.err
    assert "constrained − production" in said.out  # the table is printed all the same
    assert main(["worth", str(tmp_path / "thin"), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["answer"] == "not enough data"
    assert main(["worth", str(tmp_path / "run"), "--smallest-lift", "0"]) == 2
    assert "--smallest-lift" in capsys.readouterr().err
    assert main(["worth", str(tmp_path / "nothing"), "--config", str(tmp_path / "none.toml")]) == 2


def test_options_that_only_a_sweep_would_use_are_refused_where_a_run_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_evaluate import config_with

    save_run(Findings(config_with(), front_of(with_lifts(knee=(0.03, 0.04)), error=0.002)), tmp_path / "run")
    for words in (["--config", "other.toml"], ["-c", "paretune.toml"], ["--seed", "0"], ["--model", "ridge", "--output", "x"]):
        assert main(["worth", str(tmp_path / "run"), *words]) == 2
        said = capsys.readouterr().err
        assert "is a run with a configuration of its own" in said
        assert {"-c": "--config"}.get(words[0], words[0]) in said
    assert main(["worth", str(tmp_path / "run"), "--smallest-lift", "1"]) == 0


def test_without_a_run_the_command_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["worth"]) == 2
    assert "make one with `paretune sweep LOGS`" in capsys.readouterr().err
