"""A world that changes on a day: the ranker is refreshed, or other people come with other intents.

Three disturbances, each an option, alone or together, from `Disturbance.from_day` on:

- `scale` and `logit`: a refresh recalibrates heads. Scores are multiplied (to at most 1), or shifted in log odds; what a head ranks first
  stays first, but a weight on it means something else.
- `relearned`: a refresh with errors of its own, as large as the old ones, on tastes, items and segments; the scales stay.
- `season`: visitors change. Requests of the first cohort come e^s times as often relative to those of the last, and of the first intent
  relative to the last, about; what a user with an intent does stays as it is.

The rule: before the day, and without a disturbance, traffic is that of the undisturbed world, number for number; users and items, and
what is true of them, never change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.records import Floats, Ints
from paretune.sim.homefeed import INTENTS, Homefeed
from paretune.sim.world import Arrivals, Catalogue, World, open_world

DRAWN_PER_KEPT = 5  # arrivals of which a season keeps one


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What changes, and when."""

    from_day: int  # days since the world began
    scale: tuple[tuple[str, float], ...] = ()  # head -> factor on its scores
    logit: tuple[tuple[str, float], ...] = ()  # head -> shift of its scores in log odds
    relearned: bool = False
    season: float = 0.0


KINDS = ("rescale", "relearn", "season")
RESCALED, SEASON = 1.6, 1.0


def disturbance(kind: str, *, from_day: int, head: str) -> Disturbance:
    """Return a disturbance of moderate size by its name.

    Args:
        kind: of KINDS; rescale multiplies one head's scores by 1.6, season is of strength 1.
        from_day: days since the world began.
        head: the one that is rescaled.

    Raises:
        ConfigError: no such kind.
    """
    match kind:
        case "rescale":
            return Disturbance(from_day, scale=((head, RESCALED),))
        case "relearn":
            return Disturbance(from_day, relearned=True)
        case "season":
            return Disturbance(from_day, season=SEASON)
    raise ConfigError(f"there is no drift {kind!r}", hint=f"drifts are {', '.join(KINDS)}")


class Drifting:
    """A world, and what becomes of it; see the module's first lines."""

    def __init__(self, before: World, drift: Disturbance, *, after: World | None = None) -> None:
        """Disturb a world.

        Args:
            before: as it is until the day.
            drift: what changes.
            after: the same users and items under another ranker; where none is given, ranker errors stay.

        Raises:
            ConfigError: the drift names an unknown head.
        """
        names = before.surface.names
        if strange := [head for head, _ in (*drift.scale, *drift.logit) if head not in names]:
            raise ConfigError(f"the drift names heads {strange}", hint=f"heads are {', '.join(names)}")
        self.name, self.setting, self.drift = before.name, before.setting, drift
        self.surface, self.cohorts, self.continuation = before.surface, before.cohorts, before.continuation
        self.objectives, self.objective_heads = before.objectives, before.objective_heads
        self._before, self._after = before, before if after is None else after
        self._pools, self.catalogue = len(before.catalogue.ids), before.catalogue
        if after is not None:
            self.catalogue = Catalogue(
                *(np.concatenate(pair) for pair in zip(_arrays(before.catalogue), _arrays(after.catalogue), strict=True))
            )
        self._scale = None if not drift.scale else np.array([dict(drift.scale).get(head, 1.0) for head in names])
        self._logit = np.array([dict(drift.logit).get(head, 0.0) for head in names], dtype=np.float32)

    def config(self) -> Config:
        """Return the configuration that fits this world's logs."""
        return self._before.config()

    def arrive(self, n: int, *, day: int, rng: np.random.Generator) -> Arrivals:
        """Return n requests of one day, each the first of a session."""
        if day < self.drift.from_day:
            return self._before.arrive(n, day=day, rng=rng)
        if not self.drift.season:
            return self._ranked(self._after.arrive(n, day=day, rng=rng))
        many = self._after.arrive(DRAWN_PER_KEPT * n, day=day, rng=rng)
        leaning = _leaning(many.cohort, len(self.cohorts)) + _leaning(many.intent, len(INTENTS))
        wanted = np.exp(self.drift.season * leaning)
        kept = rng.choice(len(many), n, replace=False, p=wanted / wanted.sum())
        return self._ranked(many.take(kept))

    def again(self, arrivals: Arrivals, *, rng: np.random.Generator) -> Arrivals:
        """Return the next request of the same sessions: same user and intent, a new pool."""
        if arrivals.day < self.drift.from_day:
            return self._before.again(arrivals, rng=rng)
        return self._ranked(self._after.again(replace(arrivals, pool=arrivals.pool % self._pools), rng=rng))

    def _ranked(self, arrivals: Arrivals) -> Arrivals:
        """Return arrivals with what the ranker in force makes of them."""
        theta = arrivals.theta_ranker
        if self._logit.any():
            theta = theta.copy()
            theta[:, :, 0] += self._logit
        pool = arrivals.pool if self._after is self._before else (arrivals.pool + self._pools).astype(arrivals.pool.dtype)
        return replace(arrivals, theta_ranker=theta, pool=pool, ranker_scale=self._scale)


def open_drifting(
    name: str, drift: Disturbance, *, setting: str = "", seed: int = 0, data: Path | None = None, objectives: int = 2
) -> World:
    """Return a world that changes; arguments as of `open_world`.

    Raises:
        ConfigError: no such world, setting, head or number of objectives; or a relearned ranker is asked of a world that has none.
    """
    world = open_world(name, setting=setting, seed=seed, data=data, objectives=objectives)
    if not drift.relearned:
        return Drifting(world, drift)
    if name != "homefeed":
        raise ConfigError(f"world {name!r} has one ranker only", hint="ask homefeed for a ranker with new errors")
    return Drifting(world, drift, after=Homefeed(world.setting, seed=seed, objectives=objectives, refresh=1))


def _leaning(code: Ints, size: int) -> Floats:
    """Return where each row's category stands (n,), from 0.5 for the first to -0.5 for the last."""
    return 0.5 - code / max(1, size - 1)


def _arrays(catalogue: Catalogue) -> tuple[Ints, Floats, Floats]:
    return catalogue.ids, catalogue.true, catalogue.ranker
