"""From a log to a value model: which kind, how many seeds, in which order.

An edge: imports torch models only when one is asked for, and hands out checkpoint files.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.ports import Progress, ValueModel, silent
from paretune.records import Log
from paretune.seeds import stream
from paretune.value.ensemble import Averaged

_FITS: Final = {
    "smooth": ("paretune.value.smooth", "fit_smooth"),
    "replay": ("paretune.value.replay", "fit_replay"),
    "paper": ("paretune.value.paper_net", "fit_paper"),
    "ridge": ("paretune.value.ridge", "fit_ridge"),
}

ENOUGH_LISTED = 0.5  # share of exploration rows with candidates from which 'auto' replays; the rest then teaches nothing


def fit(
    log: Log, config: Config, *, seed: int = 0, model: str | None = None, checkpoint: Path | None = None, progress: Progress = silent
) -> ValueModel:
    """Return a value model of the log's exploration rows.

    Args:
        log: training rows; other rows than exploration may help some kinds.
        config: its [training] section says how.
        seed: of initial weights and row order; the same seed and rows give the same model.
        model: a kind, in place of `training.model`.
        checkpoint: folder for checkpoints; a killed run with the same log, settings and seed goes on from there.
        progress: told of each epoch.

    Raises:
        ConfigError: no such kind, or one that cannot read sequences as `training.encoder` says.
        DataError: the log has no exploration rows, or holds numbers that are not finite.
        MissingExtraError: the kind needs torch.
    """
    kind = resolve(model or config.training.model, log, config)
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
        members.append(learn(log, config, seed=member_seed, checkpoint=folder, progress=told))
    return members[0] if n == 1 else Averaged(tuple(members))


def resolve(model: str, log: Log, config: Config) -> str:
    """Return the kind that a name stands for; 'auto' is replay where the ranker's predictions can be replayed on most rows, else smooth.

    Raises:
        ConfigError: no such kind.
    """
    if model == "auto":
        replayable = config.objective_heads() is not None and all(objective.transform == "clip" for objective in config.objectives)
        return "replay" if replayable and _listed_share(log) >= ENOUGH_LISTED else "smooth"
    if model not in _FITS:
        raise ConfigError(f"no value model {model!r}", hint=f"choose one of auto, {', '.join(_FITS)}")
    return model


def _listed_share(log: Log) -> float:
    """Return the share of exploration rows with candidates."""
    if log.candidates is None or not log.explored.any():
        return 0.0
    return float((np.diff(log.candidates.offsets)[log.explored] > 0).mean())
