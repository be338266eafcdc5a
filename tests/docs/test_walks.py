"""Every command and every Python block of README, docs and examples runs as it stands, where its reader stands."""

import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from walk import ROOT, Walk, blocks_of, copied, refuses, start_of

from paretune.cli import main
from paretune.config import Config, dump_config
from paretune.sim import open_world
from paretune.sim.tested import PlayedArm, fixed, write_test
from paretune.sim.traffic import write_logs

GENERATED = {ROOT / "docs" / "cli.md", ROOT / "docs" / "api.md"}
ELSEWHERE = {ROOT / "docs" / "exchange.md": ROOT / "tests" / "exchange" / "test_exchange_page.py"}  # pages with a walk of their own
RECORDS = {ROOT / "CHANGELOG.md"}  # says what was; nobody types it
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")}
)
ALONE = GENERATED | RECORDS | set(ELSEWHERE)
WALKED = [page for page in PAGES if page not in ALONE and any(block.language in {"sh", "python"} for block in blocks_of(page))]


def quick(config: Config) -> Config:
    """Return a configuration that learns in seconds, and judges by few hits."""
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"max_epochs": 2}),
            "evaluation": config.evaluation.model_copy(update={"min_hits": 10}),
        }
    )


def static_weights(config: Config) -> dict[str, object]:
    """Return what a person writes down for `paretune init`."""
    surface = config.surface.build()
    tuned = {
        head.name: {"low": float(min(head.levels)), "high": float(max(head.levels)), "levels": len(head.levels)}
        for head in surface.heads
        if head.levels
    }
    return {
        "heads": dict(zip(surface.names, map(float, surface.static), strict=True)),
        "tune": tuned,
        "k": surface.k,
        "objectives": [objective.name for objective in config.objectives],
    }


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's examples, and nothing else."""
    folder = tmp_path_factory.mktemp("nothing")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules", "logs", "runs"))
    return folder


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML of static weights and a simulated log with candidates; a configuration that learns quickly."""
    folder = tmp_path_factory.mktemp("feed")
    world = open_world("homefeed", seed=4)
    write_logs(world, folder / "logs", days=range(21), requests_per_day=1500, explore_share=0.7, seed=4)
    (folder / "paretune.toml").write_text(dump_config(quick(world.config())), encoding="utf-8")
    (folder / "weights.yaml").write_text(yaml.safe_dump(static_weights(world.config()), sort_keys=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def raw(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML and the log, before anybody wrote a configuration."""
    folder = copied(feed, tmp_path_factory.mktemp("raw") / "feed")
    (folder / "paretune.toml").unlink()
    return folder


@pytest.fixture(scope="session")
def shop(nothing: Path, feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop of the example with its log and configuration, and a feed beside it."""
    folder = copied(nothing / "examples" / "bring_your_own_logs", tmp_path_factory.mktemp("shop") / "shop")
    _say(folder, "python make_logs.py logs", "paretune init weights.yaml --logs logs")
    copied(feed, folder / "feed")
    copied(nothing / "examples", folder / "examples")
    return folder


@pytest.fixture(scope="session")
def run(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop after its sweep."""
    folder = copied(shop, tmp_path_factory.mktemp("run") / "shop")
    _say(folder, "paretune sweep logs")
    return folder


@pytest.fixture(scope="session")
def registry(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with a policy in force and what was exported of it."""
    folder = copied(run, tmp_path_factory.mktemp("registry") / "shop")
    _say(
        folder,
        "paretune publish runs/latest knee --as anna",
        "paretune approve 1 --as bert",
        "paretune activate 1 --share 30 --static-arm 30 --explore-share 1.25 --as anna --yes",
        "paretune export runs/latest knee --output bundles/knee",
    )
    return folder


@pytest.fixture(scope="session")
def tested(registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The feed during a test of its arms, with the registry of the shop."""
    folder = tmp_path_factory.mktemp("tested") / "feed"
    folder.mkdir()
    world = open_world("homefeed", setting="demo", seed=5)
    weights = world.surface.static * [1.1 if i == world.objective_heads[0] else 1.0 for i in range(len(world.surface.static))]
    arms = [PlayedArm("control", 0.5), PlayedArm("policy-1", 0.5, fixed(world, weights))]
    write_test(world, folder / "logs", arms, days=range(28), before=7, requests_per_day=1_000, explore_share=0.3, seed=5)
    (folder / "paretune.toml").write_text(dump_config(world.config()), encoding="utf-8")
    shutil.copy(registry / "paretune.db", folder / "paretune.db")
    copied(registry / "examples", folder / "examples")
    return folder


STARTS = ("nothing", "raw", "shop", "run", "registry", "tested")


def _say(folder: Path, *commands: str) -> None:
    walk = Walk(folder)
    for command in commands:
        walk.command(command, where="before the page", run=True)


@pytest.fixture
def walking(tmp_path: Path) -> Iterator[Callable[[Path, Path], None]]:
    """Walk through a page in a copy of a place."""
    home, walks = Path.cwd(), []

    def through(page: Path, template: Path) -> None:
        walk = Walk(copied(template, tmp_path / "here"))
        walks.append(walk)
        os.chdir(walk.here)
        walk.through(page)

    try:
        yield through
    finally:
        os.chdir(home)
        for walk in walks:
            walk.stop()


@pytest.mark.e2e
@pytest.mark.parametrize("page", WALKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(page: Path, request: pytest.FixtureRequest, walking: Callable[[Path, Path], None]) -> None:
    start = start_of(page)
    assert start in STARTS, f"{page.relative_to(ROOT)} says `<!-- starts with: NAME -->` with one of {STARTS}"
    walking(page, request.getfixturevalue(start))


def test_a_command_that_paretune_does_not_have_is_found():
    assert refuses(["sweeep", "logs"]) is not None
    assert refuses(["sweep", "logs", "--no-such-option"]) is not None
    assert refuses(["sweep", "logs", "--halves"]) is None


def test_a_walk_stops_at_a_command_that_fails(tmp_path: Path):
    with pytest.raises(AssertionError, match="exit 2"):
        Walk(tmp_path).command("paretune check nowhere", where="here", run=True)


def test_a_page_that_is_walked_elsewhere_is_named_there():
    for page, walk in ELSEWHERE.items():
        assert page.name in walk.read_text(encoding="utf-8")


def test_there_are_pages_to_walk_through():
    assert {ROOT / "README.md", ROOT / "docs" / "first-hour.md"} <= set(WALKED)
    assert main(["version", "--json"]) == 0


def test_the_site_is_built_and_no_link_in_it_is_dead():
    """`make docs`; the pages of the navigation are there."""
    site = runpy.run_path(str(ROOT / "docs" / "site.py"))
    assert site["main"]() == 0
    pages = [page for part in site["NAVIGATION"] for chapter in part.values() for page in chapter]
    assert all((ROOT / "site" / page).with_suffix(".html").is_file() for page in pages)
    assert "no-run" not in (ROOT / "site" / "index.html").read_text(encoding="utf-8")


def test_a_dead_link_of_the_site_is_found(tmp_path: Path):
    (tmp_path / "index.html").write_text('<p id="here"><a href="#here"></a><a href="nowhere.html"></a></p>', encoding="utf-8")
    assert runpy.run_path(str(ROOT / "docs" / "site.py"))["dead_links"](tmp_path) == ["index.html: nowhere.html"]
