"""From a model and hold-out rows to a front, and the front on disk."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from paretune.config import Config, parse_config
from paretune.errors import ArtefactError, ConfigError, DataError
from paretune.frontier import anchor as anchoring
from paretune.frontier.anchor import Anchor, AnchorFit, fit_anchor
from paretune.frontier.archive import decode_front, load_front, save_front
from paretune.frontier.curve import lift_curve
from paretune.frontier.evaluate import pooled_evidence, scalarisations_of, sweep, sweep_sums
from paretune.frontier.front import Front, Lifts
from paretune.records import Candidates, Categorical, Floats, Log, State
from paretune.surface.lists import top_lists

GAIN = np.array([[1.0, 1.0], [1.3, 0.8], [1.1, 1.1], [0.9, 1.0], [0.7, 1.3]])  # (K, M) reward of each action over production's
BASE = np.array([0.3, 0.2])


def config_with(**sections: Any) -> Config:
    heads = [{"name": name, "weight": 10.0, "tune": {"low": 5.0, "high": 20.0, "levels": 2}} for name in ("save", "p2p")]
    raw = {
        "surface": {"k": 3, "heads": heads},
        "objectives": [{"name": name, "column": name} for name in ("save", "p2p")],
        "features": {"numeric": ["x"]},
        "evaluation": {"alphas": 11, "replicates": 100, "estimator": "hit"},  # its actions have nothing in common
    }
    return parse_config(raw | sections)


class Knows:
    """A model that knows the mean reward of every action."""

    name = "knows"
    objectives: tuple[str, ...] = ("save", "p2p")

    def values(self, state: State, actions: Floats) -> Floats:
        assert len(actions) == len(GAIN)
        return np.broadcast_to((BASE * GAIN).astype(np.float32), (len(state), *GAIN.shape))

    def save(self, folder: Path) -> None:
        raise OSError(folder)


def make_log(n: int, seed: int, *, explored: float = 0.7) -> Log:
    rng = np.random.default_rng(seed)
    is_explored = rng.random(n) < explored
    action = np.where(is_explored, rng.integers(1, 5, n), 0).astype(np.int32)
    user = rng.integers(0, n // 3, n).astype(np.uint64)
    cohort = Categorical((user % 2).astype(np.int32), ("CORE", "REST"))
    x = rng.normal(size=n).astype(np.float32)
    rewards = (rng.random((n, 2)) < (BASE + 0.05 * np.tanh(x)[:, None]) * GAIN[action]).astype(np.float32)
    propensity = np.where(is_explored, 0.25, 1.0)
    state = State({"x": x}, {}, {}, {})
    ids = np.arange(n, dtype=np.uint64)
    return Log(ids, user, ids, np.zeros(n, np.int32), cohort, action, propensity, is_explored, rewards, state)


@pytest.fixture(scope="module")
def found() -> tuple[Front, Config]:
    config = config_with()
    return sweep(Knows(), make_log(40_000, 1), config, anchor=fit_anchor(make_log(5_000, 0), config)), config


def test_lifts_agree_with_the_truth_and_the_best_action_is_found(found: tuple[Front, Config]) -> None:
    front, _ = found
    by_name = {policy.name: p for p, policy in enumerate(front.policies)}
    for name, action in (("alpha 0", 4), ("alpha 0.5", 2), ("alpha 1", 1)):
        p = by_name[name]
        assert front.action_shares[p, action] == 1
        error = np.abs(front.lifts.estimate[p] - (GAIN[action] - 1)) / front.lifts.std_error[p]
        assert (error < 4).all()
    constrained = next(pick for pick in front.picks if pick.label == "constrained")
    assert front.action_shares[constrained.policy, 2] == 1


def test_batches_in_any_order_give_the_sums_of_the_whole() -> None:
    config, log = config_with(), make_log(6_000, 2)
    anchor = fit_anchor(make_log(2_000, 0), config)
    whole = sweep_sums(Knows(), log, config, anchor=anchor)
    batches = [log.take(slice(4_000, 6_000)), log.take(slice(0, 1_000)), log.take(slice(1_000, 4_000))]
    parts = sweep_sums(Knows(), batches, config, anchor=anchor)
    np.testing.assert_allclose(parts.total().explored.residual, whole.total().explored.residual, atol=1e-9)
    np.testing.assert_array_equal(parts.choices, whole.choices)


def test_a_seed_gives_the_same_bands_and_another_one_does_not() -> None:
    config, log = config_with(), make_log(4_000, 3)
    anchor = fit_anchor(log, config)
    bands = [sweep(Knows(), log, config, anchor=anchor, seed=seed).lifts.band_low for seed in (0, 0, 1)]
    np.testing.assert_array_equal(bands[0], bands[1])
    assert not np.array_equal(bands[0], bands[2], equal_nan=True)


def test_the_anchor_is_productions_mean_and_keeps_the_largest_cohorts() -> None:
    log, config = make_log(5_000, 4), config_with()
    anchor = fit_anchor(log, config)
    np.testing.assert_allclose(anchor.value, log.production().rewards.mean(axis=0), rtol=1e-6)
    assert set(anchor.cohorts) == {"CORE", "REST"}
    expected = anchor.expected(log)
    assert expected is not None
    np.testing.assert_allclose(expected[log.action == 0].mean(axis=0), anchor.value, rtol=1e-3)
    assert fit_anchor(log, config_with(cohorts={"values": ["CORE"]})).cohorts == ("CORE",)


def test_without_production_rows_the_scale_comes_from_exploration_and_the_estimator_says_so() -> None:
    config, log = config_with(), make_log(8_000, 5, explored=1.0)
    anchor = fit_anchor(log, config)
    assert anchor.expected(log) is None
    assert "no production rows" in sweep(Knows(), log, config, anchor=anchor).lifts.estimator


def test_what_cannot_be_swept_is_refused() -> None:
    log, config = make_log(500, 6), config_with()
    anchor = fit_anchor(log, config)
    other = Knows()
    other.objectives = ("save", "hide")
    with pytest.raises(ConfigError, match="hide"):
        sweep(other, log, config, anchor=anchor)
    barren = dataclasses.replace(log, rewards=log.rewards * [1, 0])
    with pytest.raises(DataError, match="p2p"):
        fit_anchor(barren, config)
    with pytest.raises(DataError, match="no rows"):
        fit_anchor(log.take(slice(0, 0)), config)


@pytest.mark.parametrize(("objectives", "points"), [(1, 1), (2, 11), (3, 10), (4, 10)])
def test_the_family_has_about_as_many_points_as_asked_for(objectives: int, points: int) -> None:
    named = [{"name": f"o{j}", "column": f"o{j}"} for j in range(objectives)]
    family = scalarisations_of(config_with(objectives=named))
    assert family.shape == (points, objectives)
    np.testing.assert_allclose(family.sum(axis=1), 1)


def test_a_front_on_disk_reads_back_equal_with_its_missing_numbers(found: tuple[Front, Config], tmp_path: Path) -> None:
    front, config = found
    estimate = front.lifts.estimate.copy()
    estimate[3] = np.nan
    front = dataclasses.replace(front, lifts=dataclasses.replace(front.lifts, estimate=estimate))
    save_front(front, tmp_path, heads=config.surface.build().names)
    again = load_front(tmp_path)
    for field in dataclasses.fields(Lifts):
        np.testing.assert_array_equal(getattr(again.lifts, field.name), getattr(front.lifts, field.name))
    assert again.picks == front.picks
    assert [p.name for p in again.policies] == [p.name for p in front.policies]
    assert [p.cohort_alphas for p in again.policies] == [p.cohort_alphas for p in front.policies]
    np.testing.assert_array_equal(again.mean_weights, front.mean_weights)
    np.testing.assert_array_equal(again.non_dominated, front.non_dominated)
    table = pl.read_parquet(tmp_path / "front.parquet")
    assert len(table) == len(front.policies)
    assert {"policy", "hits", "save_lift", "p2p_band_low", "mean_weight_save"} <= set(table.columns)
    assert "NaN" not in (tmp_path / "front.json").read_text(encoding="utf-8")


def test_a_torn_or_strange_front_is_refused(found: tuple[Front, Config], tmp_path: Path) -> None:
    front, config = found
    with pytest.raises(ArtefactError, match="paretune sweep"):
        load_front(tmp_path)
    save_front(front, tmp_path, heads=config.surface.build().names)
    text = (tmp_path / "front.json").read_text(encoding="utf-8")
    (tmp_path / "front.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(ArtefactError, match="no whole front"):
        load_front(tmp_path)
    (tmp_path / "front.json").write_text(json.dumps(json.loads(text) | {"format": 99}), encoding="utf-8")
    with pytest.raises(ArtefactError, match="format 99"):
        load_front(tmp_path)


def test_the_exact_curve_passes_through_the_drawn_points(found: tuple[Front, Config], tmp_path: Path) -> None:
    _, config = found
    log = make_log(5_000, 7)
    anchor: Anchor = fit_anchor(log, config)
    sums = sweep_sums(Knows(), log, config, anchor=anchor)
    front = sweep(Knows(), log, config, anchor=anchor)
    assert sums.curve is not None
    curve = lift_curve(sums.curve, sums.total().produced)
    save_front(front, tmp_path, heads=config.surface.build().names, curve=curve)
    assert pl.read_parquet(tmp_path / "curve.parquet").columns == ["alpha_from", "save_lift", "p2p_lift", "hits"]
    drawn = [p for p, policy in enumerate(front.policies) if policy.kind == "alpha"]
    alphas = np.array([float(front.policies[p].alpha or 0.0) for p in drawn])
    np.testing.assert_allclose(curve.at(alphas), front.lifts.estimate[drawn], atol=1e-6)


def with_candidates(log: Log, seed: int = 0) -> Log:
    """The log, with four candidates on each exploration row."""
    lengths = np.where(log.explored, 4, 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    scores = np.random.default_rng(seed).random((offsets[-1], 2)).astype(np.float16) * np.float16(0.3)
    return dataclasses.replace(log, candidates=Candidates(offsets, np.arange(offsets[-1]), scores))


def headed(estimator: str) -> Config:
    named = [{"name": name, "column": name, "head": name} for name in ("save", "p2p")]
    return config_with(objectives=named, evaluation={"alphas": 3, "replicates": 100, "min_hits": 20, "estimator": estimator})


@pytest.mark.parametrize(
    ("estimator", "listed", "said"),
    [
        ("auto", True, "production-anchored, list-overlap p = 16 with list-replay"),
        ("auto", False, "production-anchored, action kernel"),
        ("overlap", True, "production-anchored, list-overlap p = 16"),
        ("overlap-replay", True, "production-anchored, list-overlap p = 16 with list-replay"),
        ("action-kernel", True, "production-anchored, action kernel"),
        ("hit", True, "production-anchored"),
    ],
)
def test_the_estimator_is_what_configuration_and_log_allow(estimator: str, listed: bool, said: str) -> None:
    config, train, log = headed(estimator), make_log(3_000, 10), make_log(6_000, 11)
    if listed:
        train, log = with_candidates(train), with_candidates(log)
    front = sweep(Knows(), [log.take(slice(0, 2_000)), log.take(slice(2_000, None))], config, anchor=fit_anchor(train, config))
    assert front.lifts.estimator == said
    assert (front.ladder is None) == (estimator == "hit")
    if front.ladder is not None:
        np.testing.assert_allclose(front.ladder.estimate[front.ladder.speaks], front.lifts.estimate)
        np.testing.assert_array_equal(np.floor(front.ladder.effective[front.ladder.speaks]), front.lifts.hits)


def test_candidates_are_used_also_where_an_objective_has_no_head() -> None:
    config = config_with(evaluation={"alphas": 3, "replicates": 100, "min_hits": 20})
    assert config.objective_heads() is None
    train, log = with_candidates(make_log(3_000, 10)), with_candidates(make_log(6_000, 11))
    front = sweep(Knows(), log, config, anchor=fit_anchor(train, config))
    assert front.lifts.estimator == "production-anchored, list-overlap p = 16"


def test_an_estimator_that_the_log_does_not_allow_is_refused() -> None:
    log = make_log(3_000, 12)
    for estimator in ("overlap", "overlap-replay"):
        config = headed(estimator)
        with pytest.raises(DataError, match="carry no candidates"):
            sweep(Knows(), log, config, anchor=fit_anchor(log, config))
    config = headed("overlap-replay")
    with pytest.raises(DataError, match="no list-replay variate"):
        sweep(Knows(), with_candidates(log), config, anchor=fit_anchor(log, config))


def test_the_ladder_is_saved_with_the_front(tmp_path: Path) -> None:
    config, log = headed("action-kernel"), make_log(4_000, 13)
    front = sweep(Knows(), log, config, anchor=fit_anchor(log, config))
    save_front(front, tmp_path, heads=config.surface.build().names)
    again = load_front(tmp_path).ladder
    assert again is not None
    assert front.ladder is not None
    assert again.rungs == front.ladder.rungs
    np.testing.assert_array_equal(again.estimate, front.ladder.estimate)


def test_a_guardrail_gets_a_bound_beyond_the_band_that_holds_and_is_saved(tmp_path: Path) -> None:
    named = [{"name": "save", "column": "save"}, {"name": "p2p", "column": "p2p", "direction": "minimise"}]
    guardrails = [{"objective": "p2p", "floor_pct": -5.0}]
    config, log = config_with(objectives=named, guardrails=guardrails), make_log(20_000, 15)
    front = sweep(Knows(), log, config, anchor=fit_anchor(log, config))
    found = front.guarded
    assert found is not None
    assert (found.objectives, found.directions.tolist(), found.floors.tolist()) == (("p2p",), [-1.0], [-0.05])
    assert found.low.shape == (len(front.policies), 1)
    assert found.low[0] == 0
    known = np.flatnonzero(np.isfinite(front.lifts.estimate[:, 1]))[1:]
    assert len(known)
    assert (found.low[known, 0] < -front.lifts.band_high[known, 1]).all()  # turned: the most that p2p may rise
    truth = front.action_shares @ (1 - GAIN[:, 1])
    assert (found.low[known, 0] <= truth[known]).all()
    save_front(front, tmp_path, heads=config.surface.build().names)
    again = load_front(tmp_path).guarded
    assert again is not None
    assert again.objectives == found.objectives
    np.testing.assert_array_equal(again.low, found.low)
    assert sweep(Knows(), log, config_with(), anchor=fit_anchor(log, config_with())).guarded is None


def test_fewer_effective_rows_than_asked_for_give_no_estimate() -> None:
    config, log = headed("action-kernel"), make_log(3_000, 14)
    strict = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"min_hits": 700})})
    front = sweep(Knows(), log, strict, anchor=fit_anchor(log, strict))
    assert front.ladder is not None
    few = front.ladder.effective[front.ladder.speaks] < 700
    assert few.any()
    assert np.isnan(front.lifts.estimate[few]).all()
    assert np.isfinite(front.lifts.estimate[~few]).all()


def test_the_share_of_requests_with_another_list_is_counted_policy_by_policy(tmp_path: Path) -> None:
    config, log = headed("overlap"), with_candidates(make_log(4_000, 21))
    front = sweep(Knows(), log, config, anchor=fit_anchor(log, config))
    assert front.changed is not None
    rows, surface, shares = log.exploration(), config.surface.build(), np.round(front.action_shares, 12)
    assert rows.candidates is not None
    lists = top_lists(rows.candidates, surface.actions, surface.k)
    each = (lists != lists[:, :1]).any(axis=2).mean(axis=0)  # by action
    whole = np.flatnonzero(shares.max(axis=1) == 1)  # policies of one action alone
    assert len(whole) > 3
    np.testing.assert_allclose(front.changed[whole], each[shares[whole].argmax(axis=1)])
    assert (front.changed <= 1 - front.action_shares[:, 0] + 1e-12).all()  # another list takes another action
    tabled = next(p for p, policy in enumerate(front.policies) if policy.kind == "cohort table")
    by_cohort = dict(front.policies[tabled].cohort_weights)
    at = {name: int(np.abs(surface.actions - np.array(by_cohort[name])).sum(axis=1).argmin()) for name in by_cohort}
    actions = np.array([at[rows.cohort.vocabulary[code]] for code in rows.cohort.codes])
    differs = (lists[np.arange(len(rows)), actions] != lists[:, 0]).any(axis=1)
    np.testing.assert_allclose(front.changed[tabled], differs.mean())
    save_front(front, tmp_path, heads=surface.names)
    np.testing.assert_array_equal(decode_front((tmp_path / "front.json").read_bytes()).changed, front.changed)


def test_without_candidates_nothing_is_said_of_lists(found: tuple[Front, Config]) -> None:
    assert found[0].changed is None


def test_the_whole_family_is_told_by_cohort_as_the_picks_are(found: tuple[Front, Config], tmp_path: Path) -> None:
    front, config = found
    swept, inside = front.cohort_sweep, front.by_cohort
    assert swept is not None
    assert inside is not None
    assert swept.cohorts == inside.cohorts
    family = [p for p in inside.policies if front.policies[p].kind == "alpha"]
    at = [list(inside.policies).index(p) for p in family]
    np.testing.assert_allclose(swept.estimate[:, np.array(family) - 1], inside.estimate[:, at])
    assert (swept.std_error[np.isfinite(swept.estimate)] > 0).all()
    save_front(front, tmp_path, heads=config.surface.build().names)
    document = (tmp_path / "front.json").read_bytes()
    again = decode_front(document)
    assert again.cohort_sweep is not None
    np.testing.assert_array_equal(again.cohort_sweep.estimate, swept.estimate)
    np.testing.assert_array_equal(again.lifts.band_low, front.lifts.band_low)
    assert again.picks == front.picks
    with pytest.raises(ArtefactError, match="is no whole front"):
        decode_front(document[:-40], source="front 7")


def test_objectives_of_which_less_is_better_are_kept_with_the_front() -> None:
    named = [{"name": "save", "column": "save"}, {"name": "p2p", "column": "p2p", "direction": "minimise"}]
    config, log = config_with(objectives=named), make_log(6_000, 15)
    assert sweep(Knows(), log, config, anchor=fit_anchor(log, config)).minimised == ("p2p",)


def test_parts_of_a_log_swept_with_one_evidence_add_up_though_some_hold_no_exploration_rows() -> None:
    config, log = config_with(evaluation={"alphas": 5, "replicates": 100}), with_candidates(make_log(3_000, 2))
    anchor = fit_anchor(with_candidates(make_log(1_000, 0)), config)
    whole = sweep_sums(Knows(), log, config, anchor=anchor)
    evidence, _ = pooled_evidence(log, config, anchor=anchor)
    parts = [log.take(slice(2_000, None)), log.take(~log.explored), log.take(slice(0, 2_000)).exploration()]
    parts[0] = parts[0].exploration()
    sums = [sweep_sums(Knows(), part, config, anchor=anchor, evidence=evidence) for part in parts]
    total = sums[2] + sums[0] + sums[1]
    assert total.anchored.pooled is not None
    assert whole.anchored.pooled is not None
    for name in ("weight", "residual", "tilt"):
        np.testing.assert_allclose(getattr(total.anchored.pooled, name), getattr(whole.anchored.pooled, name), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(total.anchored.produced.correction, whole.anchored.produced.correction, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(total.users, whole.users)


def test_an_anchor_fitted_batch_by_batch_is_that_of_the_whole_and_keeps_bounded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = [{"name": name, "column": name, "head": name} for name in ("save", "p2p")]
    config, log = config_with(objectives=heads, evaluation={"estimator": "auto"}), with_candidates(make_log(4_000, 8))
    monkeypatch.setattr(anchoring, "ANCHOR_ROWS", 700)
    whole, running = fit_anchor(log, config), AnchorFit(config)
    for start in range(0, 4_000, 450):
        running.add(log.take(slice(start, start + 450)))
    parts = running.solve()
    assert running.listed == 700
    assert sum(map(len, running._states)) == 700
    np.testing.assert_allclose(parts.value, log.production().rewards.mean(axis=0), rtol=1e-6)
    assert parts.cohorts == whole.cohorts
    assert parts.baseline is not None
    assert whole.baseline is not None
    assert parts.variate is not None
    assert whole.variate is not None
    np.testing.assert_array_equal(parts.baseline.slope, whole.baseline.slope)
    np.testing.assert_allclose(parts.variate.coefficients, whole.variate.coefficients, rtol=1e-9)
