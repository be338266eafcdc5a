"""`paretune worth`: is personalisation worth it, or do static weights do as well? An edge: the terminal, run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    SeedOption,
    configuration,
    named_options,
    remark,
    say,
    show_json,
    show_report_table,
)
from paretune.commands.sweep import RUN
from paretune.commands.train import ModelOption


def worth(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_LOGS", help="Folder that `paretune sweep` wrote, or logs to sweep.")] = RUN,
    *,
    config: ConfigOption = CONFIG,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run, where logs are given.")] = RUN,
    model: ModelOption = None,
    smallest_lift: Annotated[
        float | None, typer.Option(metavar="PCT", help="Smallest lift worth having; else evaluation.smallest_lift_pct.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Say whether personal weights are worth it.

    Compares production, the best static weights, the best weights per cohort, the policy's average weights for everybody and
    the personalised picks on the same rows. Ends in one sentence: personalise, retune the static weights, keep them,
    or not enough data, and then the exit code is 4.

    \b
    Examples:
      paretune worth
      paretune worth runs/monday --smallest-lift 0.5
      paretune worth logs/ --output runs/monday --json
    """
    from paretune.errors import ConfigError, GateError
    from paretune.frontier.assemble import floors_of, minimised_of, signs_of
    from paretune.frontier.worth import judge_worth
    from paretune.progress import shown
    from paretune.report.archive import FIGURES, load_run
    from paretune.report.html import save_figures
    from paretune.report.worth_figures import comparisons_table, standings_table, worth_figure
    from paretune.run import is_run, sweep_logs

    if smallest_lift is not None and not smallest_lift > 0:
        raise ConfigError(f"--smallest-lift {smallest_lift:g} is no gain", hint="give a positive per cent, such as 0.5")
    if source == RUN and not source.exists():
        raise ConfigError(f"no run at {source}", hint="make one with `paretune sweep LOGS`, or name a run or logs")
    if is_run(source):
        if unused := named_options(context, "config", "output", "model", "seed"):
            raise ConfigError(
                f"{source} is a run with a configuration of its own; {', '.join(unused)} would not be used",
                hint=f"leave {' and '.join(unused)} out, or name the logs to sweep instead of the run",
            )
        found, folder = load_run(source), source
    else:
        with shown("worth") as progress:
            found, folder = sweep_logs(source, configuration(config), output, model=model, seed=seed, progress=progress), output
    front, settings = found.front, found.config
    pct = settings.evaluation.smallest_lift_pct if smallest_lift is None else smallest_lift
    judged = judge_worth(front, signs=signs_of(settings), floors=floors_of(settings), smallest_lift=pct / 100)
    pictures = save_figures([("worth", worth_figure(front, judged))], folder / FIGURES)
    if as_json:
        names = {"objectives": [*front.lifts.objectives, "value"], "policies": [policy.name for policy in front.policies]}
        show_json({"run": folder, "answer": judged.answer, "sentence": judged.sentence, **names, "worth": judged, "figures": pictures})
    else:
        show_report_table(standings_table(front, judged, minimised=minimised_of(settings)))
        show_report_table(comparisons_table(front, judged))
        remark(f"picture: {pictures[0]}")
    if judged.answer == "not enough data":
        raise GateError(judged.sentence, hint="explore more, or ask for a larger --smallest-lift; keep the static weights until then")
    if not as_json:
        say(judged.sentence)
