"""One HTML file that opens offline, and pictures as PNG or SVG. An edge: writes files.

The rule: nothing is loaded from anywhere; the drawing library stands in the page once, and the page forbids itself every connection.
A file is complete or absent: temporary name, fsync, rename.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from paretune.atomic import write_whole
from paretune.errors import ConfigError
from paretune.report.tables import Table
from paretune.report.theme import ON_DARK, theme


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with short paragraphs, then tables and pictures in order."""

    heading: str
    text: tuple[str, ...] = ()
    blocks: tuple[Table | alt.TopLevelMixin, ...] = ()


def write_report(path: str | Path, sections: Sequence[Section], *, title: str, lead: str = "") -> Path:
    """Write one self-contained page and return its path.

    Args:
        path: where to write; missing folders are made.
        sections: what the page says, in order.
        title: the page's heading.
        lead: one sentence under it.
    """
    path = Path(path)
    write_whole(path, render_report(sections, title=title, lead=lead).encode())
    return path


def render_report(sections: Sequence[Section], *, title: str, lead: str = "") -> str:
    """Return the page that `write_report` writes."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell_class"] = _cell_class
    environment.filters["unbroken"] = lambda cell: cell.replace(" … ", "\u00a0…\u00a0").replace(" %", "\u00a0%")
    template = environment.from_string(files("paretune.report").joinpath("templates/report.html.j2").read_text(encoding="utf-8"))
    prepared, drawn = [], 0
    for section in sections:
        blocks: list[dict[str, Any]] = []
        for block in section.blocks:
            if isinstance(block, Table):
                blocks.append({"table": block})
                continue
            specification = _specification(block)
            specification.pop("config", None)  # the page chooses light or dark
            described = specification.get("description", "")
            blocks.append({"table": None, "number": drawn, "description": described, "specification": script_json(specification)})
            drawn += 1
        prepared.append({"heading": section.heading, "text": section.text, "blocks": blocks})
    return template.render(
        title=title,
        lead=lead,
        sections=prepared,
        library=drawing_library() if drawn else None,
        themes=script_json({"light": theme(), "dark": theme(dark=True)}),
        on_dark=script_json(ON_DARK),
    )


def save_figure(chart: alt.TopLevelMixin, path: str | Path) -> Path:
    """Write a picture as PNG (twice the size, for sharp screens) or SVG, by the file's ending, and return its path.

    Raises:
        ConfigError: the file ends in something else.
    """
    path = Path(path)
    specification = _specification(chart)
    if path.suffix.lower() == ".png":
        content = vl_convert.vegalite_to_png(specification, vl_version=_version(), scale=2)
    elif path.suffix.lower() == ".svg":
        content = vl_convert.vegalite_to_svg(specification, vl_version=_version()).encode()
    else:
        raise ConfigError(f"cannot write a picture as {path.name!r}", hint="end the name in .png or .svg")
    write_whole(path, content)
    return path


def save_figures(charts: Iterable[tuple[str, alt.TopLevelMixin]], folder: str | Path) -> tuple[Path, ...]:
    """Write each named picture as PNG and SVG and return the paths."""
    return tuple(save_figure(chart, Path(folder) / f"{name}{ending}") for name, chart in charts for ending in (".png", ".svg"))


def _specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    return json.loads(chart.to_json(validate=False))  # the charts are checked by the tests; checking takes longer than drawing


def _version() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


@cache
def drawing_library() -> Markup:
    """Return Vega, Vega-Lite and vega-embed as one script, safe to stand inside a script element."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _version())
    return Markup(script.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704


def script_json(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in, whatever its strings hold."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704


def _cell_class(cell: str) -> str:
    if cell.startswith("✗"):
        return "bad"
    if cell.startswith("✓"):
        return "good"
    return "number" if cell[:1] in "+−-–0123456789<>" and len(cell) < 16 else ""
