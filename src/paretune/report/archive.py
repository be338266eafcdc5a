"""A run's folder: what a sweep leaves behind and what the report is drawn from. An edge: writes and reads files.

config.toml  front.json  front.parquet  curve.parquet  replicates.npy  check.json  heads.json  simulated.json  scale.json
model/  report.html  figures/
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from paretune.atomic import write_whole
from paretune.config import dump_config, load_config
from paretune.errors import ArtefactError, in_words
from paretune.frontier.archive import load_front, save_front
from paretune.frontier.curve import Curve
from paretune.logs.checks import LogCheck, RuleResult
from paretune.records import Floats
from paretune.report.contents import Findings, report_figures, report_sections
from paretune.report.html import save_figures, write_report
from paretune.report.tables import Outcome

CONFIG, CHECK, HEADS, SIMULATED, SCALE = "config.toml", "check.json", "heads.json", "simulated.json", "scale.json"
MODEL, PAGE, FIGURES = "model", "report.html", "figures"


def save_run(findings: Findings, folder: Path, *, curve: Curve | None = None) -> None:
    """Write all that a report needs into a folder; what a simulated world knows of the policies too, where it was asked."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG, dump_config(findings.config).encode())
    save_front(findings.front, folder, heads=findings.config.surface.build().names, curve=curve)
    if findings.check is not None:
        _write(folder / CHECK, {field.name: _plain(getattr(findings.check, field.name)) for field in fields(LogCheck)})
    if findings.contribution is not None:
        _write(folder / HEADS, findings.contribution.tolist())
    if findings.scale is not None:  # what turned predicted values into the units of the trade-offs; an export needs it
        _write(folder / SCALE, findings.scale.tolist())
    known: dict[str, Any] = {}
    if findings.online is not None:
        known["online"] = {field.name: _plain(getattr(findings.online, field.name)) for field in fields(Outcome)}
    if findings.truth is not None:
        known["truth"] = _plain(findings.truth)
    if known:
        _write(folder / SIMULATED, known)
    else:
        (folder / SIMULATED).unlink(missing_ok=True)  # of an earlier run in this folder


def load_run(folder: Path) -> Findings:
    """Return what `save_run` wrote.

    Raises:
        ArtefactError: the folder holds no whole run.
    """
    front = load_front(folder)
    try:
        check = _check(json.loads((folder / CHECK).read_text(encoding="utf-8"))) if (folder / CHECK).exists() else None
        heads = np.array(json.loads((folder / HEADS).read_text(encoding="utf-8"))) if (folder / HEADS).exists() else None
        scale = np.array(json.loads((folder / SCALE).read_text(encoding="utf-8"))) if (folder / SCALE).exists() else None
        known = json.loads((folder / SIMULATED).read_text(encoding="utf-8")) if (folder / SIMULATED).exists() else {}
        online = Outcome(**{name: _numbers(value) for name, value in known["online"].items()}) if "online" in known else None
        truth = _numbers(known["truth"]) if "truth" in known else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{folder} holds no whole run: {in_words(error)}", hint="make it again with `paretune sweep LOGS`") from error
    return Findings(load_config(folder / CONFIG), front, check, heads, online, truth, scale)


def publish_report(findings: Findings, folder: Path, *, title: str = "paretune report") -> Path:
    """Write report.html and the pictures as PNG and SVG, and return the page's path."""
    lifts = findings.front.lifts
    lead = f"{lifts.n_rows:,} held-out requests of {lifts.n_users:,} users; lifts are relative to the static weights in production."
    charts = dict(report_figures(findings))
    save_figures(charts.items(), folder / FIGURES)
    return write_report(folder / PAGE, report_sections(findings, charts=charts), title=title, lead=lead)


def _write(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple) and value and isinstance(value[0], RuleResult):
        return [{field.name: getattr(rule, field.name) for field in fields(RuleResult)} for rule in value]
    return value


def _numbers(written: Any) -> Floats:
    """Return an array of what `_plain` made of one; null is NaN."""
    return np.array(written, dtype=np.float64)


def _check(written: dict[str, Any]) -> LogCheck:
    counts = ("per_action", "explored_per_day", "production_per_day")
    arrays = {name: np.array(written[name], dtype=np.int64) for name in counts}
    arrays["mean_weight"] = np.array(written["mean_weight"], dtype=np.float64)
    rules = tuple(RuleResult(**rule) for rule in written["rules"])
    return LogCheck(**{**written, **arrays, "rules": rules, "days": tuple(written["days"])})
