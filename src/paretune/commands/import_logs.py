"""`paretune import`: somebody else's log as one of ours. An edge: the terminal, files."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paretune.commands.output import CONFIG, ConfigOption, JsonOption, configuration, plain, remark, say, show_json, show_table

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.exchange.imported import Imported
    from paretune.exchange.taken import Taken

BATCH = 20_000  # lines that are read at a time
SNIFFED = 200  # lines that say which of VW's formats a file is in
Form = Literal["auto", "dsjson", "cb", "adf"]


def import_(
    kind: Annotated[
        Literal["vw", "obp", "csv"], typer.Argument(metavar="FORMAT", help="vw = Vowpal Wabbit, obp = Open Bandit Pipeline, csv.")
    ],
    sources: Annotated[list[Path], typer.Argument(metavar="FILES", help="Their files, oldest first; text may be packed (.gz).")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="LOGS", help="The log; days are added to.")] = Path("logs"),
    config: ConfigOption = CONFIG,
    field: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=NAME", help="Where a column of the log is found; may be given often.")
    ] = None,
    actions: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Our action for each of theirs, in their order; by default the grid, 1 to K.")
    ] = None,
    form: Annotated[Form, typer.Option(help="Which of VW's formats; auto looks at the first lines.")] = "auto",
    thin: Annotated[
        bool, typer.Option("--thin", help="Leave out lines until all stand for the same share of the traffic (pdrop).")
    ] = False,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="First day of rows that do not say when they were.")
    ] = None,
    per_day: Annotated[int | None, typer.Option(min=1, metavar="ROWS", help="Put so many of these on each day, in their order.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Take nothing if a line cannot be taken; exit 3.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring in a log of Vowpal Wabbit, Open Bandit Pipeline or a CSV.

    All of it or nothing is written. Lines that cannot be taken are counted by reason and kept in LOGS/_import/refused; requests that
    the log has already are not taken twice. Probabilities are copied, never computed.

    VW: dsjson, --cb or --cb_adf text; their actions are the grid, in its order, unless --actions says otherwise; the reward is -cost, or
    an outcome of `o`. OBP: the feedback dict as .npz or .json. CSV: columns by the names in paretune.toml, or by those
    that `paretune init` would guess.

    \b
    Examples:
      paretune import vw decisions.json --field user=User.id -o logs/
      paretune import vw train.dat --form adf --day 2026-03-01 --per-day 5000
      paretune import obp feedback.npz --day 2026-03-01
      paretune import csv traffic.csv --field user=member --strict --json
    """
    from paretune.errors import ConfigError
    from paretune.exchange.imported import PLACE, write_import
    from paretune.exchange.judged import Calendar

    settings = configuration(config)
    if per_day is not None and day is None:
        raise ConfigError("--per-day without --day", hint="name the first day with --day")
    if kind == "csv" and actions is not None:
        raise ConfigError("--actions is for vw and obp", hint="the action column of a CSV holds our own: 0 production, 1.. the grid")
    calendar = None if day is None else Calendar((day - datetime(1970, 1, 1)).days, per_day)
    numbers, fields = _numbers(actions), _fields(field or [], settings, kind)
    parts: Iterator[tuple[str, Taken]]
    if kind == "obp":
        parts = _feedback(sources, settings, numbers)
    elif kind == "csv":
        parts = _csv(sources, settings, fields, dated=calendar is not None)
    else:
        parts = _vw(sources, settings, fields, numbers, form=form, thin=thin)
    first = list(islice(parts, 1))  # read before anything is made, so that a wrong name leaves nothing behind
    found = write_import(chain(first, parts), output, settings, calendar=calendar, strict=strict)
    if as_json:
        show_json({"output": output, "lines": found.lines, **plain(found)})
        return
    _tell(found, output)
    if found.refused:
        remark(f"refused lines and why: {output / PLACE / 'refused'}")
    remark(f"next: paretune check {output}")


@contextmanager
def opened_text(path: Path) -> Iterator[Iterable[str]]:
    """Open a text file, also one that was packed by gzip; bytes that are no UTF-8 become lone surrogates, which adapters refuse.

    Raises:
        LogError: it cannot be read.
    """
    from paretune.errors import LogError

    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path} cannot be read: {error}", hint="name a text file, or one packed by gzip") from error


