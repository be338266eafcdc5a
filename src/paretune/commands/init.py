"""`paretune init`: from the static weights in use to a paretune.toml. An edge: reads weights and one log file, writes the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import CONFIG, JsonOption, PathOrUrl, remark, say, show_json
from paretune.storage.place import where

if TYPE_CHECKING:
    import polars as pl

    from paretune.storage.place import Where
    from paretune.template import Column

SAMPLE_ROWS = 1000


def init(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="YAML or JSON of your static weights, head: weight.")],
    *,
    logs: Annotated[
        PathOrUrl, typer.Option(parser=where, metavar="DIR", help="Guess columns from the first Parquet file there, or a CSV; path or URL.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")] = CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a paretune.toml from static weights.

    What is guessed is said; what could not be guessed is listed.

    WEIGHTS is a plain mapping such as `{save: 91.6, p2p: 9.1, hide: -4}`, or holds it under `heads:` beside `k`, `tune`
    (head: [low, high]), `objectives` and `guardrails`.

    \b
    Examples:
      paretune init weights.yaml
      paretune init weights.yaml --logs logs/
      paretune init weights.json --output feeds/home.toml --force
    """
    from paretune.config import load_config
    from paretune.errors import ConfigError
    from paretune.template import propose_config, render_config

    content = read_weights(weights)
    if output.exists() and not force:
        raise ConfigError(f"{output} exists", hint="name another file with --output, or overwrite it with --force")
    proposal = propose_config(content, None if logs is None else sample_columns(logs))
    write_text(output, render_config(proposal.config))
    load_config(output)
    if as_json:
        show_json({"config": output, "guessed": proposal.guessed, "unknown": proposal.unknown})
        return
    say(f"wrote {output}")
    _list("guessed, look it over:", proposal.guessed)
    _list("not guessed, yours to say:", proposal.unknown)
    remark(f"next: paretune check LOGS --config {output}" if output != CONFIG else "next: paretune check LOGS")


def read_weights(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file.

    Raises:
        ConfigError: missing, unreadable, or not a mapping.
    """
    import yaml

    from paretune.errors import ConfigError, in_words

    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as YAML or JSON: {in_words(error)}", hint="write one line per head, such as `save: 91.6`"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, not a mapping", hint="write one line per head, such as `save: 91.6`")
    return content


def sample_columns(logs: Where) -> list[Column]:
    """Return the columns of the first Parquet file of a log, or of a CSV, as a sample of its rows shows them.

    Raises:
        LogError: no such file there, or it cannot be read.
    """
    import io

    import polars as pl

    from paretune.errors import LogError
    from paretune.storage.objects import answered, parquet_below, read_bytes, scanned

    alone = logs.is_file() if isinstance(logs, Path) else logs.name.endswith((".parquet", ".csv"))
    files = [logs] if alone else [file for file in parquet_below(logs) if not file.name.startswith((".", "_"))]
    if not files:
        raise LogError(f"{logs} holds no Parquet file", hint="name the folder of the log, or leave out --logs")
    try:
        if files[0].name.endswith(".csv"):  # to be brought in by `paretune import csv`
            source = files[0] if isinstance(files[0], Path) else io.BytesIO(read_bytes(files[0]))
            frame = pl.read_csv(source, n_rows=SAMPLE_ROWS, infer_schema_length=SAMPLE_ROWS, try_parse_dates=True)
        else:
            with answered(files[0], "read"):
                frame = scanned(files[0]).head(SAMPLE_ROWS).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LogError(f"{files[0]} cannot be read: {error}", hint="name a folder with whole Parquet files, or a CSV") from error
    return [_column(series) for series in frame]


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    from paretune.atomic import write_whole
    from paretune.errors import ConfigError

    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}", hint="name a place you may write to") from error


def _column(series: pl.Series) -> Column:
    import polars as pl

    from paretune.template import Column

    dtype, name = series.dtype, series.name
    if isinstance(dtype, pl.List | pl.Array):
        lists = series.arr.to_list() if isinstance(dtype, pl.Array) else series
        items = lists.explode(empty_as_null=True).drop_nulls() if len(lists) else lists.explode()
        size = int(lists.list.len().max() or 0)  # type: ignore[arg-type]
        if items.dtype.is_integer():
            return Column(name, "integers", size, max(0, int(items.max() or 0)))  # type: ignore[arg-type]
        return Column(name, "numbers" if items.dtype.is_numeric() else "other", size)
    if dtype == pl.Binary:
        return Column(name, "binary", int(series.bin.size().max() or 0))  # type: ignore[arg-type]
    if dtype.is_temporal():
        return Column(name, "time")
    if dtype in (pl.String, pl.Boolean) or isinstance(dtype, pl.Categorical | pl.Enum):
        return Column(name, "text")
    return Column(name, "number" if dtype.is_numeric() else "other")


def _list(heading: str, lines: tuple[str, ...]) -> None:
    if lines:
        say(heading)
    for line in lines:
        say(f"  - {line}")
