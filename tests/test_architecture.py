"""What keeps the tree readable: imports follow the data, only edges touch the outside, files are short and named for what they hold."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "paretune"
FILES = sorted(SOURCE.rglob("*.py"))

# The stages in the order the data moves. An import goes to an earlier stage or stays in its own. A stage is a folder or a single module.
ORDER = (
    "connections",
    "client",
    "errors",
    "extras",
    "config",
    "template",
    "records",
    "atomic",
    "ports",
    "seeds",
    "storage",
    "surface",
    "logs",
    "value",
    "ope",
    "frontier",
    "explore",
    "policy",
    "exchange",
    "serving",
    "experiment",
    "monitor",
    "sim",
    "report",
    "console",
    "scale",
    "run",
    "demo",
    "rehearse",
    "doctor",
    "progress",
    "commands",
    "cli",
    "__main__",
    "__init__",
)

# Imports against the order, each with its reason.
EXCEPTIONS = {
    ("config", "paretune.surface.grid"): "the file's low, high and levels are spaced when it is read",
    ("config", "paretune.surface.heads"): "the file is refused when its heads make no surface",
}

# The only files that may touch what lies outside the process, each with what it touches.
EDGES = {
    "atomic.py": "writes files and folders",
    "cli.py": "the terminal",
    "client.py": "HTTP, the clock, threads",
    "commands/": "the terminal, and the files a command is given",
    "config.py": "reads paretune.toml",
    "console/accounts.py": "the database, the clock",
    "console/api.py": "HTTP, the clock",
    "console/entry.py": "HTTP",
    "console/fronts.py": "the database",
    "console/governing.py": "HTTP",
    "console/guard.py": "HTTP",
    "console/pages.py": "HTTP",
    "console/paper.py": "HTTP",
    "console/shell.py": "HTTP",
    "console/traffic.py": "HTTP, threads, the clock",
    "demo.py": "files of a run, the clock",
    "doctor/machine.py": "the system, files, the clock",
    "doctor/sample.py": "reads logs, the clock",
    "doctor/servers.py": "the network, the database, the clock, threads",
    "rehearse.py": "writes logs, a registry and runs",
    "exchange/imported.py": "reads and writes logs",
    "logs/bucket_ledger.py": "writes joined logs and the state of a join to object storage, files",
    "logs/files.py": "lists files and objects",
    "logs/inspection.py": "reads logs, writes the quarantine",
    "logs/intake.py": "reads decisions and events, the clock",
    "logs/ledger.py": "writes joined logs and the state of a join",
    "logs/parquet.py": "reads and writes logs",
    "logs/parts.py": "reads logs",
    "logs/repeats.py": "temporary files",
    "logs/staging.py": "writes what a run prepared, all of it or nothing",
    "policy/database.py": "the database, threads",
    "policy/migrations/": "the database",
    "policy/outcomes.py": "the database, the clock",
    "policy/reader.py": "the database",
    "policy/register.py": "the database, the clock",
    "policy/registry.py": "the database, the clock",
    "policy/rows.py": "the database",
    "policy/shelf.py": "the database, bundle folders",
    "policy/soundness.py": "the database",
    "policy/tables.py": "SQLAlchemy",
    "progress.py": "the terminal, the clock",
    "frontier/archive.py": "writes and reads fronts",
    "experiment/earned.py": "reads logs",
    "experiment/guarding.py": "reads logs",
    "experiment/reading.py": "reads logs",
    "experiment/service.py": "reads logs and spools",
    "experiment/stepping.py": "reads logs, the database",
    "experiment/vigil.py": "reads logs, the database",
    "report/archive.py": "writes and reads run folders",
    "report/drift.py": "writes the page of a look at drift",
    "report/html.py": "writes the report and pictures",
    "report/ledger.py": "writes the page of a ledger",
    "report/plan.py": "writes the page of a plan",
    "report/readout.py": "writes the page of a readout",
    "report/stage2.py": "writes the page of stage 2",
    "report/textfile.py": "Prometheus, writes metrics of runs, the clock",
    "run.py": "reads logs, writes models and run folders",
    "scale/cluster.py": "Ray, the environment, temporary files",
    "scale/crew.py": "reads logs",
    "scale/group.py": "torch",
    "scale/ray_crew.py": "Ray, reads logs",
    "scale/spread.py": "Ray, the process",
    "scale/training.py": "Ray, torch, a thread",
    "serving/app.py": "HTTP, the clock",
    "serving/telemetry.py": "Prometheus",
    "connections.py": "sockets, the clock",
    "serving/protocol.py": "HTTP, the clock",
    "serving/server.py": "HTTP, signals, the environment, files",
    "serving/bundle.py": "reads and writes serving bundles",
    "serving/graph.py": "onnx",
    "serving/onnx_scorer.py": "ONNX Runtime",
    "serving/registry_source.py": "the database, bundle folders, threads",
    "serving/runtime.py": "the clock, threads; plans and bundles by way of sources.py",
    "serving/sources.py": "reads bundles, reads and writes plans, the clock, a thread",
    "serving/workers.py": "threads",
    "serving/journal.py": "writes and reads journals",
    "serving/outbox.py": "threads, the clock",
    "serving/backlog.py": "writes and reads journals",
    "serving/stream_reader.py": "Redis",
    "serving/streams.py": "Redis, threads, the clock, the environment",
    "serving/spool.py": "writes decisions, threads, the clock",
    "storage/copies.py": "object storage, folders on disk",
    "storage/objects.py": "object storage, files, the environment",
    "sim/kuairand.py": "reads the user's download",
    "sim/kuairand_data.py": "reads the user's download",
    "sim/kuairand_fit.py": "torch",
    "sim/tested.py": "writes logs",
    "sim/operation.py": "writes logs",
    "sim/traffic.py": "writes logs",
    "value/bundle.py": "reads and writes models",
    "value/lessons.py": "reads logs",
    "value/fitting.py": "torch, the clock, checkpoints",
    "value/paper_net.py": "torch",
    "value/replay_net.py": "torch",
    "value/smooth_net.py": "torch",
    "value/trunk_net.py": "torch",
    "value/train.py": "imports torch models when asked for one",
}

OUTSIDE_MODULES = re.compile(
    r"(fcntl|ftplib|glob|http|httpx|mmap|multiprocessing|obstore|os|prometheus_client|psycopg|ray|redis|requests|shutil|signal|smtplib|socket|sqlalchemy|sqlite3|ssl"
    r"|subprocess|sys|tempfile|threading|time|torch|tomllib|urllib\.request|uvicorn)(\.|\Z)"
)
OUTSIDE_CALLS = re.compile(
    r"(exists|glob|is_dir|is_file|iterdir|mkdir|now|open|read_bytes|read_text|rglob|savez|stat|today|touch|unlink|utcnow|write_bytes"
    r"|write_text)\Z"
)
POLARS_IO = re.compile(r"(scan|read|write|sink)_(parquet|csv|ndjson|json|ipc|avro|delta|database|excel)\Z")

FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|core|managers?|engines?|common|misc|base)(_|$)")
LONGEST = 400


def name_of(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def stage_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Dotted names of all imports, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return tree


def wrong_way(file: Path, tree: ast.Module) -> list[str]:
    stage = stage_of(file)
    if stage in {"records", "ports", "__init__"}:  # names for the type checker only
        tree = without_type_checking(tree)
    found = []
    for target, line in imported(tree):
        parts = target.split(".")
        if parts[0] != "paretune" or len(parts) == 1:
            continue
        other = parts[1]
        allowed = any((stage, ".".join(parts[:depth])) in EXCEPTIONS for depth in range(2, len(parts) + 1))
        if not allowed and ORDER.index(other) > ORDER.index(stage):
            found.append(f"{name_of(file)}:{line} ({stage}) imports {target} ({other})")
    return found


def outside(tree: ast.Module) -> list[str]:
    found = [f"line {line}: import {name}" for name, line in imported(tree) if OUTSIDE_MODULES.match(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if OUTSIDE_CALLS.match(called) or POLARS_IO.match(called) or ast.unparse(node.func) in {"np.load", "np.save"}:
                found.append(f"line {node.lineno}: {ast.unparse(node.func)}()")
    return found


def is_edge(file: Path) -> bool:
    name = name_of(file)
    return any(name == edge or (edge.endswith("/") and name.startswith(edge)) for edge in EDGES)


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef]:
    """Functions and classes of a module, and methods of its public classes, whose names do not begin with an underscore."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = (child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
                yield from (method for method in methods if not method.name.startswith("_"))


