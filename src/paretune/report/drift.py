"""What a look at drift leaves behind: one page, numbers for programs, the reference, and re-anchored weights where they are called for.

An edge: writes files. The rule: the page begins with the verdict and its reasons; pictures follow, then the windows.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from paretune.atomic import write_whole
from paretune.config import Config
from paretune.frontier.calibration import Calibration
from paretune.monitor.drift import Drift
from paretune.monitor.reanchor import reanchored
from paretune.monitor.verdict import Verdict
from paretune.monitor.window import window_plain
from paretune.report.drift_figures import (
    findings_table,
    scale_figure,
    shares_figure,
    state_figure,
    weights_table,
    windows_table,
)
from paretune.report.html import Section, write_report
from paretune.report.learning_figures import calibration_figure
from paretune.report.tables import Table
from paretune.template import render_config

PAGE, NUMBERS, REFERENCE, WEIGHTS = "drift.html", "drift.json", "reference.json", "paretune.reanchored.toml"


def drift_sections(drift: Drift, verdict: Verdict, config: Config, *, gains: Calibration | None = None, policy: str = "") -> list[Section]:
    """Return the page's sections."""
    reasons = tuple(f"{reason[:1].upper()}{reason[1:]}." for reason in verdict.reasons)
    advice = "" if not drift.factors or verdict.answer != "re-anchor" else f"The configuration with these weights: {WEIGHTS}."
    sections = [Section("Why", reasons or ("Nothing moved beyond chance by an amount that matters.",), (findings_table(drift),))]
    if drift.recalibration is not None:
        blocks: list[Any] = [scale_figure(drift), shares_figure(drift)]
        if drift.factors:
            blocks.append(reanchored_table(drift, config))
        sections.append(Section("Heads", (advice,) if advice else (), tuple(blocks)))
    sections.append(Section("State", (), (state_figure(drift),)))
    if gains is not None:
        sections.append(Section("Gains", (), (calibration_figure(gains, policy=policy),)))
    sections.append(Section("Windows", tuple(f"Not compared: {note}." for note in drift.notes), (windows_table(drift),)))
    return sections


def reanchored_table(drift: Drift, config: Config) -> Table:
    """Return the weights of rescaled heads, before and after."""
    before, after = ({head.name: head.weight for head in each.surface.heads} for each in (config, reanchored(config, drift.factors)))
    return weights_table(before, after, drift.factors)


def drift_numbers(drift: Drift, verdict: Verdict) -> dict[str, Any]:
    """Return what programs read; NaN and infinity are null."""
    shares = (
        None if drift.shares is None else {name: getattr(drift.shares, name).tolist() for name in ("reference", "current", "reanchored")}
    )
    factor = None if drift.recalibration is None else dict(zip(drift.reference.heads, drift.recalibration.factor.tolist(), strict=True))
    windows = {
        name: {
            "days": [str(np.datetime64(day, "D")) for day in window.days],
            "rows": window.rows,
            "exploration_rows": window.exploration_rows,
        }
        for name, window in (("reference", drift.reference), ("current", drift.current))
    }
    return {
        **asdict(verdict),
        "factors": drift.factors,
        "scale": factor,
        "shares": shares,
        "heads": list(drift.reference.heads),
        "windows": windows,
        "findings": [asdict(each) for each in drift.findings],
        "notes": list(drift.notes),
    }


def publish_drift(
    drift: Drift, verdict: Verdict, config: Config, folder: Path, *, gains: Calibration | None = None, policy: str = ""
) -> dict[str, Path]:
    """Write page, numbers, the reference window, and where heads are to be re-anchored the new configuration; return the paths by kind."""
    sections = drift_sections(drift, verdict, config, gains=gains, policy=policy)
    paths = {"report": write_report(folder / PAGE, sections, title=verdict.sentence, lead="paretune monitor")}
    files = {"numbers": (NUMBERS, _json(drift_numbers(drift, verdict))), "reference": (REFERENCE, _json(window_plain(drift.reference)))}
    if verdict.answer == "re-anchor":
        files["weights"] = (WEIGHTS, render_config(reanchored(config, drift.factors)))
    else:
        (folder / WEIGHTS).unlink(missing_ok=True)  # of an earlier look
    for kind, (name, text) in files.items():
        write_whole(folder / name, text.encode())
        paths[kind] = folder / name
    return paths


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
