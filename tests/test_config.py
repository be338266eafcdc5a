"""The one TOML file: what it refuses, and how it says so."""

import copy
from pathlib import Path
from typing import Any

import pytest

from paretune.config import Config, dump_config, load_config, parse_config
from paretune.errors import ConfigError, SurfaceError

RAW: dict[str, Any] = {
    "surface": {
        "k": 15,
        "heads": [
            {"name": "save", "weight": 91.6, "tune": {"low": 10.0, "high": 200.0}},
            {"name": "p2p", "weight": 9.1, "tune": {"low": 1.0, "high": 30.0, "spacing": "log"}},
            {"name": "hide", "weight": -4.0},
        ],
    },
    "objectives": [{"name": "saves", "column": "n_save", "head": "save"}, {"name": "hides", "column": "n_hide", "direction": "minimise"}],
    "guardrails": [{"objective": "hides", "floor_pct": -0.5}],
    "features": {"numeric": ["age"], "sequences": [{"name": "acts", "length": 20, "vocabulary": 100}]},
}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    at: Any = raw
    for key in path[:-1]:
        at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
    at[path[-1]] = value
    return raw


def test_what_is_left_out_takes_the_papers_values() -> None:
    config = parse_config(RAW)
    assert config.surface.heads[0].tune is not None
    assert (config.surface.heads[0].tune.levels, config.surface.heads[0].tune.spacing) == (7, "linear")
    assert config.objectives[0].transform == "clip"
    assert (config.evaluation.train_days, config.evaluation.hold_out_days, config.evaluation.alphas) == (14, 7, 25)
    assert config.exploration.share == 0.0125
    assert config.surface.build().actions.shape == (50, 3)


def test_what_is_dumped_reads_back_equal(tmp_path: Path) -> None:
    config = parse_config(RAW)
    (tmp_path / "paretune.toml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "paretune.toml") == config


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (("objectivs",), "objectives"),
        (("surface", "kk"), "heads"),
        (("surface", "heads", 0, "wieght"), "weight"),
        (("surface", "heads", 0, "tune", "lows"), "low"),
        (("logs", "columns", "usr"), "user"),
        (("features", "sequences", 0, "len"), "length"),
        (("training", "mdel"), "model"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones_listed(path: tuple[Any, ...], known: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(path, 1))
    message = str(caught.value)
    assert "unknown key" in message
    assert ".".join(str(part) for part in path) in message
    assert known in message.split("known: ")[1]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("surface", "k"), 0, "surface.k"),
        (("surface", "k"), 2.5, "surface.k"),
        (("surface", "heads"), [], "surface.heads"),
        (("surface", "heads", 0, "weight"), float("nan"), "surface.heads.0.weight"),
        (("surface", "heads", 0, "weight"), "91.6", "surface.heads.0.weight"),
        (("surface", "heads", 0, "tune", "levels"), 1, "surface.heads.0.tune.levels"),
        (("objectives",), [], "objectives"),
        (("objectives", 0, "transform"), "cube", "objectives.0.transform"),
        (("objectives", 0, "head"), "nobody", "nobody"),
        (("objectives", 1, "name"), "saves", "repeat"),
        (("guardrails", 0, "objective"), "nobody", "nobody"),
        (("guardrails", 0, "floor_pct"), 0.5, "guardrails.0.floor_pct"),
        (("features", "categorical"), ["age"], "age"),
        (("exploration", "share"), 1.5, "exploration.share"),
        (("evaluation", "confidence"), 1.0, "evaluation.confidence"),
        (("evaluation", "train_days"), 0, "evaluation.train_days"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(path: tuple[Any, ...], value: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        parse_config(changed(path, value))


def test_heads_that_make_no_surface_are_refused_when_the_file_is_read() -> None:
    for raw in (changed(("surface", "heads", 0, "weight"), -1.0), changed(("surface", "heads", 0, "tune", "high"), 5.0)):
        with pytest.raises(SurfaceError):
            parse_config(raw)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration at"):
        load_config(tmp_path / "paretune.toml")
    torn = tmp_path / "torn.toml"
    torn.write_text("[surface\nk = 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"torn\.toml cannot be read as TOML"):
        load_config(torn)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_list_replay_needs_the_head_of_every_objective() -> None:
    assert parse_config(RAW).objective_heads() is None
    assert parse_config(changed(("objectives", 1, "head"), "hide")).objective_heads() == (0, 2)


def test_every_key_of_every_section_has_a_description() -> None:
    bare: list[str] = []

    def look(section: Any) -> None:
        for name, field in section.model_fields.items():
            inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(a, "model_fields")]
            for kind in inner:
                look(kind)
            if not inner and not field.description:
                bare.append(f"{section.__name__}.{name}")

    look(Config)
    assert bare == []
