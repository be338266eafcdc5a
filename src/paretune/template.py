"""A first paretune.toml: from static weights and the columns of a log to a configuration whose every key has a comment.

The rule: what is guessed is said, what could not be guessed is listed, and the text written is read back to the same configuration.
Tuned heads are the two largest positive weights over 0.1 to 2 times the weight, about the paper's 91.6 in [10, 200];
`paretune surface LOGS` proposes better ones from logged head scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tomlkit

from paretune.config import Config, EmbeddingFeature, Guardrail, Section, SequenceFeature, parse_config
from paretune.errors import ConfigError

KNOWN = ("heads", "tune", "k", "objectives", "guardrails")  # keys of a weights file that holds more than head: weight
LEVELS = {1: 15, 2: 7, 3: 4}  # tuned heads -> levels each; more heads get 3
SYNONYMS = {
    "request_id": ("request", "req_id", "impression_id", "query_id"),
    "user": ("user_id", "uid", "member_id", "viewer_id", "customer_id", "user_hash"),
    "ts": ("timestamp", "time", "request_time", "event_time", "served_at"),
    "day": ("date", "dt", "ds"),
    "cohort": ("segment", "user_segment", "user_cohort"),
    "session": ("session_id", "visit_id"),
    "action": ("action_id", "arm", "action_index"),
    "weights": ("served_weights", "weight_vector"),
    "propensity": ("prob", "probability", "propensity_score", "action_prob"),
    "reason": ("decision_reason", "source"),
    "plan": ("plan_version",),
    "candidate_ids": ("candidates", "item_ids"),
    "candidate_scores": ("head_scores", "item_scores"),
    "label_age_h": ("label_age_hours",),
}
NEEDED = ("request_id", "user", "propensity", "reason")  # and an action or weights, and a day or ts
NO_FEATURES = ("events_", "served_", "count_", "n_", "reward")  # beginnings of columns that tell what came of a request
WITHOUT_LIST: dict[type[Section], Section] = {  # shown commented out where a list is empty
    Guardrail: Guardrail(objective="NAME", floor_pct=-0.5),
    EmbeddingFeature: EmbeddingFeature(name="user_embedding", size=64),
    SequenceFeature: SequenceFeature(name="last_actions", length=20, vocabulary=1000),
}
HEADER = """\
# The configuration of paretune. Written by `paretune init`: every key stands here with what it means; keys that keep their
# default may be left out. `paretune check LOGS` tries it on your logs.
"""
RANGES = """\
# Tuned heads are explored over [low, high]. These ranges are a guess from the weights alone:
# `paretune surface LOGS` proposes heads and ranges from the logged head scores.
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a log file, and what a sample of its rows shows."""

    name: str
    kind: Literal["number", "text", "integers", "numbers", "binary", "time", "other"]  # the plurals are lists
    size: int = 0  # longest list, or most bytes of a binary cell
    largest: int = 0  # largest integer of a list


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration to start from, and what its user must know."""

    config: Config
    guessed: tuple[str, ...]
    unknown: tuple[str, ...]  # what a person must look at


def propose_config(weights: Mapping[str, Any], columns: Sequence[Column] | None = None) -> Proposal:
    """Return a configuration for static weights.

    Args:
        weights: head -> weight, or a mapping of the keys in `KNOWN`: `heads` (head -> weight), `tune` (head -> [low, high] or a table of
            low, high, levels, spacing), `k`, `objectives` (names or tables), `guardrails` (tables).
        columns: of a log file; None where there is no log to look at.

    Raises:
        ConfigError: an unknown key, a weight that is no number, no positive weight, or a value out of range.
    """
    heads, given = _parts(weights)
    for key, kind in (("tune", Mapping), ("objectives", list), ("guardrails", list)):
        if key in given and not isinstance(given[key], kind):
            raise ConfigError(f"{key} is {given[key]!r}", hint="write a " + ("mapping of heads" if kind is Mapping else "list"))
    guessed: list[str] = []
    unknown: list[str] = []
    tune = _tune(heads, given, guessed)
    objectives = [dict(o) if isinstance(o, Mapping) else {"name": str(o)} for o in given.get("objectives", list(tune))]
    if "objectives" not in given:
        guessed.append(f"objectives are the tuned heads: {', '.join(tune)}")
    raw: dict[str, Any] = {
        "surface": {
            "k": given.get("k", 25),
            "heads": [{"name": name, "weight": weight, **({"tune": tune[name]} if name in tune else {})} for name, weight in heads.items()],
        },
        "objectives": [_objective(objective, heads, columns, guessed, unknown) for objective in objectives],
        "guardrails": [dict(guardrail) for guardrail in given.get("guardrails", [])],
    }
    if "k" not in given:
        unknown.append("surface.k: how many items a request is served; 25 is written")
    if columns is None:
        unknown.append("features and logs.columns: the columns of your logs; run again with --logs DIR, or fill them in")
    else:
        taken = {objective["column"] for objective in raw["objectives"]}
        raw["logs"] = _fixed_columns(columns, len(heads), guessed, unknown)
        taken |= set(raw["logs"]["columns"].values())
        raw["features"] = _features([c for c in columns if c.name not in taken], heads, guessed, unknown)
    return Proposal(parse_config(raw, source="weights"), tuple(guessed), tuple(unknown))