def _vw(
    sources: Sequence[Path], config: Config, fields: Mapping[str, str], numbers: list[int] | None, *, form: Form, thin: bool
) -> Iterator[tuple[str, Taken]]:
    """Yield what VW's files hold, a batch at a time; how their lines are weighed is known before the first."""
    from paretune.exchange import vw_dsjson, vw_text
    from paretune.exchange.drawn import numbering
    from paretune.exchange.taken import Reading

    surface = config.surface.build()
    forms: dict[Path, vw_text.Form] = {}
    dropped: set[float] = set()
    for source in sources:
        with opened_text(source) as lines:
            forms[source] = vw_text.form_of(list(islice(lines, SNIFFED))) if form == "auto" else form
        if forms[source] == "dsjson":
            with opened_text(source) as lines:
                dropped |= vw_dsjson.pdrops(line for line in lines if line.strip())
    keep = vw_dsjson.share_of(dropped, thin=thin)
    if keep < 1:
        remark(f"pdrop: every row stands for {1 / keep:.4g} requests; averages are not touched, numbers of rows are")
    for source in sources:
        reading = Reading(config, surface, source.name, numbering(surface, numbers), fields, keep)
        with opened_text(source) as lines:
            numbered = ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1))
            if (kind := forms[source]) == "dsjson":
                yield from ((source.name, vw_dsjson.taken(part, reading)) for part in _chunks(numbered))
            else:
                blocks = vw_text.blocks_of(numbered, kind)
                yield from ((source.name, vw_text.taken(part, reading, kind)) for part in _chunks(blocks))


def _csv(sources: Sequence[Path], config: Config, fields: Mapping[str, str], *, dated: bool) -> Iterator[tuple[str, Taken]]:
    from paretune.errors import LogError
    from paretune.exchange import csv_rows
    from paretune.exchange.drawn import numbering
    from paretune.exchange.taken import Reading

    surface = config.surface.build()
    for source in sources:
        reading = Reading(config, surface, source.name, numbering(surface), fields)
        with opened_text(source) as lines:
            rows = csv_rows.records(lines)
            _, _, names = next(rows, (0, "", []))
            if not isinstance(names, list):
                raise LogError(f"{source}, line 1: {names}", hint="the first line of a CSV names its columns")
            header = csv_rows.read_header(names, config, fields, dated=dated, source=str(source))
            for column, name in header.guessed.items():
                remark(f"{source.name}: column {name!r} is taken for {column!r}")
            yield from ((source.name, csv_rows.taken(part, header, reading)) for part in _chunks(rows))


def _feedback(sources: Sequence[Path], config: Config, numbers: list[int] | None) -> Iterator[tuple[str, Taken]]:
    from paretune.exchange.obp import taken_feedback

    yield from ((source.name, taken_feedback(read_feedback(source), config, actions=numbers, source=source.name)) for source in sources)


def read_feedback(path: Path) -> dict[str, Any]:
    """Return the bandit feedback in an .npz file of arrays, or in a .json file of the dict.

    Raises:
        LogError: it cannot be read, or holds Python objects, which are not unpickled.
    """
    import zipfile

    import numpy as np

    from paretune.errors import LogError, in_words

    try:
        if path.suffix == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return {key: value for key, value in found.items() if value is not None}
            raise LogError(f"{path} holds {type(found).__name__}, not a dict", hint="write the feedback dict with lists for its arrays")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        hint = "save the arrays with np.savez (a position of None is left out), or the dict as JSON"
        raise LogError(f"{path} cannot be read as bandit feedback: {in_words(error)}", hint=hint) from error


def _fields(given: Sequence[str], config: Config, kind: str) -> dict[str, str]:
    """Return where columns are found, as `--field` says.

    Raises:
        ConfigError: not COLUMN=NAME, or no column of the log; or the format has places of its own.
    """
    from paretune.errors import ConfigError
    from paretune.exchange.taken import column_kinds

    names = config.logs.columns
    own = {names.action, names.weights, names.propensity, names.reason} if kind == "vw" else set()
    known = sorted(column_kinds(config).keys() - own)
    fields = dict(pair.partition("=")[::2] for pair in given)
    wrong = [column for column, name in fields.items() if column not in known or not name]
    if wrong or (kind == "obp" and fields):
        raise ConfigError(
            "--field is not for obp: its dict has keys of its own"
            if kind == "obp"
            else f"--field {wrong[0]!r} names no column and its place",
            hint=f"write COLUMN=NAME; columns are {', '.join(known)}",
        )
    return fields


def _numbers(text: str | None) -> list[int] | None:
    from paretune.errors import ConfigError

    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--actions {text!r} is no list of numbers", hint="write 1,2,3: our action for each of theirs") from None


def _chunks(items: Iterator[Any]) -> Iterator[list[Any]]:
    return iter(lambda: list(islice(items, BATCH)), [])


def _tell(found: Imported, output: Path) -> None:
    days = list(found.days)
    span = f"{days[0]} to {days[-1]}" if days else "no day"
    say(f"{found.rows:,} of {found.lines:,} lines are rows of {output}, {span}; {found.explored:,} explored")
    if found.refused:
        rows = [[f"{count:,}", reason] for reason, count in found.refused.most_common()]
        show_table(f"lines refused: {found.refused.total():,}", ("lines", "why"), rows)
    if found.thinned:
        say(f"{found.thinned:,} lines left out, so that all stand for the same share of the traffic")
    for note, count in found.notes.most_common():
        say(f"{count:,} {note}")
