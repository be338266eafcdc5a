"""Walking through a page as its reader would: every command and every Python block, in order, in one folder.

A page says where its reader stands by a comment, `<!-- starts with: log -->`; see `STARTS`. Blocks of `sh` are commands, blocks of `python`
share one namespace per page, `toml`, `yaml` and `json` must parse. `sh no-run: REASON` is not run; its `paretune`
commands must still be ones that exist. A command must end with 0, with a code that its comment names (`# exit 3 where ...`), or with 4
where it gives a verdict.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>\w+)[ ]*(?P<info>[^\n]*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"<!-- starts with: (?P<start>[\w ]+) -->")
MAY_END_WITH = re.compile(r"exit(?: code)?s? (\d+)")
VERDICTS = {"sweep", "worth", "sessions", "headroom", "monitor", "readout", "guard", "ledger"}  # which may answer that the data cannot tell
STAYS = ("serve", "console")  # commands that go on until they are stopped
PORTS = {"serve": 8077, "console": 8078}
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    language: str
    info: str  # what follows the language
    text: str
    line: int  # of its fence, from 1


def start_of(page: Path) -> str | None:
    """Return what a page's reader starts with, None where the page does not say."""
    found = PLACE.search(page.read_text(encoding="utf-8"))
    return found["start"] if found else None


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m["language"], m["info"].strip(), m["text"], text[: m.start()].count("\n") + 1) for m in FENCE.finditer(text)]


def commands_of(block: Block) -> Iterator[str]:
    """Yield the commands of a block, those over several lines whole."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def paretune_words(command: str) -> list[str] | None:
    """Return the words of a paretune command without comment; None for another program's."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words[1:] if words[:1] == ["paretune"] else None


def refuses(words: list[str]) -> str | None:
    """Return why the command line refuses words, without running the command; None where it takes them."""
    from paretune.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*words, "--help"])  # words are parsed before --help is answered
    return said.getvalue() if code else None


@dataclass
class Walk:
    """A reader in a folder."""

    here: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    running: dict[int, subprocess.Popen[str]] = field(default_factory=dict)  # by port

    def through(self, page: Path) -> None:
        """Do what every block of a page says."""
        for block in blocks_of(page):
            where = f"{page.relative_to(ROOT)}:{block.line}"
            if block.language == "sh":
                for command in commands_of(block):
                    self.command(command, where=where, run=not block.info.startswith("no-run"))
            elif block.language == "python":
                code = compile("\n" * block.line + block.text, str(page), "exec")
                if not block.info.startswith("no-run"):
                    exec(code, self.names)  # noqa: S102
            elif block.language in {"toml", "yaml", "json"}:
                {"toml": tomllib.loads, "yaml": yaml.safe_load, "json": json.loads}[block.language](block.text)

    def command(self, command: str, *, where: str, run: bool) -> None:
        """Run a command, or only see that paretune has it."""
        words = paretune_words(command)
        if not run:
            refused = None if words is None else refuses(words)
            assert refused is None, f"{where}: {command}: {refused}"
        elif words is not None and words[0] in STAYS:
            self._start(words, where=where)
        elif words is None and command.startswith("cd "):
            os.chdir(self.here / command.split(maxsplit=1)[1])
            self.here = Path.cwd()
        else:
            self._run(command, where=where)

    def _run(self, command: str, *, where: str) -> None:
        words = paretune_words(command)
        allowed = {0, *map(int, MAY_END_WITH.findall(command.partition(" #")[2])), *({4} if words and words[0] in VERDICTS else ())}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.here,
            env=_surroundings(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode in allowed, f"{where}: {command}\nexit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def _start(self, words: list[str], *, where: str) -> None:
        port = int(words[words.index("--port") + 1]) if "--port" in words else PORTS[words[0]]
        self._stop(port)  # a reader who starts a service anew stopped the one before
        started = subprocess.Popen(
            [sys.executable, "-m", "paretune", *words], cwd=self.here, env=_surroundings(), stderr=subprocess.PIPE, text=True
        )
        self.running[port] = started
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and started.poll() is None:
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        started.kill()
        raise AssertionError(f"{where}: {shlex.join(words)} does not listen on {port}: {started.communicate()[1][-2000:]}")

    def _stop(self, port: int) -> None:
        started = self.running.pop(port, None)
        if started is not None:
            started.terminate()
            started.communicate(timeout=PATIENCE_S)

    def stop(self) -> None:
        """Stop what was started; it must end by itself when asked to."""
        for port in list(self.running):
            self._stop(port)


def _surroundings() -> dict[str, str]:
    """Return the environment of a reader, in which `paretune` and `python` are these."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def copied(template: Path, target: Path) -> Path:
    """Return a copy of a place in which a page may do what it likes."""
    shutil.copytree(template, target, symlinks=True)
    return target
