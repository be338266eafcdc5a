"""Optuna as a contestant of `peers.py`: global static weights tuned by trials with users, on the budget that exploration had.

A trial is an arm of an A/B test: its weights are served to its share of the requests, and it reports the lifts it saw over production's
logged means; all trials together serve as many requests as there are exploration rows. The first is production itself. For every trade-off
the trial that looked best is offered. Weights are anything between the grid's ends, in log scale.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from attainable import ALPHAS
from paretune.records import OFF_GRID, Floats
from paretune.seeds import stream
from paretune.sim.traffic import Choice, serve
from peers_lesson import Contestant, Learned, Lesson

TRIALS = 50
DAYS = 14


def tuned(sampler: str) -> Contestant:
    """Return the contestant with one of Optuna's samplers."""
    return Contestant("its own trials, as many requests", lambda _: sampler, learn)


def learn(lesson: Lesson, sampler: str) -> Learned:
    """Return the trials that are best for some trade-off."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    surface = lesson.world.surface
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(directions=["maximize", "maximize"], sampler=getattr(optuna.samplers, sampler)(seed=lesson.seed))
        study.enqueue_trial({surface.names[head]: float(surface.static[head]) for head in surface.tuned})
        seen, traffic = [], 0.0
        for number in range(TRIALS):
            trial = study.ask()
            weights = surface.static.copy()
            for head in surface.tuned:
                levels = surface.heads[head].levels
                weights[head] = trial.suggest_float(surface.names[head], levels[0], levels[-1], log=True)
            started = time.process_time()
            lifts = arm(lesson, weights, len(lesson.log) // TRIALS, number)
            traffic += time.process_time() - started
            study.tell(trial, lifts.tolist())
            seen.append((weights, lifts))
    lifts = np.array([each for _, each in seen])
    best = np.unique((lifts @ np.stack([ALPHAS, 1 - ALPHAS])).argmax(axis=0))
    return Learned(weights=np.array([seen[i][0] for i in best]), chosen=f"{len(best)} of {TRIALS} trials", traffic_s=traffic)


def arm(lesson: Lesson, weights: Floats, requests: int, number: int) -> Floats:
    """Return (M,) the lifts that an arm of so many requests sees."""
    world, rng = lesson.world, stream(lesson.seed, "trial", number)
    arrivals = world.arrive(requests, day=number % DAYS, rng=rng)
    every = np.ones(requests)
    choice = Choice(np.full(requests, OFF_GRID, np.int32), np.tile(weights, (requests, 1)), every, every.astype(bool))
    served = serve(world, arrivals, choice, session=np.arange(requests), position=0, rng=rng)
    mean: Any = np.minimum(served.counts, 1).mean(axis=0)
    return mean / lesson.level - 1
