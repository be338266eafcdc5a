"""`paretune sessions`: do whole sessions rank the policies as single requests do? An edge: the terminal, logs, run folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    SeedOption,
    configuration,
    remark,
    say,
    show_json,
    show_report_table,
)
from paretune.commands.sweep import RUN
from paretune.commands.train import ModelOption

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.frontier.horizon import Horizon
    from paretune.ope.sessions import SessionOrder, Wald
    from paretune.ports import Progress
    from paretune.records import Floats, Log
    from paretune.storage.place import Where


def sessions(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; its model is used.")] = RUN,
    model: ModelOption = None,
    discount: Annotated[float, typer.Option(min=0, max=1, help="Of each later request of the session; 1 counts all alike.")] = 1.0,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare policies on requests and on whole sessions.

    Estimates every policy's lift on what is earned until the session's end, says whether that ranks the policies as the
    reward of the request does, and tests whether the weights served before change the next request. Exit code 4: the
    rankings may or may not agree.

    \b
    Examples:
      paretune sessions logs/
      paretune sessions logs/ --discount 0.8
      paretune sessions logs/ --output runs/monday --json
    """
    from paretune.errors import GateError
    from paretune.frontier.horizon import judged_by
    from paretune.progress import shown
    from paretune.report.archive import FIGURES
    from paretune.report.html import save_figures
    from paretune.report.session_figures import agreement_table, carry_over_table, horizon_figure, horizon_table

    settings = configuration(config)
    with shown("sessions") as progress:
        horizon, tests, length = horizons(logs, settings, output, model=model, discount=discount, seed=seed, progress=progress)
    judge, sentence = judged_by(horizon, tests)
    pictures = save_figures([("sessions", horizon_figure(horizon, sentence))], output / FIGURES)
    if as_json:
        found = {"judge": judge, "sentence": sentence, "requests_per_session": length, "discount": discount}
        show_json(found | {"horizon": horizon, "carry_over": tests, "figures": pictures})
    else:
        show_report_table(horizon_table(horizon))
        show_report_table(agreement_table(horizon))
        show_report_table(carry_over_table(tests))
        remark(f"picture: {pictures[0]}")
    if judge == "not enough data":
        raise GateError(sentence, hint="hold out more days, or explore more requests")
    if not as_json:
        say(sentence)


def horizons(
    logs: Where, config: Config, output: Path, *, model: str | None, discount: float, seed: int, progress: Progress
) -> tuple[Horizon, tuple[Wald, ...], float]:
    """Return the lifts on both rewards, the tests of carry-over, and the mean number of requests of a session.

    Raises:
        LogError: the log cannot be read.
        DataError: no times or no sessions, too few rows, or an objective that earns nothing.
    """
    from paretune.frontier.anchor import ANCHOR_ROWS, fit_anchor
    from paretune.frontier.evaluate import sweep_sums
    from paretune.frontier.horizon import compare_horizons
    from paretune.ope.sessions import carry_over
    from paretune.ports import part_of
    from paretune.report.archive import MODEL
    from paretune.run import anchor_of, train_or_reuse, window, with_model
    from paretune.seeds import stream
    from paretune.surface.grid import log_coordinates, polynomial_basis

    days, asked = window(logs, config), with_model(config, model)
    config = _without_candidates(config)
    held_out = _outline(logs, config, days.hold_out, part_of(progress, 0, 0.1))
    earlier = _outline(logs, config, days.train[-1:], part_of(progress, 0.1, 0.15))
    to_go, earlier_to_go = _to_go(held_out, discount), _to_go(earlier, discount)
    fitted = train_or_reuse(logs, asked, output / MODEL, days=days, seed=seed, progress=part_of(progress, 0.15, 0.6))
    anchor = anchor_of(logs, config, days=days.train, progress=part_of(progress, 0.6, 0.65))
    beside = fit_anchor(_first(_replaced(logs, config, days.train[-1:], earlier_to_go), ANCHOR_ROWS), config)
    session_anchor = replace(anchor, encoder=beside.encoder, baseline=beside.baseline)  # the scale stays, so the policies do
    request = sweep_sums(fitted, _replaced(logs, config, days.hold_out, held_out.log.rewards), config, anchor=anchor)
    progress(0.8, "sweeping sessions")
    session = sweep_sums(fitted, _replaced(logs, config, days.hold_out, to_go), config, anchor=session_anchor)
    progress(0.95, "comparing")
    horizon = compare_horizons(request, session, config, rng=stream(seed, "bootstrap"))
    surface, log = config.surface.build(), held_out.log
    basis = polynomial_basis(log_coordinates(surface, surface.actions), 2)
    tests = carry_over(
        log.rewards,
        held_out.order,
        basis[log.action.clip(0)],
        explored=(log.explored & (log.action > 0)).nonzero()[0],
        propensity=log.propensity,
        user=log.user,
        objectives=horizon.objectives,
    )
    return horizon, tests, len(log) / held_out.order.sessions


def _without_candidates(config: Config) -> Config:
    """Return the configuration that judges both rewards alike: a list-replay variate predicts the reward of one list, not of a session."""
    estimator = "hit" if config.evaluation.estimator == "hit" else "action-kernel"
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"estimator": estimator})})


@dataclass(frozen=True, slots=True)
class Outline:
    """Days of a log without the features: who asked when, what was served, what came of it."""

    log: Log
    order: SessionOrder


def _outline(logs: Where, config: Config, days: tuple[int, ...], progress: Progress) -> Outline:
    from paretune.config import Features
    from paretune.errors import DataError
    from paretune.logs.parquet import read_log
    from paretune.ope.sessions import session_order
    from paretune.records import NO_TIME

    log = read_log(logs, config.model_copy(update={"features": Features()}), days=days, progress=progress)
    if log.time_us is None or (log.time_us == NO_TIME).any():
        seen = "have no times" if log.time_us is None else f"have {int((log.time_us == NO_TIME).sum()):,} rows without a time"
        raise DataError(f"{logs}: the requests {seen}", hint="log the time of each request, or name its column under logs.columns.ts")
    return Outline(log, session_order(log.session, log.time_us))


def _to_go(outline: Outline, discount: float) -> Floats:
    from paretune.ope.sessions import reward_to_go

    return reward_to_go(outline.log.rewards, outline.order, discount=discount)


def _replaced(logs: Where, config: Config, days: tuple[int, ...], rewards: Floats) -> Iterator[Log]:
    """Yield the log in parts, with other rewards in place of its own; the parts come in the order in which the outline was read."""
    from paretune.logs.parquet import scan_log

    start = 0
    for part in scan_log(logs, config, days=days):
        yield replace(part, rewards=rewards[start : start + len(part)])
        start += len(part)


def _first(parts: Iterator[Log], rows: int) -> Log:
    from paretune.records import Log

    kept, seen = [], 0
    for part in parts:
        kept.append(part)
        seen += len(part.production())
        if seen >= rows:
            break
    return Log.concat(kept)
