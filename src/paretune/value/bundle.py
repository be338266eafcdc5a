"""A value model as a folder: arrays.npz, manifest.json and SHA256SUMS over every file.

An edge: reads and writes files. The rules: no pickle; a folder appears whole or not at all; a flipped bit, a missing file, an unknown
format or kind is refused before any number is used.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from paretune.atomic import write_folder
from paretune.errors import ArtefactError, DataError
from paretune.ports import ValueModel
from paretune.records import Floats

FORMAT: Final = 1
KINDS: Final = {  # kind -> module with `from_arrays(arrays, manifest)`
    "smooth": "paretune.value.smooth",
    "replay": "paretune.value.replay",
    "paper": "paretune.value.paper_net",
    "ridge": "paretune.value.ridge",
    "averaged": "paretune.value.ensemble",
    "cautious": "paretune.value.caution",
}
ARRAYS: Final = "arrays.npz"
MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"  # as `sha256sum -c` reads it
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_.-]+)")
_AGAIN = "copy the folder again, or train and save the model again"


class Storable(Protocol):
    """A model that can be taken apart into arrays and JSON-able values."""

    @property
    def name(self) -> str:
        """A key of KINDS."""
        ...

    def arrays(self) -> dict[str, Floats]:
        """Return all numbers of the model, no objects."""
        ...

    def manifest(self) -> dict[str, Any]:
        """Return all else, JSON-able."""
        ...


def save_model(model: Storable, folder: str | Path, *, extra: Mapping[str, bytes] | None = None) -> None:
    """Write the model as `folder`, in place of an earlier one.

    Args:
        model: of a kind in KINDS.
        folder: the artefact; its parents are made.
        extra: more files of the artefact, by name; checksummed like the rest.

    Raises:
        ArtefactError: the model holds something that is not a plain array.
    """
    write_folder(Path(folder), model_files(model, extra=extra))


def model_files(model: Storable, *, extra: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Return the files of the model's artefact by name, `SHA256SUMS` among them; see `save_model`.

    Raises:
        ArtefactError: the model holds something that is not a plain array.
    """
    buffer = io.BytesIO()
    try:
        np.savez(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in model.arrays().items()})
        notes = json.dumps({"format": FORMAT, "kind": model.name, **model.manifest()}, indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ArtefactError(f"the model cannot be stored: {error}", hint="its numbers must be plain arrays, its losses finite") from error
    files = {**(extra or {}), ARRAYS: buffer.getvalue(), MANIFEST: notes.encode()}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    return files | {SUMS: sums.encode()}


def load_model(folder: str | Path) -> ValueModel:
    """Return the model that `save_model` wrote.

    Args:
        folder: of the model, in a run or on its own.

    Raises:
        ArtefactError: the folder is torn, altered, of another format or kind, or holds objects.
        MissingExtraError: the kind needs an optional dependency.
    """
    return model_of(verified_files(Path(folder)), source=str(folder))


def model_of(files: Mapping[str, bytes], *, source: str) -> ValueModel:
    """Return the model of an artefact's files.

    Args:
        files: of `model_files`, or of `verified_files`.
        source: where they come from, for messages.

    Raises:
        ArtefactError: they are of another format or kind, or hold objects.
        MissingExtraError: the kind needs an optional dependency.
    """
    try:
        manifest = json.loads(files[MANIFEST])
        version, kind = manifest["format"], manifest["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{MANIFEST} of {source} is not a manifest: {error!r}", hint=_AGAIN) from error
    if version != FORMAT or kind not in KINDS:
        raise ArtefactError(
            f"{source} has format {version!r} and kind {kind!r}; known are format {FORMAT} and kinds {sorted(KINDS)}",
            hint="read it with the release of paretune that wrote it",
        )
    try:
        with np.load(io.BytesIO(files[ARRAYS]), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return build(kind, arrays, manifest)
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"{ARRAYS} of {source} does not hold a {kind} model: {error!r}", hint=_AGAIN) from error
    except DataError as error:
        raise ArtefactError(f"{source} does not hold a {kind} model: {error.args[0]}", hint=_AGAIN) from error


def build(kind: str, arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return a model of one kind from its parts; its module is imported now and no earlier.

    Raises:
        ArtefactError: a number is not finite.
    """
    wrong = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if wrong:
        raise ArtefactError(f"arrays {wrong} of the {kind} model hold NaN or infinity", hint="train and save the model again")
    return importlib.import_module(KINDS[kind]).from_arrays(arrays, manifest)


def verified_files(folder: Path) -> dict[str, bytes]:
    """Return the files of an artefact by name, each equal to its checksum.

    Raises:
        ArtefactError: a file is missing or altered.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
        matches = [_SUM_LINE.fullmatch(line) for line in lines[:-1]]
        listed = {match[2]: match[1] for match in matches if match}
        whole = len(listed) == len(lines) - 1 and lines[-1] == "" and {ARRAYS, MANIFEST} <= listed.keys()
        files = {name: (folder / name).read_bytes() for name in listed}
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{folder} is not a whole model: {error}", hint=_AGAIN) from error
    altered = sorted(name for name, content in files.items() if hashlib.sha256(content).hexdigest() != listed[name])
    if altered or not whole:
        raise ArtefactError(f"{folder} was altered or torn: {', '.join(altered) or SUMS} differs from its checksum", hint=_AGAIN)
    return files
