"""The rows of a log from which a model learns, read from its files. An edge: reads logs, writes rows to a scratch folder.

The rule: only what the kind of model can use is read: exploration rows alone where the ranker's predictions are replayed, with candidates
from as many others as it is distilled on; production rows too elsewhere. Rows wait on disk, but for kinds that need them in memory. A
member of a team reads its own share of every file, and no other row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune.config import Config, Features
from paretune.errors import LogError
from paretune.logs.parquet import day_name
from paretune.logs.parts import LogPart, has_candidates, log_share, scan_part
from paretune.logs.stored import store_log
from paretune.ports import ALONE, Progress, Team, part_of, silent
from paretune.records import Log
from paretune.value.lessons import counted, listed_parts, taught_parts


def training_log(
    path: str | Path, config: Config, folder: Path, *, days: tuple[int, ...], team: Team = ALONE, progress: Progress = silent
) -> Log:
    """Return the rows of some days from which a model of `training.model` may learn.

    Args:
        path: see `log_files`.
        config: its [training] section says which kind of model.
        folder: new; rows are kept there on disk, where the kind does not need them in memory. Removed by whoever asked.
        days: since 1970-01-01.
        team: whose members each read a share.
        progress: told the share of files read.

    Raises:
        LogError: the log cannot be read, or has no rows of those days.
        DataError: the days hold no exploration rows.
        ArtefactError: the disk has no room for the rows.
    """
    kind = config.training.model
    share = _Share(tuple(log_share(path, config, days=days, rank=team.rank, size=team.size)), config, days)
    replayed = kind in {"auto", "best", "replay"} and has_candidates(path, config)
    if kind in {"best", "paper"} or config.training.ensemble == "bootstrap":
        explored_only = replayed and kind != "best"  # other kinds than replay learn from production rows too
        if explored_only and _production_listed(share, team):
            return _joined(listed_parts(share.rows(progress, candidates=True)), path, days)
        return _joined(share.rows(progress, candidates=replayed, explored_only=explored_only), path, days)
    if replayed and _production_listed(share, team):
        return store_log(listed_parts(share.rows(progress, candidates=True)), folder)
    if replayed:
        return store_log(share.rows(progress, candidates=True, explored_only=True), folder)
    explored, produced = counted(share.bare().rows(part_of(progress, 0, 0.3)))
    return store_log(taught_parts(share.rows(part_of(progress, 0.3, 1)), explored=explored, produced=produced), folder)


@dataclass(frozen=True, slots=True)
class _Share:
    """What one process reads of a log."""

    parts: tuple[LogPart, ...]
    config: Config
    days: tuple[int, ...]

    def bare(self) -> _Share:
        """Return the same rows without their features: ids and actions are enough for counting."""
        return _Share(self.parts, self.config.model_copy(update={"features": Features()}), self.days)

    def rows(self, progress: Progress, *, candidates: bool = False, explored_only: bool = False) -> Iterator[Log]:
        """Yield the rows in batches."""
        for index, part in enumerate(self.parts):
            yield from scan_part(part, self.config, candidates=candidates, days=self.days, explored_only=explored_only)
            progress((index + 1) / len(self.parts), "reading logs")


def _joined(parts: Iterator[Log], path: str | Path, days: tuple[int, ...]) -> Log:
    read = list(parts)
    if not read:
        named = ", ".join(day_name(day) for day in sorted(days))
        raise LogError(
            f"{path} has no rows to learn from on the days {named}", hint="check the path, the days asked for, and the reason column"
        )
    return read[0] if len(read) == 1 else Log.concat(read)


def _production_listed(share: _Share, team: Team) -> bool:
    """Say whether rows that did not explore carry candidates, as the first rows of every member's share tell."""
    first = next(share.rows(silent, candidates=True), None)
    listed = first is not None and first.candidates is not None and bool(((np.diff(first.candidates.offsets) > 0) & ~first.explored).any())
    return bool(team.total(np.array([int(listed)]))[0])
