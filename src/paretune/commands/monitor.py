"""`paretune monitor`: has the world moved away from what a policy was learned in? An edge: the terminal, logs, models, pages on disk.

The rule: both windows are read with the same configuration and counted in the reference's bins; windows are whole weeks unless days are
named, so that a weekend is never compared with a working day.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    MetricsOption,
    configuration,
    remark,
    say,
    show_json,
    show_report_table,
)

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.frontier.calibration import Calibration
    from paretune.monitor.drift import Drift
    from paretune.monitor.finding import Slope
    from paretune.monitor.verdict import Verdict
    from paretune.monitor.window import Window
    from paretune.ports import Progress
    from paretune.records import Log
    from paretune.storage.place import Where

WEEK = 7
REANCHORED = "model"  # the model for re-anchored weights, beside the page
NEXT = {
    "re-anchor": "put the re-anchored weights in force, then name days after that as --reference",
    "collect": "explore on; until there are rows enough, the static weights are the safe ones",
    "retrain": "sweep the days since the change; until its policy is approved, the static weights are the safe ones",
}


def monitor(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    reference: Annotated[
        str, typer.Option(metavar="A:B|FILE", help="Days to compare with, or a reference.json; by default the weeks before.")
    ] = "",
    current: Annotated[
        str, typer.Option(metavar="C:D", help="Days to look at: dates, or days of the log from 1; by default the last 7.")
    ] = "",
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model, or the run that holds it: are its predicted gains still true?")
    ] = None,
    enough: Annotated[
        int | None,
        typer.Option(min=1, metavar="ROWS", help="Exploration rows that retraining takes; by default a third of the reference's."),
    ] = None,
    psi: Annotated[float, typer.Option(min=0.001, max=10, help="Stability index, less its noise, from which a distribution moved.")] = 0.1,
    once: Annotated[bool, typer.Option("--once", help="For cron: print nothing where the verdict is serve.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "--out", "-o", metavar="DIR", help="Write a page and numbers there.")] = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether to serve on, re-anchor, collect or retrain.

    Compares a current window with a reference window: state, head scores and their scales, contribution shares, rewards and
    how the heads predict them, action mix, exploration, and with --model whether predicted gains come true. Ends in one verdict
    with reasons. Exit code 0: serve; 4: re-anchor, collect or retrain.

    \b
    Examples:
      paretune monitor logs/
      paretune monitor logs/ --reference 2026-01-01:2026-01-14 \\
        --current 2026-01-22:2026-01-28 --out drift/
      paretune monitor logs/ --reference drift/reference.json --once \\
        --model runs/latest --out drift/
    """
    from paretune.errors import GateError
    from paretune.monitor.verdict import judge
    from paretune.progress import shown
    from paretune.report.drift import drift_numbers, publish_drift, reanchored_table
    from paretune.report.drift_figures import findings_table, windows_table
    from paretune.report.textfile import write_drift

    settings = configuration(config)
    with shown("monitor") as progress:
        drift, gains, policy = look(logs, settings, reference=reference, current=current, model=model, psi=psi, progress=progress)
    verdict = judge(drift, enough=enough)
    if metrics is not None:
        write_drift(metrics, drift, verdict)
    paths = {} if output is None else publish_drift(drift, verdict, settings, output, gains=gains, policy=policy)
    if output is not None and model is not None and verdict.answer == "re-anchor":
        paths["model"] = keep_reanchored(model, drift.factors, output / REANCHORED)
    if as_json:
        show_json({**drift_numbers(drift, verdict), "files": paths})
    elif not once:
        show_report_table(windows_table(drift))
        show_report_table(findings_table(drift))
        if drift.factors:
            show_report_table(reanchored_table(drift, settings))
        if paths:
            say(f"report: {paths['report']}")
    if verdict.answer != "serve":
        raise GateError(told(verdict), hint=NEXT[verdict.answer])
    if not as_json and not once:
        say(verdict.sentence)


