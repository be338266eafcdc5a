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
from paretune.ports import ALONE, Progress, Team, ValueModel, part_of, silent
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
    team: Team = ALONE,
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
        team: whose members each call this with their part of the log, and all get the same model.

    Raises:
        ConfigError: no such kind, or one that cannot read sequences as `training.encoder` says.
        DataError: the log has no exploration rows, or holds numbers that are not finite.
        MissingExtraError: the kind needs torch.
    """
    kind = resolve(model or config.training.model, log, config, team=team)
    if kind != "best":
        model_of_kind = _members(kind, log, config, seed=seed, checkpoint=checkpoint, scratch=scratch, progress=progress, team=team)
        return _cautious(model_of_kind, config)
    judged = judge_kinds(log, config, seed=seed, checkpoint=checkpoint, progress=part_of(progress, 0, 0.7), team=team)
    told = part_of(progress, 0.7, 1)
    best = _members(judged[0].name, log, config, seed=seed, checkpoint=checkpoint, scratch=scratch, progress=told, team=team)
    return _cautious(_with_losses(best, as_losses(judged)), config)


def judge_kinds(
    log: Log, config: Config, *, seed: int = 0, checkpoint: Path | None = None, progress: Progress = silent, team: Team = ALONE
) -> list[RLoss]:
    """Return the held-out R-loss of each kind that 'best' compares, best first: fitted on three quarters of the users, judged on the rest.

    Args:
        log: training rows.
        config: its `training.candidates` names the kinds; by default replay where the log allows it, smooth and ridge.
        seed: of the fits.
        checkpoint: folder for checkpoints.
        progress: told of each epoch.
        team: whose members each have a part of the log.

    Raises:
        DataError: no exploration rows, too few users, or an objective that earned nothing.
        MissingExtraError: a kind needs torch.
    """
    replayable = _replayable(log, config, team)
    kinds = config.training.candidates or [kind for kind in ("replay", "smooth", "ridge") if kind != "replay" or replayable]
    judges = judging_users(log.user)
    learning, judging = log.take(~judges), replace(log, candidates=None).take(judges & log.explored)
    single = config.model_copy(update={"training": config.training.model_copy(update={"seeds": 1, "ensemble": "seeds"})})
    models: dict[str, ValueModel] = {}
    for i, kind in enumerate(kinds):

        def told(share: float, doing: str, i: int = i) -> None:
            progress((i + share) / len(kinds), f"comparing: {doing}")

        folder = None if checkpoint is None else checkpoint / "comparison"
        models[kind] = _members(kind, learning, single, seed=seed, checkpoint=folder, scratch=None, progress=told, team=team)
    expectation = fit_expectation(replace(learning, candidates=None).exploration(), config, team=team)
    return r_losses(models, judging, expectation, config, scale=relative_scale(learning, team=team), team=team)


def _members(
    kind: str, log: Log, config: Config, *, seed: int, checkpoint: Path | None, scratch: Path | None, progress: Progress, team: Team
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
        members.append(learn(rows, config, seed=member_seed, checkpoint=folder, progress=told, team=team, **place))
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


def resolve(model: str, log: Log, config: Config, *, team: Team = ALONE) -> str:
    """Return the kind that a name stands for, or 'best', which only a comparison can tell.

    'auto' is replay where the ranker's predictions can be replayed on most rows, else smooth.

    Raises:
        ConfigError: no such kind.
    """
    if model == "auto":
        return "replay" if _replayable(log, config, team) else "smooth"
    if model not in {"best", *_FITS}:
        raise ConfigError(f"no value model {model!r}", hint=f"choose one of auto, best, {', '.join(_FITS)}")
    return model


def _replayable(log: Log, config: Config, team: Team) -> bool:
    clipped = all(objective.transform == "clip" for objective in config.objectives)
    return config.objective_heads() is not None and clipped and _listed_share(log, team) >= ENOUGH_LISTED


def _listed_share(log: Log, team: Team) -> float:
    """Return the share of exploration rows with candidates; none where some member's part has no such columns."""
    without = log.candidates is None
    listed = 0 if log.candidates is None else int((np.diff(log.candidates.offsets)[log.explored] > 0).sum())
    some_without, rows, listed = team.total(np.array([without, log.explored.sum(), listed], dtype=np.int64)).tolist()
    return 0.0 if some_without or not rows else listed / rows
