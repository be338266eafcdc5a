"""Head-room: planted errors of heads by segment are found with their size, noise alone is not, and the command reads production rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit

from paretune.cli import main
from paretune.errors import DataError
from paretune.monitor.headroom import BETWEEN, Headroom, calibration_curve, find_headroom, groupings, segment_errors, spread
from paretune.records import Candidates, Categorical, State
from paretune.report.headroom_figures import headroom_figure, segments_table, spreads_table
from paretune.sim.traffic import explore_uniformly, sessions
from paretune.sim.world import open_world
from paretune.surface.lists import list_values

COUNTRIES, DEVICES = tuple(f"C{i}" for i in range(10)), ("phone", "web")


def planted(n: int, *, sd: float, seed: int, shared: bool = False, steep: float = 1.0) -> Headroom:
    """Requests of which the ranker is off by a normal error per country and head; `shared` gives both heads the same error."""
    rng = np.random.default_rng(seed)
    country, device = rng.integers(0, 10, n), rng.integers(0, 2, n)
    error = np.repeat(rng.normal(size=(10, 1)), 2, axis=1) if shared else rng.normal(size=(10, 2))
    error = sd * (error - error.mean(axis=0)) / error.std(axis=0)
    level = rng.normal(-1.0, 0.5, (n, 2))
    rewards = (rng.random((n, 2)) < expit(0.3 + steep * level)).astype(np.float32)
    predicted = expit(level - error[country]).astype(np.float32)
    columns = {"country": Categorical(country.astype(np.int32), COUNTRIES), "device": Categorical(device.astype(np.int32), DEVICES)}
    return find_headroom(rewards, predicted, columns, user=np.arange(n) // 3, objectives=("save", "p2p"))


def of(found: Headroom, grouping: str, objective: str) -> float:
    return next(each.sd for each in found.spreads if (each.grouping, each.objective) == (grouping, objective))


def test_a_planted_error_is_found_with_its_size_where_it_is() -> None:
    found = planted(40_000, sd=0.3, seed=1)
    assert found.answer == "worth exploring"
    assert of(found, "country", "save") == pytest.approx(0.3, abs=0.06)
    assert of(found, "country", BETWEEN) == pytest.approx(0.3, abs=0.12)
    assert of(found, "device", "save") < 0.05
    assert found.segments[0].name.startswith("country C")


def test_errors_that_all_heads_share_move_no_list() -> None:
    found = planted(60_000, sd=0.3, seed=2, shared=True)
    assert of(found, "country", "save") > 0.2
    assert of(found, "country", BETWEEN) < 0.05
    assert found.answer == "little to gain"


def test_a_ranker_that_is_wrong_for_everybody_alike_is_not_wrong_by_segment() -> None:
    assert planted(60_000, sd=0.0, seed=3, steep=0.6).answer == "little to gain"


def test_few_rows_are_said_to_be_few() -> None:
    found = planted(3_000, sd=0.1, seed=4)
    assert found.answer == "not enough rows"
    assert found.rows_needed >= found.rows
    assert found.sentence.startswith("Not enough rows: 3,000 ")


def test_the_spread_has_the_noise_taken_out_on_average() -> None:
    rng = np.random.default_rng(0)
    truth, variance, rows = np.linspace(-0.3, 0.3, 12), np.linspace(0.01, 0.05, 12), rng.integers(100, 1000, 12)
    share = rows / rows.sum()
    wanted = share @ (truth - share @ truth) ** 2
    draws, inside = [], []
    for _ in range(2000):
        sd, low, high = spread(truth + np.sqrt(variance) * rng.normal(size=12), variance, rows, confidence=0.95)
        draws.append(sd**2)
        inside.append(low**2 <= wanted <= high**2)
    assert np.mean(draws) == pytest.approx(wanted, rel=0.1)
    assert 0.88 < np.mean(inside) < 0.99


def test_an_error_is_the_shift_of_log_odds_that_makes_the_sums_meet() -> None:
    rng = np.random.default_rng(5)
    expected = expit(rng.normal(size=(4000, 1)))
    rewards = (rng.random((4000, 1)) < expit(logit(expected) + 0.4)).astype(float)
    user = np.arange(4000)
    found = segment_errors(rewards, expected, np.zeros(4000, np.int64), ("all",), user=user)
    shift = found.estimate[0, 0]
    assert expit(logit(expected) + shift).sum() == pytest.approx(rewards.sum(), abs=1e-3)
    p = expit(logit(expected) + shift)
    assert found.covariance[0, 0, 0] == pytest.approx(1 / (p * (1 - p)).sum(), rel=0.1)  # one row per user: no clustering
    again = segment_errors(np.tile(rewards, (4, 1)), np.tile(expected, (4, 1)), np.zeros(16_000, np.int64), ("all",), user=np.tile(user, 4))
    assert again.covariance[0, 0, 0] == pytest.approx(found.covariance[0, 0, 0], rel=0.01)  # repeats of a user are no evidence


def test_the_curve_returns_the_mean_of_requests_that_are_predicted_alike() -> None:
    rng = np.random.default_rng(6)
    predicted = rng.random(40_000)
    curve = calibration_curve((rng.random(40_000) < predicted**2).astype(float), predicted)
    assert np.abs(curve - predicted**2).max() < 0.08
    assert (np.diff(curve[np.argsort(predicted)]) >= -1e-12).all()


def test_segments_are_single_columns_pairs_and_all_together() -> None:
    rng = np.random.default_rng(7)
    columns = {name: Categorical(rng.integers(-1, 3, 100).astype(np.int32), ("x", "y", "z")) for name in ("a", "b", "c")}
    found = groupings(columns)
    assert list(found) == ["a", "b", "c", "a × b", "a × c", "b × c", "all together"]
    codes, names = found["a × b"]
    row = int(np.flatnonzero((columns["a"].codes >= 0) & (columns["b"].codes >= 0))[0])
    assert names[codes[row]] == f"a {'xyz'[columns['a'].codes[row]]}, b {'xyz'[columns['b'].codes[row]]}"
    assert ((codes < 0) == ((columns["a"].codes < 0) | (columns["b"].codes < 0))).all()


def test_what_makes_no_segments_is_refused() -> None:
    ones, user = np.ones((50, 1)), np.arange(50)
    with pytest.raises(DataError, match="0 categorical columns"):
        find_headroom(ones, ones / 2, {}, user=user, objectives=("save",))
    few = {"country": Categorical(np.arange(50, dtype=np.int32) % 2, ("A", "B"))}
    with pytest.raises(DataError, match="no two segments"):
        find_headroom(ones, ones / 2, few, user=user, objectives=("save",))


def test_tables_and_picture_hold_the_worst_segments() -> None:
    found = planted(20_000, sd=0.3, seed=1)
    assert len(segments_table(found).rows) == 12
    assert len(spreads_table(found).rows) == len(found.spreads)
    specification = headroom_figure(found).to_dict()
    assert specification["title"]["text"] == "Worth exploring"


@pytest.mark.e2e
def test_a_perfect_ranker_leaves_little_and_the_demo_world_is_worth_exploring() -> None:
    answers = {}
    for setting in ("perfect-ranker", "demo"):
        world, rng = open_world("homefeed", setting=setting, seed=1), np.random.default_rng(1)
        served = list(sessions(world, 16_000, day=1, choose=explore_uniformly(world, 0.0), rng=rng))
        predicted = []
        for wave in served:
            scores = wave.scores[np.arange(len(wave.arrivals))[:, None], wave.lists]
            n, k, heads = scores.shape
            items = Candidates(np.arange(n + 1) * k, np.zeros(n * k, np.int64), scores.reshape(-1, heads))
            predicted.append(list_values(items, np.tile(np.arange(k, dtype=np.int16), (n, 1, 1)), world.objective_heads)[:, 0])
        state = State.concat(wave.arrivals.state for wave in served)
        answers[setting] = find_headroom(
            np.concatenate([wave.counts for wave in served]),
            np.concatenate(predicted),
            state.categorical,
            user=np.concatenate([wave.arrivals.user for wave in served]),
            objectives=world.objectives,
            smallest_error=0.2,
        ).answer
    assert answers == {"perfect-ranker": "little to gain", "demo": "worth exploring"}


@pytest.mark.e2e
def test_the_command_reads_production_rows_and_asks_for_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "logs", "--days", "1", "--requests", "3000", "--explore", "0.1"]) == 0
    capsys.readouterr()
    code = main(["headroom", "logs", "--figures", "pictures", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == {"worth exploring": 0, "little to gain": 0, "not enough rows": 4}[told["answer"]]
    assert main(["headroom", "logs", "--smallest-error", "0.001"]) == 4
    said = capsys.readouterr()
    assert "Not enough rows" in said.err
    assert "Not enough rows" not in said.out
    assert 2500 < told["rows"] < 3100
    assert Path("pictures/headroom.svg").exists()
    file = next(Path("logs").rglob("*.parquet"))
    pl.read_parquet(file, hive_partitioning=False).drop("served_scores").write_parquet(file)
    assert main(["headroom", "logs"]) == 3
    assert "served_scores" in capsys.readouterr().err
