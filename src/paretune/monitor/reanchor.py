"""Weights that mean what they meant: when a head is rescaled, its weights are divided by the factor, and its share of utility stays.

    w_i' = w_i / c_i,   |w_i' h_i'| / sum |w' h'| = |w_i h_i| / sum |w h|   where h_i' = c_i h_i   (Eq. 11 of the paper)

The rule: static weight and grid of a head move together, so the levels keep their places between negligible and dominant, a model of
values by level stays right, and only the numbers that the ranker multiplies with change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from paretune.config import Config, HeadSection, Tune, parse_config
from paretune.errors import ConfigError
from paretune.ports import ValueModel


def reanchored(config: Config, factors: Mapping[str, float]) -> Config:
    """Return the configuration with static weights and ranges divided by the factors of rescaled heads.

    Args:
        config: in force until now.
        factors: head -> current over earlier scale of its scores; heads that are not named stay.

    Raises:
        ConfigError: an unknown head, or a factor that is not positive.
    """
    names = [head.name for head in config.surface.heads]
    if wrong := [name for name, factor in factors.items() if name not in names or not factor > 0]:
        raise ConfigError(f"cannot rescale {wrong}", hint=f"give a positive factor for heads among {', '.join(names)}")
    raw = config.model_dump(mode="json")
    heads = [_rescaled(head, factors.get(head.name, 1.0)) for head in config.surface.heads]
    raw["surface"]["heads"] = [head.model_dump(mode="json") for head in heads]
    return parse_config(raw, source="re-anchored configuration")


def reanchored_model(model: ValueModel, factors: Mapping[str, float]) -> ValueModel:
    """Return the model for re-anchored weights: what it says of a level stays, the level's weights are divided by the factors.

    Models know weights by where they stand between a head's levels, on a log or a linear scale; dividing all of them moves nothing.

    Args:
        model: of `paretune.value`, single or several averaged.
        factors: as of `reanchored`.

    Raises:
        ConfigError: as of `reanchored`.
    """
    one: Any = model
    if hasattr(one, "averaged"):
        return replace(one, averaged=reanchored_model(one.averaged, factors))
    if hasattr(one, "members"):
        return replace(one, members=tuple(reanchored_model(member, factors) for member in one.members))
    return replace(one, origin=replace(one.origin, config=reanchored(one.origin.config, factors)))


def _rescaled(head: HeadSection, factor: float) -> HeadSection:
    if factor == 1.0:
        return head
    tune = head.tune
    moved = None if tune is None else Tune(low=tune.low / factor, high=tune.high / factor, levels=tune.levels, spacing=tune.spacing)
    return HeadSection(name=head.name, weight=head.weight / factor, tune=moved)
