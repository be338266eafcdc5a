"""One model, fitted by several processes of a cluster: Ray Train holds them together, each reads its share of the log.

An edge: Ray, torch, a thread, temporary files. The rules: all members run the same `fit` on their own rows and end with the same model;
rank 0 keeps a checkpoint after every epoch, on a disk that all machines see; when a worker is lost, all begin again from that checkpoint,
and the model is the one that would have come without the loss, to the bit; an error of ours is told, not tried again.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.config import Config
from paretune.errors import ParetuneError, UnreachableError
from paretune.extras import missing
from paretune.ports import Progress, Team, ValueModel, part_of
from paretune.scale.cluster import ray_module, refuse_other_release, release
from paretune.scale.spread import LOSSES_SURVIVED, witnessed
from paretune.value.bundle import model_files, model_of
from paretune.value.reading import training_log
from paretune.value.train import fit

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class Lesson:
    """What every member is told."""

    logs: Path  # as all machines see it
    config: Config
    days: tuple[int, ...]
    seed: int
    checkpoint: Path  # folder
    release: str = field(default_factory=release)

    def learn(self, team: Team, progress: Progress) -> ValueModel:
        """Return the model that this team fits.

        Raises:
            ConfigError: the cluster has another release of paretune.
        """
        refuse_other_release(self.release)
        with tempfile.TemporaryDirectory(prefix="paretune-rows-") as folder:
            scratch, told = Path(folder), part_of(progress, 0.2, 1)
            log = training_log(self.logs, self.config, scratch / "log", days=self.days, team=team, progress=part_of(progress, 0, 0.2))
            return fit(log, self.config, seed=self.seed, checkpoint=self.checkpoint, scratch=scratch, progress=told, team=team)


def train_together(lesson: Lesson, *, workers: int, tell: Callable[[str], None], progress: Progress) -> ValueModel:
    """Return the model that so many processes fit together.

    Args:
        lesson: what they learn.
        workers: of the connected cluster.
        tell: told of lost workers.
        progress: told of reading and of epochs.

    Raises:
        ParetuneError: as of `fit` and `training_log`.
        MissingExtraError: torch is not installed.
        UnreachableError: workers were lost more often than a fit survives.
    """
    ray = ray_module()
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise missing("train", "training on a cluster", error) from error
    storage = lesson.checkpoint.absolute()
    storage.mkdir(parents=True, exist_ok=True)
    with witnessed(ray, "training") as witness:
        trainer = TorchTrainer(
            _take_part,
            train_loop_config={"lesson": lesson, "witness": witness},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=False, resources_per_worker={"CPU": 1}),
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(name="ray", storage_path=str(storage), failure_config=FailureConfig(max_failures=LOSSES_SURVIVED)),
        )
        with _watched(ray, witness, tell, progress):
            failed = _failure_of(trainer)
        refusal = ray.get(witness.news.remote()).refusal
        files = ray.get(witness.collect.remote())
    if refusal is not None:
        raise refusal
    if files is None:
        raise UnreachableError(
            f"training failed on the cluster: {failed or 'its result was lost'}",
            hint="run it again: it goes on from its last checkpoint; with fewer --workers each has more memory",
        ) from failed
    return model_of(files, source="the cluster")


def _failure_of(trainer: Any) -> Exception | None:
    """Run, and return why it failed, None where it did not."""
    from ray.train import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        return error
    return None


def _take_part(told: dict[str, Any]) -> None:
    """Fit, as one member of the team, in a worker."""
    from paretune.scale.group import Group

    ray, lesson, witness, team = ray_module(), told["lesson"], told["witness"], Group()
    if ray.get(witness.news.remote()).refusal is not None:
        return  # another member said why it cannot be done
    ray.get(witness.begin.remote(f"rank {team.rank}", os.getpid()))

    def progress(share: float, doing: str) -> None:
        if team.rank == 0:
            witness.tell.remote(share, doing)

    try:
        model = lesson.learn(team, progress)
        if team.rank == 0:
            ray.get(witness.deliver.remote(model_files(model)))
    except ParetuneError as error:
        ray.get(witness.refuse.remote(error))


@contextmanager
def _watched(ray: Any, witness: Any, tell: Callable[[str], None], progress: Progress) -> Iterator[None]:
    """Pass on what the witness knows while this lasts."""
    over = threading.Event()
    starts = 1

    def look() -> None:
        nonlocal starts
        try:
            news = ray.get(witness.news.remote())
        except ray.exceptions.RayError:
            return  # the cluster is gone, which the job says itself
        begun = max(news.begun.values(), default=0)
        if begun > starts:
            starts = begun
            tell(f"a worker was lost while training ({news.doing}); all {len(news.begun)} go on from the last checkpoint")
        progress(news.share, news.doing)

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            look()

    thread = threading.Thread(target=watch, name="paretune-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    look()
