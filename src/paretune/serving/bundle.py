"""A serving bundle: a model's artefact, and beside it the graph that any ONNX Runtime host serves, with proof that both say the same.

    arrays.npz  manifest.json  policy.onnx  serving.json  golden.npz  [report.json]  SHA256SUMS

An edge: writes and reads files. The rules: a graph that does not choose as float64 does is not written; a bundle whose checksums, grid or
golden batch disagree is not loaded; no pickle. A bundle is named by its fingerprint, the SHA-256 of its checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from paretune.config import Config
from paretune.errors import ArtefactError, GateError, in_words
from paretune.extras import EXTRAS
from paretune.frontier.assemble import signs_of
from paretune.records import Floats, Ints, State
from paretune.seeds import stream
from paretune.serving.inputs import Reader, drawn_inputs, feature_notes, features_of, state_inputs, taken
from paretune.serving.numpy_scorer import NumpyScorer
from paretune.serving.parts import Parts, model_parts, stored_parts
from paretune.serving.reference import best_actions, reference_values
from paretune.serving.scoring import Inputs, Scorer
from paretune.value.bundle import ARRAYS, MANIFEST, SUMS, Storable, save_model, verified_files

FORMAT: Final = 1
POLICY, SERVING, GOLDEN, REPORT = "policy.onnx", "serving.json", "golden.npz", "report.json"
AGREEMENT: Final = 0.9999  # share of (request, scalarisation) pairs on which the graph must choose as float64 does
TOLERANCE: Final = 1e-5  # of golden values, relative to the largest
GOLDEN_REQUESTS: Final = 64
_REQUESTS, _SCALARISATIONS, _ROWS = 2048, 25, 256
_LOG = logging.getLogger("paretune.serving")
_AGAIN = "export the policy again, or copy the folder again"


class Scoring(Protocol):
    """What both hosts can do with many requests."""

    def score(self, inputs: Inputs, scalarisations: Floats) -> tuple[Ints, Floats]:
        """Return actions (n,) and values (n, K, M)."""
        ...


@dataclass(frozen=True, slots=True)
class Parity:
    """How a graph compares with the model in float64."""

    pairs: int  # (request, scalarisation) pairs compared
    agreement: float  # share with the same action
    largest_error: float  # of values, relative to the largest value


@dataclass(frozen=True, slots=True)
class Golden:
    """Requests with their answers."""

    inputs: Inputs  # of n rows
    scalarisations: Floats  # (n, M)
    actions: Ints  # (n,)
    values: Floats  # (n, K, M) in float64


def save_bundle(
    model: Storable, folder: str | Path, *, scale: Floats, report: dict[str, Any] | None = None, requests: State | None = None
) -> Parity:
    """Write a model as a serving bundle, in place of an earlier one, and return how its graph compares with float64.

    Args:
        model: of any kind.
        folder: its parents are made.
        scale: (M,) direction / production's value, as the sweep that chose the policy used it.
        report: anything that should travel with the bundle, JSON-able.
        requests: on which to compare; made up from the training statistics when left out.

    Raises:
        ArtefactError: the model cannot be served, or the scale does not fit.
        GateError: the graph chooses other actions than the model in float64.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    from paretune.serving.graph import policy_graph
    from paretune.serving.onnx_scorer import OnnxScorer

    parts, scale = model_parts(model), np.asarray(scale, dtype=np.float64)
    _check_scale(scale, parts)
    features, graph = features_of(parts.encoders), policy_graph(parts, scale=scale)
    served = OnnxScorer(graph, reader=Reader(features), **_about(parts, ""))
    rng = stream(0, "bundle")
    inputs = drawn_inputs(parts.encoders, _REQUESTS, rng=rng) if requests is None else state_inputs(requests, features)
    signed = rng.dirichlet(np.ones(len(scale)), _SCALARISATIONS)
    parity, golden = compared(served, parts, inputs, scale=scale, scalarisations=signed)
    if parity.agreement < AGREEMENT or not parity.largest_error <= TOLERANCE:
        raise GateError(
            f"in float32 the policy takes the action of float64 on {parity.agreement:.4%} of {parity.pairs:,} (request, trade-off) pairs, "
            f"with values off by {parity.largest_error:.2g} of the largest; needed are {AGREEMENT:.2%} and {TOLERANCE:g}",
            hint="the model's actions are worth nearly the same, or its features are scaled wildly; train another kind, or on more rows",
        )
    surface = parts.surface
    notes = {
        "format": FORMAT,
        "heads": list(surface.names),
        "static": surface.static.tolist(),
        "levels": {surface.heads[i].name: list(surface.heads[i].levels) for i in surface.tuned},
        "actions": surface.actions.tolist(),
        "objectives": list(parts.objectives),
        "scale": scale.tolist(),
        "features": feature_notes(features),
        "parity": {"pairs": parity.pairs, "agreement": parity.agreement, "largest_error": parity.largest_error},
    }
    files = {POLICY: graph, SERVING: _json(notes), GOLDEN: _golden_file(golden)}
    save_model(model, folder, extra=files if report is None else {**files, REPORT: _json(report)})
    return parity


