"""`paretune plan-exploration`: how much exploration a question needs, and what it costs. An edge: the terminal, pictures and pages on disk.

The rule: what was not given is read from the log, and what is not known is said to be unknown; a share or a lift on the command line is in
per cent.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    PathOrUrl,
    configuration,
    named_options,
    say,
    show_json,
    show_report_table,
)
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.explore.planner import Grid, Plan
    from paretune.explore.rates import TrafficSums
    from paretune.storage.place import Where

HOW_MUCH = ("config", "lift", "power", "traffic", "rates", "grid", "days", "estimator", "gain")  # of a plan; stage 2 has no use for them
_PER_DAY = {"": 1.0, "/day": 1.0, "/d": 1.0, "/hour": 24.0, "/h": 24.0}


def plan_exploration(
    context: typer.Context,
    logs: Annotated[PathOrUrl, typer.Argument(parser=where, metavar="[LOGS]", help="A log to read rates, traffic and cost from.")] = None,
    *,
    config: ConfigOption = CONFIG,
    lift: Annotated[float, typer.Option(help="Relative lift to resolve, in per cent.")] = 1.0,
    power: Annotated[float, typer.Option(help="Probability of seeing it, in per cent.")] = 80.0,
    traffic: Annotated[str, typer.Option(metavar="N/day", help="Requests, e.g. 10e6/day; else the log's rows per day.")] = "",
    share: Annotated[float | None, typer.Option(help="Per cent of requests explored; else exploration.share.")] = None,
    rates: Annotated[str, typer.Option(metavar="A=P,B=P", help="Share of requests with each event; else the log's.")] = "",
    grid: Annotated[str, typer.Option(metavar="NxN", help="Levels per tuned head, e.g. 7x7; else the configuration's.")] = "",
    days: Annotated[float | None, typer.Option(help="Days to evaluate on; else evaluation.hold_out_days.")] = None,
    estimator: Annotated[
        str, typer.Option(help="paper, hits, kernel or replay; auto = replay where the log has candidates, else kernel.")
    ] = "auto",
    gain: Annotated[float | None, typer.Option(help="Gain over the paper's estimator, measured on your grid.")] = None,
    stage2: Annotated[
        Path | None, typer.Option("--stage2", metavar="RUN", help="Judge exploring where the policies of a run go, instead.")
    ] = None,
    floor: Annotated[float, typer.Option(help="Per cent of stage 2 that stays uniform.")] = 20.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write a page and pictures there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how much exploration a lift needs.

    Rows, days and cost for several grids and shares, and what would be enough. Without LOGS, give --rates and --traffic;
    with --rates and --grid no configuration is needed. With --stage2, what drawing weights where a run's policies go
    would save in rows, and cost, against drawing them uniformly.

    \b
    Examples:
      paretune plan-exploration logs/
      paretune plan-exploration --traffic 10e6/day \\
        --rates save=0.18,p2p=0.35 --grid 7x7
      paretune plan-exploration logs/ --lift 2 --share 1.25 --days 14 -o plan/
      paretune plan-exploration logs/ --stage2 runs/latest
    """
    refuse_unused(context, stage2)
    if stage2 is not None:
        judge(logs, stage2, floor=floor, share=share, output=output, as_json=as_json)
        return
    from paretune.report.plan import plan_sentences, plan_summary, plan_tables, publish_plan

    given = parse_rates(rates)
    settings = None if given and grid and logs is None and not config.exists() else configuration(config)
    plan = make_plan(
        settings,
        logs,
        given=given,
        lift=lift,
        power=power,
        traffic=parse_traffic(traffic),
        share=share,
        grid=grid,
        days=days,
        estimator=estimator,
        gain=gain,
    )
    page = None if output is None else publish_plan(plan, output)
    if as_json:
        show_json({**plan_summary(plan), "report": page})
        return
    for table in plan_tables(plan):
        show_report_table(table)
    for sentence in plan_sentences(plan):
        say(sentence)
    if page is not None:
        say(f"report: {page}")


