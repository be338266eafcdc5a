"""The `kuairand` world: real users, videos, histories and contexts; responses from an oracle model fitted on their feedback.

The rule: the oracle is fitted on all 14 days, on everything (profiles, context, traffic counts, an intercept per user); the ranker on
the first 7 days only, on tastes and video basics, at lower rank, blind to tab, day part and kind of user. Their difference is all the
ranker error there is, so personal weights can gain exactly what such a ranker leaves. Objectives are like and profile enter: about
equally frequent (1.7 % and 1.9 % of impressions; click and long view, at 44 % and 31 %, would saturate the clipped reward), and carried
by different users and videos (correlation of video rates about 0.25), so a list trades one for the other. An edge: reads the user's own
download, fits with torch when opened.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from paretune.config import Config, EmbeddingFeature, Features, Guardrail, HeadSection, Objective, SequenceFeature, SurfaceSection, Tune
from paretune.errors import DataError
from paretune.ports import Progress, silent
from paretune.records import Categorical, Floats, Ints, State
from paretune.seeds import stream
from paretune.sim.kuairand_data import ACTIVE_DEGREES, DAY_PARTS, HISTORY, TABS, TAGS, TASTE, Known, KuaiRand, read_kuairand
from paretune.sim.kuairand_fit import Factors, Recipe, fit_factors
from paretune.sim.world import Arrivals, Catalogue, Continuation

HEADS = ("like", "profile_enter", "click", "hate", "comment", "long_view")  # in the order of LABELS
STATIC = (30.0, 30.0, 0.1, -10.0, 10.0, 0.2)
OBJECTIVES = ("like", "profile_enter", "comment")  # two by default; comments, where asked for, must not fall below the floor
GUARDED, FLOOR_PCT = "comment", -5.0
K_ITEMS = 10
POOLS_PER_TAG, POOL_SIZE = 8, 300
MIN_HISTORY, MIN_IMPRESSIONS = 20, 8  # events of a user that make a user of this world
RANKER_DAYS = 7

# Priors chosen once by log loss on a random 15 % of the impressions.
ORACLE = Recipe(rank=8, epochs=12, intercept_sd=0.3, interaction_sd=0.03, item_sd=0.2, user_sd=1.0)
RANKER = Recipe(rank=4, epochs=12, intercept_sd=0.3, interaction_sd=0.03, item_sd=0.2)


class KuaiRandWorld:
    """A feed over KuaiRand; see the module's first lines. Made by `open_kuairand`."""

    name = "kuairand"
    setting = "standard"
    cohorts: tuple[str, ...] = ACTIVE_DEGREES
    continuation = Continuation(base=0.6, long_view=1.0, hide=3.0, long_view_head=5, hide_head=3)

    def __init__(self, data: KuaiRand, *, oracle: Factors, ranker: Factors, seed: int = 0, objectives: int = 2) -> None:
        self.objectives: tuple[str, ...] = OBJECTIVES[:objectives]
        self.objective_heads: tuple[int, ...] = tuple(HEADS.index(name) for name in self.objectives)
        self._known, self._oracle, self._ranker = data.known, oracle, ranker
        log = data.impressions
        enough = (data.known.history_length >= MIN_HISTORY) & (np.bincount(log.user, minlength=len(data.known.profile)) >= MIN_IMPRESSIONS)
        self._visits = log.take(enough[log.user])
        self._by_weekday = [np.flatnonzero(self._visits.day % 7 == weekday) for weekday in range(7)]
        if any(len(rows) == 0 for rows in self._by_weekday):
            raise DataError(
                f"no weekday may be without impressions of users with {MIN_IMPRESSIONS} impressions and {MIN_HISTORY} earlier events",
                hint="use the whole cut: 14 days from 25 April 2022",
            )
        self.surface = self.config().surface.build()
        share = np.bincount(self._known.item_tag, data.popularity, TAGS + 1)
        self._tag_cdf = np.cumsum(share / share.sum())
        self._make_pools(data, stream(seed, "pools"))

    def config(self) -> Config:
        """Return the configuration that fits this world's logs."""
        tune = {"like": Tune(low=5.0, high=95.0), "profile_enter": Tune(low=5.0, high=95.0)}
        return Config(
            surface=SurfaceSection(
                k=K_ITEMS, heads=[HeadSection(name=n, weight=w, tune=tune.get(n)) for n, w in zip(HEADS, STATIC, strict=True)]
            ),
            objectives=[Objective(name=name, column=f"events_{name}", head=name) for name in self.objectives],
            guardrails=[Guardrail(objective=GUARDED, floor_pct=FLOOR_PCT)] if GUARDED in self.objectives else [],
            features=Features(
                numeric=[*self._known.numeric, "weekend", "hour_sin", "hour_cos"],
                categorical=[*self._known.categorical, "tab", "day_part"],
                embeddings=[EmbeddingFeature(name="user_taste", size=2 * TASTE, dtype="float16")],
                sequences=[
                    SequenceFeature(name="history_kind", length=HISTORY, vocabulary=4),
                    SequenceFeature(name="history_tag", length=HISTORY, vocabulary=TAGS + 1),
                ],
            ),
        )

    def arrive(self, n: int, *, day: int, rng: np.random.Generator) -> Arrivals:
        """Return n requests of one day: user, tab and hour of real impressions on the same weekday; day 0 is a Monday."""
        rows = rng.choice(self._by_weekday[day % 7], n)
        user, tab, hour = self._visits.user[rows], self._visits.tab[rows], self._visits.hour[rows]
        context = context_features(tab, hour, np.full(n, day))
        true = self._oracle.theta(oracle_features(self._known, user, context), user)
        seen = self._ranker.theta(ranker_features(self._known, user), user)
        pool = self._pool(user, rng)
        intent = np.zeros(n, np.int8)  # nothing of a request is hidden but its factors
        return Arrivals(
            user.astype(np.int64), self._known.cohort[user], day, hour, pool, self._state(user, tab, hour, day), true, seen, intent
        )

    def again(self, arrivals: Arrivals, *, rng: np.random.Generator) -> Arrivals:
        """Return the next request of the same sessions: same user and context, another pool."""
        return replace(arrivals, pool=self._pool(arrivals.user, rng))

    def _pool(self, user: Ints, rng: np.random.Generator) -> Ints:
        """Draw a pool of a tag of the user's history, or of any tag by popularity."""
        n = len(user)
        tag = self._known.history_tag[user, rng.integers(0, HISTORY, n)]
        anywhere = np.searchsorted(self._tag_cdf[:-1], rng.random(n))
        tag = np.where((rng.random(n) < 0.7) & (tag >= 0), tag, anywhere)
        return (tag * POOLS_PER_TAG + rng.integers(0, POOLS_PER_TAG, n)).astype(np.int32)

    def _make_pools(self, data: KuaiRand, rng: np.random.Generator) -> None:
        """Half of a pool's weight lies on videos of its tag; within and without, popular videos are likelier."""
        weight = np.sqrt(data.popularity + 1.0)
        ids = np.empty(((TAGS + 1) * POOLS_PER_TAG, POOL_SIZE), np.int32)
        for pool in range(len(ids)):
            of_tag = self._known.item_tag == pool // POOLS_PER_TAG
            chance = weight / weight.sum() + of_tag * weight / max((of_tag * weight).sum(), 1.0)
            ids[pool] = rng.choice(len(weight), POOL_SIZE, replace=False, p=chance / chance.sum())
        self.catalogue = Catalogue(ids, self._oracle.item[ids], self._ranker.item[ids])

    def _state(self, user: Ints, tab: Ints, hour: Floats, day: int) -> State:
        known, n = self._known, len(user)
        angle = (2 * np.pi / 24) * hour
        numeric = {name: column[user] for name, column in known.numeric.items()}
        numeric["weekend"] = np.full(n, float(day % 7 >= 5), np.float32)
        numeric["hour_sin"], numeric["hour_cos"] = np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)
        categorical = {name: column.take(user) for name, column in known.categorical.items()}
        categorical["tab"] = Categorical(tab.astype(np.int32), TABS)
        categorical["day_part"] = Categorical((hour // 6).astype(np.int32), DAY_PARTS)
        return State(
            numeric,
            categorical,
            {"user_taste": known.taste[user]},
            {"history_kind": known.history_kind[user], "history_tag": known.history_tag[user]},
        )


def open_kuairand(data: Path, *, seed: int = 0, objectives: int = 2, progress: Progress = silent) -> KuaiRandWorld:
    """Return the world over a folder of KuaiRand-Pure files; the two fits take about 15 seconds.

    Args:
        data: the folder; see `kuairand_data`.
        seed: of the fits and the pools.
        objectives: 2, or 3 with a guardrail on comments.
        progress: told the share done.

    Raises:
        DataError: the folder lacks a file or a column, or too many rows.
        MissingExtraError: torch is not installed.
    """
    tables = read_kuairand(data)
    oracle = fit_oracle(tables, seed=seed, progress=lambda share, doing: progress(0.75 * share, doing))
    ranker = fit_ranker(tables, seed=seed, progress=lambda share, doing: progress(0.75 + 0.25 * share, doing))
    return KuaiRandWorld(tables, oracle=oracle, ranker=ranker, seed=seed, objectives=objectives)


def fit_oracle(data: KuaiRand, *, rows: Ints | None = None, seed: int = 0, progress: Progress = silent) -> Factors:
    """Return the response model of the users, fitted on all impressions or on the `rows` given."""
    log = data.impressions if rows is None else data.impressions.take(rows)
    z = oracle_features(data.known, log.user, context_features(log.tab, log.hour, log.day))
    x = np.concatenate([data.known.item, data.hindsight], axis=1)
    return fit_factors(z, x, log.user, log.item, log.labels, n_users=len(data.known.profile), recipe=ORACLE, seed=seed, progress=progress)


def fit_ranker(data: KuaiRand, *, seed: int = 0, progress: Progress = silent) -> Factors:
    """Return the ranker, fitted on the impressions of the first RANKER_DAYS days."""
    log = data.impressions.take(data.impressions.day < RANKER_DAYS)
    z = ranker_features(data.known, log.user)
    return fit_factors(
        z, data.known.item, log.user, log.item, log.labels, n_users=len(data.known.profile), recipe=RANKER, seed=seed, progress=progress
    )


def oracle_features(known: Known, user: Ints, context: Floats) -> Floats:
    """Return (n, Z) float32: constant, profile, taste, context."""
    return np.concatenate([np.ones((len(user), 1), np.float32), known.profile[user], known.taste[user], context], axis=1)


def ranker_features(known: Known, user: Ints) -> Floats:
    """Return (n, 1 + 2 TASTE) float32: constant and taste; no context and no kind of user."""
    return np.concatenate([np.ones((len(user), 1), np.float32), known.taste[user]], axis=1)


def context_features(tab: Ints, hour: Floats, day: Ints) -> Floats:
    """Return (n, C) float32 0/1 of the request's tab, day part and weekend."""
    part = (hour // 6).astype(np.int8)
    columns = [tab[:, None] == np.arange(len(TABS)), part[:, None] == np.arange(len(DAY_PARTS)), (day % 7 >= 5)[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)
