"""What is built is what is installed: wheel and sdist hold the same package, whole and alone, and it runs where no source is near."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE = ROOT / "src" / "paretune"
TOLERATED = {"httpx", "httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "typing_extensions", "msgspec", "paretune"}

RUNS = """
import json, sys
from importlib.resources import files
from pathlib import Path

import paretune
from paretune.policy.registry import Registry
from paretune.report.html import Section, render_report

registry = Registry(Path("registry.db"))
static = files("paretune.console").joinpath("static")
print(json.dumps({
    "place": paretune.__file__,
    "version": paretune.__version__,
    "plan": registry.version(),
    "report": render_report([Section("A heading")], title="A title"),
    "static": sorted(file.name for file in static.iterdir() if file.stat().st_size),
}))
registry.close()
"""
CLIENT_ALONE = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] not in sys.stdlib_module_names and name.split(".")[0] not in {tolerated!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Blocked())
from paretune.client import AsyncClient, Client
with Client("http://127.0.0.1:9", static={{"save": 1.0}}) as client:
    print(client.decide(request_id="r", user=1, features={{}}).reason)
"""


def built(source: Path, target: Path, *kinds: str) -> None:
    """Build as a release does, without fetching anything."""
    words = [word for kind in kinds for word in ("-t", kind)]
    subprocess.run([sys.executable, "-m", "hatchling", "build", *words, "-d", str(target)], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    pytest.importorskip("hatchling", reason="hatchling builds the package; it comes with the extra `dev`")
    folder = tmp_path_factory.mktemp("dist")
    built(ROOT, folder, "sdist", "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    return next(release.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(release: Path) -> Path:
    return next(release.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new environment with the wheel; its dependencies are those of this environment, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    words = ["-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--ignore-installed"]
    subprocess.run([sys.executable, *words, str(wheel)], check=True, capture_output=True, env=without_source())
    return folder


def without_source() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(installed: Path, *words: str, cwd: Path) -> str:
    command = [str(installed / "bin" / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=without_source(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def package_files(folder: Path) -> dict[str, bytes]:
    """The package's files as they should be shipped, by their name below the folder that holds `paretune`."""
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(folder.parent).as_posix(): file.read_bytes() for file in files}


def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    about = {name: content for name, content in held.items() if ".dist-info/" in name}
    assert {name: content for name, content in held.items() if name not in about} == package_files(PACKAGE)
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == {name.partition("/")[2] for name in about}
    for ending in ("py.typed", ".html.j2", "htmx.min.js", "console.css", "versions/registry_0001.py"):
        assert any(name.endswith(ending) for name in held)


def test_the_sdist_holds_what_the_wheel_is_built_from_and_builds_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    source = next(tmp_path.iterdir())
    assert package_files(source / "src" / "paretune") == package_files(PACKAGE)
    assert {"tests", "benchmarks", "docs", "examples", "data"} & {path.name for path in source.iterdir()} == set()
    assert (source / "LICENSE").exists()
    built(source, tmp_path / "again", "wheel")
    with zipfile.ZipFile(next((tmp_path / "again").glob("*.whl"))) as again, zipfile.ZipFile(wheel) as first:
        assert {name: again.read(name) for name in again.namelist()} == {name: first.read(name) for name in first.namelist()}


def test_the_installed_package_runs_where_no_source_is_near(installed: Path, tmp_path: Path) -> None:
    told = json.loads(run(installed, "python", "-c", RUNS, cwd=tmp_path))
    assert Path(told["place"]).is_relative_to(installed)
    assert told["version"] == PROJECT["version"]
    assert told["plan"] == 0  # the migrations are there
    assert "A heading" in told["report"]
    assert {"console.css", "console.js", "htmx.min.js", "mark.svg"} <= set(told["static"])


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    assert "Usage: paretune" in run(installed, "paretune", "--help", cwd=tmp_path)
    assert json.loads(run(installed, "paretune", "version", "--json", cwd=tmp_path))["paretune"] == PROJECT["version"]


def test_the_caller_s_side_needs_the_standard_library_httpx_and_msgspec_alone(installed: Path, tmp_path: Path) -> None:
    said = run(installed, "python", "-c", CLIENT_ALONE.format(tolerated=TOLERATED), cwd=tmp_path)
    assert said.strip() == "FALLBACK:client"


def test_there_is_one_version(installed: Path, tmp_path: Path) -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## (\S+)", changes, re.MULTILINE)
    assert top is not None
    assert top[1] == PROJECT["version"]
    code = "from importlib.metadata import version; print(version('paretune'))"
    assert run(installed, "python", "-c", code, cwd=tmp_path).strip() == PROJECT["version"]