def render_config(config: Config) -> str:
    """Return the configuration as TOML with a comment on each key; `parse_config` reads it back to an equal record."""
    body = "\n".join(_table(config, "", set()))
    return f"{HEADER}\n{body.strip()}\n"


def guessed_columns(names: Iterable[str]) -> dict[str, str]:
    """Return which column looks like which fixed column of the schema: fixed -> column, by the names that logs give them."""
    there = set(names)
    found = {fixed: next((name for name in (fixed, *others) if name in there), None) for fixed, others in SYNONYMS.items()}
    return {fixed: name for fixed, name in found.items() if name is not None}


def outcome_columns(head: str) -> tuple[str, ...]:
    """Return the names under which logs carry the event count of a head, likeliest first."""
    return (f"events_{head}", head, f"{head}_events", f"{head}_count", f"n_{head}", f"count_{head}", f"{head}s", f"num_{head}")


def _parts(weights: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    nested = isinstance(weights.get("heads"), Mapping)
    given = {str(key): value for key, value in weights.items()} if nested else {}
    strange = sorted(given.keys() - set(KNOWN))
    if strange:
        raise ConfigError(f"the weights file has unknown keys {strange}", hint=f"known keys are {', '.join(KNOWN)}")
    heads = given.pop("heads") if nested else weights
    wrong = [name for name, weight in heads.items() if isinstance(weight, bool) or not isinstance(weight, int | float)]
    if wrong or not heads:
        raise ConfigError(
            f"no number is given for {', '.join(map(str, wrong))}" if wrong else "the weights file names no head",
            hint="write one line per head, such as `save: 91.6`, or put them under `heads:` beside k, tune, objectives and guardrails",
        )
    return {str(name): float(weight) for name, weight in heads.items()}, given


def _tune(heads: Mapping[str, float], given: Mapping[str, Any], guessed: list[str]) -> dict[str, dict[str, Any]]:
    if "tune" in given:
        chosen = dict(given["tune"])
        strange = [name for name in chosen if name not in heads]
        if strange:
            raise ConfigError(f"tune names {strange}, which are no heads", hint=f"heads are {', '.join(heads)}")
        levels = LEVELS.get(len(chosen), 3)
        return {name: _range(name, ends, levels) for name, ends in chosen.items()}
    positive = sorted((name for name, weight in heads.items() if weight > 0), key=lambda name: -heads[name])[:2]
    if not positive:
        raise ConfigError(
            "no head has a positive weight, so none can be tuned", hint="for a negative head, negate its score and its weight"
        )
    for name in positive:
        low, high = _short(0.1 * heads[name]), _short(2 * heads[name])
        guessed.append(
            f"head {name!r} is tuned over {low:g} to {high:g} (0.1 to 2 times its weight); `paretune surface LOGS` proposes better"
        )
    levels = LEVELS[len(positive)]
    return {name: {"low": _short(0.1 * heads[name]), "high": _short(2 * heads[name]), "levels": levels} for name in positive}


def _range(name: str, ends: Any, levels: int) -> dict[str, Any]:
    if isinstance(ends, Mapping):
        return {"levels": levels, **ends}
    if isinstance(ends, Sequence) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends):
        return {"low": float(ends[0]), "high": float(ends[1]), "levels": levels}
    raise ConfigError(f"tune.{name} is {ends!r}", hint="write [low, high], or a table of low, high, levels and spacing")


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _objective(
    given: dict[str, Any], heads: Mapping[str, float], columns: Sequence[Column] | None, guessed: list[str], unknown: list[str]
) -> dict[str, Any]:
    name = str(given.get("name", ""))
    if name in heads:
        given.setdefault("head", name)
    if "column" not in given:
        found = [c.name for c in columns or () if c.name in outcome_columns(name) and c.kind == "number"]
        given["column"] = found[0] if found else f"events_{name}"
        if found:
            guessed.append(f"column {found[0]!r} counts the events of objective {name!r}")
        else:
            unknown.append(
                f"objectives[{name}].column: the column with the request's number of {name!r} events; {given['column']!r} is written"
            )
    return given