def test_the_order_names_every_stage_of_the_tree() -> None:
    unnamed = {stage_of(file) for file in FILES} - set(ORDER)
    assert not unnamed, f"place these in ORDER where the data passes them: {sorted(unnamed)}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_go_to_an_earlier_or_the_same_stage(file: Path) -> None:
    assert wrong_way(file, tree_of(file)) == []


@pytest.mark.parametrize("file", [file for file in FILES if not is_edge(file)], ids=name_of)
def test_only_edges_touch_files_clock_network_or_torch(file: Path) -> None:
    assert outside(tree_of(file)) == []


def test_every_listed_edge_exists_and_says_in_its_first_lines_that_it_is_one() -> None:
    for edge in EDGES:
        files = [file for file in FILES if name_of(file) == edge or (edge.endswith("/") and name_of(file).startswith(edge))]
        assert files, f"{edge} is listed as an edge and does not exist"
        silent = [
            name_of(file) for file in files if file.name != "__init__.py" and "edge" not in (ast.get_docstring(tree_of(file)) or "").lower()
        ]
        assert not silent, f"say 'An edge: ...' in the first lines of {silent}"


def test_the_rules_catch_what_they_are_for() -> None:
    body = "import os", "from paretune.cli import main", "return open('x'), path.read_text(), pl.scan_parquet('y'), datetime.now()"
    tree = ast.parse("\n    ".join(("def f():", *body)))
    assert len(outside(tree)) == 5
    assert wrong_way(SOURCE / "surface" / "planted.py", tree) == [
        "surface/planted.py:3 (surface) imports paretune.cli (cli)",
        "surface/planted.py:3 (surface) imports paretune.cli.main (cli)",
    ]
    assert wrong_way(SOURCE / "config.py", ast.parse("from paretune.surface.heads import Head")) == []
    assert wrong_way(SOURCE / "config.py", ast.parse("from paretune.surface import lists")) != []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_short_and_named_for_what_it_holds(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines; split it by noun"
    for part in file.relative_to(SOURCE).parts:
        assert not FORBIDDEN_NAMES.search(part.removesuffix(".py")), f"{part} says nothing of what it holds"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_public_names_and_modules_have_a_docstring(file: Path) -> None:
    tree = tree_of(file)
    bare = [f"{node.name} (line {node.lineno})" for node in public_definitions(tree) if not ast.get_docstring(node)]
    assert not bare
    assert file.name == "__init__.py" or ast.get_docstring(tree), "say in the first lines what the module is"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_is_unfinished_unsafe_or_swallowed(file: Path) -> None:
    text, tree = file.read_text(encoding="utf-8"), tree_of(file)
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert not {name.split(".")[0] for name, _ in imported(tree)} & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal"}
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except in line {node.lineno}"
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: an assert is no error message; it vanishes under -O"
        assert not (isinstance(node, ast.Name) and node.id == "NotImplementedError"), f"unfinished in line {node.lineno}"


def test_no_file_of_the_repository_names_a_machine_path_or_a_registry() -> None:
    suspicious = re.compile(r"(?<![\w.])/(?:work|root|home)/\w|index-url|https?://(?:pypi|files\.pythonhosted)")
    suffixes = {".py", ".toml", ".txt", ".md", ".yaml", ".yml", ".cfg", ".sh", ".j2"}
    folders = ("src", "tests", "benchmarks", "examples", "docs", "deploy", ".ci")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in suffixes or file.name in {"run"}]
    files += [file for file in ROOT.iterdir() if file.is_file() and (file.suffix in suffixes or file.name == "Makefile")]
    named = [
        file.relative_to(ROOT).as_posix()
        for file in files
        if file != Path(__file__) and suspicious.search(file.read_text(encoding="utf-8"))
    ]
    assert named == []


def test_no_two_files_of_tests_have_one_name() -> None:
    """Tests are no packages: the second file of a name is not collected when both are asked for."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
