"""The KuaiRand files as arrays: impressions, what was known of users and videos before the first impression, and what only hindsight knows.

An edge: reads the user's own Parquet download. The rule: `Known` holds nothing of the 14 labelled days; it is built from profiles,
video basics and the history before them, so a ranker or a learner may see it. `hindsight` (traffic counts over the whole period) is the
oracle's alone. Source: KuaiRand-Pure, Gao et al., CIKM 2022, doi 10.1145/3511808.3557624.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from paretune.errors import DataError
from paretune.records import Bools, Categorical, Floats, Ints

FILES = ("impressions", "user_history", "user_features", "video_features_basic", "video_features_statistic")
LABELS = ("is_like", "is_profile_enter", "is_click", "is_hate", "is_comment", "long_view")
TABS = ("1", "0", "4", "6", "2", "other")  # most frequent first
DAY_PARTS = ("night", "morning", "afternoon", "evening")
ACTIVE_DEGREES = ("full_active", "high_active", "other")
TAGS = 30  # most frequent primary tags; rarer ones share token TAGS
HISTORY = 20  # newest events that a learner sees as tokens
TASTE = 8  # principal components of what is known of videos
FIRST_DATE = 20220425  # a Monday
_PRIOR_EVENTS = {"user": 5.0, "item": 20.0}  # strength of the shrinkage of rates to their mean, in events
_CODES = ("onehot_feat1", "onehot_feat2", "onehot_feat9", "onehot_feat10", "onehot_feat11")  # encrypted codes with few values
_FLAGS = ("onehot_feat0", "onehot_feat6", "onehot_feat12", "onehot_feat13", "onehot_feat14", "is_video_author")


@dataclass(frozen=True, slots=True)
class Impressions:
    """N impressions with their feedback."""

    user: Ints  # (N,) int32 row of the user tables
    item: Ints  # (N,) int32 row of the video tables
    day: Ints  # (N,) int16, 0 = 25 April 2022, a Monday
    hour: Floats  # (N,) float32 in [0, 24)
    tab: Ints  # (N,) int8 into TABS
    labels: Floats  # (N, H) float32 0/1 in the order of LABELS

    def take(self, rows: Ints | Bools) -> Impressions:
        """Return the rows asked for."""
        return Impressions(self.user[rows], self.item[rows], self.day[rows], self.hour[rows], self.tab[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of U users and V videos before the first impression."""

    profile: Floats  # (U, P) standardised profile and history summary
    taste: Floats  # (U, 2 * TASTE) shrunk means of `item_taste` over long-viewed and over liked videos
    item: Floats  # (V, F) standardised video basics and earlier rates
    item_taste: Floats  # (V, TASTE) principal components of `item`
    item_tag: Ints  # (V,) int16 in 0..TAGS
    history_length: Ints  # (U,) int32 real length, 0 = no history
    history_kind: Ints  # (U, HISTORY) int16: long view + 2 * like, newest last, -1 = padding
    history_tag: Ints  # (U, HISTORY) int16 tag of the same event
    cohort: Ints  # (U,) int8 into ACTIVE_DEGREES
    numeric: dict[str, Floats]  # name -> (U,) float32 columns that a log carries
    categorical: dict[str, Categorical]  # name -> (U,) columns that a log carries


@dataclass(frozen=True, slots=True)
class KuaiRand:
    """The files, aligned: users and videos are rows."""

    impressions: Impressions
    known: Known
    popularity: Floats  # (V,) impressions and remembered earlier views
    hindsight: Floats  # (V, G) standardised logs of traffic counts over the whole period


def read_kuairand(folder: Path) -> KuaiRand:
    """Return the data of a KuaiRand-Pure folder.

    Args:
        folder: holds impressions, user_history, user_features, video_features_basic and video_features_statistic as .parquet.

    Raises:
        DataError: a file or a column is missing.
    """
    missing = [f"{name}.parquet" for name in FILES if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}", hint="name the folder that holds the five KuaiRand-Pure Parquet files")
    try:
        return _aligned({name: pl.read_parquet(folder / f"{name}.parquet") for name in FILES})
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{folder} is not the KuaiRand-Pure cut that is expected: {error}", hint="keep the column names of KuaiRand-Pure"
        ) from error


