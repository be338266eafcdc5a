"""The page of the benchmarks holds every benchmark, and whatever went wrong."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))
import table  # noqa: E402  # a script's neighbour, as scripts import it

sys.path.remove(str(FOLDER))  # scripts of this folder are no modules of the tests

GOOD = '''"""How much is asked: python good.py."""
import argparse, json, sys
TARGETS = {"ratio": (">=", 2), "share": ("in", (0, 1)), "unsaid": ("<=", 3)}
parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
parser.add_argument("--json")
options = parser.parse_args()
print("looking")
json.dump({"figures": {"ratio": 1.5, "share": 0.25, "rest": [{"of": "us", "n": 7}]},
           "tables": [{"title": "Side by side", "head": ["who", "what"], "rows": [["a|b", 1]]}]}, open(options.json, "w"))
'''
BAD = GOOD.replace('print("looking")', 'sys.exit("the world ended")')
SLOW = GOOD.replace('print("looking")', "import time; time.sleep(60)")


@pytest.fixture
def folder(tmp_path):
    for name, source in (("bad", BAD), ("good", GOOD), ("slow", SLOW), ("good_part", GOOD)):
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    return tmp_path


def test_the_page_has_a_row_and_a_section_for_each_benchmark_of_the_folder():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    names = [benchmark.name for benchmark in table.benchmarks()]
    assert {"peers", "learners", "serving"} <= set(names)
    assert re.findall(r"^\| \[(\w+)\]", text, re.MULTILINE) == names
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == names


@pytest.mark.parametrize("benchmark", table.benchmarks(), ids=lambda benchmark: benchmark.name)
def test_a_benchmark_says_what_it_asks_and_its_targets_can_be_judged(benchmark):
    assert len(benchmark.asks) > 20
    for target in benchmark.targets.values():
        assert isinstance(table.verdict(1.0, target), bool)
        assert target[0] in {">=", "<=", "in"}


def test_a_failing_benchmark_costs_its_own_figures_alone_and_the_exit_code_says_so(folder):
    page, runs = folder / "page.md", folder / "runs"
    command = [sys.executable, str(FOLDER / "every.py"), "--source", str(folder), "--runs", str(runs), "--page", str(page)]
    done = subprocess.run([*command, "bad", "good"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed: bad" in done.stderr
    text = page.read_text(encoding="utf-8")
    assert "**failed with exit code 1, see bad.log**" in text
    assert "the world ended" in (runs / "bad.log").read_text(encoding="utf-8")
    assert "| `ratio` | 1.5 | ≥ 2 | **missed** |" in text
    assert "| `share` | 0.25 | 0 … 1 | met |" in text
    assert "| `unsaid` | – | ≤ 3 | not measured |" in text
    assert "| [good](#good) | How much is asked | 1 of 3 |" in text
    assert "`rest[us].n` 7" in text
    assert "| a\\|b | 1 |" in text
    assert "good_part" not in text


def test_a_benchmark_that_hangs_is_stopped_and_the_page_says_after_how_long(folder):
    command = [
        sys.executable,
        str(FOLDER / "every.py"),
        "slow",
        "--source",
        str(folder),
        "--runs",
        str(folder),
        "--page",
        str(folder / "page.md"),
    ]
    assert subprocess.run([*command, "--limit-s", "0.6"], capture_output=True, check=False).returncode == 1
    assert "**stopped after 0.01 minutes, see slow.log**" in (folder / "page.md").read_text(encoding="utf-8")


def test_figures_of_a_run_that_failed_later_are_not_shown_as_new(folder):
    of = table.benchmarks(folder)
    record = {
        "state": "failed with exit code 1, see good.log",
        "date": "2026-01-01",
        "command": "c",
        "machine": "m",
        "wall_s": 1,
        "cpu_s": 1,
    }
    (folder / "good.run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "good.json").write_text('{"ratio": 3}', encoding="utf-8")
    text = table.page(table.runs(folder, of))
    assert "| `ratio`" not in text
    assert text.count("**not run**") == 2
    assert "2026-01-01, m." in text


def test_the_page_names_no_folder_of_the_machine_it_was_made_on(folder):
    words = [
        sys.executable,
        str(FOLDER / "every.py"),
        "good",
        "--source",
        str(folder),
        "--runs",
        str(folder),
        "--page",
        str(folder / "page.md"),
    ]
    subprocess.run([*words, "--data", str(folder)], check=True, capture_output=True)
    assert str(folder) not in (folder / "page.md").read_text(encoding="utf-8")


def test_no_benchmark_is_named_like_a_package_that_others_import():
    """A script's folder comes first where modules are looked for: `coverage.py` here was what numba took for the package coverage."""
    installed = {name.lower() for name in packages_distributions()}
    assert not {path.stem for path in FOLDER.glob("*.py")} & (installed | {"coverage"} | set(sys.stdlib_module_names))