def load_bundle(folder: str | Path, *, prefer: Literal["onnx", "numpy"] = "onnx") -> Scorer:
    """Return a scorer of the bundle that `save_bundle` wrote.

    Args:
        folder: of the bundle.
        prefer: numpy, or ONNX Runtime; where that is not installed, numpy decides and a warning is logged.

    Raises:
        ArtefactError: a file is missing or altered, the files do not belong to each other, or the golden batch is answered otherwise.
    """
    folder = Path(folder)
    files = verified_files(folder)
    sums = (folder / SUMS).read_bytes()
    if sums != _sums(files):
        raise ArtefactError(f"{folder} changed while it was read", hint=_AGAIN)
    fingerprint = hashlib.sha256(sums).hexdigest()
    try:
        notes, manifest = json.loads(files[SERVING]), json.loads(files[MANIFEST])
        parts = stored_parts(manifest["kind"], _arrays(files[ARRAYS]), manifest)
        scale, features = np.array(notes["scale"], dtype=np.float64), features_of(parts.encoders)
        _check_scale(scale, parts)
        told = (notes["format"], notes["actions"], notes["objectives"], notes["heads"], notes["features"])
        meant = (FORMAT, parts.surface.actions.tolist(), list(parts.objectives), list(parts.surface.names), feature_notes(features))
        if told != meant:
            raise ArtefactError(f"{folder / SERVING} is of another model, grid or format", hint=_AGAIN)
        golden = _golden(files[GOLDEN], tuple(feature.name for feature in features))
        about = {**_about(parts, fingerprint), "reader": Reader(features)}
        plain = NumpyScorer(parts=parts, scale=scale, **about)
        _agree(plain, golden, "numpy")
        if prefer == "numpy":
            return plain
        if EXTRAS["serve"].absent():
            _LOG.warning("onnxruntime is not installed: %s; %s", EXTRAS["serve"].without, EXTRAS["serve"].command)
            return plain
        from paretune.serving.onnx_scorer import OnnxScorer

        served = OnnxScorer(files[POLICY], **about)
        _agree(served, golden, "ONNX Runtime")
        weights = served.weights(golden.inputs, golden.scalarisations)
        if not np.allclose(weights, parts.surface.actions[golden.actions], rtol=1e-6, atol=0):
            raise ArtefactError(f"{folder / POLICY} answers weights of another grid", hint=_AGAIN)
        return served
    except ArtefactError:
        raise
    except Exception as error:  # broad: whatever a forged file makes its reader raise, the bundle is refused
        raise ArtefactError(f"{folder} is no serving bundle: {in_words(error)}", hint=_AGAIN) from error


def scale_of(config: Config, production: Floats) -> Floats:
    """Return (M,) direction / production's value."""
    return signs_of(config) / np.asarray(production, dtype=np.float64)


