"""`paretune report`: a run as one HTML page and pictures. An edge: the terminal, run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.commands.output import JsonOption, say, show_json
from paretune.commands.sweep import RUN


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `paretune sweep` wrote.")] = RUN,
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
    from paretune.report.archive import FIGURES, load_run, publish_report

    page = publish_report(load_run(run), run, title=title)
    if as_json:
        show_json({"report": page, "figures": run / FIGURES})
        return
    say(f"report: {page}")
    say(f"pictures: {run / FIGURES}")
