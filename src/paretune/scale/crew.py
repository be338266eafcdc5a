"""Who does the passes over a whole log: checking it, learning from it, sweeping it.

An edge: reads logs, removes scratch folders. The rule: whoever does them, the check and the sums of a sweep are the same but for the order
in which numbers are added, and a model is as good but for the noise of seeds; what follows from the sums (bands, picks, the report) is made
in one place, by the process that asked.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from paretune.config import Config
from paretune.frontier.anchor import Anchor
from paretune.frontier.evaluate import sweep_sums, wants_lists
from paretune.frontier.sweep import SweepSums
from paretune.logs.checks import LogCheck
from paretune.logs.inspection import check_log
from paretune.logs.parquet import scan_log
from paretune.logs.parts import has_candidates
from paretune.ports import Progress, ValueModel, part_of, silent
from paretune.value.reading import training_log
from paretune.value.train import fit


def checkpoint_of(folder: Path) -> Path:
    """Return the folder from which a killed fit of a model goes on."""
    return folder.with_name(f"{folder.name}.checkpoint")


class Crew(Protocol):
    """Whoever does the passes; arguments and errors are those of the stages' own functions."""

    def check(
        self, logs: Path, config: Config, *, quarantine: Path | None = None, clean: Path | None = None, progress: Progress = silent
    ) -> LogCheck:
        """Return whether a log is fit to learn from; see `check_log`."""
        ...

    def fit(self, logs: Path, config: Config, *, days: tuple[int, ...], seed: int, folder: Path, progress: Progress = silent) -> ValueModel:
        """Return a model of some days, which is about to be saved as `folder`; a fit that was killed goes on from `folder`.checkpoint."""
        ...

    def sums(
        self, model: ValueModel, logs: Path, config: Config, *, days: tuple[int, ...], anchor: Anchor, progress: Progress = silent
    ) -> SweepSums:
        """Return the sums of a sweep over some days, later than those that the model and the anchor saw; see `sweep_sums`."""
        ...


class ThisProcess:
    """Everything here, one batch of rows after the other."""

    def check(
        self, logs: Path, config: Config, *, quarantine: Path | None = None, clean: Path | None = None, progress: Progress = silent
    ) -> LogCheck:
        """Return whether a log is fit to learn from."""
        return check_log(logs, config, quarantine=quarantine, clean=clean, progress=progress)

    def fit(self, logs: Path, config: Config, *, days: tuple[int, ...], seed: int, folder: Path, progress: Progress = silent) -> ValueModel:
        """Return a model of some days; rows wait in `folder`.scratch, which is removed at the end."""
        scratch = folder.with_name(f"{folder.name}.scratch")
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        try:
            log = training_log(logs, config, scratch / "log", days=days, progress=part_of(progress, 0, 0.2))
            return fit(log, config, seed=seed, checkpoint=checkpoint_of(folder), scratch=scratch, progress=part_of(progress, 0.2, 1))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def sums(
        self, model: ValueModel, logs: Path, config: Config, *, days: tuple[int, ...], anchor: Anchor, progress: Progress = silent
    ) -> SweepSums:
        """Return the sums of a sweep over some days."""
        candidates = wants_lists(config) and has_candidates(logs, config)
        rows = scan_log(logs, config, days=days, candidates=candidates, progress=lambda share, _: progress(share, "sweeping"))
        return sweep_sums(model, rows, config, anchor=anchor)


LOCAL: Crew = ThisProcess()
