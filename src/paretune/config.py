"""The one TOML file: a pydantic record per section, defaults that work, the unit in the key, unknown keys refused.

An edge: reads and writes `paretune.toml`. Everything inside the package takes the records, never the file.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paretune.errors import ConfigError
from paretune.surface.grid import spaced
from paretune.surface.heads import Head, Surface

Name = Annotated[str, Field(min_length=1, max_length=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=1, le=3650)]


class Section(BaseModel):
    """A part of the file: strict types, no unknown keys, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Tune(Section):
    """Over which weights a head is explored; the paper's K = 7 linear levels."""

    low: float = Field(gt=0, description="smallest weight: the head is near-negligible")
    high: float = Field(gt=0, description="largest weight: the head dominates")
    levels: int = Field(7, ge=2, le=50, description="number of weights between low and high")
    spacing: Literal["linear", "log"] = Field("linear", description="linear (the paper's) or log")


class HeadSection(Section):
    """One head of the ranker."""

    name: Name = Field(description="name of the predicted outcome")
    weight: float = Field(description="static production weight")
    tune: Tune | None = Field(None, description="leave out for heads that keep their static weight")


class SurfaceSection(Section):
    """Heads in the order of the logged scores."""

    k: int = Field(25, ge=1, le=1000, description="items served per request")
    heads: list[HeadSection] = Field(min_length=1, description="heads of the ranker, in the order of the logged scores")

    def build(self) -> Surface:
        """Return the control surface.

        Raises:
            SurfaceError: the heads do not make one.
        """
        return Surface(
            tuple(
                Head(h.name, h.weight, spaced(h.tune.low, h.tune.high, h.tune.levels, log=h.tune.spacing == "log") if h.tune else ())
                for h in self.heads
            ),
            self.k,
        )


class Objective(Section):
    """What a policy is judged by: a per-request event count and its reward transform (Eq. 3)."""

    name: Name = Field(description="name of the objective in tables and pictures")
    column: Name = Field(description="log column with the raw event count of the request")
    head: Name | None = Field(None, description="the head that predicts it; needed by list-replay")
    transform: Literal["clip", "two-level", "log1p", "identity"] = Field(
        "clip", description="clip = min(count, 1), the paper's; two-level = 1 for any event, 1.5 for several; log1p or identity"
    )
    direction: Literal["maximise", "minimise"] = Field("maximise", description="maximise or minimise, e.g. hides")


class Guardrail(Section):
    """An objective that must not fall by more than a margin."""

    objective: Name = Field(description="name of an objective")
    floor_pct: float = Field(
        0.0, le=0, description="lowest acceptable relative lift, in per cent; of a minimised objective, -0.5 = may rise by 0.5"
    )


class SequenceFeature(Section):
    """An integer token per past action, newest last."""

    name: Name = Field(description="log column")
    length: int = Field(ge=1, le=2000, description="actions kept per request")
    vocabulary: int = Field(ge=1, description="tokens are 0..vocabulary-1; larger ones share buckets by remainder")


class EmbeddingFeature(Section):
    """A vector per request."""

    name: Name = Field(description="log column")
    size: int = Field(ge=1, le=65536, description="numbers per request")
    dtype: Literal["float16", "float32"] = Field("float32", description="layout of binary columns; lists are read as they are")