def _fixed_columns(columns: Sequence[Column], n_heads: int, guessed: list[str], unknown: list[str]) -> dict[str, Any]:
    names = {column.name: column for column in columns}
    found = guessed_columns(names)
    guessed += [f"column {at!r} is taken for {fixed!r}" for fixed, at in found.items() if at != fixed]
    for fixed in (*NEEDED, *(() if found.keys() & {"action", "weights"} else ("weights",))):
        if fixed not in found:
            unknown.append(f"logs.columns.{fixed}: no column looks like it; the file has {', '.join(sorted(names))}")
    logs: dict[str, Any] = {"columns": found}
    if {"candidate_ids", "candidate_scores"} <= found.keys():
        ids, scores = names[found["candidate_ids"]], names[found["candidate_scores"]]
        if ids.kind == scores.kind == "binary" and scores.size == ids.size * n_heads:  # four bytes an id, four a score
            logs["candidate_scores_dtype"] = "float32"
            guessed.append("candidate scores are read as float32")
    return logs


def _features(columns: Iterable[Column], heads: Mapping[str, float], guessed: list[str], unknown: list[str]) -> dict[str, Any]:
    outcomes = {name for head in heads for name in outcome_columns(head)}
    features: dict[str, Any] = {"numeric": [], "categorical": [], "embeddings": [], "sequences": []}
    for column in columns:
        name = column.name
        if name in outcomes or name.startswith(NO_FEATURES):
            guessed.append(f"column {name!r} looks like what came of a request, and is no feature")
        elif name.endswith("_id") or column.kind in {"time", "other"}:
            unknown.append(f"features: column {name!r} is left out ({'an id' if name.endswith('_id') else 'its type is no feature'})")
        elif column.kind == "binary":
            unknown.append(
                f"features: column {name!r} holds {column.size} bytes; add it under features.embeddings "
                f"(size = {column.size // 2} as float16, {column.size // 4} as float32) or features.sequences (length = {column.size // 2})"
            )
        elif column.kind == "integers":
            features["sequences"].append({"name": name, "length": max(1, column.size), "vocabulary": column.largest + 1})
            guessed.append(f"column {name!r} is a sequence of {column.size} tokens below {column.largest + 1}, as the first file shows")
        elif column.kind == "numbers":
            features["embeddings"].append({"name": name, "size": max(1, column.size)})
        else:
            features["numeric" if column.kind == "number" else "categorical"].append(name)
    if not any(features.values()):
        unknown.append("features: no column is left that is known when the request arrives; personal weights need some")
    return features


def _table(section: Section, path: str, seen: set[type[Section]]) -> Iterator[str]:
    """Yield the lines of a table: plain keys, then sub-tables; comments only where a kind of table comes up first."""
    fresh = type(section) not in seen
    seen.add(type(section))
    fields = type(section).model_fields
    inner = {name: kind for name, field in fields.items() if (kind := _section_of(field.annotation)) is not None}
    for name in (name for name in fields if name not in inner):
        value, note = getattr(section, name), f"  # {fields[name].description}" if fresh else ""
        if value is not None:
            yield f"{name} = {_written(value)}{note}"
        elif fresh:
            yield f'# {name} = "NAME"{note}'
    for name, kind in inner.items():
        value, at = getattr(section, name), f"{path}{name}"
        note = f"# {fields[name].description or (kind.__doc__ or '').splitlines()[0]}"
        if isinstance(value, list):
            yield from _tables(value, at, kind, note=note, seen=seen)
        elif value is not None:
            yield from ("", *((note,) if fresh or kind not in seen else ()), f"[{at}]", *_table(value, f"{at}.", seen))


def _written(value: Any) -> str:
    """Return a plain value as TOML on one line."""
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    return tomlkit.item(value).as_string()


def _tables(sections: list[Section], at: str, kind: type[Section], *, note: str, seen: set[type[Section]]) -> Iterator[str]:
    yield from ("", note)
    if at == "surface.heads":
        yield from RANGES.splitlines()
    if not sections:
        example = (f"[[{at}]]", *_table(WITHOUT_LIST[kind], f"{at}.", seen))
        yield from (f"# {line}" for line in example)
    for place, section in enumerate(sections):
        yield from (*(("",) if place else ()), f"[[{at}]]", *_table(section, f"{at}.", seen))


def _section_of(annotation: Any) -> type[Section] | None:
    """Return the kind of table that a field holds, alone or in a list; None for plain values."""
    options = (annotation, *getattr(annotation, "__args__", ()))
    return next((option for option in options if isinstance(option, type) and issubclass(option, Section)), None)
