"""The features of requests as a model reads them: what each must be, and arrays with one row per request.

The rule: a request is read or refused, never guessed at. Everything is checked after the cast to what the model computes in: 1e308 is a
number, and infinity in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from paretune.errors import ArtefactError, DataError
from paretune.records import Ints, State
from paretune.serving.scoring import FeatureError, Inputs
from paretune.value.features import Encoder

_MOST = float(np.finfo(np.float32).max)
_LARGEST_TOKEN = int(np.iinfo(np.int32).max)
_BYTES = (bytes, bytearray, memoryview)
_NUMBERS = (float, int, np.floating, np.integer)


@dataclass(frozen=True, slots=True)
class Feature:
    """What one feature of a request must be."""

    name: str
    kind: Literal["number", "text", "vector", "tokens"]
    size: int  # numbers of a vector, tokens of a sequence; 1 otherwise
    missing: bool  # may be absent, since training met that
    absent: str = ""  # text that stands for an absent word: one that training never met


def features_of(encoders: Sequence[Encoder]) -> tuple[Feature, ...]:
    """Return what a request must hold for models that read the same features: numbers, vectors, texts, token sequences.

    Raises:
        ArtefactError: the encoders read different features.
    """
    found = [_features(encoder) for encoder in encoders]
    if len({tuple((feature.name, feature.kind, feature.size) for feature in each) for each in found}) != 1:
        raise ArtefactError("the members of the model read different features", hint="train all with the same configuration")
    words = [{word for encoder in encoders for word in encoder.categorical[i].words} for i in range(len(encoders[0].categorical))]
    texts = iter(words)
    merged = []
    for same in zip(*found, strict=True):
        missing = any(feature.missing for feature in same)
        absent = _unmet(next(texts)) if same[0].kind == "text" else ""
        merged.append(Feature(same[0].name, same[0].kind, same[0].size, missing, absent))
    return tuple(merged)


def feature_notes(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """Return the features as JSON-able values."""
    return [asdict(feature) for feature in features]


class Reader:
    """Reads requests one by one; the tables it needs are made once."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._readers: tuple[tuple[str, Callable[[Any], Any], Any], ...] = tuple(
            (feature.name, _READERS[feature.kind](feature), _absent(feature)) for feature in features
        )

    def read(self, features: Mapping[str, Any]) -> Inputs:
        """Return one row per feature.

        Raises:
            FeatureError: naming the feature.
        """
        inputs = {}
        for name, read, absent in self._readers:
            value = features.get(name)
            if value is None:
                if absent is None:
                    raise FeatureError(name, "is missing, and training never met that", missing=True)
                inputs[name] = absent
            else:
                inputs[name] = read(value)
        return inputs


def state_inputs(state: State, features: Sequence[Feature]) -> Inputs:
    """Return n states as inputs of n rows.

    Raises:
        DataError: a feature is absent or of another shape.
    """
    inputs: dict[str, Any] = {}
    groups: dict[str, Mapping[str, Any]] = {"text": state.categorical, "tokens": state.sequence}
    for feature in features:
        group = groups.get(feature.kind, state.numeric if feature.name in state.numeric else state.embedding)
        if feature.name not in group:
            raise DataError(f"feature {feature.name!r} is absent from the state", hint="score the states the model was trained on")
        column = group[feature.name]
        if feature.kind == "text":
            inputs[feature.name] = np.array([*column.vocabulary, feature.absent], dtype=object)[column.codes]
        elif feature.kind == "tokens":
            tokens = np.asarray(column)[:, -feature.size :].astype(np.int32)
            inputs[feature.name] = np.pad(tokens, ((0, 0), (feature.size - tokens.shape[1], 0)), constant_values=-1)
        else:
            shape = (len(state),) if feature.kind == "number" else (len(state), feature.size)
            inputs[feature.name] = np.asarray(column, dtype=np.float32).reshape(shape)
    return inputs


def drawn_inputs(encoders: Sequence[Encoder], n: int, *, rng: np.random.Generator) -> Inputs:
    """Return n made-up requests that look like the training rows column by column, with missing values and unknown words among them."""
    encoder, inputs = encoders[0], dict[str, Any]()
    scaled = {scaled.name: scaled for scaled in (*encoder.numeric, *encoder.embedding)}
    words = {words.name: words for words in encoder.categorical}
    tokens = {tokens.name: tokens for tokens in encoder.sequence}
    for feature in features_of(encoders):
        if feature.kind == "text":
            known = np.array([*words[feature.name].words, feature.absent], dtype=object)
            inputs[feature.name] = known[rng.integers(0, len(known), n)]
        elif feature.kind == "tokens":
            drawn = rng.integers(0, tokens[feature.name].vocabulary, (n, feature.size))
            drawn[np.arange(feature.size) < rng.integers(0, feature.size + 1, n)[:, None]] = -1
            inputs[feature.name] = drawn.astype(np.int32)
        else:
            mean, scale = np.array(scaled[feature.name].mean), np.array(scaled[feature.name].scale)
            sd = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
            raw = (mean + sd * rng.normal(size=(n, feature.size))).clip(-_MOST, _MOST).astype(np.float32)
            if feature.missing:
                raw[rng.random(n) < 0.1] = np.nan
            inputs[feature.name] = raw[:, 0] if feature.kind == "number" else raw
    return inputs


def taken(inputs: Inputs, rows: Ints | slice) -> dict[str, Any]:
    """Return the rows asked for."""
    return {name: column[rows] for name, column in inputs.items()}


