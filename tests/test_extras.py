"""A part that is not installed is named, with the command that brings it; everything else works without it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from paretune.errors import MissingExtraError
from paretune.extras import EXTRAS, missing

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = {"bench", "dev", "docs"}

NEEDS = {  # code -> the extra that it needs
    "import paretune.value.replay_net": "train",
    "import paretune.value.smooth_net": "train",
    "import paretune.value.paper_net": "train",
    "import paretune.serving.graph": "train",
    "import paretune.serving.onnx_scorer": "serve",
    "from paretune.scale.cluster import ray_module; ray_module()": "ray",
    "import paretune.scale.group": "train",
    "from paretune.storage.objects import listed; from paretune.storage.place import where; listed(where('s3://feed/logs'))": "s3",
    "from paretune.storage.objects import listed; from paretune.storage.place import where; listed(where('gs://feed/logs'))": "gcs",
    "from paretune.policy.database import Database; Database('postgresql://nobody:secret@127.0.0.1/none')": "postgres",
    "from paretune.serving.streams import client_of, place_of; client_of(place_of('redis://:secret@127.0.0.1'))": "redis",
}
BLOCKED = """
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda cls, name, *place: None if name.split(".")[0] in {modules!r} else find(name, *place))
"""


def run_without(modules: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that does not find some modules."""
    return subprocess.run([sys.executable, "-c", BLOCKED.format(modules=modules) + code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def refusals() -> dict[str, list[str]]:
    """What is said, in a process with no extra at all, of each piece of code that needs one: the error's name and text."""
    everything = tuple(sorted({module for extra in EXTRAS.values() for module in extra.modules}))
    code = (
        f"import json\nsaid = {{}}\nfor code in {list(NEEDS)!r}:\n    try:\n        exec(code)\n"
        "    except Exception as error:\n        said[code] = [type(error).__name__, str(error)]\n"
        "print(json.dumps(said))"
    )
    done = run_without(everything, code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_extra_of_the_package_is_told_of() -> None:
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"]) - FOR_DEVELOPERS, "describe it in paretune/extras.py"


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_names_the_modules_that_it_brings(name: str) -> None:
    """Modules are named as they are imported, requirements as they are installed; ours have the same names."""
    required = {text.split(">")[0].split("[")[0] for text in PROJECT["optional-dependencies"][name]}
    assert set(EXTRAS[name].modules) == required


@pytest.mark.parametrize("code", NEEDS)
def test_without_an_extra_the_error_names_the_command_that_brings_it(code: str, refusals: dict[str, list[str]]) -> None:
    kind, said = refusals[code]
    assert kind == "MissingExtraError"
    assert f'hint: pip install "paretune[{NEEDS[code]}]"' in said
    assert "secret" not in said


def test_each_extra_but_the_one_that_only_saves_time_is_asked_for_somewhere() -> None:
    assert set(NEEDS.values()) == set(EXTRAS) - {"fast"}


def test_without_numba_nothing_is_missing_but_time() -> None:
    code = (
        "import paretune.surface.lists, paretune.frontier.hull, paretune.frontier.regions, paretune.ope.pooling, paretune.ope.pooled\n"
        "import paretune.sim.response\n"
        "modules = [module for name, module in sys.modules.items() if name.startswith('paretune.') and hasattr(module, 'compiled')]\n"
        "assert len(modules) >= 6, modules\n"
        "assert all(module.compiled is None for module in modules)"
    )
    done = run_without(("numba",), code)
    assert done.returncode == 0, done.stderr


def test_every_kind_of_model_is_read_and_evaluated_without_torch() -> None:
    """Fitting imports torch when it is asked to fit; what serves and sweeps does not."""
    done = run_without(("torch", "onnx", "onnxruntime", "numba"), "import paretune.run, paretune.serving.server, paretune.console.api")
    assert done.returncode == 0, done.stderr


def test_a_command_that_needs_an_extra_exits_2_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "paretune.toml").write_text("", encoding="utf-8")
    code = "from paretune.cli import main; raise SystemExit(main(['history', '--registry', 'postgresql://user:secret@127.0.0.1/none']))"
    done = run_without(("psycopg",), code)
    assert done.returncode == 2
    assert done.stderr.startswith("error: a registry on PostgreSQL needs the extra 'postgres'")
    assert 'hint: pip install "paretune[postgres]", or name an SQLite file' in done.stderr
    assert "secret" not in done.stderr


def test_the_error_says_what_the_import_said_and_what_else_one_can_do() -> None:
    error = missing("train", "training this model", ImportError("libgomp.so.1: cannot open"), otherwise="train the model `ridge`")
    assert isinstance(error, MissingExtraError)
    assert str(error) == (
        "training this model needs the extra 'train': libgomp.so.1: cannot open\n"
        '  hint: pip install "paretune[train]", or train the model `ridge`'
    )
