"""The page of all benchmarks, made from what their last runs left: python benchmarks/table.py [--runs DIR] [--page FILE].

A benchmark is a file here that takes --quick and --json; one named after another with an underscore (`serving_load.py`) is a part of that
one. It says what it asks in its first line, and its aims, where it has any, in a constant TARGETS: figure -> (">=" or "<=", limit), or
("in", (low, high)). Its JSON is a flat object of figures, or holds them under "figures", and may bring whole tables under "tables", each
with "title", "head" and "rows". `every.py` leaves NAME.run.json beside it: how the run ended, when, on which machine and for how long.
Nothing that went wrong is left out of the page.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RUNS = HERE.parent / "build" / "bench"
PAGE = HERE / "README.md"
FIRST = ("peers", "growth")  # what most people come for; the others follow by name
DONE = "done"
HEAD = """# Benchmarks

Written by `make bench`, which runs every benchmark here at its `--quick` size; do not edit it. `make bench KUAIRAND=DIR` adds the world
over real feedback, `make bench ONLY="peers growth"` runs some and keeps what the others left. Full sizes are run one by one,
`python benchmarks/NAME.py --json OUT`, and are quoted where they matter in the documentation. Each file's first lines say what is measured
and how.
"""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One file of this folder."""

    name: str
    asks: str  # first line of its docstring
    targets: dict[str, tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark's last run left."""

    benchmark: Benchmark
    record: dict[str, Any] | None  # None: never run
    found: dict[str, Any]

    @property
    def state(self) -> str:
        """How the run ended."""
        return "not run" if self.record is None else str(self.record["state"])

    @property
    def figures(self) -> dict[str, float]:
        """Its figures, nested ones by dotted names."""
        figures = self.found.get("figures", {name: value for name, value in self.found.items() if name != "tables"})
        return dict(_flat(figures))

    def missing(self) -> list[str]:
        """Return the targets that the run says nothing of."""
        return [name for name in self.benchmark.targets if name not in self.figures]

    def met(self) -> int:
        """Return how many targets are met."""
        return sum(verdict(self.figures[name], target) for name, target in self.benchmark.targets.items() if name in self.figures)


def benchmarks(folder: Path = HERE) -> list[Benchmark]:
    """Return the benchmarks of a folder, in the order of the page."""
    sources = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}
    able = {name for name, source in sources.items() if takes(source, "--quick") and takes(source, "--json")}
    names = sorted(name for name in able if not any(name.startswith(f"{other}_") for other in able))
    return [_benchmark(name, sources[name]) for name in sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))]


def takes(source: str, option: str) -> bool:
    """Say whether a script declares a command-line option."""
    return re.search(rf'add_argument\(\s*"{option}"', source) is not None


def _benchmark(name: str, source: str) -> Benchmark:
    tree = ast.parse(source)
    targets: dict[str, tuple[str, Any]] = {}
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if (
            isinstance(target, ast.Name)
            and target.id == "TARGETS"
            and isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
        ):
            targets = ast.literal_eval(node.value)
    asks = re.sub(r":? python \S+\.py.*", "", (ast.get_docstring(tree) or "").split("\n")[0]).rstrip(".")
    return Benchmark(name, asks, targets)


def runs(folder: Path, of: list[Benchmark]) -> list[Run]:
    """Return what the benchmarks left in a folder; figures only of runs that ended well."""
    found = []
    for benchmark in of:
        record = _read(folder / f"{benchmark.name}.run.json")
        figures = _read(folder / f"{benchmark.name}.json") if record is not None and record["state"] == DONE else None
        found.append(Run(benchmark, record, figures or {}))
    return found


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def verdict(value: float, target: tuple[str, Any]) -> bool:
    """Say whether a figure meets its target."""
    sign, limit = target
    if sign == "in":
        return bool(limit[0] <= value <= limit[1])
    return bool(value >= limit if sign == ">=" else value <= limit)


