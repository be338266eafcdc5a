"""`paretune calibrate`: whether a policy's predicted gains come true. An edge: the terminal, run folders, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.commands.output import JsonOption, say, show_json, show_report_table
from paretune.commands.picked import BundleOption, PickOption, RunArgument, SweptArgument, picked_policy, swept_configuration


def calibrate(
    run: RunArgument,
    logs: SweptArgument,
    *,
    pick: PickOption = "knee",
    bundle: BundleOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="For the picture; by default RUN/figures.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether predicted gains come true.

    Sorts requests into deciles of predicted gain, measures each decile's gain over production on the held-out days,
    and draws the slope: 1 is calibrated, below 1 predictions are too bold, near 0 the model cannot tell who gains.

    \b
    Examples:
      paretune calibrate runs/latest logs/
      paretune calibrate runs/latest logs/ --pick constrained --json
    """
    import numpy as np

    from paretune.frontier.archive import load_front
    from paretune.frontier.calibration import calibrate as calibration_of
    from paretune.frontier.calibration import policy_arms
    from paretune.logs.parquet import scan_log
    from paretune.ports import part_of
    from paretune.progress import shown
    from paretune.report.archive import CONFIG, FIGURES, MODEL
    from paretune.report.html import save_figures
    from paretune.report.learning_figures import calibration_figure
    from paretune.report.learning_tables import calibration_table
    from paretune.run import anchor_of, checked_bundle, window

    settings = swept_configuration(run / CONFIG)
    policy = picked_policy(load_front(run), pick)
    days = window(logs, settings)
    model = checked_bundle(bundle or run / MODEL, settings, days)
    with shown("calibrate") as progress:
        anchor = anchor_of(logs, settings, days=days.train, progress=part_of(progress, 0, 0.3))
        held_out = scan_log(logs, settings, days=days.hold_out, progress=part_of(progress, 0.3, 1))
        explored, produced = policy_arms(model, held_out, settings, anchor=anchor, scalarisation=np.array(policy.scalarisation))
    found = calibration_of(explored, produced)
    pictures = save_figures([("calibration", calibration_figure(found, policy=policy.name))], output or run / FIGURES)
    if as_json:
        show_json({"policy": policy.name, "calibration": found, "pictures": pictures})
        return
    show_report_table(calibration_table(found, policy=policy.name))
    for picture in pictures:
        say(f"picture: {picture}")
