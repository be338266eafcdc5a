"""Who does the passes over a log: the options that several commands share. An edge: the terminal, Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paretune.commands.output import remark

if TYPE_CHECKING:
    from paretune.scale.crew import Crew

Engine = Literal["local", "ray"]
EngineOption = Annotated[Engine, typer.Option("--engine", help="Who reads the log: this process, or a Ray cluster.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--ray-address", metavar="HOST:PORT", help="The cluster; else RAY_ADDRESS, else one of this machine for the job."),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, metavar="N", help="Processes of the cluster; else one per core.")]


@contextmanager
def crew_of(engine: Engine, *, address: str | None, workers: int | None) -> Iterator[Crew]:
    """Give who does the passes, for as long as this lasts; lost workers are remarked upon.

    Raises:
        ConfigError: options of a cluster, and no cluster asked for.
        MissingExtraError: Ray is not installed.
        UnreachableError: no cluster answers.
    """
    from paretune.errors import ConfigError
    from paretune.scale.crew import LOCAL

    if engine == "local":
        if address is not None or workers is not None:
            raise ConfigError(
                "--ray-address and --workers are of a cluster; the engine is local", hint="add --engine ray, or leave them out"
            )
        yield LOCAL
        return
    from paretune.scale.cluster import connected
    from paretune.scale.ray_crew import MOST_TRAINERS, RayCrew

    with connected(address, workers=workers) as cores:
        yield RayCrew(cores, workers or min(cores, MOST_TRAINERS), lambda text: remark(f"warning: {text}"))
