"""The small network that reads a state: a linear part plus two hidden layers, evaluated in numpy wherever a model is used.

    out(x) = A x + a + C silu(B2 silu(B1 x + b1) + b2),  silu(z) = z / (1 + exp(-z))

The linear part learns main effects from few rows, the hidden layers what is left. `TRUNK_ARRAYS` are the names under which it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paretune.errors import ArtefactError
from paretune.records import Bools, Floats

_BLOCK = 2**18  # numbers, 1 MiB
TRUNK_ARRAYS = ("linear.weight", "linear.bias", "first.weight", "first.bias", "second.weight", "second.bias", "last.weight")


def trunk_output(x: Floats, arrays: dict[str, Floats]) -> Floats:
    """Return (n, out) float32.

    Args:
        x: (n, D) float32 encoded state.
        arrays: by TRUNK_ARRAYS; weights are (out, in) as torch stores them.
    """
    hidden = _silu(x @ arrays["first.weight"].T + arrays["first.bias"])
    hidden = _silu(hidden @ arrays["second.weight"].T + arrays["second.bias"])
    return x @ arrays["linear.weight"].T + arrays["linear.bias"] + hidden @ arrays["last.weight"].T


def check_trunk(arrays: dict[str, Floats], width: int) -> None:
    """Refuse arrays that are no trunk over `width` columns.

    Raises:
        ArtefactError: one is absent or has another shape.
    """
    missing = [name for name in TRUNK_ARRAYS if name not in arrays]
    if missing or arrays["linear.weight"].shape[1:] != (width,) or arrays["first.weight"].shape[1:] != (width,):
        raise ArtefactError(f"the trunk lacks {missing} or does not fit {width} columns", hint="train and save the model again")


def logistic(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)), safe for large |z|."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def combined(out: Floats, rows: Floats, result: Floats) -> Iterator[Floats]:
    """Write what a state's few numbers make of every action into the result, one matrix product, and yield it in blocks that fit the cache.

    Args:
        out: (n, R) of the trunk.
        rows: (R + 1, K M) what each number is worth for each action; the last row is added as it is.
        result: (n, K, M), contiguous; written.
    """
    at_once = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(out), at_once):
        block = result[start : start + at_once]
        flat = block.reshape(len(block), -1)
        np.matmul(out[start : start + at_once], rows[:-1], out=flat)
        flat += rows[-1]
        yield block


def squash(values: Floats, columns: Bools) -> None:
    """Replace values (n, K, M) by their logistic, in place, where the objective's column (M,) says so."""
    if columns.all():
        values *= 0.5
        np.tanh(values, out=values)
        values += 1
        values *= 0.5
    elif columns.any():
        values[:, :, columns] = logistic(values[:, :, columns])


def _silu(z: Floats) -> Floats:
    return z * logistic(z)
