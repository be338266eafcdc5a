"""A bundle without a model, that can be made to fail in every way; and plans over it."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paretune.errors import ArtefactError
from paretune.policy.plan import Arm, Exploration, Plan
from paretune.serving.scoring import Choice, FeatureError, Inputs
from paretune.value.bundle import SUMS, verified_files

HEADS = ("save", "click", "hide")
STATIC = (10.0, 2.0, -4.0)
LEVELS = (STATIC, *((10.0 * a, 2.0 * b, -4.0) for a in (0.5, 1.0, 2.0) for b in (0.5, 1.0, 2.0)))
GRID = len(LEVELS) - 1
FINGERPRINT = "f" * 64


@dataclass
class FakeScorer:
    """Values are a fixed function of one feature, `x`; `before` runs in front of every choice and may sleep or raise."""

    fingerprint: str = FINGERPRINT
    heads: tuple[str, ...] = HEADS
    objectives: tuple[str, ...] = ("saves", "clicks")
    actions: np.ndarray = field(default_factory=lambda: np.array(LEVELS))
    before: Callable[[float], None] = lambda x: None
    values: Callable[[float], np.ndarray] | None = None

    def read(self, features: Mapping[str, Any]) -> Inputs:
        if "x" not in features:
            raise FeatureError("x", "is missing", missing=True)
        x = features["x"]
        if isinstance(x, bool) or not isinstance(x, int | float) or not np.isfinite(x):
            raise FeatureError("x", f"is {x!r}, not a number")
        return {"x": np.array([x], dtype=np.float64)}

    def choose(self, inputs: Inputs, scalarisation: np.ndarray) -> Choice:
        x = float(inputs["x"][0])
        self.before(x)
        values = (self.values or fake_values)(x)
        return Choice(1 + int((values[1:] @ scalarisation).argmax()), values)


def fake_values(x: float) -> np.ndarray:
    a = np.arange(GRID + 1)
    return np.stack([np.sin(a + x), np.cos(2 * a - x)], axis=1)


def plan_of(version: int = 1, **changes: Any) -> Plan:
    """Half of the users in a policy arm, a tenth on fixed weights, the rest on the static weights; no exploration."""
    arms = (
        Arm("policy", 0.5, bundle=FINGERPRINT, scalarisation=(1.0, 0.5), cohorts={"new": (0.0, 1.0)}),
        Arm("fixed", 0.1, weights=(1.0, 2.0, 3.0)),
    )
    return Plan(**{"version": version, "heads": HEADS, "static": STATIC, "arms": arms} | changes)


def everybody(version: int = 1, **changes: Any) -> Plan:
    """All users in one policy arm."""
    return plan_of(version, arms=(Arm("policy", 1.0, bundle=FINGERPRINT, scalarisation=(1.0, 0.5)),), **changes)


def exploring(design: str = "uniform", *, share: float = 1.0, **changes: Any) -> Exploration:
    stage2 = {"bundle": FINGERPRINT, "family": ((1.0, 0.0), (0.0, 1.0), (1.0, 0.5))} if design == "stage2" else {}
    return Exploration(**{"share": share, "design": design, "levels": LEVELS} | stage2 | changes)  # type: ignore[arg-type]


def asleep(seconds: float) -> Callable[[float], None]:
    return lambda x: time.sleep(seconds)


def write_fake_bundle(folder: Path, content: str = "fake") -> str:
    """Write a folder with checksums and return its fingerprint; `load_fake` reads it."""
    folder.mkdir(parents=True)
    files = {"arrays.npz": b"none", "manifest.json": content.encode()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()
    (folder / SUMS).write_bytes(sums)
    return hashlib.sha256(sums).hexdigest()


def load_fake(folder: Path) -> FakeScorer:
    """Return a scorer whose values depend on the bundle's content; refuses what `load_bundle` would."""
    content = verified_files(folder)["manifest.json"].decode()
    if content.startswith("bad"):
        raise ArtefactError("the golden batch does not agree", hint="export again")
    shift = len(content)
    print_of = hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    return FakeScorer(fingerprint=print_of, values=lambda x: fake_values(x + shift))
