"""The rows of a log from which a model learns. An edge: reads logs.

The rule: only what the kind of model can use is read: exploration rows alone where the ranker's predictions are replayed, with candidates
from as many others as it is distilled on; all rows elsewhere. A member of a team reads its own share of every file, and no other row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from paretune.config import Config
from paretune.errors import LogError
from paretune.logs.parquet import day_name
from paretune.logs.parts import LogPart, has_candidates, log_share, scan_part
from paretune.ports import ALONE, Progress, Team, silent
from paretune.records import Bools, Log
from paretune.storage.place import Where
from paretune.value.origin import PRODUCTION_PER_EXPLORED


def training_log(path: str | Where, config: Config, *, days: tuple[int, ...], team: Team = ALONE, progress: Progress = silent) -> Log:
    """Return the rows of some days from which `config.training.model` learns.

    Args:
        path: see `log_files`.
        config: its [training] section says which kind of model.
        days: since 1970-01-01.
        team: whose members each read a share.
        progress: told the share of files read.

    Raises:
        LogError: the log cannot be read, or has no rows of those days.
    """
    model = config.training.model
    replayed = model in {"auto", "best", "replay"} and has_candidates(path, config)
    explored_only = replayed and model != "best"  # other kinds than replay learn from production rows too
    parts = log_share(path, config, days=days, rank=team.rank, size=team.size)
    if explored_only and _production_listed(parts, config, days, team):
        read = list(_listed_rows(_rows(parts, config, days, progress, candidates=True)))
    else:
        read = list(_rows(parts, config, days, progress, candidates=replayed, explored_only=explored_only))
    if not read:
        what, named = "exploration rows" if explored_only else "rows", ", ".join(day_name(day) for day in sorted(days))
        where = f"share {team.rank + 1} of {team.size} of {path}" if team.size > 1 else str(path)
        raise LogError(f"{where} has no {what} on the days {named}", hint="check the path, the days asked for, and the reason column")
    return read[0] if len(read) == 1 else Log.concat(read)


def _rows(
    parts: Sequence[LogPart], config: Config, days: tuple[int, ...], progress: Progress, *, candidates: bool, explored_only: bool = False
) -> Iterator[Log]:
    for index, part in enumerate(parts):
        yield from scan_part(part, config, candidates=candidates, days=days, explored_only=explored_only)
        progress((index + 1) / len(parts), "reading logs")


def _listed(log: Log) -> Bools:
    """Return (n,) which rows carry candidates."""
    return np.zeros(len(log), np.bool_) if log.candidates is None else np.diff(log.candidates.offsets) > 0


def _production_listed(parts: Sequence[LogPart], config: Config, days: tuple[int, ...], team: Team) -> bool:
    """Say whether rows that did not explore carry candidates, as the first rows of every member's share tell."""
    first = next((log for part in parts for log in scan_part(part, config, candidates=True, days=days)), None)
    found = first is not None and bool((_listed(first) & ~first.explored).any())
    return bool(team.total(np.array([int(found)]))[0])


def _listed_rows(rows: Iterator[Log]) -> Iterator[Log]:
    """Yield exploration rows, and up to four times as many others with candidates, from which replay is distilled."""
    explored, others = 0, 0
    for log in rows:
        explored += int(log.explored.sum())
        more = np.flatnonzero(_listed(log) & ~log.explored)[: max(0, PRODUCTION_PER_EXPLORED * explored - others)]
        others += len(more)
        yield log.take(np.sort(np.concatenate([np.flatnonzero(log.explored), more])))