def compared(scorer: Scoring, parts: Parts, inputs: Inputs, *, scale: Floats, scalarisations: Floats) -> tuple[Parity, Golden]:
    """Return how a host compares with float64 on each pair of request and scalarisation, and the clearest answers as golden ones.

    Args:
        scorer: the host.
        parts: of the model.
        inputs: n rows.
        scale: (M,).
        scalarisations: (P, M).
    """
    rows = len(next(iter(inputs.values())))
    same, largest, error, margins, values = 0, 0.0, 0.0, [], []
    for start in range(0, rows, _ROWS):
        part = taken(inputs, slice(start, start + _ROWS))
        true = reference_values(parts, part, scale=scale)
        n = len(true)
        _, answered = scorer.score(part, np.repeat(scalarisations[:1], n, axis=0))
        error, largest = max(error, float(np.abs(answered - true).max())), max(largest, float(np.abs(true).max()))
        for vector in scalarisations:
            each = np.repeat(vector[None], n, axis=0)
            same += int((scorer.score(part, each)[0] == best_actions(true, each)).sum())
        of_row = scalarisations[(start + np.arange(n)) % len(scalarisations)]
        best = np.sort(np.einsum("nkm,nm->nk", true[:, 1:], of_row), axis=1)
        margins.append(best[:, -1] - best[:, -2] if best.shape[1] > 1 else np.full(n, np.inf))
        values.append(true)
    clearest = np.sort(np.argsort(-np.concatenate(margins), kind="stable")[:GOLDEN_REQUESTS])
    chosen, of_row = np.concatenate(values)[clearest], scalarisations[clearest % len(scalarisations)]
    golden = Golden(taken(inputs, clearest), of_row, best_actions(chosen, of_row), chosen)
    pairs = rows * len(scalarisations)
    return Parity(pairs, same / pairs, error / largest if largest else error), golden


def _agree(scorer: Scoring, golden: Golden, host: str) -> None:
    actions, values = scorer.score(golden.inputs, golden.scalarisations)
    error = float(np.abs(values - golden.values).max()) / float(np.abs(golden.values).max() or 1.0)
    if not error <= TOLERANCE or not np.array_equal(actions, golden.actions):
        raise ArtefactError(
            f"{host} answers the golden batch otherwise: {int((actions != golden.actions).sum())} of {len(actions)} actions differ, "
            f"values by {error:.2g} of the largest",
            hint=_AGAIN,
        )


def _check_scale(scale: Floats, parts: Parts) -> None:
    if scale.shape != (len(parts.objectives),) or not np.isfinite(scale).all() or (scale == 0).any():
        raise ArtefactError(
            f"the scale {scale.tolist()} does not fit objectives {list(parts.objectives)}", hint="give direction / production's value"
        )


def _about(parts: Parts, fingerprint: str) -> dict[str, Any]:
    surface = parts.surface
    return {"fingerprint": fingerprint, "heads": surface.names, "objectives": parts.objectives, "actions": surface.actions}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())).encode()


def _arrays(content: bytes) -> dict[str, Floats]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"arrays of the bundle cannot be read: {error!r}", hint=_AGAIN) from error


def _golden_file(golden: Golden) -> bytes:
    buffer = io.BytesIO()
    columns = {f"input{i}": column.astype(np.str_) if column.dtype == object else column for i, column in enumerate(golden.inputs.values())}
    answers = {"scalarisations": golden.scalarisations, "actions": golden.actions, "values": golden.values}
    np.savez(buffer, allow_pickle=False, **columns, **answers)
    return buffer.getvalue()


def _golden(content: bytes, names: tuple[str, ...]) -> Golden:
    stored = _arrays(content)
    columns = (stored[f"input{i}"] for i in range(len(names)))
    inputs = {name: column.astype(object) if column.dtype.kind == "U" else column for name, column in zip(names, columns, strict=True)}
    golden = Golden(inputs, stored["scalarisations"], stored["actions"], stored["values"])
    if len(golden.actions) == 0 or len(golden.values) != len(golden.actions) or not np.isfinite(golden.values).all():
        raise ArtefactError("the bundle's golden batch is empty or not finite", hint=_AGAIN)
    return golden
