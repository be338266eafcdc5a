"""A front on disk: front.json for programs, front.parquet for people with a notebook, replicates.npy for whoever draws bands again.

An edge: writes and reads files. The rule: what is read back equals what was written, NaN included; each file appears whole or not at all.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paretune.atomic import write_whole
from paretune.errors import ArtefactError, in_words
from paretune.frontier.curve import Curve
from paretune.frontier.front import CohortLifts, CohortSweep, Expectation, Front, Guarded, Lifts, Pick, Policy
from paretune.frontier.ladder import Ladder
from paretune.frontier.verdict import Refusal
from paretune.records import Floats

FORMAT = 1
FRONT, TABLE, REPLICATES, CURVE = "front.json", "front.parquet", "replicates.npy", "curve.parquet"


def save_front(front: Front, folder: str | Path, *, heads: tuple[str, ...], curve: Curve | None = None) -> None:
    """Write a front into a folder, in place of an earlier one.

    Args:
        front: what a sweep found.
        folder: made if missing.
        heads: (m,) names of the weights.
        curve: the hit estimator's lifts at every alpha at which a choice changes, with two objectives; written as curve.parquet.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lifts = {field.name: _plain(getattr(front.lifts, field.name)) for field in fields(Lifts) if field.name != "replicates"}
    policies = [{field.name: _plain(getattr(policy, field.name)) for field in fields(Policy)} for policy in front.policies]
    picks = [{field.name: getattr(pick, field.name) for field in fields(Pick)} for pick in front.picks]
    written = {
        "format": FORMAT,
        "lifts": lifts,
        "policies": policies,
        "picks": [{name: _plain(item) for name, item in pick.items()} for pick in picks],
        "non_dominated": front.non_dominated.tolist(),
        "mean_weights": _plain(front.mean_weights),
        "action_shares": _plain(front.action_shares),
        "expectation": _fields(front.expectation),
        "by_cohort": _fields(front.by_cohort),
        "refusal": _fields(front.refusal),
        "ladder": None if front.ladder is None else front.ladder.plain(),
        "guarded": _fields(front.guarded),
        "minimised": list(front.minimised),
        "changed": None if front.changed is None else _plain(front.changed),
        "cohort_sweep": _fields(front.cohort_sweep),
        "verdicts": list(front.verdicts),
    }
    temporary = folder / ".replicates.tmp.npy"
    np.save(temporary, front.lifts.replicates, allow_pickle=False)
    temporary.replace(folder / REPLICATES)
    _write_table(front_table(front, heads=heads), folder / TABLE)
    if curve is not None:
        lift = {f"{name}_lift": curve.values[:, j] for j, name in enumerate(front.lifts.objectives)}
        _write_table(pl.DataFrame({"alpha_from": curve.starts, **lift, "hits": curve.hits}), folder / CURVE)
    write_whole(folder / FRONT, json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False).encode())


def load_front(folder: str | Path) -> Front:
    """Return the front that `save_front` wrote.

    Args:
        folder: of a run, or another that holds front.json.

    Raises:
        ArtefactError: the files are missing, torn, or of another format.
    """
    folder = Path(folder)
    try:
        written = json.loads((folder / FRONT).read_text(encoding="utf-8"))
        if written["format"] != FORMAT:
            raise ArtefactError(
                f"{folder / FRONT} has format {written['format']!r}, expected {FORMAT}", hint="read it with the release that wrote it"
            )
        replicates = np.load(folder / REPLICATES, allow_pickle=False)
        return _front(written, replicates)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{folder} holds no whole front: {in_words(error)}", hint="make it again with `paretune sweep LOGS`") from error


def decode_front(document: bytes, *, source: str = "front") -> Front:
    """Return the front in a front.json, without the bootstrap's draws: (0, P, M).

    Args:
        document: as `save_front` writes it.
        source: named in errors.

    Raises:
        ArtefactError: it is torn, or of another format.
    """
    try:
        written = json.loads(document)
        if written["format"] != FORMAT:
            raise ArtefactError(
                f"{source} has format {written['format']!r}, expected {FORMAT}", hint="read it with the release that wrote it"
            )
        return _front(written, np.empty((0, len(written["policies"]), len(written["lifts"]["objectives"]))))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError(f"{source} is no whole front: {in_words(error)}", hint="publish the policy again, with its run") from error


