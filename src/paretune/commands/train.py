"""`paretune train`: a value model from the training days of a log. An edge: the terminal, model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    remark,
    say,
    show_json,
    show_report_table,
)
from paretune.storage.place import where

ModelOption = Annotated[
    str | None, typer.Option("--model", help="auto, best, replay, smooth, paper or ridge, in place of training.model.", metavar="KIND")
]


def train(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    output: Annotated[
        PathOrUrl, typer.Option("--output", "-o", parser=where, metavar="DIR", help="Where to write the model; a folder or a URL.")
    ] = Path("runs/model"),
    model: ModelOption = None,
    engine: EngineOption = "local",
    ray_address: AddressOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Learn the value of weights from a log.

    Trains on the days before the held-out ones. A run that was killed goes on from its checkpoint;
    the same log, configuration and seed give the same model. With --model best, several kinds are compared by how well
    they predict the effects of weights on held-out users, and the best is kept. With --engine ray several processes fit one model together,
    each on its share of the log; another number of them gives another model, as another seed would.

    \b
    Examples:
      paretune train logs/
      paretune train logs/ --model ridge --output runs/ridge
      paretune train logs/ --model best
      paretune train logs/ --seed 1 --json
      paretune train s3://feed/logs -o s3://feed/models/7
      paretune train logs/ --engine ray --workers 4
    """
    from paretune.logs.parquet import day_name
    from paretune.progress import shown
    from paretune.report.learning_tables import selection_table
    from paretune.run import origin_of, train_model, window
    from paretune.storage.copies import kept
    from paretune.value.bundle import SUMS
    from paretune.value.selection import as_losses, from_losses

    settings = configuration(config)
    days = window(logs, settings).train
    with kept(output, last=SUMS) as folder, crew_of(engine, address=ray_address, workers=workers) as crew, shown("train") as progress:
        fitted = train_model(logs, settings, folder, days=days, model=model, seed=seed, crew=crew, progress=progress)
    origin, first, last = origin_of(fitted), day_name(days[0]), day_name(days[-1])
    judged = from_losses(origin.losses)
    losses = {name: loss for name, loss in origin.losses.items() if name not in as_losses(judged)}
    if as_json:
        kind = {"model": output, "kind": fitted.name, "first_day": first, "last_day": last}
        show_json({**kind, "rows": origin.rows, "losses": losses, **({"r_losses": judged} if judged else {})})
        return
    if judged:
        show_report_table(selection_table(judged))
    say(f"wrote {output}: a {fitted.name} model of {origin.rows:,} exploration rows from {first} to {last}")
    for name, loss in losses.items():
        say(f"  {name}: {loss:.6g}")
    remark(f"next: paretune sweep {logs} --bundle {output}")