def refuse_unused(context: typer.Context, stage2: Path | None) -> None:
    """Refuse options that say nothing of what is asked: how much exploration, or whether a second stage is worth it.

    Raises:
        ConfigError: naming them.
    """
    from paretune.errors import ConfigError

    if stage2 is None:
        if named_options(context, "floor"):
            raise ConfigError("--floor is the uniform part of stage 2, and there is none", hint="add --stage2 RUN, or leave --floor out")
        return
    if unused := named_options(context, *HOW_MUCH):
        raise ConfigError(
            f"--stage2 compares two designs by the run in {stage2}, at any lift; {', '.join(unused)} would not be used",
            hint=f"leave {' and '.join(unused)} out, or plan without --stage2",
        )


def judge(logs: Where | None, run: Path, *, floor: float, share: float | None, output: Path | None, as_json: bool) -> None:
    """Print what stage 2 would be worth and would cost, by a run's model and family on the held-out days of a log.

    Raises:
        ConfigError: no log was named, or the model was trained on these days.
        ArtefactError: the run or its model is not whole.
        DataError: the days hold no exploration rows.
    """
    from paretune.config import load_config
    from paretune.errors import ConfigError
    from paretune.explore.stage2 import judge_stage2
    from paretune.frontier.archive import load_front
    from paretune.frontier.assemble import signs_of
    from paretune.logs.parquet import scan_log
    from paretune.progress import shown
    from paretune.report.archive import CONFIG as RUN_CONFIG
    from paretune.report.archive import MODEL
    from paretune.report.stage2 import publish_stage2, stage2_sentences, stage2_summary, stage2_tables
    from paretune.run import checked_bundle, window

    if logs is None:
        raise ConfigError("--stage2 needs a log", hint=f"paretune plan-exploration logs/ --stage2 {run}")
    front, settings = load_front(run), load_config(run / RUN_CONFIG)
    days = window(logs, settings)
    model = checked_bundle(run / MODEL, settings, days)
    with shown("stage 2") as progress:
        batches = scan_log(logs, settings, days=days.hold_out, progress=progress)
        scale = signs_of(settings) / front.lifts.production
        found = judge_stage2(model, batches, settings.surface.build(), front=front, scale=scale, floor=floor / 100)
    explored = settings.exploration.share if share is None else share / 100
    page = None if output is None else publish_stage2(found, output, share=explored)
    if as_json:
        show_json({**stage2_summary(found), "report": page})
        return
    for table in stage2_tables(found, explored):
        show_report_table(table)
    for sentence in stage2_sentences(found):
        say(sentence)
    if page is not None:
        say(f"report: {page}")


def make_plan(
    settings: Config | None,
    logs: Where | None,
    *,
    given: dict[str, float],
    lift: float,
    power: float,
    traffic: float,
    share: float | None,
    grid: str,
    days: float | None,
    estimator: str,
    gain: float | None,
) -> Plan:
    """Return the plan that a command line, a configuration and a log ask for.

    Raises:
        ConfigError: something is missing, or out of range.
        LogError: the log cannot be read.
        DataError: the log earns nothing of an objective.
    """
    from paretune.errors import ConfigError
    from paretune.explore.planner import ESTIMATORS, Aim, Estimator, Grid, Plan, usual_grids
    from paretune.explore.rates import Rate

    heads = [] if settings is None else [head.tune.levels for head in settings.surface.heads if head.tune]
    asked = parse_grid(grid) if grid else Grid(tuple(heads))
    known = list(given) if settings is None else [objective.name for objective in settings.objectives]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"--rates names {unknown}, which are no objectives", hint=f"objectives are {', '.join(known)}")
    seen, per_day = (None, math.nan) if logs is None or settings is None else read_traffic(logs, settings)
    logged = {} if seen is None or not set(known) - set(given) else {rate.objective: rate for rate in seen.rates(tuple(known))}
    if missing := [name for name in known if name not in given and name not in logged]:
        raise ConfigError(f"rates of {missing} are not known", hint="name a log, or give --rates save=0.18,p2p=0.35")
    if days is not None and not days > 0:
        raise ConfigError(f"--days {days:g}", hint="give the days to evaluate on, e.g. 7")
    if estimator not in {"auto", *ESTIMATORS}:
        raise ConfigError(f"there is no estimator {estimator!r}", hint=f"auto, or one of {', '.join(ESTIMATORS)}")
    if estimator == "auto":
        estimator = _swept_with(logs, settings)
    chosen = ESTIMATORS[estimator]
    if gain is not None:
        if not gain > 0:
            raise ConfigError(f"--gain {gain:g}", hint="give how many times smaller the squared error is than the paper's, e.g. 15")
        chosen = Estimator(chosen.name, f"{chosen.title}, gain {gain:g}", gain, chosen.measured_on and asked.actions)
    explored = (share / 100) if share is not None else 0.0125 if settings is None else settings.exploration.share
    return Plan(
        aim=Aim(lift / 100, power / 100, 0.95 if settings is None else settings.evaluation.confidence),
        rates=tuple(Rate.clipped(name, given[name]) if name in given else logged[name] for name in known),
        grid=asked,
        grids=usual_grids(asked),
        share=explored,
        shares=tuple(s for s in (explored, 2 * explored, 4 * explored) if s <= 1 or s == explored),
        estimator=chosen,
        requests_per_day=per_day if math.isnan(traffic) else traffic,
        days=days or (7.0 if settings is None else float(settings.evaluation.hold_out_days)),
        cost=None if seen is None else seen.cost(),
        logged_share=math.nan if seen is None else seen.share,
    )


