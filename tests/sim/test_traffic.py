"""Logs are what production would write: nothing hidden, consistent with themselves, the same for the same seed."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paretune.config import Config
from paretune.logs import schema
from paretune.logs.inspection import check_log
from paretune.logs.parquet import read_log
from paretune.records import PRODUCTION, Candidates, Log
from paretune.sim.homefeed import HEADS
from paretune.sim.traffic import EPOCH_DAY, MAX_SESSION, explore_uniformly, sessions, write_logs
from paretune.sim.world import World, open_world
from paretune.surface.lists import top_lists

DAYS, ROWS = range(2), 3000


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("homefeed", setting="demo", seed=1)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("traffic") / "logs"
    write_logs(world, target, days=DAYS, requests_per_day=ROWS, explore_share=0.5, seed=4)
    return target


@pytest.fixture(scope="module")
def frame(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "**/*.parquet")


@pytest.fixture(scope="module")
def log(folder: Path, world: World) -> Log:
    return read_log(folder, world.config(), candidates=True)


def columns_of(config: Config) -> set[str]:
    f = config.features
    features = {*f.numeric, *f.categorical, *(e.name for e in f.embeddings), *(s.name for s in f.sequences)}
    objectives = {objective.column for objective in config.objectives}
    return ({*schema.REQUIRED, *schema.OPTIONAL, *schema.PER_ITEM} - {"day"}) | features | objectives  # the day is the folder's name


def test_a_log_holds_the_schema_and_the_features_and_nothing_else(frame: pl.DataFrame, world: World) -> None:
    assert set(frame.columns) == columns_of(world.config())
    hidden = ("theta", "intent", "true", "latent", "mix", "bias", "pool")
    assert not [name for name in frame.columns if any(word in name.lower() for word in hidden)]


def test_no_column_reveals_the_hidden_intent(world: World) -> None:
    """Every number that a request shows, one column at a time: none separates the intents, and none is a factor of the truth."""
    arrivals = world.arrive(4000, day=1, rng=np.random.default_rng(0))
    shown = [*arrivals.state.numeric.values(), arrivals.cohort, arrivals.pool]
    shown += [column.codes for column in arrivals.state.categorical.values()]
    shown += [
        block[:, i] for block in (*arrivals.state.embedding.values(), *arrivals.state.sequence.values()) for i in range(block.shape[1])
    ]
    hidden = [arrivals.intent == intent for intent in range(3)]
    hidden += [arrivals.theta_true[:, head, 0] for head in range(len(HEADS))] + [arrivals.theta_true[:, 0, 5 + i] for i in range(8)]
    for column in shown:
        assert len(np.unique(column)) == 1 or max(abs(np.corrcoef(column, truth)[0, 1]) for truth in hidden) < 0.9


def test_the_same_seed_writes_the_same_log_and_another_seed_another(world: World, folder: Path, tmp_path: Path) -> None:
    again = open_world("homefeed", setting="demo", seed=1)
    write_logs(again, tmp_path / "same", days=range(1), requests_per_day=ROWS, explore_share=0.5, seed=4)
    write_logs(again, tmp_path / "other", days=range(1), requests_per_day=ROWS, explore_share=0.5, seed=5)
    first = pl.read_parquet(folder / "day=2026-01-01/*.parquet")
    assert first.equals(pl.read_parquet(tmp_path / "same/day=2026-01-01/*.parquet"))
    assert not first.equals(pl.read_parquet(tmp_path / "other/day=2026-01-01/*.parquet"))


def test_logs_of_a_day_do_not_depend_on_the_days_before(world: World, folder: Path, tmp_path: Path) -> None:
    write_logs(world, tmp_path, days=range(1, 2), requests_per_day=ROWS, explore_share=0.5, seed=4)
    assert pl.read_parquet(folder / "day=2026-01-02/*.parquet").equals(pl.read_parquet(tmp_path / "day=2026-01-02/*.parquet"))


def test_candidates_are_on_exploration_rows_by_default_and_can_be_left_out(world: World, frame: pl.DataFrame, tmp_path: Path) -> None:
    sizes = frame.select(pl.col("candidate_ids").bin.size(), pl.col("reason") == schema.REASON_EXPLORE)
    assert (sizes.filter(pl.col("reason"))["candidate_ids"] >= 4 * world.surface.k).all()
    assert (sizes.filter(~pl.col("reason"))["candidate_ids"] == 0).all()
    write_logs(world, tmp_path, days=range(1), requests_per_day=300, explore_share=0.5, candidates=False)
    without = pl.read_parquet(tmp_path / "**/*.parquet")
    assert set(frame.columns) - set(without.columns) == {"candidate_ids", "candidate_scores"}


def test_logged_candidates_replay_the_served_list(world: World, frame: pl.DataFrame) -> None:
    explored = frame.filter(pl.col("reason") == schema.REASON_EXPLORE)
    ids = [np.frombuffer(cell, schema.IDS_DTYPE) for cell in explored["candidate_ids"]]
    scores = [np.frombuffer(cell, "<f2").reshape(-1, len(HEADS)) for cell in explored["candidate_scores"]]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    candidates = Candidates(offsets, np.concatenate(ids), np.concatenate(scores))
    top = top_lists(candidates, world.surface.actions, world.surface.k)[np.arange(len(explored)), explored["action"].to_numpy()]
    served = np.stack([np.frombuffer(cell, schema.IDS_DTYPE) for cell in explored["served_ids"]])
    replayed = candidates.ids[offsets[:-1, None] + top]
    shared = np.array([len(np.intersect1d(a, b)) for a, b in zip(replayed, served, strict=True)])
    assert (shared == world.surface.k).mean() >= 0.99  # the last place may go to another item where float16 makes a tie
    assert (replayed == served).mean() >= 0.95  # and neighbours swap where their float16 scores are equal


def test_a_simulated_log_passes_its_own_check(folder: Path, world: World) -> None:
    found = check_log(folder, world.config())
    assert found.ok
    assert found.bad == 0
    assert {rule.name for rule in found.broken("warning")} <= {"support_enough", "days_enough"}  # 6,000 rows of two days are few


def test_rewards_are_the_clipped_counts_of_the_logged_items(log: Log, frame: pl.DataFrame, world: World) -> None:
    events = np.stack([np.frombuffer(cell, np.uint8) for cell in frame["served_events"]])
    counts = frame.select(objective.column for objective in world.config().objectives).to_numpy()
    seen = np.stack([(events >> head & 1).sum(axis=1) for head in world.objective_heads], axis=1)
    assert np.array_equal(seen > 0, counts > 0)
    assert (counts >= seen).all()
    by_request = dict(zip(log.request.tolist(), map(tuple, log.rewards.tolist()), strict=True))
    assert len(by_request) == len(frame)
    assert log.rewards.mean(axis=0) == pytest.approx(np.minimum(counts, 1).mean(axis=0), abs=1e-6)


def test_weights_action_and_propensity_tell_one_story(frame: pl.DataFrame, world: World) -> None:
    weights = np.stack([np.frombuffer(cell, schema.WEIGHTS_DTYPE) for cell in frame["weights"]])
    action, explored = frame["action"].to_numpy(), (frame["reason"] == schema.REASON_EXPLORE).to_numpy()
    np.testing.assert_allclose(weights, world.surface.actions[action], rtol=1e-6)
    assert np.array_equal(action > PRODUCTION, explored)
    assert np.array_equal(frame["propensity"].to_numpy(), np.where(explored, 1 / (len(world.surface) - 1), 1.0))


def test_a_session_is_of_one_user_one_day_and_a_few_requests(frame: pl.DataFrame) -> None:
    per = frame.group_by("session").agg(
        pl.col("user").n_unique().alias("users"), pl.col("cohort").n_unique().alias("cohorts"), pl.col("ts").dt.date().n_unique(), pl.len()
    )
    assert (per["users"] == 1).all()
    assert (per["cohorts"] == 1).all()
    assert (per["ts"] == 1).all()
    assert 1 < per["len"].mean() < MAX_SESSION  # type: ignore[operator]
    assert per["len"].max() == MAX_SESSION
    assert frame["request_id"].n_unique() == len(frame)
    days = (frame["ts"].dt.epoch("d") - EPOCH_DAY).unique()
    assert sorted(days) == list(DAYS)


def test_sessions_go_on_after_saves_more_often_than_after_nothing(world: World) -> None:
    waves = list(sessions(world, 3000, day=0, choose=explore_uniformly(world, 0.0), rng=np.random.default_rng(2)))
    first, second = waves[0], waves[1]
    stayed = np.isin(first.session, second.session)
    happy = (first.counts > 0).any(axis=1)
    assert stayed[happy].mean() > stayed[~happy].mean() + 0.05
    assert np.array_equal(second.arrivals.user, first.arrivals.user[second.session])


def test_exploration_is_uniform_over_the_grid(world: World) -> None:
    arrivals = world.arrive(20_000, day=0, rng=np.random.default_rng(0))
    choice = explore_uniformly(world, 0.3)(arrivals, np.random.default_rng(1))
    counts = np.bincount(choice.action[choice.explored], minlength=len(world.surface))
    assert counts[PRODUCTION] == 0
    expected = choice.explored.sum() / (len(world.surface) - 1)
    assert np.abs(counts[1:] - expected).max() < 4.5 * np.sqrt(expected)
    assert choice.explored.mean() == pytest.approx(0.3, abs=0.012)


class JustBeforeMidnight(np.random.Generator):
    """Draws nothing but hours that float32 rounds up to 24."""

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: int | None = None) -> np.ndarray:  # type: ignore[override]
        drawn = super().normal(loc, scale, size)
        return np.full_like(drawn, 24 - 1e-9) if loc == 15.5 else drawn


def test_a_session_just_before_midnight_is_of_the_evening_and_of_its_day() -> None:
    world = open_world("homefeed", setting="demo", seed=3)
    arrivals = world.arrive(50, day=0, rng=JustBeforeMidnight(np.random.PCG64(1)))
    assert (arrivals.hour < 24).all()
    assert (arrivals.hour > 23.99).all()
    day_part = arrivals.state.categorical["day_part"]
    assert {day_part.vocabulary[code] for code in day_part.codes} == {"evening"}
    assert len(world.again(arrivals, rng=np.random.default_rng(1))) == 50