class Features(Section):
    """State columns of the log: what is known when the request arrives."""

    numeric: list[Name] = Field([], description="log columns that hold a number")
    categorical: list[Name] = Field([], description="log columns that hold one of a few values, as text or number")
    embeddings: list[EmbeddingFeature] = Field([], description="log columns that hold a vector")
    sequences: list[SequenceFeature] = Field([], description="log columns that hold past actions")
    groups: dict[Name, list[Name]] = Field(
        {},
        description="group -> its features, for `paretune isolate`; empty = numbers and embeddings are user, sequences, context the rest",
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [*self.numeric, *self.categorical, *(e.name for e in self.embeddings), *(s.name for s in self.sequences)]
        if len(set(names)) != len(names):
            raise ValueError(f"a feature is named twice: {sorted({n for n in names if names.count(n) > 1})}")
        for group, members in self.groups.items():
            if not members or not set(members) <= set(names):
                raise ValueError(f"group {group!r} names {members}; features are {names}")
        return self


class Columns(Section):
    """Names of the fixed log columns in your files; the defaults are the schema's own names."""

    request_id: Name = Field("request_id", description="unique id of the request")
    user: Name = Field("user", description="user id; evidence is clustered by it")
    ts: Name = Field("ts", description="time of the request (UTC), or microseconds since 1970")
    day: Name = Field("day", description="day of the request, also the key of the day folders")
    cohort: Name = Field("cohort", description="user group; optional")
    session: Name = Field("session", description="session id; optional")
    action: Name = Field("action", description="0 = production, 1.. = grid; null where the weights are off the grid")
    weights: Name = Field("weights", description="full weight vector that was served; read where there is no action")
    propensity: Name = Field("propensity", description="probability of what was really served")
    reason: Name = Field("reason", description="EXPLORE marks exploration rows")
    plan: Name = Field("plan", description="plan in force; optional")
    candidate_ids: Name = Field("candidate_ids", description="items that can reach the list; optional")
    candidate_scores: Name = Field("candidate_scores", description="their head scores, row by row; optional")
    served_scores: Name = Field("served_scores", description="head scores of the served items, in list order; optional")
    label_age_h: Name = Field("label_age_h", description="hours between the request and the reading of its events; optional")


class Logs(Section):
    """Layout of the log files."""

    columns: Columns = Field(Columns(), description="names of the fixed columns in your files")
    candidate_scores_dtype: Literal["float16", "float32"] = Field("float16", description="layout of binary candidate scores")
    reward_window_h: float = Field(24.0, gt=0, description="hours after which a request's rewards are complete")


class Cohorts(Section):
    """User groups that may get a trade-off of their own."""

    values: list[Name] = Field([], description="known cohorts; empty = whatever the log holds")


class Exploration(Section):
    """How exploration traffic is drawn."""

    share: Share = Field(0.0125, description="share of requests explored; the paper's 1.25 %")
    design: Literal["uniform", "logged"] = Field(
        "uniform", description="uniform = 1/K over the grid is checked; logged = trust the column: stage 2, or several designs"
    )


class Evaluation(Section):
    """How policies are trained, judged and drawn."""

    train_days: Days = Field(14, description="days that train, before the held-out ones; the paper's 14")
    hold_out_days: Days = Field(7, description="last days, held out to evaluate; the paper's 7")
    alphas: int = Field(25, ge=2, le=1001, description="points drawn on the front; the paper's 25")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of intervals, and of all bands together")
    replicates: int = Field(1000, ge=100, le=100_000, description="bootstrap replicates over users")
    min_hits: int = Field(100, ge=1, description="fewer logged requests with the policy's action (or as many, pooled): no estimate")
    estimator: Literal["auto", "hit", "action-kernel", "overlap", "overlap-replay"] = Field(
        "auto",
        description="auto = overlap where the log has candidates (with replay if objectives have heads), else action-kernel; "
        "hit = exact actions only, the paper's",
    )
    smallest_lift_pct: float = Field(1.0, gt=0, le=100, description="smallest lift worth having; sizes the log that a refusal asks for")
    tolerated_risk: float = Field(
        0.1, gt=0, lt=0.5, description="largest probability of degrading an objective at which a policy is still promising"
    )


class Training(Section):
    """Which value model, and how it is fitted."""

    model: Literal["auto", "best", "replay", "smooth", "paper", "ridge"] = Field(
        "auto",
        description="auto = replay where the log has candidates, else smooth; best = lowest held-out R-loss; paper = the paper's network; "
        "ridge = linear, no torch",
    )
    candidates: list[Literal["replay", "smooth", "paper", "ridge"]] = Field(
        [], description="kinds that best compares; empty = replay where the log has candidates, smooth and ridge"
    )
    student: Literal["components", "smooth"] = Field(
        "components",
        description="form of replay that serves: components = for the weights of the grid; smooth = for weights between its levels too",
    )
    encoder: Literal["auto", "pooled", "transformer"] = Field(
        "auto", description="how action sequences are read: auto = pooled, by a Transformer in the paper's network, which alone has one"
    )
    max_epochs: int = Field(30, ge=1, le=1000, description="passes over the training rows at most")
    patience: int = Field(3, ge=1, description="epochs without better held-out loss before stopping")
    validation_share: float = Field(0.1, gt=0, lt=0.9, description="users held out of training for early stopping")
    seeds: int = Field(1, ge=1, le=20, description="models averaged")
    ensemble: Literal["seeds", "bootstrap"] = Field(
        "seeds", description="how they differ: seeds = by the seed alone; bootstrap = each on a bootstrap of the users"
    )
    caution: float = Field(
        0.0, ge=0, le=10, description="standard deviations between the models by which a predicted change over production is doubted"
    )

    @model_validator(mode="after")
    def _several(self) -> Self:
        if self.seeds < 2 and (self.ensemble == "bootstrap" or self.caution > 0):
            raise ValueError('ensemble = "bootstrap" and caution need seeds = 2 or more')
        return self


class Rollout(Section):
    """How a policy is watched while it is served, and when it steps back by itself."""

    on_breach: Literal["kill", "rollback"] = Field(
        "kill", description="kill = static weights for everybody; rollback = what was in force before; until a person says otherwise"
    )
    hold_hours: float = Field(24.0, ge=0, le=2400, description="least time at each step before the next")
    least_users: int = Field(1000, ge=1, description="fewest users of the arm, and of its control, before the next step")
    planned_users: int = Field(50_000, ge=100, description="users of both arms at which the watching intervals are to be narrowest")
    planned_days: Days = Field(28, description="days that a ramp is about to take; how the watching intervals share their errors")
    fallback_pct: float = Field(2.0, gt=0, le=100, description="largest share of the arm's requests that may fall back to static weights")
    late_ms: float = Field(50.0, gt=0, description="a decision that takes longer is late")
    late_pct: float = Field(1.0, gt=0, le=100, description="largest share of the arm's decisions that may be late")
    silent_min: float = Field(10.0, gt=0, description="minutes without a new row: no step forward; twice as many: a step back")


class Config(Section):
    """The resolved configuration."""

    surface: SurfaceSection
    objectives: list[Objective] = Field(min_length=1)
    guardrails: list[Guardrail] = Field([], description="objectives that must not fall by more than a margin")
    features: Features = Features()
    cohorts: Cohorts = Cohorts()
    logs: Logs = Logs()
    exploration: Exploration = Exploration()
    evaluation: Evaluation = Evaluation()
    training: Training = Training()
    rollout: Rollout = Rollout()

    @model_validator(mode="after")
    def _references(self) -> Self:
        heads = {head.name for head in self.surface.heads}
        names = [objective.name for objective in self.objectives]
        for objective in self.objectives:
            if objective.head is not None and objective.head not in heads:
                raise ValueError(f"objective {objective.name!r} names head {objective.head!r}; heads are {sorted(heads)}")
        if len(set(names)) != len(names):
            raise ValueError(f"objective names repeat: {names}")
        for guardrail in self.guardrails:
            if guardrail.objective not in names:
                raise ValueError(f"guardrail names objective {guardrail.objective!r}; objectives are {names}")
        return self

    def objective_heads(self) -> tuple[int, ...] | None:
        """Return the head index of each objective, or None where an objective has no head (list-replay needs all)."""
        names = [head.name for head in self.surface.heads]
        heads = [objective.head for objective in self.objectives]
        return None if None in heads else tuple(names.index(str(head)) for head in heads)


def load_config(path: str | Path) -> Config:
    """Return the configuration in a TOML file.

    Args:
        path: of the file, see `paretune init`.

    Raises:
        ConfigError: the file is missing, is not TOML, holds an unknown key or a value out of range; the message names key and file.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration at {path}", hint="write one with `paretune init weights.yaml`, or name it with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read as TOML: {error}", hint="see the comments of a file written by `paretune init`"
        ) from error
    return parse_config(raw, source=str(path))


def parse_config(raw: dict[str, Any], *, source: str = "configuration") -> Config:
    """Return the configuration in parsed TOML.

    Raises:
        ConfigError: an unknown key or a value out of range.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            f"{source}: " + "; ".join(_problem(problem) for problem in error.errors()), hint="mend the keys named above"
        ) from None
    config.surface.build()
    return config


def dump_config(config: Config) -> str:
    """Return the configuration as TOML that `load_config` reads back to an equal record.

    Args:
        config: to be written; `paretune init` writes one with a comment on each key.
    """
    return tomlkit.dumps(config.model_dump(mode="json", exclude_none=True))


def _problem(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "file"
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']} (seen: {problem.get('input')!r})"
    known = _known_keys(Config, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{where}: unknown key{guess} (known: {', '.join(known)})"


def _known_keys(section: Any, path: tuple[Any, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(section.model_fields)
