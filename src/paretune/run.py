"""One run over a folder of logs: check, train, sweep, report; each step stands alone too.

An edge: reads logs, writes models and run folders. The rule: the hold-out days are later than everything that was fitted, and a model that
says otherwise is refused; what is there already and fits is not made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paretune.config import Config, parse_config
from paretune.errors import ArtefactError, ConfigError, LogError
from paretune.frontier.anchor import ANCHOR_ROWS, Anchor, AnchorFit, wants_replay
from paretune.frontier.archive import CURVE, FRONT
from paretune.frontier.assemble import assemble_front
from paretune.frontier.curve import lift_curve
from paretune.frontier.evaluate import wants_lists, with_proposals
from paretune.logs.checks import LogCheck
from paretune.logs.parquet import day_name, log_days, log_files, scan_log
from paretune.logs.parts import has_candidates
from paretune.logs.split import time_split
from paretune.ports import Progress, ValueModel, part_of, silent
from paretune.records import Floats, Log
from paretune.report.archive import MODEL, publish_report, save_run
from paretune.report.contents import Findings
from paretune.scale.crew import LOCAL, Crew, checkpoint_of
from paretune.seeds import stream
from paretune.surface.contribution import head_contribution
from paretune.value.bundle import load_model, save_model

SAMPLE_REQUESTS = 5000  # exploration rows whose candidates speak for the heads
TAUGHT_BY = "taught_by.json"  # beside a run's model: which files of the log it was trained on


@dataclass(frozen=True, slots=True)
class Window:
    """Which days of a log train and which judge, as days since 1970-01-01."""

    train: tuple[int, ...]
    hold_out: tuple[int, ...]


def window(logs: Path, config: Config) -> Window:
    """Return the time split of a log.

    Raises:
        LogError: nothing there.
        DataError: fewer days than the configuration asks for.
    """
    evaluation = config.evaluation
    days = np.array(log_days(logs, config))
    return Window(*time_split(days, train_days=evaluation.train_days, hold_out_days=evaluation.hold_out_days))


def is_run(folder: Path) -> bool:
    """Say whether a folder holds a run rather than logs."""
    return (folder / FRONT).is_file()


def files_taught(logs: Path, config: Config, days: tuple[int, ...]) -> bytes:
    """Return, as JSON, a hash of the names, sizes and times of change of the files that may hold rows of some days."""
    files = [file.path for file in log_files(logs, config) if file.day is None or file.day in days]
    seen = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return json.dumps({"files": len(seen), "sha256": hashlib.sha256(json.dumps(seen).encode()).hexdigest()}).encode()


def with_model(config: Config, model: str | None) -> Config:
    """Return the configuration with a kind of model in place of `training.model`; as it is for None.

    Raises:
        ConfigError: no such kind.
    """
    if model is None:
        return config
    raw = config.model_dump(mode="json")
    return parse_config(raw | {"training": raw["training"] | {"model": model}}, source="--model")


def train_model(
    logs: Path,
    config: Config,
    folder: Path,
    *,
    days: tuple[int, ...],
    model: str | None = None,
    seed: int = 0,
    crew: Crew = LOCAL,
    progress: Progress = silent,
) -> ValueModel:
    """Train on some days of a log, save the model as `folder`, and return it; a killed run goes on from `folder`.checkpoint.

    `smooth`, `replay` and `ridge` learn from disk: the rows that teach are put in `folder`.scratch, which is removed at the end, and never
    are in memory together. What compares kinds, draws bootstraps of users or trains the paper's network reads the log into memory.

    Args:
        logs: of which the exploration rows teach.
        config: its [training] section says how.
        folder: of the model, replaced if there.
        days: since 1970-01-01.
        model: a kind, in place of `training.model`.
        seed: of the fit.
        crew: who reads the log and fits.
        progress: told of reading and of epochs.

    Raises:
        LogError: the log cannot be read.
        DataError: the days hold no exploration rows.
        ConfigError: no such kind.
        ArtefactError: the disk has no room for the rows.
    """
    config = with_model(config, model)  # the artefact then says what it was asked to be
    fitted = crew.fit(logs, config, days=days, seed=seed, folder=folder, progress=progress)
    save_model(fitted, folder, extra={TAUGHT_BY: files_taught(logs, config, days)})  # type: ignore[arg-type]
    shutil.rmtree(checkpoint_of(folder), ignore_errors=True)
    return fitted


def origin_of(model: ValueModel) -> Any:
    """Return where a model comes from; of the first member where several are averaged."""
    one: Any = model
    while hasattr(one, "members"):
        one = one.members[0]
    return one.origin


def earlier_model(folder: Path, logs: Path, config: Config, days: Window, *, seed: int) -> ValueModel | None:
    """Return the model of an earlier run where it was trained with this configuration and seed on these days of these files, else None."""
    try:
        model = load_model(folder)
        taught = (folder / TAUGHT_BY).read_bytes()
    except (ArtefactError, OSError):
        return None
    origin = origin_of(model)
    return model if origin.config == config and origin.seed == seed and taught == files_taught(logs, config, days.train) else None


def train_or_reuse(
    logs: Path, config: Config, folder: Path, *, days: Window, seed: int = 0, crew: Crew = LOCAL, progress: Progress = silent
) -> ValueModel:
    """Return the model in a folder where it was trained with this configuration and seed on these days of these files; else train it there.

    Raises:
        LogError: the log cannot be read.
        DataError: the days hold no exploration rows.
    """
    fitted = earlier_model(folder, logs, config, days, seed=seed)
    return train_model(logs, config, folder, days=days.train, seed=seed, crew=crew, progress=progress) if fitted is None else fitted


def checked_bundle(folder: Path, config: Config, days: Window) -> ValueModel:
    """Return a model that may be judged on the held-out days of this configuration.

    Raises:
        ArtefactError: the folder is no whole model.
        ConfigError: it was trained for another surface, or on held-out days.
    """
    model = load_model(folder)
    origin = origin_of(model)
    if origin.config.surface != config.surface:
        raise ConfigError(
            f"{folder} was trained for another surface", hint="sweep with the configuration it was trained with, or train again"
        )
    if origin.last_day >= days.hold_out[0]:
        raise ConfigError(
            f"{folder} was trained on days up to {day_name(origin.last_day)}, the held-out days begin on {day_name(days.hold_out[0])}",
            hint="train on earlier days, or hold out later ones: evaluation.hold_out_days",
        )
    return model


def anchor_of(logs: Path, config: Config, *, days: tuple[int, ...], progress: Progress = silent) -> Anchor:
    """Return what production is worth, from the latest of the training days on, as many as give enough production rows (and candidates).

    Raises:
        DataError: an objective never earned anything.
    """
    replayed = wants_replay(config) and has_candidates(logs, config)
    running = AnchorFit(config)
    for done, day in enumerate(reversed(days)):
        for part in scan_log(logs, config, days=[day], candidates=replayed, explored_only=running.produced >= ANCHOR_ROWS):
            running.add(part)
        progress((done + 1) / len(days), "what production is worth")
        if running.produced >= ANCHOR_ROWS and (not replayed or running.listed >= ANCHOR_ROWS):
            break
    return running.solve()


def sample_candidates(logs: Path, config: Config, *, requests: int = SAMPLE_REQUESTS, progress: Progress = silent) -> tuple[Log, Floats]:
    """Return exploration rows with raw event counts as rewards, and their candidates' head scores (T, m) float32.

    Raises:
        LogError: the log has no exploration rows with candidates.
    """
    counts = config.model_copy(update={"objectives": [o.model_copy(update={"transform": "identity"}) for o in config.objectives]})
    parts: list[Log] = []
    for part in scan_log(logs, counts, candidates=True, explored_only=True, progress=progress):
        parts.append(part)
        if sum(len(each) for each in parts) >= requests:
            break
    log = Log.concat(parts).take(slice(0, requests)) if parts else None
    if log is None or log.candidates is None or len(log.candidates.scores) == 0:
        raise LogError(
            f"{logs} has no exploration rows with candidates", hint="log the ids and head scores of the candidates that can reach a list"
        )
    return log, log.candidates.scores.astype(np.float32)


def refuse_unfit(check: LogCheck, logs: Path) -> None:
    """Refuse a log that breaks a rule of severity error.

    Raises:
        LogError: naming rules, what was seen, where, and what to do.
    """
    if check.ok:
        return
    broken = check.broken("error")
    seen = "; ".join(f"{rule.name}: {rule.seen}" + (f" [{rule.where}]" if rule.where else "") for rule in broken)
    raise LogError(f"{logs} is not fit to learn from: {seen}", hint="; ".join(dict.fromkeys(rule.remedy for rule in broken if rule.remedy)))


def sweep_logs(
    logs: Path,
    config: Config,
    folder: Path,
    *,
    bundle: Path | None = None,
    model: str | None = None,
    seed: int = 0,
    halves: bool = False,
    draw: bool = True,
    crew: Crew = LOCAL,
    progress: Progress = silent,
) -> Findings:
    """Check a log, train what is missing, sweep the held-out days, save the run and its report in a folder, and return what was found.

    Args:
        logs: see `log_files`.
        config: everything else.
        folder: of the run.
        bundle: a trained model to sweep; by default the run's own, trained when it is missing or does not fit.
        model: a kind, in place of `training.model`.
        seed: of training and bootstrap.
        halves: choose on one half of the users, report on the other.
        draw: write report and pictures too; without, only what they are drawn from.
        crew: who does the passes over the whole log.
        progress: told of all steps.

    Raises:
        LogError: the log is not fit to learn from.
        DataError: too few days, or an objective that earns nothing.
        ConfigError: the bundle does not fit, or no such kind of model.
        GateError: the data cannot tell.
    """
    check = crew.check(logs, config, progress=part_of(progress, 0, 0.15))
    refuse_unfit(check, logs)
    days = window(logs, config)
    asked = with_model(config, model)
    told = part_of(progress, 0.15, 0.7)
    if bundle is None:
        fitted = train_or_reuse(logs, asked, folder / MODEL, days=days, seed=seed, crew=crew, progress=told)
    else:
        fitted = checked_bundle(bundle, config, days)
    anchor = anchor_of(logs, config, days=days.train, progress=part_of(progress, 0.7, 0.75))
    anchor = with_proposals(anchor, fitted, next(scan_log(logs, config, days=days.train[-1:])), config)
    sums = crew.sums(fitted, logs, config, days=days.hold_out, anchor=anchor, progress=part_of(progress, 0.75, 0.95))
    front = assemble_front(sums, config.surface.build(), config, rng=stream(seed, "bootstrap"), halves=halves)
    total = sums.total()
    curve = None if sums.curve is None or not total.has_production else lift_curve(sums.curve, total.produced)
    contribution = contribution_of(logs, config) if has_candidates(logs, config) else None
    findings = Findings(config, front, check, contribution, scale=sums.family.scale)
    if curve is None:
        (folder / CURVE).unlink(missing_ok=True)  # of an earlier run in this folder
    save_run(findings, folder, curve=curve)
    if draw:
        publish_report(findings, folder)
    progress(1.0, "report")
    return findings


def contribution_of(logs: Path, config: Config) -> Floats:
    """Return each head's share of utility (m,) under the static weights, from a sample of logged candidates."""
    return head_contribution(sample_candidates(logs, config)[1], config.surface.build().static)


def held_out_rows(logs: Path, config: Config, days: Window, progress: Progress = silent) -> Iterator[Log]:
    """Return the rows of the held-out days, with candidates where the estimator reads them."""
    listed = wants_lists(config) and has_candidates(logs, config)
    return scan_log(logs, config, days=days.hold_out, candidates=listed, progress=lambda share, _: progress(share, "sweeping"))
