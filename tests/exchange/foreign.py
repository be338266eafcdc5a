"""Decisions of somebody else's bandit over a grid of nine weights, written as their systems write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paretune.config import Config, dump_config, parse_config

ACTIONS = 9
RAW: dict[str, Any] = {
    "surface": {
        "k": 3,
        "heads": [
            {"name": "save", "weight": 90.0, "tune": {"low": 10.0, "high": 200.0, "levels": 3}},
            {"name": "p2p", "weight": 9.0, "tune": {"low": 1.0, "high": 30.0, "levels": 3}},
            {"name": "hide", "weight": -4.0},
        ],
    },
    "objectives": [{"name": "save", "column": "saves", "head": "save"}],
    "features": {"numeric": ["age"], "categorical": ["device"]},
    "exploration": {"design": "logged"},
}
CONFIG = parse_config(RAW)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was known, what was drawn with which probability, and what came of it."""

    number: int
    user: str
    age: float
    device: str
    chances: tuple[float, ...]  # (ACTIONS,)
    action: int  # from 0
    reward: float

    @property
    def propensity(self) -> float:
        """Of the action, as VW writes it: in float32."""
        return float(np.float32(self.chances[self.action]))


def decisions(n: int, seed: int = 0) -> list[Decision]:
    """Return the decisions of an epsilon-greedy policy whose favourite depends on the age."""
    rng, made = np.random.default_rng(seed), []
    for number in range(n):
        age, device = float(rng.integers(18, 70)), str(rng.choice(["phone", "web"]))
        chances = np.full(ACTIONS, 0.3 / ACTIONS)
        chances[int(age) % ACTIONS] += 0.7
        action = int(rng.choice(ACTIONS, p=chances))
        good = 0.1 + 0.5 * (action == (2 if device == "phone" else 5)) * (age > 30)
        made.append(Decision(number, f"u{rng.integers(n // 4 + 1)}", age, device, tuple(chances), action, float(rng.random() < good)))
    return made


def dsjson(decision: Decision, **other: Any) -> str:
    """Return a decision as a line of VW's decision-service JSON; None takes a key away."""
    d = decision
    ranked = [d.action, *(a for a in range(ACTIONS) if a != d.action)]
    line = {
        "_label_cost": -d.reward,
        "_label_probability": d.propensity,
        "_label_Action": d.action + 1,
        "_labelIndex": d.action,
        "o": [{"v": d.reward, "EventId": f"e{d.number}", "ActionTaken": False}],
        "Timestamp": f"2026-03-{1 + d.number % 5:02d}T10:31:29.2460000Z",
        "Version": "1",
        "EventId": f"e{d.number}",
        "a": [a + 1 for a in ranked],
        "c": {
            "User": {"id": d.user, "age": d.age, "device": d.device},
            "_multi": [{"Action": {"weights": f"w{a}"}} for a in range(ACTIONS)],
        },
        "p": [float(np.float32(d.chances[a])) for a in ranked],
        "VWState": {"m": "some/model"},
    }
    return json.dumps({key: value for key, value in (line | other).items() if value is not None})


def cb(decision: Decision) -> str:
    """Return a decision as a line of `--cb` text."""
    d = decision
    return f"{d.action + 1}:{-d.reward:g}:{d.propensity!r} e{d.number}|User id={d.user} age:{d.age:g} device={d.device}"


def adf(decision: Decision) -> str:
    """Return a decision as a block of `--cb_adf` text, a blank line after it."""
    d = decision
    lines = [f"shared e{d.number}|User id={d.user} age:{d.age:g} device={d.device}"]
    for action in range(ACTIONS):
        label = f"0:{-d.reward:g}:{d.propensity!r} " if action == d.action else ""
        lines.append(f"{label}|Action weights=w{action}")
    return "\n".join(lines) + "\n\n"


def feedback(made: list[Decision]) -> dict[str, Any]:
    """Return decisions as Open Bandit Pipeline's dict; its context is the age alone."""
    return {
        "n_rounds": len(made),
        "n_actions": ACTIONS,
        "context": np.array([[d.age] for d in made]),
        "action_context": np.eye(ACTIONS, dtype=int),
        "action": np.array([d.action for d in made]),
        "position": None,
        "reward": np.array([int(d.reward) for d in made]),
        "pscore": np.array([d.propensity for d in made]),
    }


def configured(folder: Path, other: Mapping[str, Any] | None = None) -> Config:
    """Write a paretune.toml into a folder and return it."""
    config = parse_config(RAW | dict(other or {}))
    (folder / "paretune.toml").write_text(dump_config(config), encoding="utf-8")
    return config
