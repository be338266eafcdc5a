"""The optional parts: which extra of the package brings which library, what for, and the error where one is not installed.

The rule: whoever lacks a part is told the command that brings it. Looking for a library does not import it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from paretune.errors import MissingExtraError


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of the package."""

    name: str  # as in pip install "paretune[NAME]"
    modules: tuple[str, ...]  # that it brings
    brings: str  # what they are for
    without: str  # what happens where they are missing

    @property
    def command(self) -> str:
        """What installs it."""
        return f'pip install "paretune[{self.name}]"'

    def absent(self) -> tuple[str, ...]:
        """Return those of its modules that are not installed."""
        return tuple(module for module in self.modules if importlib.util.find_spec(module) is None)


EXTRAS = {
    extra.name: extra
    for extra in (
        Extra(
            "train",
            ("torch", "onnx", "onnxruntime"),
            "training replay, smooth and the paper's network; exporting policies",
            "`ridge` can be trained, and models of any kind be evaluated",
        ),
        Extra("serve", ("onnxruntime",), "decisions by ONNX Runtime", "numpy decides the same, about ten times slower"),
        Extra("fast", ("numba",), "compiled kernels for lists, hulls and pooling", "numpy computes the same, slower"),
        Extra("postgres", ("psycopg",), "a registry on PostgreSQL", "the registry is an SQLite file"),
        Extra("ray", ("ray",), "check, train and sweep on a cluster (--engine ray)", "one process reads the log"),
        Extra("s3", ("obstore",), "logs, runs and models on S3 (s3://)", "they lie on disk"),
        Extra("gcs", ("obstore",), "logs, runs and models on Google Cloud Storage (gs://)", "they lie on disk"),
        Extra("redis", ("redis",), "decisions logged to Redis Streams", "decisions are logged to Parquet files"),
    )
}


def missing(name: str, doing: str, error: ImportError, *, otherwise: str = "") -> MissingExtraError:
    """Return the error to raise where a part of an extra cannot be imported.

    Args:
        name: of the extra.
        doing: what needs it, as the sentence's subject.
        error: what the import said.
        otherwise: what else the reader can do.
    """
    hint = EXTRAS[name].command + (f", or {otherwise}" if otherwise else "")
    return MissingExtraError(f"{doing} needs the extra '{name}': {error}", hint=hint)
