"""`paretune sweep`: from logs to a front one can choose from. An edge: the terminal, run folders."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.crew import AddressOption, EngineOption, WorkersOption, crew_of
from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    PathOrUrl,
    SeedOption,
    configuration,
    say,
    show_json,
    show_report_table,
)
from paretune.commands.train import ModelOption
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.frontier.front import Front

RUN = Path("runs/latest")


def sweep(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    output: Annotated[PathOrUrl, typer.Option("--output", "-o", parser=where, metavar="DIR", help="Folder of the run, or URL.")] = RUN,
    bundle: Annotated[
        PathOrUrl,
        typer.Option(parser=where, metavar="DIR", help="A trained model, or URL; else the run's own is trained or reused."),
    ] = None,
    model: ModelOption = None,
    halves: Annotated[bool, typer.Option("--halves", help="Choose on one half of the users, report on the other.")] = False,
    engine: EngineOption = "local",
    ray_address: AddressOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Sweep the front and put policies forward.

    Checks the log, trains what is missing on the earlier days, evaluates on the held-out ones, and writes front.json, front.parquet and
    report.html. Exit code 3: the log is not fit; 4: no policy is even promising, and the message says how many
    exploration rows would tell.

    \b
    Examples:
      paretune sweep logs/
      paretune sweep logs/ --bundle runs/model --output runs/monday
      paretune sweep logs/ --halves --json
      paretune sweep s3://feed/logs -o s3://feed/runs/monday
      paretune sweep logs/ --engine ray
    """
    from paretune.errors import GateError
    from paretune.frontier.archive import FRONT
    from paretune.frontier.assemble import minimised_of
    from paretune.progress import shown
    from paretune.report.archive import PAGE
    from paretune.report.tables import guardrails_table, picks_table
    from paretune.run import sweep_logs
    from paretune.storage.copies import fetched, kept

    settings = configuration(config)
    with ExitStack() as stack:
        trained = stack.enter_context(fetched(bundle)) if bundle else None
        folder = stack.enter_context(kept(output, last=FRONT))
        crew = stack.enter_context(crew_of(engine, address=ray_address, workers=workers))
        progress = stack.enter_context(shown("sweep"))
        found = sweep_logs(logs, settings, folder, bundle=trained, model=model, seed=seed, halves=halves, crew=crew, progress=progress)
    refusal = found.front.refusal
    if as_json:
        show_json({"run": output, "report": output / PAGE, **summary(found.front)})
    else:
        if refusal is None:
            show_report_table(picks_table(found.front, minimised=minimised_of(settings)))
            if found.front.guarded is not None:
                show_report_table(guardrails_table(found.front))
        say(f"report: {output / PAGE}")
    if refusal is not None:
        raise GateError(refusal.reason, hint=refusal.remedy)


def summary(front: Front) -> dict[str, Any]:
    """Return the picks with their lifts, for programs."""
    lifts, expected = front.lifts, front.expectation
    picks = []
    for pick in front.picks:
        p = pick.policy
        numbers = {
            name: {"lift": lifts.estimate[p, j], "band_low": lifts.band_low[p, j], "band_high": lifts.band_high[p, j]}
            for j, name in enumerate(lifts.objectives)
        }
        if expected is not None:
            for j, name in enumerate(lifts.objectives):
                numbers[name] |= {"expected": expected.mean[p, j], "expected_low": expected.low[p, j], "expected_high": expected.high[p, j]}
        if front.guarded is not None:
            for name, direction, low in zip(front.guarded.objectives, front.guarded.directions, front.guarded.low[p], strict=True):
                numbers[name]["guardrail_worst"] = direction * low
        policy = {"label": pick.label, "policy": front.policies[p].name, "alpha": front.policies[p].alpha, "hits": lifts.hits[p]}
        policy["verdict"] = pick.verdict
        picks.append({**policy, "probability_degrading": pick.probability_degrading, "lifts": numbers, "note": pick.note})
    refused = None
    if front.refusal is not None:
        of = front.refusal
        candidate = front.policies[of.policy].name
        refused = {"reason": of.reason, "candidate": candidate, "exploration_rows": of.rows, "exploration_rows_needed": of.needed}
    about = {"estimator": lifts.estimator, "confidence": lifts.confidence, "requests": lifts.n_rows, "users": lifts.n_users}
    return {**about, "refusal": refused, "picks": picks}
