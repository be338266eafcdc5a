"""A team of processes that torch.distributed holds together (gloo, on CPU). An edge: torch.

The rule: sums are formed in an order that depends on the number of members alone, so that a fit that is repeated, or resumed with as many
members, is the same to the bit.
"""

from __future__ import annotations

import json

import numpy as np

from paretune.extras import missing
from paretune.records import Floats

try:
    import torch
    from torch import distributed
except ImportError as error:
    raise missing("train", "training in several processes", error) from error


class Group:
    """The process group of this process; a `Team`."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        return distributed.get_rank()

    @property
    def size(self) -> int:
        """Processes of the group."""
        return distributed.get_world_size()

    def total(self, array: Floats) -> Floats:
        """Return the sum of the members' arrays."""
        summed = torch.from_numpy(np.array(array))
        distributed.all_reduce(summed)
        return summed.numpy()

    def each(self, array: Floats) -> list[Floats]:
        """Return the members' arrays in the order of ranks; sent as they lie in memory, led by shape and type."""
        array = np.ascontiguousarray(array)
        head = json.dumps([array.dtype.str, np.shape(array)]).encode()
        mine = np.frombuffer(b"%d;%b%b" % (len(head), head, array.tobytes()), dtype=np.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(sizes, torch.tensor([len(mine)]))
        longest = max(int(size) for size in sizes)
        padded = [torch.empty(longest, dtype=torch.uint8) for _ in sizes]
        distributed.all_gather(padded, torch.from_numpy(np.pad(mine, (0, longest - len(mine)))))
        return [_array_of(given[: int(size)].numpy().tobytes()) for given, size in zip(padded, sizes, strict=True)]


def _array_of(message: bytes) -> Floats:
    length, _, rest = message.partition(b";")
    kind, shape = json.loads(rest[: int(length)])
    return np.frombuffer(rest[int(length) :], dtype=np.dtype(kind)).reshape(shape).copy()
