"""The `homefeed` world: synthetic users with a hidden intent per request, a feed of items, and a ranker that knows only part of both.

Mechanics: a request's intent is drawn from its user's mix of (saver, browser, casual), shifted by day part and weekend. Intent moves the
logits of what the user does; the ranker knows a share of it, and is off by a log-bias per segment (country x device x cohort x day part).
Personal weights repair exactly that. The learner sees a noisy user embedding, the last 20 actions (the 8 newest come from the current
intent) and context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paretune.config import (
    Config,
    EmbeddingFeature,
    Features,
    Guardrail,
    HeadSection,
    Objective,
    SequenceFeature,
    SurfaceSection,
    Tune,
)
from paretune.records import Categorical, Floats, Ints, State
from paretune.seeds import stream
from paretune.sim.world import Arrivals, Catalogue, Continuation

HEADS = ("save", "p2p", "click", "hide", "share", "long_view")
STATIC = (91.6, 9.1, 1.1, -4.0, 5.0, 0.20)
BIAS = (-7.35, -4.4, -3.9, -5.5, -6.4, -2.8)
OBJECTIVES = ("save", "p2p", "hide")  # two by default; hides, where asked for, must not rise by more than the floor says
GUARDED, FLOOR_PCT = "hide", -2.0
K_ITEMS = 15
N_USERS = 60_000
N_TOPICS, POOLS_PER_TOPIC, POOL_SIZE = 24, 10, 300
TASTE = 8
EMBEDDING = 16
HISTORY = 20
RECENT = 8

COUNTRIES = ("US", "BR", "DE", "JP", "IN", "GB")
DEVICES = ("phone", "tablet", "web")
_MIDNIGHT = np.nextafter(np.float32(24), np.float32(0))  # the last hour of a day; float32 rounds those between up to 24
DAY_PARTS = ("night", "morning", "afternoon", "evening")
COHORTS = ("CORE", "CASUAL", "REST")
INTENTS = ("saver", "browser", "casual")

# Rows: intent; columns: head. What an intent adds to each logit, per unit of heterogeneity.
INTENT_EFFECT = np.array(
    [
        [2.5, -1.8, -0.2, 0.0, 0.4, 0.2],
        [-1.9, 1.8, 0.5, -0.2, -0.2, 0.5],
        [-0.9, -0.5, -0.4, 0.4, -0.2, -0.7],
    ],
    dtype=np.float32,
)
# Which action a user of an intent leaves in the history: columns are the heads.
INTENT_ACTIONS = np.array(
    [[0.55, 0.08, 0.15, 0.02, 0.05, 0.15], [0.05, 0.50, 0.25, 0.02, 0.03, 0.15], [0.06, 0.12, 0.35, 0.07, 0.05, 0.35]]
)
# Loading of each head on (saveability, explorability, lure, quality); taste enters by TASTE_LOADING.
LOADINGS = np.array(
    [
        [1.30, 0.0, 0.0, 0.30],
        [0.0, 1.15, 0.20, 0.0],
        [0.1, 0.2, 0.6, 0.2],
        [0.0, 0.0, 0.5, -0.6],
        [0.2, 0.0, 0.1, 0.5],
        [0.0, 0.2, 0.2, 0.5],
    ],
    dtype=np.float32,
)
TASTE_LOADING = np.array([0.80, 0.45, 0.4, -0.4, 0.5, 0.4], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Setting:
    """What makes one homefeed differ from another."""

    heterogeneity: float  # scale of the intent effects
    segment_bias: float  # sd of the ranker's log-bias by segment
    intent_known: float  # share of the intent effect that the ranker knows
    noise: float = 0.35  # sd of the ranker's error on tastes and item attributes, in sd of each


SETTINGS = {
    "demo": Setting(1.0, 0.50, 0.20),
    "paper": Setting(0.80, 0.32, 0.30),
    "perfect-ranker": Setting(0.80, 0.0, 1.0),  # knows intents and segments; its noise on items stays, which no weights can repair
}


class Homefeed:
    """A homefeed of one setting and seed; see the module's first lines."""

    name: str = "homefeed"
    cohorts: tuple[str, ...] = COHORTS
    continuation = Continuation(base=1.3, long_view=0.8, hide=3.0, long_view_head=5, hide_head=3)

    def __init__(self, setting: str = "demo", *, seed: int = 0, objectives: int = 2, refresh: int = 0) -> None:
        """Make a homefeed.

        Args:
            setting: of SETTINGS.
            seed: of users, items and ranker errors.
            objectives: 2 or 3.
            refresh: the how-manieth ranker serves; each makes errors of its own, as large, on the same users and items.
        """
        self.setting = setting
        self.objectives: tuple[str, ...] = OBJECTIVES[:objectives]
        self.objective_heads: tuple[int, ...] = tuple(HEADS.index(name) for name in self.objectives)
        self._setting = SETTINGS[setting]
        self.surface = self.config().surface.build()
        self._make_users(stream(seed, "users"))
        self._make_items(stream(seed, "items"))
        self._make_bias(stream(seed, "bias"))
        if refresh:
            self._learn_again(stream(seed, "refresh", refresh))

    def config(self) -> Config:
        """Return the configuration that fits this world's logs; the paper's surface."""
        tune = {"save": Tune(low=10.0, high=200.0), "p2p": Tune(low=1.0, high=30.0)}
        return Config(
            surface=SurfaceSection(
                k=K_ITEMS, heads=[HeadSection(name=n, weight=w, tune=tune.get(n)) for n, w in zip(HEADS, STATIC, strict=True)]
            ),
            objectives=[
                Objective(name=name, column=f"events_{name}", head=name, direction="minimise" if name == GUARDED else "maximise")
                for name in self.objectives
            ],
            guardrails=[Guardrail(objective=GUARDED, floor_pct=FLOOR_PCT)] if GUARDED in self.objectives else [],
            features=Features(
                numeric=["activity", "weekend", "hour_sin", "hour_cos"],
                categorical=["country", "device", "cohort", "day_part"],
                embeddings=[EmbeddingFeature(name="user_embedding", size=EMBEDDING, dtype="float16")],
                sequences=[
                    SequenceFeature(name="history_action", length=HISTORY, vocabulary=len(HEADS)),
                    SequenceFeature(name="history_topic", length=HISTORY, vocabulary=N_TOPICS),
                    SequenceFeature(name="history_age", length=HISTORY, vocabulary=8),
                ],
            ),
        )

    def arrive(self, n: int, *, day: int, rng: np.random.Generator) -> Arrivals:
        """Return n requests of one day, each the first of a session; active users come more often."""
        user = np.searchsorted(self._visit_cdf, rng.random(n)).astype(np.int64)
        hour = np.minimum((rng.normal(15.5, 5.0, n) % 24).astype(np.float32), _MIDNIGHT)
        part = (hour // 6).astype(np.int8)
        weekend = day % 7 >= 5
        logits = self._mix[user] + self._part_shift[part] + (self._weekend_shift if weekend else 0)
        intent = _draw(np.exp(logits), rng)
        topic = np.where(rng.random(n) < 0.7, self._topic[user], rng.integers(0, N_TOPICS, n))
        pool = (topic * POOLS_PER_TOPIC + rng.integers(0, POOLS_PER_TOPIC, n)).astype(np.int32)
        state = self._observe(user, intent, hour, part, weekend, rng)
        return self._arrivals(user, day, hour, part, pool, intent, state)

    def again(self, arrivals: Arrivals, *, rng: np.random.Generator) -> Arrivals:
        """Return the next request of the same sessions: same user, intent and what is known of them; a new pool of the topic or another."""
        n = len(arrivals)
        topic = np.where(rng.random(n) < 0.8, arrivals.pool // POOLS_PER_TOPIC, rng.integers(0, N_TOPICS, n))
        pool = (topic * POOLS_PER_TOPIC + rng.integers(0, POOLS_PER_TOPIC, n)).astype(np.int32)
        part = (arrivals.hour // 6).astype(np.int8)
        return self._arrivals(arrivals.user, arrivals.day, arrivals.hour, part, pool, arrivals.intent, arrivals.state)

    def _make_users(self, rng: np.random.Generator) -> None:
        n = N_USERS
        self._taste = rng.normal(size=(n, TASTE)).astype(np.float32)
        self._taste_seen = self._taste + self._setting.noise * rng.normal(size=(n, TASTE)).astype(np.float32)
        self._activity = rng.normal(size=n).astype(np.float32)
        visits = np.exp(0.8 * self._activity)
        self._visit_cdf = np.cumsum(visits / visits.sum())
        self._visit_cdf[-1] = 1.0
        self._mix = (1.1 * rng.normal(size=(n, 3)) + np.array([-0.2, 0.3, 0.1])).astype(np.float32)
        noisy = self._activity + 0.6 * rng.normal(size=n) + 0.5 * (self._mix[:, 0] - self._mix[:, 2])
        self._cohort = np.select([noisy > 0.7, noisy > -0.6], [0, 1], 2).astype(np.int8)
        self._country = rng.choice(len(COUNTRIES), size=n, p=[0.4, 0.2, 0.12, 0.1, 0.1, 0.08]).astype(np.int8)
        self._device = rng.choice(len(DEVICES), size=n, p=[0.7, 0.1, 0.2]).astype(np.int8)
        self._topic = rng.integers(0, N_TOPICS, n)
        self._history_length = np.clip(np.exp(2.6 + 0.8 * self._activity + 0.4 * rng.normal(size=n)), 0, HISTORY).astype(np.int64)
        hidden = np.concatenate([self._taste, self._mix, self._activity[:, None]], axis=1)
        projection = rng.normal(size=(hidden.shape[1], EMBEDDING)) / np.sqrt(hidden.shape[1])
        self._embedding = (hidden @ projection + 0.3 * rng.normal(size=(n, EMBEDDING))).astype(np.float16)
        visitors = np.exp(self._mix[np.searchsorted(self._visit_cdf, rng.random(50_000))])
        self._intent_share = (visitors / visitors.sum(axis=1, keepdims=True)).mean(axis=0).astype(np.float32)
        self._part_shift = np.array([[-0.1, -0.2, 0.4], [0.3, -0.3, 0.1], [0.0, 0.1, 0.0], [-0.1, 0.4, -0.2]], dtype=np.float32)
        self._weekend_shift = np.array([0.3, 0.1, -0.3], dtype=np.float32)

    def _make_items(self, rng: np.random.Generator) -> None:
        pools = N_TOPICS * POOLS_PER_TOPIC
        attributes = rng.normal(size=(pools, POOL_SIZE, 4))
        attributes[..., 1] = -0.35 * attributes[..., 0] + np.sqrt(1 - 0.35**2) * attributes[..., 1]
        taste = rng.normal(size=(pools, POOL_SIZE, TASTE)) / np.sqrt(TASTE)
        one = np.ones((pools, POOL_SIZE, 1))
        true = np.concatenate([one, attributes, taste], axis=2).astype(np.float32)
        seen = self._seen_items(true, rng)
        ids = rng.permutation(pools * POOL_SIZE).astype(np.int32).reshape(pools, POOL_SIZE)
        self.catalogue = Catalogue(ids, true, seen)

    def _seen_items(self, true: Floats, rng: np.random.Generator) -> Floats:
        """Return the items as a ranker sees them."""
        error = self._setting.noise * rng.normal(size=true.shape).astype(np.float32)
        error[..., 5:] /= np.sqrt(TASTE)
        error[..., 0] = 0
        return true + error

    def _learn_again(self, rng: np.random.Generator) -> None:
        """Give the ranker new errors on tastes, items and segments, of the same size."""
        self._taste_seen = self._taste + self._setting.noise * rng.normal(size=self._taste.shape).astype(np.float32)
        self.catalogue = replace(self.catalogue, ranker=self._seen_items(self.catalogue.true, rng))
        self._make_bias(rng)

    def _make_bias(self, rng: np.random.Generator) -> None:
        sizes = (len(COUNTRIES), len(DEVICES), len(COHORTS), len(DAY_PARTS))
        bias = 0.5 * rng.normal(size=(*sizes, len(HEADS)))  # a quarter of the variance is the cell's own, the rest main effects
        for axis, size in enumerate(sizes):
            shape = [1, 1, 1, 1, len(HEADS)]
            shape[axis] = size
            bias = bias + np.sqrt(0.75 / 4) * rng.normal(size=shape)
        user = np.searchsorted(self._visit_cdf, rng.random(50_000))
        part = rng.integers(0, len(DAY_PARTS), 50_000)
        typical = bias[self._country[user], self._device[user], self._cohort[user], part].mean(axis=0)
        self._bias = (self._setting.segment_bias * (bias - typical)).astype(np.float32)  # the ranker is right on average

    def _arrivals(self, user: Ints, day: int, hour: Floats, part: Ints, pool: Ints, intent: Ints, state: State) -> Arrivals:
        effect = self._setting.heterogeneity * INTENT_EFFECT
        typical = self._intent_share @ effect
        true = self._theta(np.array(BIAS, np.float32) + effect[intent], self._taste[user])
        known = self._setting.intent_known * effect[intent] + (1 - self._setting.intent_known) * typical
        segment = self._bias[self._country[user], self._device[user], self._cohort[user], part]
        ranker = self._theta(np.array(BIAS, np.float32) + known + segment, self._taste_seen[user])
        return Arrivals(user, self._cohort[user], day, hour, pool, state, true, ranker, intent)

    @staticmethod
    def _theta(constant: Floats, taste: Floats) -> Floats:
        n = len(taste)
        theta = np.empty((n, len(HEADS), 1 + 4 + TASTE), dtype=np.float32)
        theta[:, :, 0] = constant
        theta[:, :, 1:5] = LOADINGS
        theta[:, :, 5:] = TASTE_LOADING[:, None] * taste[:, None, :]
        return theta

    def _observe(self, user: Ints, intent: Ints, hour: Floats, part: Ints, weekend: bool, rng: np.random.Generator) -> State:
        n = len(user)
        old_intent = _draw(np.repeat(np.exp(self._mix[user]), HISTORY, axis=0), rng).reshape(n, HISTORY)
        source = np.where(np.arange(HISTORY) >= HISTORY - RECENT, intent[:, None], old_intent)
        action = _draw(INTENT_ACTIONS[source.ravel()], rng).reshape(n, HISTORY).astype(np.int16)
        topic = np.where(rng.random((n, HISTORY)) < 0.7, self._topic[user][:, None], rng.integers(0, N_TOPICS, (n, HISTORY))).astype(
            np.int16
        )
        age = np.clip(7 - (np.arange(HISTORY) * 8 // HISTORY) + rng.integers(-1, 2, (n, HISTORY)), 0, 7).astype(np.int16)
        absent = np.arange(HISTORY) < HISTORY - self._history_length[user][:, None]
        sequences = {"history_action": action, "history_topic": topic, "history_age": age}
        for tokens in sequences.values():
            tokens[absent] = -1
        angle = (2 * np.pi / 24) * hour
        return State(
            numeric={
                "activity": self._activity[user] + 0.3 * rng.normal(size=n).astype(np.float32),
                "weekend": np.full(n, float(weekend), np.float32),
                "hour_sin": np.sin(angle).astype(np.float32),
                "hour_cos": np.cos(angle).astype(np.float32),
            },
            categorical={
                "country": Categorical(self._country[user].astype(np.int32), COUNTRIES),
                "device": Categorical(self._device[user].astype(np.int32), DEVICES),
                "cohort": Categorical(self._cohort[user].astype(np.int32), COHORTS),
                "day_part": Categorical(part.astype(np.int32), DAY_PARTS),
            },
            embedding={"user_embedding": self._embedding[user].astype(np.float32)},
            sequence=sequences,
        )


def _draw(weights: Floats, rng: np.random.Generator) -> Ints:
    """Return one category per row, drawn in proportion to the row's weights (n, c)."""
    edges = np.cumsum(weights, axis=1)
    return (rng.random(len(weights))[:, None] * edges[:, -1:] > edges).sum(axis=1).astype(np.int8)
