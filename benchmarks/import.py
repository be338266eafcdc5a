"""What does `pip install paretune` cost? The wheel in a clean environment: its size, CPU seconds of `import paretune` and
`paretune --help`, and what `paretune.client` needs.

`python benchmarks/import.py --json OUT`: builds the wheel, makes two environments without pip (the base install at the versions of
constraints.txt; the wheel without dependencies beside httpx and msgspec), and measures there. Downloads some 200 MB where pip has no
cache. CPU seconds are medians over rounds in processes of their own, the first one left out, beside those of a Python that does nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
MOST_MB, MOST_CPU_S = 650.0, 0.6
LOADED = "import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}} - {{'__main__', *sys.stdlib_module_names}}))"
HEAVY = {"torch", "numpy", "polars", "scipy", "pydantic", "sqlalchemy"}
CLIENT_NEEDS = ("httpx", "msgspec")
ASK = """
import asyncio
from paretune.client import AsyncClient, Client
with Client("http://127.0.0.1:9", static={"save": 1.0}) as client:
    assert client.decide(request_id="r", user=1, features={}).reason == "FALLBACK:client"
async def ask():
    async with AsyncClient("http://127.0.0.1:9", static={"save": 1.0}) as client:
        assert (await client.decide(request_id="r", user=1, features={})).reason == "FALLBACK:client"
asyncio.run(ask())
"""  # nobody listens there


def pip(*words: str, python: Path | None = None) -> None:
    """Run pip, for another environment where one is named."""
    command = [sys.executable, "-m", "pip", *(("--python", str(python)) if python else ()), "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *words], check=True)


def environment(folder: Path) -> Path:
    """Make an environment that holds nothing, not even pip, and return its Python."""
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def cpu_s(command: list[str], rounds: int) -> float:
    """Return the median CPU seconds of a command; the first run, which may write bytecode, does not count."""
    seconds = []
    for _ in range(rounds + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(seconds[1:])


def sizes(site: Path) -> tuple[dict[str, float], float]:
    """Return MB by the first name under site-packages, bytecode included, as the disk counts them; and the bytecode's share of it."""
    found: Counter[str] = Counter()
    bytecode = 0
    for file in site.rglob("*"):
        if file.is_file() and not file.is_symlink():
            blocks = 512 * file.stat().st_blocks
            found[file.relative_to(site).parts[0]] += blocks
            bytecode += blocks * (file.suffix == ".pyc")
    return {name: size / 1e6 for name, size in found.most_common()}, bytecode / 1e6


def loaded(python: Path, module: str) -> list[str]:
    """Return the packages outside the standard library that importing a module brings in."""
    done = subprocess.run([python, "-c", LOADED.format(module=module)], check=True, capture_output=True, text=True)
    return done.stdout.split()


def base(wheel: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the base install."""
    python = environment(folder)
    pip("install", "--constraint", str(CONSTRAINTS), str(wheel), python=python)
    by_name, bytecode = sizes(next(folder.glob("lib/python*/site-packages")))
    command = str(folder / "bin" / "paretune")
    return {
        "size_mb": sum(by_name.values()),
        "bytecode_mb": bytecode,
        "largest_mb": dict(list(by_name.items())[:10]),
        "nothing_cpu_s": cpu_s([str(python), "-c", "pass"], rounds),
        "import_cpu_s": cpu_s([str(python), "-c", "import paretune"], rounds),
        "help_cpu_s": cpu_s([command, "--help"], rounds),
        "version_cpu_s": cpu_s([command, "version"], rounds),
        "import_loads": loaded(python, "paretune"),
        "help_loads": loaded(python, "paretune.cli"),
    }


def client(wheel: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the caller's side alone, in an environment that has nothing else."""
    python = environment(folder)
    pip("install", "--constraint", str(CONSTRAINTS), *CLIENT_NEEDS, python=python)
    pip("install", "--no-deps", str(wheel), python=python)
    subprocess.run([python, "-c", ASK], check=True)
    by_name, _ = sizes(next(folder.glob("lib/python*/site-packages")))
    return {
        "client_size_mb": sum(by_name.values()),
        "client_cpu_s": cpu_s([str(python), "-c", "import paretune.client"], rounds),
        "client_loads": loaded(python, "paretune.client"),
    }


def targets(found: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    """Return whether each target was met, and the figure."""
    return {
        f"import paretune <= {MOST_CPU_S} CPU s": (found["import_cpu_s"] <= MOST_CPU_S, f"{found['import_cpu_s']:.3f}"),
        "import paretune without torch, numpy, polars": (not HEAVY & set(found["import_loads"]), " ".join(found["import_loads"])),
        f"paretune --help <= {MOST_CPU_S} CPU s": (found["help_cpu_s"] <= MOST_CPU_S, f"{found['help_cpu_s']:.3f}"),
        "paretune --help without torch, numpy, polars": (not HEAVY & set(found["help_loads"]), " ".join(found["help_loads"])),
        f"base install <= {MOST_MB:g} MB": (found["size_mb"] <= MOST_MB, f"{found['size_mb']:.0f}"),
        "paretune.client with httpx and msgspec alone": (True, " ".join(found["client_loads"])),  # it ran, or there is no figure
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--quick", action="store_true", help="three rounds in place of eleven")
    given = parser.parse_args()
    rounds = 3 if given.quick else 11
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pip("wheel", "--no-deps", "--wheel-dir", str(folder / "dist"), str(ROOT))
        wheel = next((folder / "dist").glob("*.whl"))
        found = {"wheel_mb": wheel.stat().st_size / 1e6, **base(wheel, folder / "base", rounds), **client(wheel, folder / "client", rounds)}
    for name, value in found.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    met = targets(found)
    for name, (ok, figure) in met.items():
        print(f"{'met' if ok else 'MISSED'}: {name}: {figure}")
    if given.json is not None:
        given.json.write_text(json.dumps({**found, "met": {name: ok for name, (ok, _) in met.items()}}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
