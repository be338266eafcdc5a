"""From a log to a value model: which kind, how many seeds, in which order.

An edge: imports torch models only when one is asked for, and hands out checkpoint files.
"""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.logs.paged import Scratch
from paretune.ports import Progress, ValueModel, silent
from paretune.records import Log
from paretune.seeds import stream
from paretune.value.caution import Cautious
from paretune.value.ensemble import Averaged, bootstrap_rows
from paretune.value.selection import RLoss, as_losses, fit_expectation, judging_users, r_losses, relative_scale

_FITS: Final = {
    "smooth": ("paretune.value.smooth", "fit_smooth"),
    "replay": ("paretune.value.replay", "fit_replay"),
    "paper": ("paretune.value.paper_net", "fit_paper"),
    "ridge": ("paretune.value.ridge", "fit_ridge"),
}

ENOUGH_LISTED = 0.5  # share of exploration rows with candidates from which 'auto' replays; the rest then teaches nothing


def fit(
    log: Log,
    config: Config,
    *,
    seed: int = 0,
    model: str | None = None,
    checkpoint: Path | None = None,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> ValueModel:
    """Return a value model of the log's exploration rows.

    Args:
        log: training rows, in memory or on disk (`logs.stored`); other rows than exploration may help some kinds.
        config: its [training] section says how.
        seed: of initial weights and row order; the same seed and rows give the same model.
        model: a kind, in place of `training.model`; 'best' is the one with the lowest held-out R-loss, fitted again on all rows.
        checkpoint: folder for checkpoints; a killed run with the same log, settings and seed goes on from there.
        scratch: folder for the large arrays of a fit, made and emptied again; by default they are in memory. The model is the same.
        progress: told of each epoch.

    Raises:
        ConfigError: no such kind, or one that cannot read sequences as `training.encoder` says.
        DataError: the log has no exploration rows, or holds numbers that are not finite.
        MissingExtraError: the kind needs torch.
    """
    kind = resolve(model or config.training.model, log, config)
    if kind != "best":
        return _cautious(_members(kind, log, config, seed=seed, checkpoint=checkpoint, scratch=scratch, progress=progress), config)
    judged = judge_kinds(log, config, seed=seed, checkpoint=checkpoint, progress=lambda share, doing: progress(0.7 * share, doing))

    def told(share: float, doing: str) -> None:
        progress(0.7 + 0.3 * share, doing)

    best = _members(judged[0].name, log, config, seed=seed, checkpoint=checkpoint, scratch=scratch, progress=told)
    return _cautious(_with_losses(best, as_losses(judged)), config)


def judge_kinds(log: Log, config: Config, *, seed: int = 0, checkpoint: Path | None = None, progress: Progress = silent) -> list[RLoss]:
    """Return the held-out R-loss of each kind that 'best' compares, best first: fitted on three quarters of the users, judged on the rest.

    Args:
        log: training rows.
        config: its `training.candidates` names the kinds; by default replay where the log allows it, smooth and ridge.
        seed: of the fits.
        checkpoint: folder for checkpoints.
        progress: told of each epoch.

    Raises:
        DataError: no exploration rows, too few users, or an objective that earned nothing.
        MissingExtraError: a kind needs torch.
    """
    kinds = config.training.candidates or [kind for kind in ("replay", "smooth", "ridge") if kind != "replay" or _replayable(log, config)]
    judges = judging_users(log.user)
    learning, judging = log.take(~judges), replace(log, candidates=None).take(judges & log.explored)
    single = config.model_copy(update={"training": config.training.model_copy(update={"seeds": 1, "ensemble": "seeds"})})
    models: dict[str, ValueModel] = {}
    for i, kind in enumerate(kinds):

        def told(share: float, doing: str, i: int = i) -> None:
            progress((i + share) / len(kinds), f"comparing: {doing}")

        folder = None if checkpoint is None else checkpoint / "comparison"
        models[kind] = _members(kind, learning, single, seed=seed, checkpoint=folder, scratch=None, progress=told)
    expectation = fit_expectation(replace(learning, candidates=None).exploration(), config)
    return r_losses(models, judging, expectation, config, scale=relative_scale(learning))


def _members(
    kind: str, log: Log, config: Config, *, seed: int, checkpoint: Path | None, scratch: Path | None, progress: Progress
) -> ValueModel:
    """Return the model of one kind, averaged over `training.seeds` of them, on the same rows or on bootstraps of the users."""
    if kind != "paper" and config.training.encoder == "transformer":
        raise ConfigError(
            f"the {kind} model reads sequences pooled, training.encoder asks for a Transformer",
            hint='set training.encoder = "auto" in paretune.toml, or train the model `paper`',
        )
    module, function = _FITS[kind]
    learn = getattr(importlib.import_module(module), function)
    members = []
    n = config.training.seeds
    for i in range(n):
        member_seed = seed if i == 0 else int(stream(seed, "member", i).integers(2**31))

        def told(share: float, doing: str, i: int = i) -> None:
            progress((i + share) / n, f"{kind}, seed {i + 1} of {n}: {doing}" if n > 1 else f"{kind}: {doing}")

        folder = None if checkpoint is None else checkpoint / f"{kind}-{i}"
        rows = log.take(bootstrap_rows(log.user, seed=seed, member=i)) if config.training.ensemble == "bootstrap" else log
        place = {} if scratch is None or kind == "paper" else {"scratch": Scratch(scratch / f"{kind}-{i}")}  # the paper's reads in memory
        members.append(learn(rows, config, seed=member_seed, checkpoint=folder, progress=told, **place))
        if scratch is not None:
            shutil.rmtree(scratch / f"{kind}-{i}", ignore_errors=True)
    return members[0] if n == 1 else Averaged(tuple(members))


def _cautious(model: Any, config: Config) -> ValueModel:
    """Return the ensemble as cautious as `training.caution` says."""
    if not config.training.caution:
        return model
    signs = tuple(1.0 if objective.direction == "maximise" else -1.0 for objective in config.objectives)
    return Cautious(model, config.training.caution, signs)


def _with_losses(model: Any, losses: dict[str, float]) -> ValueModel:
    """Return the model with more losses in its origin; in its first member's where several are averaged."""
    if hasattr(model, "members"):
        return replace(model, members=(_with_losses(model.members[0], losses), *model.members[1:]))
    return replace(model, origin=replace(model.origin, losses={**model.origin.losses, **losses}))


def resolve(model: str, log: Log, config: Config) -> str:
    """Return the kind that a name stands for, or 'best', which only a comparison can tell.

    'auto' is replay where the ranker's predictions can be replayed on most rows, else smooth.

    Raises:
        ConfigError: no such kind.
    """
    if model == "auto":
        return "replay" if _replayable(log, config) else "smooth"
    if model not in {"best", *_FITS}:
        raise ConfigError(f"no value model {model!r}", hint=f"choose one of auto, best, {', '.join(_FITS)}")
    return model


def _replayable(log: Log, config: Config) -> bool:
    clipped = all(objective.transform == "clip" for objective in config.objectives)
    return config.objective_heads() is not None and clipped and _listed_share(log) >= ENOUGH_LISTED


def _listed_share(log: Log) -> float:
    """Return the share of exploration rows with candidates."""
    if log.candidates is None or not log.explored.any():
        return 0.0
    return float((np.diff(log.candidates.offsets)[log.explored] > 0).mean())