def page(of: list[Run]) -> str:
    """Return the page."""
    return "\n".join([HEAD, *machines(of), "", *overview(of), *(line for run in of for line in section(run))]) + "\n"


def machines(of: list[Run]) -> Iterator[str]:
    """Yield a line for each machine, day and version that runs were made with."""
    groups: dict[str, list[str]] = {}
    for run in of:
        if run.record is not None:
            groups.setdefault(f"{run.record['date']}, {run.record['machine']}", []).append(run.benchmark.name)
    for words, names in groups.items():
        yield words + ("." if len(groups) == 1 else f": {', '.join(names)}.") + "\n"


def overview(of: list[Run]) -> Iterator[str]:
    """Yield the table of all benchmarks."""
    yield "| benchmark | what it asks | targets met | wall, min | CPU, min | run |"
    yield "|---|---|---|---|---|---|"
    for run in of:
        targets = f"{run.met()} of {len(run.benchmark.targets)}" if run.benchmark.targets and run.state == DONE else "–"
        spent = [f"{run.record[key] / 60:.1f}" if run.record else "–" for key in ("wall_s", "cpu_s")]
        state = run.state if run.state == DONE else f"**{run.state}**"
        yield f"| [{run.benchmark.name}](#{run.benchmark.name}) | {_cell(run.benchmark.asks)} | {targets} | {' | '.join(spent)} | {state} |"
    if any(run.record for run in of):
        spent = [f"{sum(run.record[key] for run in of if run.record) / 60:.0f}" for key in ("wall_s", "cpu_s")]
        yield f"| all | | | {' | '.join(spent)} | |"
    yield ""


def section(run: Run) -> Iterator[str]:
    """Yield everything that one benchmark said."""
    yield f"## {run.benchmark.name}"
    yield ""
    command = run.record["command"] if run.record else f"python benchmarks/{run.benchmark.name}.py --quick --json OUT"
    yield f"{run.benchmark.asks}{'' if run.benchmark.asks.endswith('?') else '.'} `{command}`"
    yield ""
    if run.state != DONE:
        yield f"**{run.state[0].upper()}{run.state[1:]}.**"
        yield ""
        return
    for each in run.found.get("tables", ()):
        yield from (f"**{each['title']}**", "", "| " + " | ".join(each["head"]) + " |", "|" + "---|" * len(each["head"]))
        yield from ("| " + " | ".join(_cell(str(value)) for value in row) + " |" for row in each["rows"])
        yield ""
    if run.benchmark.targets:
        yield from ("| figure | value | target | |", "|---|---|---|---|")
        for name, target in run.benchmark.targets.items():
            value = run.figures.get(name)
            told = "not measured" if value is None else "met" if verdict(value, target) else "**missed**"
            yield f"| `{name}` | {'–' if value is None else number(value)} | {_words(target)} | {told} |"
        yield ""
    rest = [f"`{name}` {number(value)}" for name, value in run.figures.items() if name not in run.benchmark.targets]
    if rest:
        yield from ("<details><summary>All other figures</summary>", "", "; ".join(rest) + ".", "", "</details>", "")


def number(value: float) -> str:
    """Return a figure with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"


def _words(target: tuple[str, Any]) -> str:
    sign, limit = target
    if sign == "in":
        return f"{number(limit[0])} … {number(limit[1])}"
    return f"{'≥' if sign == '>=' else '≤'} {number(limit)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield numbers of nested objects and lists; an item of a list goes by its text values, else by its place."""
    if isinstance(value, bool | int | float):
        yield name, float(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            words = [text for text in inner.values() if isinstance(text, str)] if isinstance(inner, dict) else []
            yield from _flat(inner, f"{name}[{', '.join(words) or i}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    arguments.page.write_text(page(runs(arguments.runs, benchmarks())), encoding="utf-8")


if __name__ == "__main__":
    main()
