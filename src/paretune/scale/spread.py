"""The parts of a log, worked on side by side by Ray Data.

An edge: Ray, the process. The rules: a worker reads its part of the log by path, no row is sent to it; what all parts need (the job) is put
into the object store once; results come in the order of the parts, whoever was first, and only as many wait as fit into the object store; a
part whose worker was lost is begun again, and said so; an error of ours is told, not tried again.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paretune.errors import ParetuneError, UnreachableError
from paretune.ports import Progress, silent
from paretune.scale.cluster import ray_module, refuse_other_release, release
from paretune.scale.witness import Witness

LOSSES_SURVIVED = 5  # of workers, with one part
WITNESS = "paretune-witness"


@dataclass(frozen=True, slots=True)
class Work:
    """What is put into the object store once for all parts."""

    job: Callable[[Any, Progress], Any]
    parts: tuple[Any, ...]
    release: str  # of whoever asks


@dataclass(frozen=True, slots=True)
class Spread:
    """The parts of a log, each worked on by some process of a connected cluster; an `Each`."""

    workers: int  # side by side, at most
    tell: Callable[[str], None]  # told of lost workers

    def __call__(self, job: Callable[[Any, Progress], Any], parts: Sequence[Any], *, progress: Progress) -> Iterator[Any]:
        """Yield what the job returns of each part, in the order of the parts.

        Raises:
            UnreachableError: a part's worker was lost more often than a part survives.
            ParetuneError: what the job raised.
        """
        if not parts:
            return
        ray, data = ray_module(), _ray_data()
        work = ray.put(Work(job, tuple(parts), release()))
        with witnessed(ray, _name(job)) as witness, _in_order(data):
            rows = data.from_items([{"part": i} for i in range(len(parts))], override_num_blocks=len(parts))
            told = {"work": work, "witness": witness}
            compute = data.TaskPoolStrategy(self.workers)
            done = rows.map(_do, fn_kwargs=told, num_cpus=1, max_retries=LOSSES_SURVIVED, compute=compute)
            for row in _until_lost(done.iter_rows(), ray):
                index, result = int(row["part"]), row["result"]
                if row["attempt"] > 1:
                    self.tell(f"a worker was lost with {named(parts[index])}; it was done again")
                if isinstance(result, ParetuneError):
                    raise result
                progress((index + 1) / len(parts), f"part {index + 1} of {len(parts)}")
                yield result


def _until_lost(rows: Iterator[Any], ray: Any) -> Iterator[Any]:
    """Yield rows; losses that Ray gives up on become an error of ours."""
    try:
        yield from rows
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError) as error:
        raise UnreachableError(
            f"workers were lost with the same part of the log {LOSSES_SURVIVED + 1} times: {str(error).splitlines()[0]}",
            hint="most often memory ran out: fewer --workers on a machine leave each more of it",
        ) from error


def named(part: Any) -> str:
    """Return a part of a log as people say it."""
    rows, file = getattr(part, "rows", None), getattr(part, "file", None)
    if rows is None or file is None:
        return str(part)
    return f"rows {part.first:,} to {part.first + rows - 1:,} of {file.path.parent.name}/{file.path.name}"


def _name(job: Callable[..., Any]) -> str:
    return str(getattr(getattr(job, "func", job), "__name__", "job")).strip("_")


@contextmanager
def witnessed(ray: Any, work: str) -> Iterator[Any]:
    """Give a witness (see `Witness`) of some work, in a process of its own; it is found by its name, PREFIX-WORK-NUMBER."""
    actor = ray.remote(Witness).options(num_cpus=0, name=f"{WITNESS}-{work}-{uuid.uuid4().hex}").remote()
    try:
        yield actor
    finally:
        ray.kill(actor)


def _do(row: dict[str, Any], *, work: Any, witness: Any) -> dict[str, Any]:
    """Do one part, in a worker."""
    ray = ray_module()
    asked: Work = ray.get(work)
    part = asked.parts[int(row["part"])]
    attempt = ray.get(witness.begin.remote(named(part), os.getpid()))
    try:
        refuse_other_release(asked.release)
        result = asked.job(part, silent)
    except ParetuneError as error:
        result = error
    return {"part": row["part"], "attempt": attempt, "result": result}


def _ray_data() -> Any:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # importing it has set its own
    return ray.data


@contextmanager
def _in_order(data: Any) -> Iterator[None]:
    """Let Ray Data give results in order and draw nothing, and leave its settings as they were."""
    context = data.DataContext.get_current()
    wanted = (
        (context, "enable_progress_bars", False),
        (context, "print_on_execution_start", False),
        (context.execution_options, "preserve_order", True),
    )
    before = [getattr(settings, name) for settings, name, _ in wanted]
    for settings, name, value in wanted:
        setattr(settings, name, value)
    try:
        yield
    finally:
        for (settings, name, _), value in zip(wanted, before, strict=True):
            setattr(settings, name, value)
