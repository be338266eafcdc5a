"""`paretune check`: is this log fit to learn from? An edge: the terminal, pictures on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.crew import AddressOption, EngineOption, WorkersOption, crew_of
from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    PathOrUrl,
    configuration,
    plain,
    remark,
    say,
    show_json,
    show_report_table,
)
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.logs.checks import LogCheck
    from paretune.records import Ints

BARS = "▁▂▃▄▅▆▇█"


def check(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    quarantine: Annotated[
        PathOrUrl, typer.Option(parser=where, metavar="DIR", help="Write the bad rows there, with the rules they break; folder or URL.")
    ] = None,
    clean: Annotated[
        PathOrUrl,
        typer.Option(parser=where, metavar="DIR", help="Write the good rows there, as a log that is accepted; folder or URL."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw rows per day and per action, as .png or .svg.")] = None,
    engine: EngineOption = "local",
    ray_address: AddressOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a log is fit to learn from.

    When it is not, the exit code is 3, and file, column, rows and remedy are named. A sound log of too few days for `paretune sweep`
    is warned of.

    \b
    Examples:
      paretune check logs/
      paretune check logs/ --quarantine bad/ --clean good/
      paretune check logs/ --picture check.png --json
      paretune check s3://feed/logs --clean s3://feed/clean
      paretune check logs/ --engine ray --ray-address 10.0.0.4:6379
    """
    from paretune.progress import shown
    from paretune.run import refuse_unfit

    settings = configuration(config)
    with crew_of(engine, address=ray_address, workers=workers) as crew, shown("check") as progress:
        found = crew.check(logs, settings, quarantine=quarantine, clean=clean, progress=progress)
    if picture is not None:
        draw(found, picture)
    if as_json:
        show_json({"ok": found.ok, "enough_days": found.enough_days, **plain(found)})
    else:
        show(found)
    refuse_unfit(found, logs)
    if found.enough_days:
        remark(f"{logs} is fit to learn from")
    else:
        split = f"{settings.evaluation.train_days} to train and {settings.evaluation.hold_out_days} to hold out"
        days = f"{len(found.days)} day{'s' * (len(found.days) != 1)}"
        remark(f"warning: {logs} is sound so far, but too short: {days} of {split}; `paretune train` and `paretune sweep` will refuse it")


def show(found: LogCheck) -> None:
    """Print what was checked, and a picture of the rows."""
    from paretune.report.contents import rules_table

    show_report_table(rules_table(found))
    if found.explored:
        say(f"explored per day     {bars(found.explored_per_day)}  at most {found.explored_per_day.max():,}")
        say(f"production per day   {bars(found.production_per_day)}  at most {found.production_per_day.max():,}")
        say(f"explored per action  {bars(found.per_action[1:])}  {found.per_action[1:].min():,} to {found.per_action[1:].max():,}")


def bars(counts: Ints) -> str:
    """Return counts as a line of bars, the largest one full; a dot is zero."""
    top = max(1, int(counts.max(initial=0)))
    return "".join("·" if count == 0 else BARS[min(7, int(8 * count / top))] for count in counts.tolist())


def draw(found: LogCheck, path: Path) -> None:
    """Write the picture of a check.

    Raises:
        LogError: there are no rows to draw.
    """
    from paretune.errors import LogError
    from paretune.report.contents import check_figure
    from paretune.report.html import save_figure

    if not found.days or not found.explored:
        raise LogError("there are no exploration rows to draw", hint="leave out --picture; the table says what is wrong")
    save_figure(check_figure(found), path)
    remark(f"wrote {path}")
