"""Groups of features that belong together, and configurations that see one group only (App. A.4 of the paper).

The rule: a group is a subset of the configured features; everything else of the configuration stays as it is.
"""

from __future__ import annotations

from paretune.config import Config, parse_config
from paretune.errors import ConfigError

EVERYTHING = "all features"


def feature_groups(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the features of each group that has any: those of `features.groups`, or by kind where it is empty.

    By kind: numbers, embeddings and the cohort column are `user`, action sequences are `sequence`, other categoricals are `context`.
    """
    features = config.features
    if features.groups:
        return {group: tuple(members) for group, members in features.groups.items()}
    cohort = config.logs.columns.cohort
    groups = {
        "user": (*features.numeric, *(e.name for e in features.embeddings), *(name for name in features.categorical if name == cohort)),
        "sequence": tuple(sequence.name for sequence in features.sequences),
        "context": tuple(name for name in features.categorical if name != cohort),
    }
    return {group: members for group, members in groups.items() if members}


def with_groups(config: Config, groups: dict[str, list[str]]) -> Config:
    """Return the configuration with these groups of features.

    Raises:
        ConfigError: a group is empty or names something that is no feature.
    """
    raw = config.model_dump(mode="json")
    return parse_config(raw | {"features": raw["features"] | {"groups": groups}}, source="--group")


def only(config: Config, names: tuple[str, ...]) -> Config:
    """Return the configuration that sees some features alone.

    Raises:
        ConfigError: a name is no feature, or there is none.
    """
    features = config.features
    embeddings = [feature for feature in features.embeddings if feature.name in names]
    sequences = [feature for feature in features.sequences if feature.name in names]
    plain = {key: [name for name in getattr(features, key) if name in names] for key in ("numeric", "categorical")}
    known = [*plain["numeric"], *plain["categorical"], *(e.name for e in embeddings), *(s.name for s in sequences)]
    if not known or set(names) - set(known):
        raise ConfigError(f"no features {sorted(set(names) - set(known))}", hint="name the log's own columns, as under [features]")
    return config.model_copy(
        update={"features": features.model_copy(update={**plain, "embeddings": embeddings, "sequences": sequences, "groups": {}})}
    )
