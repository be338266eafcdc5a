"""A Ray cluster: the one that is named, or one of this machine's own for the time of a job.

An edge: Ray, the environment, temporary files. The rules: Ray is imported here and in the modules beside this one, and only when it is
asked for; a cluster of our own has a bounded object store, no dashboard, listens on this machine alone, reports to nobody, and ends with
the job, also when the job is interrupted; what Ray prints never reaches standard output, which holds results alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paretune.errors import ConfigError, UnreachableError
from paretune.extras import missing

STORE_BYTES = 2**30  # of shared memory for what waits between two processes; more is spilled to disk
STARTS = 3  # Ray gives a node 30 s to start, which a busy machine can miss
ANSWER_S = 10.0  # for a cluster to accept a connection
SHORT_FOLDER = Path("/tmp")  # noqa: S108 - names of sockets may have 107 letters; mkdtemp makes a folder of ours alone
QUIET = {
    "POLARS_MAX_THREADS": "1",  # a worker has one core
    "RAY_TRAIN_V2_ENABLED": "1",
}


def ray_module() -> Any:
    """Return Ray.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    try:
        import ray
    except ImportError as error:
        raise missing("ray", "working on a cluster", error) from error
    for name in ("ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def release() -> str:
    """Return the release of paretune on this machine."""
    return version("paretune")


def refuse_other_release(asked: str) -> None:
    """Refuse, in a worker, work that another release of paretune asks for.

    Raises:
        ConfigError: naming both.
    """
    if release() != asked:
        raise ConfigError(
            f"the cluster has paretune {release()}, the process that asks {asked}", hint="install one release on all machines"
        )


@contextmanager
def connected(address: str | None = None, *, workers: int | None = None) -> Iterator[int]:
    """Give the number of processes that work side by side on a cluster, connected to while this lasts.

    A connection that is there already is used, and left.

    Args:
        address: of the cluster, HOST:PORT or `auto`; by default that of the environment's RAY_ADDRESS, else a cluster is started here.
        workers: processes; by default as many as the cluster has cores.

    Raises:
        MissingExtraError: Ray is not installed.
        UnreachableError: no cluster answers there, or none could be started here.
    """
    ray = ray_module()
    address = address or os.environ.get("RAY_ADDRESS") or None
    with redirect_stdout(sys.stderr):
        if ray.is_initialized():
            yield _cores(ray, workers)
            return
        folder = None
        try:
            if address is None:
                folder = Path(tempfile.mkdtemp(prefix="paretune-ray-", dir=SHORT_FOLDER if SHORT_FOLDER.is_dir() else None))
                _start(ray, workers or os.cpu_count() or 1, folder)
            else:
                _join(ray, address)
            yield _cores(ray, workers)
        finally:
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _cores(ray: Any, workers: int | None) -> int:
    return workers or max(1, int(ray.cluster_resources().get("CPU", 1)))


def _start(ray: Any, cores: int, folder: Path) -> None:
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=cores,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": QUIET},
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder),
            )
        except Exception as error:
            ray.shutdown()
            if attempt == STARTS:
                raise UnreachableError(
                    f"no Ray cluster could be started here in {STARTS} attempts: {error}",
                    hint="look at the machine's load and free memory (Ray takes about 1 GB), or leave out --engine ray",
                ) from error
        else:
            return


def _join(ray: Any, address: str) -> None:
    _refuse_silent(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": QUIET})
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UnreachableError(
            f"the Ray cluster at {address} cannot be joined: {error}",
            hint="run this on a machine of the cluster, with the Ray and Python of the cluster; `ray status` says how it is",
        ) from error


def _refuse_silent(address: str) -> None:
    """Refuse an address at which nobody accepts a connection; Ray itself would try for minutes and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # `auto`, and other words that Ray knows
    try:
        socket.create_connection((host.strip("[]") or "localhost", int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise UnreachableError(
            f"no Ray cluster answers at {address}: {error.strerror or error}",
            hint="`ray start --head` starts one, `ray status` says how it is; without --ray-address one is started here for the job",
        ) from error