def told(verdict: Verdict) -> str:
    """Return a verdict with its reasons, one a line."""
    return "\n".join((verdict.sentence, *(f"  - {reason}" for reason in verdict.reasons)))


def keep_reanchored(folder: Path, factors: dict[str, float], target: Path) -> Path:
    """Write the model for re-anchored weights and return its folder."""
    from paretune.monitor.reanchor import reanchored_model
    from paretune.value.bundle import load_model, save_model

    save_model(reanchored_model(load_model(model_folder(folder)), factors), target)  # type: ignore[arg-type]
    return target


def model_folder(folder: Path) -> Path:
    """Return the folder of the model, where a run may have been named."""
    from paretune.report.archive import MODEL
    from paretune.run import is_run

    return folder / MODEL if is_run(folder) else folder


def look(
    logs: Where, config: Config, *, reference: str, current: str, model: Path | None, psi: float, progress: Progress
) -> tuple[Drift, Calibration | None, str]:
    """Return what moved, how gains stand where a model was named, and which policy's gains.

    Raises:
        ConfigError: no such days or file, or weights changed since the reference was taken.
        LogError: the log cannot be read, or is too short for two windows.
        ArtefactError: the reference or the model cannot be read.
    """
    from paretune.errors import ConfigError
    from paretune.logs.parquet import log_days
    from paretune.monitor.watch import take_reference, take_window, watched
    from paretune.ports import part_of

    days = log_days(logs, config)
    now, before = chosen(days, reference, current, train_days=config.evaluation.train_days)
    if before is None:
        kept = kept_reference(Path(reference))
    else:
        warn_of_weekdays(before, now)
        kept = take_reference(reader(logs, config, before, part_of(progress, 0, 0.5)), config)
    if kept.static.tolist() != config.surface.build().static.tolist():
        raise ConfigError(
            "the static weights changed since the reference was taken", hint="name days after the change as --reference, and keep that one"
        )
    recent, listed = take_window(reader(logs, config, now, part_of(progress, 0.5, 0.8))(), kept)
    slopes: tuple[Slope | None, Slope | None] = (None, None)
    gains, policy, unknown = None, "", ""
    if model is not None:
        slopes, gains, policy, unknown = measured(logs, config, model, kept, now=now, known=days)
    drift = watched(kept, recent, listed, slopes=slopes, psi=psi)
    progress(1.0, "compared")
    if unknown:
        notes = tuple(note for note in drift.notes if not note.startswith("gains"))
        drift = replace(drift, notes=(*notes, f"gains were not calibrated: {unknown}"))
    return drift, gains, policy


def chosen(days: list[int], reference: str, current: str, *, train_days: int) -> tuple[list[int], list[int] | None]:
    """Return the days of the current and of the reference window; None for a reference kept in a file.

    Raises:
        LogError: too few days.
        ConfigError: days that the log does not have, or windows that share some.
    """
    from paretune.errors import ConfigError, LogError
    from paretune.experiment.reading import chosen_days

    now = chosen_days(current, days) if current else days[-WEEK:]
    if reference.endswith(".json"):
        return now, None
    earlier = [day for day in days if day < now[0]]
    if reference:
        before = chosen_days(reference, days)
    elif earlier:
        weeks = min(len(earlier), train_days) // WEEK
        before = earlier[-WEEK * weeks :] if weeks else earlier
    else:
        raise LogError(
            f"the log's {len(days)} days are all in the current window", hint="name two windows with --reference A:B and --current C:D"
        )
    if both := sorted(set(before) & set(now)):
        raise ConfigError(f"the windows share {len(both)} days", hint="name a reference that ends before the current window begins")
    return now, before


