"""`obp` beside paretune's evaluation, for `peers.py`: error of a lift at equal data, and what a sweep of 25 policies costs.

obp's newest release, 0.5.7, wants a Python below 3.11; 0.4.1 runs on it. Its estimators are given what its users would give them:
exploration rows with their propensities, an action distribution per policy, and for the doubly robust ones its `RegressionModel` (logistic
regression on state and one-hot action). A lift is its value over the mean of production rows, which is better than what the paper divides
by. `accuracy` draws logs as `estimators.py` does; the regression is fitted on another log of the same population, in obp's favour. `cost`
takes one log in memory from a model's values to lifts with intervals: obp's by 100 bootstraps of rows for each number, its default; ours,
pooled by lists with list-replay, by 1,000 replicates over users, with bands that hold at once. Both are timed with what they fit
beforehand.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estimators import EXPLORED, OVERLAP, draw, estimates, populate, sums_of
from evaluation import extra_mb
from paretune.frontier.evaluate import fit_anchor, sweep_sums
from paretune.frontier.sweep import alpha_grid, choose, scalarise
from paretune.ope.intervals import intervals
from paretune.ope.lift import pooled_lift
from paretune.ports import ValueModel
from paretune.records import Floats, Ints, Log
from paretune.seeds import stream
from paretune.sim.world import World, open_world
from paretune.value.features import Encoder
from paretune.value.train import fit
from worth import traffic

OURS = f"{OVERLAP.name} with list-replay, {OVERLAP.labels[1]}"
NAMES = {"ipw": "obp IPW", "snipw": "obp SNIPW", "dr": "obp DR", "sndr": "obp SNDR"}
EVERY = 3  # of the 25 policies that accuracy looks at; neighbours say nearly the same
BOOTSTRAPS = 100  # obp's default
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is drawn."""

    logs: int
    explored: int  # exploration rows of each
    rows: int  # of the population


FULL, QUICK = Size(100, 100_000, 60_000), Size(30, 100_000, 20_000)


def measured(world_name: str, setting: str, seed: int, size: Size, data: Path | None) -> list[Row]:
    """Return a row for each estimator of one world: gain in mean squared error over obp's SNIPW, seconds and memory of a sweep."""
    logging.getLogger("obp").setLevel(logging.ERROR)  # it warns of a missing regression whenever none is wanted
    world = open_world(world_name, setting=setting, seed=seed, data=data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"sklearn|obp|seaborn|matplotlib")
        rows = {name: {"world": world_name, "estimator": name, "mse": mse} for name, mse in accuracy(world, size, seed).items()}
        for name, spent in cost(world, size.explored, seed).items():
            rows[name] |= spent
    return list(rows.values())


def accuracy(world: World, size: Size, seed: int) -> dict[str, list[float]]:
    """Return each estimator's mean squared error of the lift (M,), over logs and policies."""
    population = populate(world, rows=size.rows, train_rows=2 * size.explored, rng=stream(seed, "population"))
    policies = np.arange(0, population.chosen.shape[1] - 1, EVERY)
    truth = population.truth()[0][policies]
    users = int(size.explored / EXPLORED * (len(population.first) - 1) / len(population.true))
    other = draw(population, users, stream(seed, "regression"))
    e = other.row[other.explored]
    regression = Regression.fit(population.features[e], other.action[other.explored], other.rewards[other.explored])
    predicted = regression.predict(population.features)
    error: dict[str, list[Floats]] = {}
    for number in range(size.logs):
        log = draw(population, users, stream(seed, "log", number))
        error.setdefault(OURS, []).append(estimates(sums_of(population, log))[OURS].value[policies] - truth)
        e = log.row[log.explored]
        lifts = Lifts(log.action[log.explored], log.rewards[log.explored], log.rewards[~log.explored].mean(axis=0))
        for name, value in lifts.of(population.chosen[e][:, policies], [each[e] for each in predicted]).items():
            error.setdefault(name, []).append(value - truth)
    return {name: np.square(each).mean(axis=(0, 1)).tolist() for name, each in error.items()}