def _aligned(tables: dict[str, pl.DataFrame]) -> KuaiRand:
    users = tables["user_features"].sort("user_id")
    basics = tables["video_features_basic"].sort("video_id")
    statistic = basics.select("video_id").join(tables["video_features_statistic"], on="video_id", how="left", maintain_order="left")
    user_row = _rows(users["user_id"])
    item_row = _rows(basics["video_id"])
    log = tables["impressions"].unique(maintain_order=True)  # about 5,000 rows are exact repeats
    impressions = Impressions(
        user_row[log["user_id"].to_numpy()],
        item_row[log["video_id"].to_numpy()],
        (
            log["date"].cast(pl.String).str.to_date("%Y%m%d").to_physical()
            - pl.Series([str(FIRST_DATE)]).str.to_date("%Y%m%d").to_physical()[0]
        )
        .cast(pl.Int16)
        .to_numpy(),
        (log["hourmin"].to_numpy() // 100 + log["hourmin"].to_numpy() % 100 / 60).astype(np.float32) % 24,
        _codes(log["tab"].cast(pl.String), TABS),
        log.select(LABELS).to_numpy().astype(np.float32),
    )
    history = tables["user_history"].select("user_id", "history_len", "video_id", "long_view", "is_like")
    events = history.explode("video_id", "long_view", "is_like", empty_as_null=False, keep_nulls=False)
    popularity = np.bincount(impressions.item, minlength=len(basics)) + np.bincount(
        item_row[events["video_id"].to_numpy()], minlength=len(basics)
    )
    known = _known(users, basics, history, events, (user_row, item_row))
    return KuaiRand(impressions, known, popularity.astype(np.float64), _hindsight(statistic))


def _known(users: pl.DataFrame, basics: pl.DataFrame, history: pl.DataFrame, events: pl.DataFrame, rows: tuple[Ints, Ints]) -> Known:
    n_users, n_items, (user_row, item_row) = len(users), len(basics), rows
    event_user = user_row[events["user_id"].to_numpy()]
    event_item = item_row[events["video_id"].to_numpy()]
    viewed, liked = events["long_view"].to_numpy().astype(np.float64), events["is_like"].to_numpy().astype(np.float64)
    tag = _primary_tag(basics["tag"])
    views = np.bincount(event_item, minlength=n_items)
    item = _standardise(
        np.column_stack(
            [
                _one_hot(tag, TAGS + 1),
                _one_hot(_codes(basics["upload_type"], tuple(basics["upload_type"].value_counts(sort=True)["upload_type"][:5])), 6),
                np.log(basics["video_duration"].fill_null(basics["video_duration"].median()).to_numpy() + 1000),
                basics["music_type"].eq_missing(9.0).to_numpy(),
                basics["server_width"].to_numpy() > basics["server_height"].to_numpy(),
                np.log1p(views),
                _rate_logit(viewed, event_item, n_items, "item"),
                _rate_logit(liked, event_item, n_items, "item"),
            ]
        )
    )
    item_taste = _principal(item, TASTE)
    length = np.zeros(n_users, np.int32)
    length[user_row[history["user_id"].to_numpy()]] = history["history_len"].to_numpy()
    rates = np.column_stack([_rate_logit(viewed, event_user, n_users, "user"), _rate_logit(liked, event_user, n_users, "user")])
    counts = {
        name: np.log1p(users[name].to_numpy()).astype(np.float32)
        for name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
    }
    numeric = {f"log_{name}": column for name, column in counts.items()}
    numeric["log_history"] = np.log1p(length).astype(np.float32)
    numeric["history_long_view"], numeric["history_like"] = rates.T.astype(np.float32)
    degree = _codes(users["user_active_degree"], ACTIVE_DEGREES)
    codes = {name: _categorical(users[name]) for name in _CODES}
    flags = users.select(pl.col(_FLAGS).fill_null(0).cast(pl.Float64)).to_numpy()
    profile = _standardise(
        np.column_stack([*numeric.values(), _one_hot(degree, 3), *(_one_hot(c.codes, len(c.vocabulary)) for c in codes.values()), flags])
    )
    taste = np.column_stack([_shrunk_mean(item_taste[event_item], event_user, weight, n_users) for weight in (viewed, liked)])
    kind, seen_tag = _newest(event_user, (viewed + 2 * liked).astype(np.int16), tag[event_item], n_users)
    return Known(
        profile=profile.astype(np.float32),
        taste=taste.astype(np.float32),
        item=item.astype(np.float32),
        item_taste=item_taste.astype(np.float32),
        item_tag=tag,
        history_length=length,
        history_kind=kind,
        history_tag=seen_tag,
        cohort=degree,
        numeric=numeric,
        categorical={"active_degree": Categorical(degree.astype(np.int32), ACTIVE_DEGREES), **codes},
    )


def _hindsight(statistic: pl.DataFrame) -> Floats:
    counts = statistic.drop("video_id", "counts").fill_null(0.0).to_numpy().astype(np.float64)
    shows = statistic["show_cnt"].fill_null(0.0).to_numpy()[:, None]
    rates = np.log((counts + 0.5) / (shows + 50.0))
    return _standardise(np.column_stack([rates, np.log1p(shows)])).astype(np.float32)


def _rows(ids: pl.Series) -> Ints:
    """Return the inverse of sorted ids: row of each id, len(ids) - 1 at most, -1 where there is none."""
    table = np.full(int(ids.to_numpy().max()) + 1, -1, np.int32)
    table[ids.to_numpy()] = np.arange(len(ids))
    return table


def _codes(column: pl.Series, vocabulary: tuple[str, ...]) -> Ints:
    """Return int8 codes; words outside the vocabulary get its last code, or one more when the last is no catch-all."""
    last = len(vocabulary) - 1 if vocabulary[-1] == "other" else len(vocabulary)
    index = {word: code for code, word in enumerate(vocabulary)}
    return column.replace_strict(index, default=last, return_dtype=pl.Int8).to_numpy()


def _categorical(column: pl.Series) -> Categorical:
    vocabulary = tuple(str(v) for v in column.drop_nulls().unique().sort())
    index = {word: code for code, word in enumerate(vocabulary)}
    return Categorical(column.cast(pl.String).replace_strict(index, default=-1, return_dtype=pl.Int32).to_numpy(), vocabulary)


def _primary_tag(column: pl.Series) -> Ints:
    first = column.str.split(",").list.first()
    frequent = first.drop_nulls().value_counts(sort=True).sort(["count", "tag"], descending=[True, False])["tag"][:TAGS]
    return _codes(first, tuple(frequent)).astype(np.int16)


def _one_hot(codes: Ints, size: int) -> Floats:
    return (codes[:, None] == np.arange(size)).astype(np.float64)


def _standardise(columns: Floats) -> Floats:
    """Return columns with mean 0 and sd 1, cut at 4 sd; constant columns become 0."""
    columns = np.asarray(columns, dtype=np.float64)
    return np.clip((columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-6), -4, 4)


def _principal(columns: Floats, count: int) -> Floats:
    """Return the first principal components with sd 1; the sign of each makes its largest loading positive."""
    _, loadings = np.linalg.eigh(columns.T @ columns)
    loadings = loadings[:, ::-1][:, :count]
    signs = np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(count)])
    return _standardise(columns @ (loadings * signs))


