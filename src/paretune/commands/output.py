"""What every command does the same way: tables, JSON, and finding the configuration. An edge: the terminal, paths.

The rule: results go to standard output, everything else to standard error; with `--json` standard output is one JSON object and
nothing else; colours only on a terminal, and none where NO_COLOR is set.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.storage.place import Place, where

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.report.tables import Table as ReportTable

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Configuration file.", metavar="FILE")]
if TYPE_CHECKING:
    PathOrUrl = Any  # Where; typer knows no unions
else:
    PathOrUrl = type("path or URL", (), {})  # the name that --help shows

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same result.")]
LogsArgument = Annotated[
    PathOrUrl,
    typer.Argument(
        parser=where, metavar="LOGS", help="Folder of day=YYYY-MM-DD folders, of Parquet files, or one Parquet file; path or URL."
    ),
]
MetricsOption = Annotated[
    Path | None, typer.Option("--metrics", metavar="FILE", help="Write NAME.prom for a node exporter's textfile collector, after each run.")
]
CONFIG = Path("paretune.toml")


def named_options(context: typer.Context, *names: str) -> list[str]:
    """Return which of some options a command was given, as they are written on the command line.

    Args:
        context: of the command that runs.
        names: of its parameters.
    """
    sources = {name: context.get_parameter_source(name) for name in names}
    given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
    return [parameter.opts[0] for parameter in context.command.params if parameter.name in given]


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")


def remark(text: str) -> None:
    """Print a line that is not part of the result."""
    sys.stderr.write(f"{text}\n")


def show_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "") -> None:
    """Print a table of text cells; plain and unwrapped where nobody looks at a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    piped, plain_text = not sys.stdout.isatty(), bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=sys.stdout, width=10_000 if piped else None, highlight=False, color_system=None if piped or plain_text else "auto"
    )
    table = Table(title=caption, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = all(row[place][:1] in "+−-–0123456789<>" for row in rows if row[place]) and any(row[place] for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))


def show_report_table(table: ReportTable) -> None:
    """Print a table that the HTML report shows too."""
    show_table(table.caption, table.columns, table.rows, note=table.note)


def show_json(value: Any) -> None:
    """Print a result as one JSON object; NaN and infinity become null."""
    say(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """Return records, arrays and paths as what JSON holds."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Path | Place):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def configuration(path: Path) -> Config:
    """Return the configuration a command was given."""
    from paretune.config import load_config

    return load_config(path)


def _style(cell: str) -> str:
    return {"✓": "green", "✗": "red", "!": "yellow"}.get(cell[:1], "")