def read_traffic(logs: Where, settings: Config) -> tuple[TrafficSums, float]:
    """Return the sums of a log and its rows per day, a part of it at a time."""
    from paretune.errors import LogError
    from paretune.explore.rates import traffic_sums
    from paretune.logs.parquet import scan_log
    from paretune.progress import shown

    total, days = None, set()
    with shown("plan") as progress:
        for part in scan_log(logs, settings, progress=progress):
            sums = traffic_sums(part)
            total = sums if total is None else total + sums
            days |= set(part.day.tolist())
    if total is None:
        raise LogError(f"{logs} has no rows", hint="name a log with rows, or give --rates and --traffic")
    return total, float(total.rows.sum()) / len(days)


def parse_rates(text: str) -> dict[str, float]:
    """Return the rates in `save=0.18,p2p=0.35`.

    Raises:
        ConfigError: it is not of this form.
    """
    from paretune.errors import ConfigError

    found: dict[str, float] = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, _, number = part.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name.strip():
            raise ConfigError(f"--rates {text!r} cannot be read at {part!r}", hint="write save=0.18,p2p=0.35")
    return found


def parse_traffic(text: str) -> float:
    """Return requests per day in `10e6/day` or `400000/hour`; NaN for an empty text.

    Raises:
        ConfigError: it is not of this form, or not positive.
    """
    from paretune.errors import ConfigError

    if not text:
        return math.nan
    number, slash, unit = text.replace(",", "").partition("/")
    try:
        requests = float(number) * _PER_DAY[slash + unit.strip().lower()]
    except (ValueError, KeyError):
        requests = math.nan
    if not (math.isfinite(requests) and requests > 0):
        raise ConfigError(f"--traffic {text!r} cannot be read", hint="write 10e6/day or 400000/hour")
    return requests


def parse_grid(text: str) -> Grid:
    """Return the grid in `7x7`.

    Raises:
        ConfigError: it is not of this form.
    """
    from paretune.errors import ConfigError
    from paretune.explore.planner import Grid

    if not re.fullmatch(r"\d{1,3}([x×*]\d{1,3}){0,4}", text.strip().lower()):
        raise ConfigError(f"--grid {text!r} cannot be read", hint="write levels per tuned head, e.g. 7x7, or 9 for one head")
    return Grid(tuple(int(part) for part in re.split(r"[x×*]", text.strip().lower())))


def _swept_with(logs: Where | None, settings: Config | None) -> str:
    """Return the estimator that a sweep of such a log would use, with the kernel's smaller gain where no other was measured."""
    from paretune.frontier.anchor import wants_replay
    from paretune.logs.parts import has_candidates

    if settings is not None and settings.evaluation.estimator == "hit":
        return "hits"
    listed = logs is not None and settings is not None and has_candidates(logs, settings)
    return "replay" if listed and settings is not None and wants_replay(settings) else "kernel"
