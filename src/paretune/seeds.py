"""Named, independent random streams from one seed, so that adding a consumer never shifts another's numbers."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one named purpose.

    Args:
        seed: any integer >= 0; the seed of the whole run.
        names: the purpose, e.g. ``"traffic", day``; the same names give the same stream on every machine.
    """
    keys = [zlib.crc32(str(name).encode()) for name in names]
    return np.random.default_rng(np.random.SeedSequence([seed, *keys]))
