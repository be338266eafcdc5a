"""Build the documentation's site into `site/`: the same Markdown that is read in the repository, with search and navigation, offline.

`python docs/site.py`. Pages keep their places; what they link to outside docs/ (examples, sources) is copied beside them. The rule: a site
with a link that leads nowhere is not built.
"""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
STAGE = ROOT / "build" / "site"
SITE = ROOT / "site"
ELSEWHERE = "repository"  # folder of the site for linked files that are no page of docs/
LINK = re.compile(r"(?P<open>!?\[[^\]]*\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?P<close>\))")
INFO = re.compile(r"^(```\w+) [^\n]*$", re.MULTILINE)  # what only the tests of the pages read
UNSEEN = {"*.py", "cli.json", "__pycache__"}

NAVIGATION = [
    {"Start": ["index.md", "first-hour.md", "concepts.md", "faq.md"]},
    {"How to": ["howto/logs.md", "howto/heads.md", "howto/exploration.md", "howto/front.md"]},
    {"Serve": ["serving.md", "governance.md", "experiment.md", "monitoring.md", "exchange.md"]},
    {"Operate": ["operations.md", "scale.md"]},
    {"Method": ["methods.md", "paper.md", "decisions.md"]},
    {"Reference": ["cli.md", "api.md"]},
]


def place_of(file: Path) -> Path:
    """Return where a file of the repository lies in the site's source."""
    docs = ROOT / "docs"
    return STAGE / "docs" / (file.relative_to(docs) if file.is_relative_to(docs) else Path(ELSEWHERE) / file.relative_to(ROOT))


def staged(page: Path) -> None:
    """Write a page to its place in the site's source, and with it what it links to outside docs/; folders are named, not linked."""
    target = place_of(page)

    def led(found: re.Match[str]) -> str:
        goal = (page.parent / found["target"]).resolve()
        if re.match(r"[a-z]+:", found["target"]) or not goal.exists():
            return found[0]
        if goal.is_dir() and not (goal / "README.md").is_file():
            return found["open"].removeprefix("!").removeprefix("[").removesuffix("](")
        goal = goal / "README.md" if goal.is_dir() else goal
        copy = place_of(goal)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()  # two pages may name each other
            staged(goal) if goal.suffix == ".md" else shutil.copy(goal, copy)
        return f"{found['open']}{Path(os.path.relpath(copy, target.parent)).as_posix()}{found['anchor'] or ''}{found['close']}"

    target.parent.mkdir(parents=True, exist_ok=True)
    text = INFO.sub(r"\1", page.read_text(encoding="utf-8"))
    target.write_text(LINK.sub(led, text), encoding="utf-8")


def stage() -> Path:
    """Write the site's source and its configuration, and return the latter."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGE / "docs", ignore=shutil.ignore_patterns(*UNSEEN))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        staged(page)
    settings = {
        "site_name": "paretune",
        "site_description": "Personal utility weights for multi-task rankers.",
        "docs_dir": "docs",
        "site_dir": "site",
        "use_directory_urls": False,
        "nav": NAVIGATION,
        "theme": {"font": False, "palette": [{"scheme": "default"}], "features": ["content.code.copy"]},
        "markdown_extensions": ["tables", "toc", "attr_list", "pymdownx.superfences"],
    }
    path = STAGE / "mkdocs.yml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


class _Links(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a tag leads, and its name."""
        for name, value in attrs:
            if value and name in {"href", "src"}:
                self.targets.append(value)
            elif value and name == "id":
                self.anchors.add(value)


def read_links(page: Path) -> _Links:
    """Return the links and anchors of a built page."""
    found = _Links()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def dead_links(site: Path) -> list[str]:
    """Return each link of the built site that leads to no file or anchor in it."""
    pages = {page: read_links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    dead = []
    for page, found in pages.items():
        for target in found.targets:
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:|//|\?", target) or (not path and not anchor):
                continue
            goal = (page.parent / path.partition("?")[0]).resolve() if path else page
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.exists() or (anchor and goal in pages and anchor not in pages[goal].anchors):
                dead.append(f"{page.relative_to(site)}: {target}")
    return dead


def main() -> int:
    settings = stage()
    shutil.rmtree(SITE, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--config-file", str(settings)], cwd=STAGE, check=False)
    if done.returncode:
        return done.returncode
    (STAGE / "site").rename(SITE)
    dead = dead_links(SITE)
    for link in dead:
        sys.stderr.write(f"dead link in {link}\n")
    sys.stdout.write(f"site: {SITE.relative_to(ROOT)}/index.html\n")
    return int(bool(dead))


if __name__ == "__main__":
    sys.exit(main())
