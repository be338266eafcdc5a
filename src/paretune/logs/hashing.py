"""Hashes of ids: the same 64 bits on every machine, every release and every file layout.

The rule: no library's own hash is used (polars and Python promise no stability). Integers go through the finaliser of splitmix64
(Steele, Lea, Flood 2014); texts fold their bytes, eight at a time and little-endian, through it, after their length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import exp, factorial

import numpy as np

from paretune.records import Ints

_LONGEST = 256  # bytes; longer texts are digested first, so that one of them cannot widen the matrix of all
_MOST = 12  # times anybody is drawn; Poisson(1) exceeds it once in 60 billion draws
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: Ints) -> Ints:
    """Return (n,) uint64 with every input bit spread over every output bit; a bijection."""
    z = values.astype(np.uint64) + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hash_integers(values: Ints) -> Ints:
    """Return (n,) uint64 hashes of integers of any width and sign."""
    signed = np.issubdtype(values.dtype, np.signedinteger)
    return mixed(values.astype(np.int64).view(np.uint64) if signed else values.astype(np.uint64))


def hash_texts(values: Sequence[bytes]) -> Ints:
    """Return (n,) uint64 hashes of byte strings."""
    lengths = np.fromiter((len(value) for value in values), dtype=np.uint64, count=len(values))
    if lengths.max(initial=0) > _LONGEST:
        values = [hashlib.blake2b(value).digest() if len(value) > _LONGEST else value for value in values]
    words = max(1, -(-max((len(value) for value in values), default=1) // 8))
    matrix = np.array(values, dtype=f"S{8 * words}").view("<u8").reshape(len(values), words)
    read = np.minimum(lengths, np.where(lengths > _LONGEST, 64, _LONGEST))  # a digest has 64 bytes
    result = mixed(lengths)
    for word in range(words):
        result = np.where(read > 8 * word, mixed(result ^ matrix[:, word]), result)
    return result


def salted(hashes: Ints, salt: str) -> Ints:
    """Return (n,) uint64 hashes that are independent between salts: one id, many coins."""
    key = np.frombuffer(hashlib.blake2b(salt.encode(), digest_size=8).digest(), dtype="<u8")[0]
    return mixed(hashes.astype(np.uint64) ^ key)


def poisson_draws(coins: Ints) -> Ints:
    """Return how often each coin is drawn in a Poisson(1) bootstrap, in the shape of the uint64 hashes: the same on every machine."""
    below = np.cumsum([exp(-1) / factorial(times) for times in range(_MOST)])  # P(drawn at most so often)
    return np.searchsorted(below, (coins >> np.uint64(11)).astype(np.float64) * 2.0**-53, side="right")