def _rate_logit(happened: Floats, group: Ints, size: int, unit: str) -> Floats:
    """Return the logit of each group's rate of an event, shrunk to the overall rate."""
    overall = happened.mean()
    prior = _PRIOR_EVENTS[unit]
    rate = (np.bincount(group, happened, size) + prior * overall) / (np.bincount(group, minlength=size) + prior)
    return np.log(rate / (1 - rate))


def _shrunk_mean(vectors: Floats, group: Ints, weight: Floats, size: int) -> Floats:
    total = np.column_stack([np.bincount(group, weight * column, size) for column in vectors.T])
    return total / (np.bincount(group, weight, size)[:, None] + 5.0)


def _newest(user: Ints, kind: Ints, tag: Ints, n_users: int) -> tuple[Ints, Ints]:
    """Return each user's last HISTORY events as (U, HISTORY) tokens; events of a user are in time order and adjacent."""
    counts = np.bincount(user, minlength=n_users)
    end = np.zeros(n_users, np.int64)
    last = np.flatnonzero(np.diff(user, append=-1))
    end[user[last]] = last + 1
    source = end[:, None] - HISTORY + np.arange(HISTORY)
    absent = np.arange(HISTORY) < HISTORY - counts[:, None]
    tokens = []
    for column in (kind, tag):
        token = column[np.clip(source, 0, len(column) - 1)].astype(np.int16)
        token[absent] = -1
        tokens.append(token)
    return tokens[0], tokens[1]
