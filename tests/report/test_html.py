"""The page: opens offline, holds what it was given, cannot be broken by a name, is written whole or not at all."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fake_front import SURFACE, fake_front, fake_truth

from paretune import atomic
from paretune.config import parse_config
from paretune.errors import ConfigError
from paretune.frontier.verdict import Refusal
from paretune.report.contents import Findings, configuration_table, report_figures, report_sections
from paretune.report.diagnostics import weights_figure
from paretune.report.figures import front_figure
from paretune.report.html import Section, render_report, save_figure, save_figures, write_report
from paretune.report.tables import Table, picks_table
from paretune.sim.world import open_world

HEADS = [{"name": name, "weight": 10.0, "tune": {"low": 5.0, "high": 20.0, "levels": 2}} for name in ("save", "p2p")]
CONFIG = {"surface": {"heads": HEADS}, "objectives": [{"name": name, "column": name} for name in ("save", "p2p")]}


class Reader(HTMLParser):
    """Collects elements, script texts and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


@pytest.fixture(scope="module")
def page() -> str:
    front = fake_front()
    sections = [
        Section("The front", ("Points are policies.",), (front_figure(front, truth=fake_truth()), picks_table(front, truth=fake_truth()))),
        Section("What the picks serve", blocks=(weights_figure(front, SURFACE),)),
    ]
    return render_report(sections, title="Sweep", lead="Which trade-off?")


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    elements = read(page).elements
    for _, attributes in elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), value
    assert not {tag for tag, _ in elements} & {"link", "iframe", "img", "object", "embed", "base"}
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    assert not re.search(r"url\(|@import", style[1])
    policy = next(a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy)
    assert "http" not in str(policy)


def test_the_drawing_library_stands_in_the_page_once(page: str) -> None:
    assert page.count("window.vegaEmbed=") + page.count("window.vegaEmbed =") == 1
    assert 300_000 < len(page) < 1_500_000


def test_every_figure_is_there_without_a_theme_of_its_own_and_its_place_exists(page: str) -> None:
    reader = read(page)
    holders = [a["data-figure"] for tag, a in reader.elements if tag == "script" and "data-figure" in a]
    places = {a.get("id") for _, a in reader.elements}
    assert len(holders) == 2
    assert set(holders) <= places
    specifications = [json.loads(script) for script in reader.scripts if script.startswith('{"')]
    assert len(specifications) == 2
    assert all("config" not in specification for specification in specifications)


def test_headings_text_and_every_cell_of_a_table_are_there(page: str) -> None:
    text = read(page).text.replace("\u00a0", " ")
    for wanted in ("Sweep", "Which trade-off?", "The front", "Points are policies.", "What the picks serve"):
        assert wanted in text
    for row in picks_table(fake_front(), truth=fake_truth()).rows:
        assert all(cell in text for cell in row)


def test_a_page_without_figures_carries_no_library() -> None:
    page = render_report([Section("Only text", ("Nothing drawn.",))], title="t")
    assert "<script" not in page
    assert len(page) < 10_000


def test_names_cannot_break_out_of_the_page() -> None:
    evil = '</script><script>alert("x")</script><!-- <img src=x onerror=alert(1)>'
    front = fake_front()
    front = replace(front, lifts=replace(front.lifts, objectives=(evil, "p2p")))
    page = render_report(
        [Section(evil, (evil,), (front_figure(front), Table(evil, (evil,), ((evil,),), note=evil)))], title=evil, lead=evil
    )
    reader = read(page)
    assert not [tag for tag, _ in reader.elements if tag == "img"]
    assert sum(tag == "script" for tag, _ in reader.elements) == 3  # one figure, the library, the drawing
    assert not any(script.lstrip().startswith("alert") for script in reader.scripts)
    assert evil in reader.text


def test_pages_and_pictures_are_written_to_new_folders(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a" / "report.html", [Section("s")], title="t")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert path.stat().st_mode & 0o777 == 0o644
    chart = front_figure(fake_front())
    png, svg = save_figures([("front", chart)], tmp_path / "figures")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"front.png", "front.svg"}


def test_a_picture_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"front\.gif"):
        save_figure(front_figure(fake_front()), tmp_path / "front.gif")


def test_a_write_that_fails_leaves_the_old_page_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(tmp_path / "report.html", [Section("old")], title="t")

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(path, [Section("new")], title="t")
    assert "old" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_refused_front_is_replaced_by_the_reason_and_the_rows_needed() -> None:
    refused = replace(fake_front(), refusal=Refusal(3, "save", 20_000, 900_000, 0.01))
    findings = Findings(parse_config(CONFIG), refused)
    charts = dict(report_figures(findings))
    assert not {"front", "picks", "weights"} & set(charts)
    first = report_sections(findings, charts=charts)[0]
    assert first.heading == "Not enough data"
    assert "900,000" in first.text[0]
    enough = replace(refused, refusal=Refusal(3, "save", 20_000, 9_000, 0.01))
    assert report_sections(replace(findings, front=enough), charts=charts)[0].heading == "No policy to choose"


def test_the_floor_of_an_objective_to_minimise_says_how_far_it_may_rise() -> None:
    table = configuration_table(open_world("homefeed", objectives=3).config())
    assert "may rise by 2.00 %" in next(row for row in table.rows if row[0] == "objective hide")
