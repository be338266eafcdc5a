"""The passes over a log, done by the processes of a Ray cluster. An edge: Ray, reads logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import add
from pathlib import Path
from typing import Any

from paretune.config import Config
from paretune.frontier.anchor import Anchor
from paretune.frontier.evaluate import Evidence, pooled_evidence, sweep_sums, wants_lists
from paretune.frontier.sweep import SweepSums
from paretune.logs.checks import LogCheck
from paretune.logs.inspection import check_log
from paretune.logs.parts import LogPart, has_candidates, log_parts, scan_part
from paretune.ports import Progress, ValueModel, silent
from paretune.scale.crew import checkpoint_of
from paretune.scale.spread import Spread
from paretune.scale.training import Lesson, train_together
from paretune.value.bundle import model_files, model_of

MOST_TRAINERS = 4  # where nobody says how many: a batch shared by more is too small to be worth the exchange of gradients


@dataclass(frozen=True, slots=True)
class RayCrew:
    """A connected cluster; a `Crew`."""

    workers: int  # processes side by side
    trainers: int  # processes that fit one model together
    tell: Callable[[str], None]  # told of lost workers

    def check(
        self, logs: Path, config: Config, *, quarantine: Path | None = None, clean: Path | None = None, progress: Progress = silent
    ) -> LogCheck:
        """Return whether a log is fit to learn from."""
        kept = [None if folder is None else folder.absolute() for folder in (quarantine, clean)]
        return check_log(logs.absolute(), config, quarantine=kept[0], clean=kept[1], each=self._spread(), progress=progress)

    def fit(self, logs: Path, config: Config, *, days: tuple[int, ...], seed: int, folder: Path, progress: Progress = silent) -> ValueModel:
        """Return a model of some days."""
        lesson = Lesson(logs.absolute(), config, days, seed, checkpoint_of(folder.absolute()))
        return train_together(lesson, workers=self.trainers, tell=self.tell, progress=progress)

    def sums(
        self, model: ValueModel, logs: Path, config: Config, *, days: tuple[int, ...], anchor: Anchor, progress: Progress = silent
    ) -> SweepSums:
        """Return the sums of a sweep over some days: those of the parts, added in the order of the parts."""
        logs = logs.absolute()
        parts = log_parts(logs, config, days=days)
        read: dict[str, Any] = {"days": days, "candidates": wants_lists(config) and has_candidates(logs, config)}
        first = chain.from_iterable(scan_part(part, config, **read) for part in parts)
        evidence, _ = pooled_evidence(first, config, anchor=anchor)
        files = model_files(model)  # type: ignore[arg-type]
        job = partial(_swept, files=files, config=config, anchor=anchor, evidence=evidence, read=read)
        nothing = sweep_sums(model, [], config, anchor=anchor, evidence=evidence)
        return reduce(add, self._spread()(job, parts, progress=lambda share, doing: progress(share, f"sweeping {doing}")), nothing)

    def _spread(self) -> Spread:
        return Spread(self.workers, self.tell)


def _swept(
    part: LogPart,
    progress: Progress,  # noqa: ARG001 - a part is one step
    *,
    files: dict[str, bytes],
    config: Config,
    anchor: Anchor,
    evidence: Evidence,
    read: dict[str, Any],
) -> SweepSums:
    """Return the sums of one part, in a worker."""
    model = model_of(files, source="the object store")
    return sweep_sums(model, scan_part(part, config, **read), config, anchor=anchor, evidence=evidence)
