"""A team inside one process, for tests: its members are threads of which one runs at a time, until all have reached the next exchange."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from paretune.ports import Team


class _Member:
    def __init__(self, rank: int, table: "_Table") -> None:
        self.rank, self.size, self._table = rank, table.size, table

    def total(self, array: np.ndarray) -> np.ndarray:
        given = self._table.exchange(self.rank, np.array(array))
        assert len({(part.shape, part.dtype) for part in given}) == 1, "members gave arrays of different shape or type"
        return sum(given[1:], start=given[0].copy())

    def each(self, array: np.ndarray) -> list[np.ndarray]:
        return self._table.exchange(self.rank, np.array(array))


class _Table:
    """Where members put what they have and wait for the others; torch's generator goes with the member that runs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.baton, self.barrier = threading.Lock(), threading.Barrier(size, timeout=60)
        self.given: list[Any] = [None] * size

    def exchange(self, rank: int, array: np.ndarray) -> list[np.ndarray]:
        state = torch.get_rng_state()
        self.given[rank] = array
        self.baton.release()
        self.barrier.wait()
        given = list(self.given)
        self.barrier.wait()
        self.baton.acquire()
        torch.set_rng_state(state)
        return given


def together(size: int, job: Callable[[Team], Any]) -> list[Any]:
    """Return what each member of a team returns from `job(team)`, or raise the first error of one."""
    table, results, errors = _Table(size), [None] * size, []

    def run(rank: int) -> None:
        with table.baton:
            try:
                results[rank] = job(_Member(rank, table))
            except threading.BrokenBarrierError:
                table.baton.acquire()  # given back by the exchange
            except BaseException as error:  # noqa: BLE001 - a test kills with its own
                errors.append(error)
                table.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
