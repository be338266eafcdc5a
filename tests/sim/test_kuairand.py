import os
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paretune.errors import DataError, MissingExtraError
from paretune.records import PRODUCTION
from paretune.sim.kuairand import (
    HEADS,
    RANKER_DAYS,
    KuaiRandWorld,
    context_features,
    fit_oracle,
    fit_ranker,
    open_kuairand,
    oracle_features,
    ranker_features,
)
from paretune.sim.kuairand_data import HISTORY, LABELS, TAGS, TASTE, read_kuairand
from paretune.sim.kuairand_fit import Recipe, fit_factors
from paretune.sim.response import exact_values, ranker_scores
from paretune.sim.traffic import explore_uniformly, log_columns, sessions
from paretune.surface.contribution import contribution_sum

pytest.importorskip("torch")

N_USERS, N_VIDEOS, N_ROWS = 60, 340, 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A KuaiRand-shaped folder made of noise: no real row in it."""
    path, rng = tmp_path_factory.mktemp("kuairand"), np.random.default_rng(0)
    users, videos = np.arange(N_USERS) * 3, np.arange(N_VIDEOS) * 2  # ids with gaps
    day = np.sort(rng.integers(0, 14, N_ROWS))
    likes_more = rng.normal(size=N_USERS)
    user = rng.integers(0, N_USERS, N_ROWS)
    p_like = 1 / (1 + np.exp(1.5 - 1.5 * likes_more[user]))
    pl.DataFrame(
        {
            "user_id": users[user].astype(np.int32),
            "video_id": videos[rng.integers(0, N_VIDEOS, N_ROWS)].astype(np.int16),
            "date": np.where(day < 6, 20220425 + day, 20220501 + day - 6).astype(np.int32),
            "hourmin": (rng.integers(0, 24, N_ROWS) * 100 + rng.integers(0, 60, N_ROWS)).astype(np.int16),
            "time_ms": np.arange(N_ROWS),
            "tab": rng.choice([0, 1, 2, 4, 6, 11], N_ROWS).astype(np.int8),
            **{label: (rng.random(N_ROWS) < (p_like if label == "is_like" else 0.2)).astype(np.int8) for label in LABELS},
        }
    ).write_parquet(path / "impressions.parquet")
    lengths = np.where(np.arange(N_USERS) % 10 == 9, 7, 30)
    pl.DataFrame(
        {
            "user_id": users.astype(np.int32),
            "history_len": lengths.astype(np.int16),
            "video_id": [videos[rng.integers(0, N_VIDEOS, n)].tolist() for n in lengths],
            "long_view": [rng.integers(0, 2, n).tolist() for n in lengths],
            "is_like": [(rng.random(n) < 1 / (1 + np.exp(-likes_more[i]))).astype(int).tolist() for i, n in enumerate(lengths)],
        }
    ).write_parquet(path / "user_history.parquet")
    counts = {name: rng.integers(0, 1000, N_USERS) for name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")}
    codes = {f"onehot_feat{i}": rng.integers(0, 2, N_USERS) for i in (0, 1, 2, 6, 9, 10, 11)}
    flags = {f"onehot_feat{i}": [None, *rng.integers(0, 2, N_USERS - 1).astype(float)] for i in (12, 13, 14)}
    degree = rng.choice(["full_active", "high_active", "low_active"], N_USERS)
    author = rng.integers(0, 2, N_USERS)
    pl.DataFrame({"user_id": users, "user_active_degree": degree, "is_video_author": author, **counts, **codes, **flags}).write_parquet(
        path / "user_features.parquet"
    )
    pl.DataFrame(
        {
            "video_id": videos,
            "upload_type": rng.choice(["LongImport", "Web", "A", "B", "C", "D", "E"], N_VIDEOS),
            "video_duration": [None, *rng.integers(5000, 90_000, N_VIDEOS - 1).astype(float)],
            "server_width": rng.integers(300, 900, N_VIDEOS).astype(float),
            "server_height": rng.integers(300, 900, N_VIDEOS).astype(float),
            "music_type": [None, *rng.choice([4.0, 9.0], N_VIDEOS - 1)],
            "tag": [None, *(f"{a},{b}" for a, b in rng.integers(0, 40, (N_VIDEOS - 1, 2)))],
        }
    ).write_parquet(path / "video_features_basic.parquet")
    names = ("counts", "show_cnt", "play_cnt", "like_cnt")
    pl.DataFrame({"video_id": videos, **{name: rng.gamma(2, 100, N_VIDEOS) for name in names}}).write_parquet(
        path / "video_features_statistic.parquet"
    )
    return path


@pytest.fixture(scope="module")
def data(folder):
    return read_kuairand(folder)


@pytest.fixture(scope="module")
def world(folder):
    return open_kuairand(folder, seed=3)


def test_heads_are_the_labels_in_order():
    assert [label.removeprefix("is_") for label in LABELS] == list(HEADS)


def test_a_folder_without_the_files_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"impressions\.parquet"):
        read_kuairand(tmp_path)


def test_a_file_without_its_columns_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        pl.read_parquet(file).rename({"tab": "tabs"}, strict=False).write_parquet(tmp_path / file.name)
    with pytest.raises(DataError, match="tab"):
        read_kuairand(tmp_path)


def test_days_count_from_monday_25_april(data):
    assert data.impressions.day.min() == 0
    assert data.impressions.day.max() == 13


def test_repeated_impressions_count_once(folder, data, tmp_path):
    for file in folder.iterdir():
        table = pl.read_parquet(file)
        (pl.concat([table, table]) if file.name == "impressions.parquet" else table).write_parquet(tmp_path / file.name)
    again = read_kuairand(tmp_path)
    assert np.array_equal(again.impressions.labels, data.impressions.labels)


def test_history_tokens_are_the_newest_events_with_padding_in_front(folder, data):
    rows = pl.read_parquet(folder / "user_history.parquet").to_dicts()
    for user, row in enumerate(rows):
        kind = [view + 2 * like for view, like in zip(row["long_view"], row["is_like"], strict=True)][-HISTORY:]
        assert data.known.history_kind[user].tolist() == [-1] * (HISTORY - len(kind)) + kind
        tags = [int(data.known.item_tag[video // 2]) for video in row["video_id"]][-HISTORY:]
        assert data.known.history_tag[user].tolist() == [-1] * (HISTORY - len(tags)) + tags


def test_what_is_known_and_the_ranker_do_not_depend_on_the_last_days_nor_on_hindsight(folder, data, tmp_path):
    later = pl.col("date") >= 20220502
    for file in folder.iterdir():
        table = pl.read_parquet(file)
        if file.name == "impressions.parquet":
            table = table.with_columns(pl.when(later).then(1 - pl.col(label)).otherwise(pl.col(label)).alias(label) for label in LABELS)
        if file.name == "video_features_statistic.parquet":
            table = table.with_columns(play_cnt=pl.col("play_cnt").reverse())
        table.write_parquet(tmp_path / file.name)
    other = read_kuairand(tmp_path)
    for name in ("profile", "taste", "item", "item_taste", "history_kind", "history_tag", "cohort"):
        assert np.array_equal(getattr(other.known, name), getattr(data.known, name))
    assert np.array_equal(fit_ranker(other).request, fit_ranker(data).request)
    assert not np.array_equal(fit_oracle(other).request, fit_oracle(data).request)


def test_the_same_seed_gives_the_same_world_and_traffic(folder, world):
    twin = open_kuairand(folder, seed=3)
    assert np.array_equal(twin.catalogue.ids, world.catalogue.ids)
    assert np.array_equal(twin.catalogue.true, world.catalogue.true)
    first, second = (w.arrive(50, day=4, rng=np.random.default_rng(1)) for w in (world, twin))
    assert np.array_equal(first.theta_true, second.theta_true)
    assert np.array_equal(first.pool, second.pool)


def test_pools_hold_each_video_once_and_lean_to_their_tag(world, data):
    assert all(len(set(pool)) == len(pool) for pool in world.catalogue.ids.tolist())
    # 300 of 340 videos are in a pool: a tag's own videos are in it more often than others
    tag = np.arange(len(world.catalogue.ids)) // 8
    own = np.concatenate([np.isin(np.flatnonzero(data.known.item_tag == t), ids) for t, ids in zip(tag, world.catalogue.ids, strict=True)])
    assert own.mean() > 0.95 > world.catalogue.ids.shape[1] / N_VIDEOS


def test_only_users_with_enough_history_come_and_their_context_is_real(world, data):
    arrivals = world.arrive(400, day=9, rng=np.random.default_rng(2))
    assert (data.known.history_length[arrivals.user] >= 20).all()
    log = data.impressions
    real = set(zip(log.user.tolist(), (log.day % 7).tolist(), log.tab.tolist(), log.hour.tolist(), strict=True))
    seen = zip(arrivals.user.tolist(), [2] * 400, arrivals.state.categorical["tab"].codes.tolist(), arrivals.hour.tolist(), strict=True)
    assert set(seen) <= real


def test_the_next_request_of_a_session_keeps_all_but_the_pool(world):
    rng = np.random.default_rng(4)
    first = world.arrive(200, day=0, rng=rng)
    second = world.again(first, rng=rng)
    assert np.array_equal(second.theta_true, first.theta_true)
    assert np.array_equal(second.user, first.user)
    assert (second.pool != first.pool).mean() > 0.5
    assert second.pool.max() < len(world.catalogue.ids)


def test_the_state_is_what_the_config_says(world):
    state, features = world.arrive(30, day=5, rng=np.random.default_rng(5)).state, world.config().features
    assert list(state.numeric) == features.numeric
    assert list(state.categorical) == features.categorical
    assert (
        {name: v.shape[1] for name, v in state.embedding.items()}
        == {f.name: f.size for f in features.embeddings}
        == {"user_taste": 2 * TASTE}
    )
    for feature in features.sequences:
        tokens = state.sequence[feature.name]
        assert tokens.shape == (30, feature.length)
        assert -1 <= tokens.min() <= tokens.max() < feature.vocabulary
    assert all(np.isfinite(column).all() for column in [*state.numeric.values(), *state.embedding.values()])
    assert features.sequences[1].vocabulary == TAGS + 1
    assert (state.numeric["weekend"] == 1).all()


def test_the_state_is_the_same_under_another_oracle(folder, data, world):
    other = KuaiRandWorld(data, oracle=fit_oracle(data, seed=9), ranker=fit_ranker(data, seed=3), seed=3)
    first, second = (w.arrive(40, day=2, rng=np.random.default_rng(6)) for w in (world, other))
    assert not np.array_equal(first.theta_true, second.theta_true)
    assert np.array_equal(first.theta_ranker, second.theta_ranker)
    for group in ("numeric", "embedding", "sequence"):
        for name, column in getattr(first.state, group).items():
            assert np.array_equal(column, getattr(second.state, group)[name])


def test_log_rows_carry_each_feature_and_nothing_hidden(world):
    served = next(sessions(world, 40, day=1, choose=explore_uniformly(world, 0.5), rng=np.random.default_rng(7)))
    columns = log_columns(world, served, first_session=0, first_request=0, candidates=True)
    features = world.config().features
    named = [*features.numeric, *features.categorical, *(f.name for f in [*features.embeddings, *features.sequences])]
    assert set(named) <= set(columns)
    assert not any("true" in name or "theta" in name or "intent" in name for name in columns)


def test_a_fit_recovers_planted_effects_and_shrinks_noise():
    rng = np.random.default_rng(8)
    n, users, videos = 20_000, 50, 40
    z = np.column_stack([np.ones(n), rng.normal(size=(n, 2))]).astype(np.float32)
    x = rng.normal(size=(videos, 2)).astype(np.float32)
    user, item = rng.integers(0, users, n), rng.integers(0, videos, n)
    logits = np.column_stack([-1 + 0.8 * z[:, 1] + x[item, 0], -2 + x[item, 1], np.full(n, -1.0)])
    labels = (rng.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    recipe = Recipe(rank=3, epochs=12, user_sd=0.3)
    fitted = fit_factors(z, x, user, item, labels, n_users=users, recipe=recipe, seed=0)
    predicted = fitted.logits(z, user, item)
    assert np.corrcoef(predicted[:, 0], logits[:, 0])[0, 1] > 0.95
    assert np.corrcoef(predicted[:, 1], logits[:, 1])[0, 1] > 0.9
    assert predicted[:, 2].std() < 0.3
    assert (1 / (1 + np.exp(-predicted))).mean(axis=0) == pytest.approx(labels.mean(axis=0), rel=0.05)


def test_a_fit_without_torch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    one = np.ones((1, 1), np.float32)
    with pytest.raises(MissingExtraError, match="torch"):
        fit_factors(one, one, np.zeros(1, int), np.zeros(1, int), one, n_users=1, recipe=Recipe(rank=1, epochs=1), seed=0)


@pytest.fixture(scope="module")
def real_folder():
    default = Path(__file__).parents[2] / "../shared/data/kuairand-pure-cut"
    path = Path(os.environ.get("PARETUNE_KUAIRAND", default))
    if not path.is_dir():
        pytest.skip(f"no KuaiRand data at {path}; set PARETUNE_KUAIRAND")
    return path


def test_the_real_cut_is_read_whole(real_folder):
    data = read_kuairand(real_folder)
    assert len(data.impressions.user) == 228_329 - 5_460
    assert data.impressions.user.min() >= 0
    assert data.impressions.item.min() >= 0
    assert data.impressions.labels[:, :2].mean(axis=0) == pytest.approx([0.017, 0.019], abs=0.002)
    for column in (data.known.profile, data.known.taste, data.known.item, data.hindsight):
        assert np.isfinite(column).all()


@pytest.mark.slow
def test_on_the_real_cut_production_is_sensible_and_personal_weights_have_room(real_folder):
    world = open_kuairand(real_folder)
    arrivals = world.arrive(4000, day=15, rng=np.random.default_rng(1))
    values = exact_values(world, arrivals, world.surface.actions)
    production = values[:, PRODUCTION].mean(axis=0)
    lift = values.mean(axis=0) / production - 1
    assert 0.05 < production.min() < production.max() < 0.25
    assert lift.min(axis=1).max() < 0.01  # no static pair gains in both: production is on the static front, to a per cent
    assert (lift.max(axis=0) > 0.15).all()  # and there is something to trade
    best = values[np.arange(len(values)), (values / production).sum(axis=2).argmax(axis=1)].mean(axis=0) / production - 1
    assert best.min() > 0  # the best action of each request, by the sum of lifts
    assert best.sum() > 0.10
    scores = ranker_scores(arrivals.take(slice(0, 300)), world.catalogue)
    shares = contribution_sum(scores.reshape(-1, len(HEADS)), world.surface.static).mean
    assert shares[:2].sum() > 0.75


@pytest.mark.slow
def test_on_the_real_cut_the_oracle_predicts_impressions_it_has_not_seen_better_than_the_ranker(real_folder):
    data = read_kuairand(real_folder)
    held_out = (np.random.default_rng(0).random(len(data.impressions.user)) < 0.15) & (data.impressions.day >= RANKER_DAYS)
    log = data.impressions.take(held_out)
    oracle, ranker = fit_oracle(data, rows=np.flatnonzero(~held_out)), fit_ranker(data)
    context = context_features(log.tab, log.hour, log.day)
    oracle_logits = oracle.logits(oracle_features(data.known, log.user, context), log.user, log.item)
    ranker_logits = ranker.logits(ranker_features(data.known, log.user), log.user, log.item)
    by_oracle = [_auc(oracle_logits[:, head], log.labels[:, head]) for head in range(2)]
    by_ranker = [_auc(ranker_logits[:, head], log.labels[:, head]) for head in range(2)]
    assert by_oracle[0] > 0.85
    assert by_oracle[1] > 0.72
    assert by_ranker[0] < by_oracle[0] - 0.02
    assert 0.55 < by_ranker[1] < by_oracle[1] - 0.02


def _auc(scores, labels):
    positive = labels > 0
    rank = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    n_positive = positive.sum()
    return (rank[positive].mean() - (n_positive - 1) / 2) / (len(labels) - n_positive)