def _front(written: dict[str, Any], replicates: Floats) -> Front:
    lifts = Lifts(**{name: _record(value) for name, value in written["lifts"].items()}, replicates=replicates)
    return Front(
        policies=tuple(_policy(policy) for policy in written["policies"]),
        lifts=lifts,
        non_dominated=np.array(written["non_dominated"], dtype=np.bool_),
        picks=tuple(_pick(pick) for pick in written["picks"]),
        mean_weights=np.array(written["mean_weights"], dtype=np.float64),
        action_shares=np.array(written["action_shares"], dtype=np.float64),
        expectation=_optional(Expectation, written.get("expectation")),
        by_cohort=_optional(CohortLifts, written.get("by_cohort")),
        refusal=_optional(Refusal, written.get("refusal")),
        ladder=None if written.get("ladder") is None else Ladder.of_plain(written["ladder"]),
        guarded=_optional(Guarded, written.get("guarded")),
        minimised=tuple(written.get("minimised", ())),
        changed=None if written.get("changed") is None else np.array(written["changed"], dtype=np.float64),
        cohort_sweep=_optional(CohortSweep, written.get("cohort_sweep")),
        verdicts=tuple(written.get("verdicts", ())),
    )


def front_table(front: Front, *, heads: tuple[str, ...]) -> pl.DataFrame:
    """Return one row per policy: what it is, its lifts with intervals and bands, the average weights it serves."""
    lifts = front.lifts
    picked = front.labels()
    labels = ["; ".join(picked.get(p, ())) for p in range(len(front.policies))]
    columns: dict[str, Any] = {
        "policy": [policy.name for policy in front.policies],
        "kind": [policy.kind for policy in front.policies],
        "alpha": pl.Series([policy.alpha for policy in front.policies], dtype=pl.Float64),
        "non_dominated": front.non_dominated,
        "picks": labels,
        "hits": lifts.hits,
    }
    expected = front.expectation
    if expected is not None:
        columns |= {"probability_degrading": expected.degrading, "probability_on_front": expected.on_front}
        columns |= {f"{name}_expected": expected.mean[:, j] for j, name in enumerate(lifts.objectives)}
    for j, name in enumerate(lifts.objectives):
        for what in ("estimate", "std_error", "low", "high", "band_low", "band_high"):
            columns[f"{name}_{'lift' if what == 'estimate' else what}"] = getattr(lifts, what)[:, j]
    return pl.DataFrame(columns | {f"mean_weight_{head}": front.mean_weights[:, i] for i, head in enumerate(heads)})


def _write_table(table: pl.DataFrame, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.write_parquet(temporary)
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """Return what JSON holds; numbers that are not finite become null, and NaN when they are read."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fields(record: Any) -> Any:
    """Return a record of arrays and plain values as an object of JSON; None as it is."""
    return None if record is None else {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def _optional(kind: Any, written: Any) -> Any:
    return None if written is None else kind(**{name: _record(value) for name, value in written.items()})


def _record(value: Any) -> Any:
    """Return a field of the lifts: arrays of numbers where a list of numbers was written, tuples of names else."""
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], str):
        return tuple(value)
    whole = all(isinstance(item, int) for item in value)
    return np.array(value, dtype=np.int64 if whole else np.float64)


def _pick(written: dict[str, Any]) -> Pick:
    risk = written["probability_degrading"]
    return Pick(**{**written, "probability_degrading": math.nan if risk is None else float(risk)})


def _policy(written: dict[str, Any]) -> Policy:
    weights = None if written["weights"] is None else np.array(written["weights"], dtype=np.float64)
    cohorts = tuple((str(name), float(alpha)) for name, alpha in written["cohort_alphas"])
    tables = tuple((str(name), tuple(float(w) for w in vector)) for name, vector in written.get("cohort_weights", ()))
    read = {"weights": weights, "cohort_alphas": cohorts, "scalarisation": tuple(written["scalarisation"]), "cohort_weights": tables}
    return Policy(**{**written, **read})