def warn_of_weekdays(before: list[int], now: list[int]) -> None:
    """Say so where one window has days of the week that the other lacks, or more of them."""
    from collections import Counter

    shares = [{weekday: count / len(days) for weekday, count in Counter(day % WEEK for day in days).items()} for days in (before, now)]
    if max(abs(shares[0].get(weekday, 0) - shares[1].get(weekday, 0)) for weekday in range(WEEK)) > 0.1:
        remark("warning: the windows hold other days of the week; what differs between these counts as drift. Name whole weeks")


def kept_reference(path: Path) -> Window:
    """Return the reference window in a file.

    Raises:
        NotFoundError: there is none.
        ArtefactError: it is none.
    """
    from paretune.errors import ArtefactError, NotFoundError
    from paretune.monitor.window import window_from

    try:
        return window_from(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise NotFoundError(f"no reference at {path}", hint="`paretune monitor LOGS --out DIR` leaves a reference.json") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read: {error}", hint="take the reference window anew") from error


def reader(logs: Where, config: Config, days: list[int], progress: Progress) -> Callable[[], Iterable[Log]]:
    """Return what reads some days of a log in batches, with candidates and predictions where the log has them."""
    from paretune.logs.files import log_files
    from paretune.logs.parquet import file_schema, scan_log
    from paretune.logs.parts import has_candidates
    from paretune.monitor.predictions import with_predictions

    schema, _ = file_schema(log_files(logs, config)[0])
    listed, served = has_candidates(logs, config), config.logs.columns.served_scores in schema
    surface, heads = config.surface.build(), config.objective_heads()

    def batches() -> Iterable[Log]:
        for part in scan_log(logs, config, days=days, candidates=listed, predicted=served, progress=progress):
            yield part if served else replace(part, predicted=with_predictions(part, surface, heads).predicted)

    return batches


def measured(
    logs: Where, config: Config, folder: Path, reference: Window, *, now: list[int], known: list[int]
) -> tuple[tuple[Slope | None, Slope | None], Calibration | None, str, str]:
    """Return the slopes of gains before and now, how gains stand now, which policy's, and why they are not known where they are not.

    The earlier slope is that of reference days which did not train the model; where there are none it is unknown.

    Raises:
        ArtefactError: the folder holds no model.
        ConfigError: the model was trained for another surface.
    """
    import numpy as np

    from paretune.commands.picked import picked_policy
    from paretune.errors import ConfigError, DataError, GateError
    from paretune.frontier.archive import load_front
    from paretune.frontier.calibration import calibrate, policy_arms
    from paretune.logs.parquet import scan_log
    from paretune.monitor.finding import Slope
    from paretune.run import anchor_of, is_run, origin_of
    from paretune.value.bundle import load_model

    run, loaded = is_run(folder), load_model(model_folder(folder))
    origin = origin_of(loaded)
    if origin.config.surface != config.surface:
        raise ConfigError(f"{folder} was trained for another surface", hint="name the configuration that it was trained with")
    objectives = len(config.objectives)
    trade_off = np.array(picked_policy(load_front(folder), "knee").scalarisation) if run else np.full(objectives, 1 / objectives)

    def calibration(days: list[int]) -> Calibration:
        earlier = [day for day in known if day < days[0]]
        anchor = anchor_of(logs, config, days=tuple(earlier or days))
        return calibrate(*policy_arms(loaded, scan_log(logs, config, days=days), config, anchor=anchor, scalarisation=trade_off))

    policy = "knee" if run else "balanced"
    unseen = [day for day in reference.days if day > origin.last_day and day in known]
    try:
        gains = calibration(now)
    except (GateError, DataError) as error:
        return (None, None), None, policy, str(error).splitlines()[0]
    earlier: Slope | None = None
    if unseen:
        try:
            before = calibration(unseen)
            earlier = Slope(before.slope, before.slope_std_error)
        except (GateError, DataError) as error:
            remark(f"the slope of gains before is not known: {str(error).splitlines()[0]}")
    return (earlier, Slope(gains.slope, gains.slope_std_error)), gains, policy, ""