def _features(encoder: Encoder) -> list[Feature]:
    return [
        *(Feature(scaled.name, "number", 1, scaled.missing) for scaled in encoder.numeric),
        *(Feature(scaled.name, "vector", len(scaled.mean), scaled.missing) for scaled in encoder.embedding),
        *(Feature(words.name, "text", 1, words.unknown) for words in encoder.categorical),
        *(Feature(tokens.name, "tokens", tokens.length, False) for tokens in encoder.sequence),
    ]


def _unmet(words: set[str]) -> str:
    absent = ""
    while absent in words:
        absent += "?"
    return absent


def _absent(feature: Feature) -> Any:
    """Return the row of an absent feature; None where it must not be absent."""
    if not feature.missing:
        return None
    if feature.kind == "text":
        return _text_row(feature.absent)
    return np.full(1 if feature.kind == "number" else (1, feature.size), np.nan, dtype=np.float32)


def _text_row(text: str) -> Any:
    return np.array([text], dtype=object)


def _number_reader(feature: Feature) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, _NUMBERS) or isinstance(value, bool):
            if isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "fiu":
                value = value.item()
            else:
                raise FeatureError(feature.name, f"is {_described(value)}, not a number")
        if not -_MOST <= value <= _MOST:
            raise FeatureError(feature.name, "is not a finite number in float32")
        return np.array([value], dtype=np.float32)

    return read


def _text_reader(feature: Feature) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise FeatureError(feature.name, f"is {_described(value)}, not text")
        if "\0" in value or not (value.isascii() or _encodable(value)):
            raise FeatureError(feature.name, "is not plain Unicode text")
        return np.array([value], dtype=object)

    return read


def _vector_reader(feature: Feature) -> Callable[[Any], Any]:
    sizes = {2 * feature.size: "<f2", 4 * feature.size: "<f4"}

    def read(value: Any) -> Any:
        if isinstance(value, _BYTES):
            kind = sizes.get(len(value) if isinstance(value, bytes) else memoryview(value).nbytes)
            if kind is None:
                raise FeatureError(
                    feature.name, f"has {len(value)} bytes, not {feature.size} numbers of float16 or float32 (little endian)"
                )
            numbers: Any = np.frombuffer(value, dtype=kind)
        else:
            numbers = _listed(feature, value, kinds="fiu", of="numbers", allowed=_NUMBERS)
            if len(numbers) != feature.size:
                raise FeatureError(feature.name, f"has {len(numbers)} numbers, not {feature.size}")
            if numbers.dtype.itemsize > 4 and not (np.abs(numbers, dtype=np.float64) <= _MOST).all():
                raise FeatureError(feature.name, "holds a number that is not finite in float32")
        if b"\0" in np.isfinite(numbers).tobytes():  # twice as quick as all()
            raise FeatureError(feature.name, "holds a number that is not finite in float32")
        return numbers.astype(np.float32)[None]

    return read


def _tokens_reader(feature: Feature) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if isinstance(value, _BYTES):
            if (len(value) if isinstance(value, bytes) else memoryview(value).nbytes) % 2:
                raise FeatureError(feature.name, f"has {len(value)} bytes, not whole tokens of int16 (little endian)")
            tokens: Any = np.frombuffer(value, dtype="<i2")
        else:
            tokens = _listed(feature, value, kinds="iu", of="whole numbers", allowed=(int, np.integer))
        if len(tokens) and _outside(tokens):
            raise FeatureError(feature.name, "holds a token that is neither -1 (padding) nor a whole number in int32")
        row = np.full((1, feature.size), -1, dtype=np.int32)
        newest = tokens[-feature.size :]
        if len(newest):
            row[0, -len(newest) :] = newest
        return row

    return read


_READERS: dict[str, Callable[[Feature], Callable[[Any], Any]]] = {
    "number": _number_reader,
    "text": _text_reader,
    "vector": _vector_reader,
    "tokens": _tokens_reader,
}


def _listed(feature: Feature, value: Any, *, kinds: str, of: str, allowed: tuple[type, ...]) -> Any:
    """Return a list, tuple or array of the kinds, numbers that may be fractions as an array.

    Raises:
        FeatureError: it is none, or holds something else.
    """
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or value.dtype.kind not in kinds:
            raise FeatureError(feature.name, f"is an array of shape {value.shape} and type {value.dtype}, not a list of {of}")
        return value
    if not isinstance(value, list | tuple):
        raise FeatureError(feature.name, f"is {_described(value)}, not a list of {of}")
    if not set(map(type, value)) <= _PLAIN[kinds] and any(isinstance(item, bool) or not isinstance(item, allowed) for item in value):
        raise FeatureError(feature.name, f"holds something else than {of}")
    if "f" not in kinds:
        return value
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        raise FeatureError(feature.name, "holds a number that is too large") from None


_PLAIN: dict[str, set[type]] = {"fiu": {float, int}, "iu": {int}}


def _outside(tokens: Any) -> bool:
    if isinstance(tokens, np.ndarray):
        return bool(tokens.min() < -1 or (tokens.dtype.itemsize > 2 and tokens.max() > _LARGEST_TOKEN))
    return bool(min(tokens) < -1 or max(tokens) > _LARGEST_TOKEN)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(value: Any) -> str:
    return {"bool": "a truth value", "dict": "an object", "list": "a list", "str": "text"}.get(
        type(value).__name__, f"of type {type(value).__name__}"
    )
