"""`paretune join`: served decisions and what users did, as an exploration log. An edge: the terminal, files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    MetricsOption,
    PathOrUrl,
    configuration,
    plain,
    remark,
    say,
    show_json,
)
from paretune.storage.place import where

if TYPE_CHECKING:
    import polars as pl

    from paretune.config import Config
    from paretune.logs.intake import JoinReport
    from paretune.serving.stream_reader import Lost


def join(
    decisions: Annotated[
        str, typer.Argument(metavar="DECISIONS", help="Folder of the decision spool or its URL, or redis://HOST:PORT/DB?stream=NAME.")
    ],
    events: Annotated[
        PathOrUrl, typer.Argument(parser=where, metavar="EVENTS", help="Parquet or NDJSON files: request_id, event, ts, item, count.")
    ],
    *,
    output: Annotated[
        PathOrUrl, typer.Option("--output", "-o", parser=where, metavar="LOGS", help="The log, a folder or a URL; runs add to it.")
    ] = Path("logs"),
    config: ConfigOption = CONFIG,
    settle: Annotated[float, typer.Option(min=0, metavar="HOURS", help="Hours after the reward window before a row is written.")] = 1.0,
    immature: Annotated[bool, typer.Option("--immature", help="Write rows whose reward window is still open, too.")] = False,
    now: Annotated[datetime | None, typer.Option(metavar="TIME", help="Time of this run (UTC); else the clock's.")] = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join decisions and events into an exploration log.

    Run it as often as you like: files are read once, a request is written once, rows wait until their reward window is over.
    Events named like an objective, its column or a head are counted; `candidates` events bring lists.

    \b
    Examples:
      paretune join spool/ events/ --output logs/
      paretune join spool/ events/ -o logs/ --settle 6 --json
      paretune join spool/ events/ -o preview/ --immature
      paretune join redis://127.0.0.1:6379/0 events/ -o logs/
      paretune join s3://feed/spool s3://feed/events -o s3://feed/logs
    """
    from paretune.errors import LogError
    from paretune.logs.intake import join_files
    from paretune.report.textfile import write_join

    settings = configuration(config)
    now_us = None if now is None else round(now.replace(tzinfo=now.tzinfo or UTC).timestamp() * 1e6)
    how: dict[str, Any] = {"now_us": now_us, "settle_h": settle, "immature": immature}
    lost: Lost | None = None
    if decisions.startswith(("redis://", "rediss://", "unix://")):
        run = lambda rows: join_files(rows, events, output, settings, **how)  # noqa: E731
        found, lost = _from_stream(decisions, run, settings, preview=immature)
    else:
        found = join_files(where(decisions), events, output, settings, **how)
    if metrics is not None:
        write_join(metrics, found.decisions, found.events, adds_up=found.adds_up, lost=plain(lost) if lost else {})
    if as_json:
        show_json({"output": output, **plain(found), **({"stream": plain(lost)} if lost else {})})
    else:
        for what, counts in (("decisions", found.decisions), ("events", found.events)):
            say(f"{what:<10} " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        say(f"{found.files} files written to {output}; the counts {'add up' if found.adds_up else 'do not add up'}")
    if not found.adds_up:
        raise LogError("the counts of the join do not add up", hint="keep the input and report it; nothing was removed")
    if found.decisions.get("rejected"):
        remark(f"rejected decisions and why: {output / '_join' / 'rejected' / 'decisions'}")


def _from_stream(url: str, run: Callable[[pl.DataFrame], JoinReport], settings: Config, *, preview: bool) -> tuple[JoinReport, Lost]:
    """Run a join of what a stream holds, and acknowledge it once that is committed; a preview leaves it to the next run.

    Returns:
        What became of it, and of which entries nothing could.
    """
    from paretune.serving.stream_reader import StreamReader

    reader = StreamReader(url, settings)
    try:
        found = run(reader.read())
        lost = reader.lost
        if not preview:
            reader.acknowledge()
        if lost.trimmed:
            remark(f"warning: the stream gave up {lost.trimmed:,} decisions before they were read; join more often, or raise longest=N")
        if lost.unreadable:
            remark(f"warning: {lost.unreadable:,} entries of the stream hold no decision")
        if not preview:
            reader.told()
    finally:
        reader.close()
    return found, lost
