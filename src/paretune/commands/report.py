"""`paretune report`: a run as one HTML page and pictures. An edge: the terminal, run folders."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.commands.output import JsonOption, PathOrUrl, say, show_json
from paretune.commands.sweep import RUN
from paretune.storage.place import where


def report(
    run: Annotated[PathOrUrl, typer.Argument(parser=where, metavar="RUN", help="Folder that `paretune sweep` wrote, or its URL.")] = RUN,
    *,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "paretune report",
    as_json: JsonOption = False,
) -> None:
    """Draw a run again, as one HTML page.

    \b
    Examples:
      paretune report
      paretune report runs/monday --title "Home feed, week 12"
    """
    from paretune.report.archive import FIGURES, PAGE, load_run, publish_report
    from paretune.storage.copies import kept

    with kept(run, last=PAGE, there=True) as folder:
        publish_report(load_run(folder), folder, title=title)
    if as_json:
        show_json({"report": run / PAGE, "figures": run / FIGURES})
        return
    say(f"report: {run / PAGE}")
    say(f"pictures: {run / FIGURES}")
