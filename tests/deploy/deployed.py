"""What the files of deploy/ are held against: paretune's own command line, its routes, its metrics, the secrets that are made."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import typer
import yaml

from paretune.cli import app
from paretune.console.entry import entry
from paretune.console.governing import governing
from paretune.console.pages import pages

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
STATE = "/var/lib/paretune"
WRITES = {"mirror", "spool", "output", "status", "metrics", "state"}  # parameters that name what a command writes
READS = {"config", "logs", "events", "guardrails"}  # and what it reads
LIBPQ = "PGPASSWORD"  # what libpq, and so psycopg, takes a password from


@dataclass(frozen=True)
class Command:
    """A command line of paretune as its own parser understands it."""

    name: str
    parameters: dict[str, Any]

    def paths(self, names: set[str]) -> Iterator[str]:
        """Absolute paths among some parameters."""
        for name in names & self.parameters.keys():
            value = self.parameters[name]
            if value is not None and str(value).startswith("/"):
                yield str(value)


@cache
def the_program() -> Any:
    """Return the command line, built once."""
    return typer.main.get_command(app)


def parsed(words: list[str]) -> Command:
    """Return what `paretune WORDS` would run; an option that is not there raises click's UsageError."""
    group = the_program()
    context = group.make_context("paretune", list(words))
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
    assert command is not None
    return Command(str(name), command.make_context(str(name), rest, parent=context).params)


def in_shell(script: str) -> list[list[str]]:
    """Return the words of every `paretune ...` line of a shell script."""
    return [shlex.split(line)[1:] for line in script.replace("\\\n", " ").splitlines() if line.strip().startswith("paretune ")]


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


@cache
def console_routes() -> frozenset[str]:
    """Paths of the console."""
    from paretune.console.api import PREFIX

    prefixed = {f"{PREFIX}{route.path}" for router in (entry, governing) for route in router.routes}  # type: ignore[attr-defined]
    return frozenset(prefixed | {route.path for route in pages.routes})  # type: ignore[attr-defined]


@cache
def service_answers(path: str) -> int:
    """Return how a decision service with a plan answers GET."""
    from exported import service

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=service()), base_url="http://test") as client:
            return (await client.get(path)).status_code

    return asyncio.run(ask())


def has_route(port: int, path: str) -> bool:
    """Whether what listens on a port answers a path: the service on 8077, the console on 8078."""
    return service_answers(path) == 200 if port == 8077 else path in console_routes()


def made_secrets(folder: Path) -> dict[str, set[str]]:
    """Run secrets/make.sh and return file -> names of variables."""
    subprocess.run(["sh", str(DEPLOY / "secrets" / "make.sh"), str(folder)], check=True, timeout=60)
    return {path.name: {line.split("=")[0] for line in path.read_text().split()} for path in folder.glob("*.env")}


def logins() -> set[str]:
    """Logins of postgres/roles.sql."""
    return set(re.findall(r"^\\set \w+ (paretune_\w+)$", (DEPLOY / "postgres" / "roles.sql").read_text(encoding="utf-8"), re.MULTILINE))