@dataclass(frozen=True, slots=True)
class Regression:
    """obp's regression of each objective."""

    models: tuple[Any, ...]

    @staticmethod
    def fit(features: Floats, action: Ints, rewards: Floats) -> Regression:
        """Return regressions on state and one-hot grid action; action in 1..49."""
        from obp.ope import RegressionModel
        from sklearn.linear_model import LogisticRegression

        models = []
        for reward in rewards.T:
            model = RegressionModel(base_model=LogisticRegression(max_iter=200), n_actions=49)
            model.fit(context=features, action=action.astype(np.int64) - 1, reward=reward.astype(np.int64))
            models.append(model)
        return Regression(tuple(models))

    def predict(self, features: Floats) -> list[Floats]:
        """Return an (n, 49, 1) array for each objective."""
        return [model.predict(features) for model in self.models]


@dataclass(frozen=True, slots=True)
class Lifts:
    """obp's lifts on one log."""

    action: Ints  # (n,) in 1..49, of exploration rows
    rewards: Floats  # (n, M)
    level: Floats  # (M,) of production rows

    def of(
        self, chosen: Ints, predicted: list[Floats] | None, *, names: tuple[str, ...] = tuple(NAMES), bootstraps: int = 0
    ) -> dict[str, Floats]:
        """Return (P, M) lifts of the policies that choose these actions (n, P), per estimator.

        Args:
            chosen: in 1..49.
            predicted: of the regressions; None where no estimator is doubly robust.
            names: of obp's estimators.
            bootstraps: of an interval for each number; 0 for none.
        """
        from obp import ope

        kinds = {
            "ipw": ope.InverseProbabilityWeighting, "snipw": ope.SelfNormalizedInverseProbabilityWeighting,
            "dr": ope.DoublyRobust, "sndr": ope.SelfNormalizedDoublyRobust,
        }  # fmt: skip
        n, policies = chosen.shape
        pscore = np.full(n, 1 / 49)
        found = {NAMES[name]: np.empty((policies, len(self.level))) for name in names}
        for p in range(policies):
            served = np.zeros((n, 49, 1))
            served[np.arange(n), chosen[:, p] - 1] = 1.0
            for j, reward in enumerate(self.rewards.T):
                feedback = {"action": self.action.astype(np.int64) - 1, "reward": reward, "pscore": pscore, "position": None}
                evaluation = ope.OffPolicyEvaluation(feedback, [kinds[name](estimator_name=name) for name in names])
                model = None if predicted is None else predicted[j]
                values = evaluation.estimate_policy_values(served, estimated_rewards_by_reg_model=model)
                if bootstraps:
                    evaluation.estimate_intervals(
                        served, estimated_rewards_by_reg_model=model, n_bootstrap_samples=bootstraps, random_state=0
                    )
                for name, value in values.items():
                    found[NAMES[name]][p, j] = value / self.level[j] - 1
        return found


def cost(world: World, explored: int, seed: int) -> dict[str, Row]:
    """Return CPU seconds and megabytes of a sweep of 25 policies over one log, per estimator."""
    config = world.config()
    train, hold_out = traffic(world, explored // 2, seed=seed), traffic(world, explored, seed=seed + 1)
    model = fit(train, config, model="ridge", seed=0)

    def ours() -> None:
        sums = sweep_sums(model, hold_out, config, anchor=fit_anchor(train, config))
        estimate = pooled_lift(sums.total()).of_policies(np.arange(sums.size))
        intervals(estimate, confidence=0.95, replicates=1000, rng=stream(seed, "bootstrap"))

    def obp(name: str) -> Callable[[], None]:
        return lambda: obp_sweep(model, train, hold_out, world, name)

    runs = {OURS: ours} | {NAMES[name]: obp(name) for name in ("snipw", "dr")}
    return {name: spent(run) for name, run in runs.items()}


def obp_sweep(model: ValueModel, train: Log, hold_out: Log, world: World, name: str) -> None:
    """Sweep the same policies by one of obp's estimators, intervals included."""
    explored, level = hold_out.exploration(), hold_out.production().rewards.mean(axis=0)
    chosen = choose(model.values(explored.state, world.surface.actions) / level, scalarise(alpha_grid(25)))
    predicted = None
    if name == "dr":
        rows = train.exploration()
        encoder = Encoder.fit(rows.state, world.config().features)
        predicted = Regression.fit(encoder.wide(rows.state), rows.action, rows.rewards).predict(encoder.wide(explored.state))
    Lifts(explored.action, explored.rewards, level).of(chosen, predicted, names=(name,), bootstraps=BOOTSTRAPS)


def spent(run: Callable[[], None]) -> Row:
    """Return CPU and wall seconds of a call, and megabytes above what the process held before."""
    wall, cpu = time.perf_counter(), time.process_time()
    memory = extra_mb(run)
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "extra_mb": memory}
