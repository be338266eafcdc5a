"""What every command keeps: examples that parse, JSON alone on standard output, no colour where nobody looks, documented exit codes."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from registries import ANNA, published
from running import free_port

from paretune.cli import EXIT_CODES, app, main
from paretune.errors import ConfigError, ForbiddenError, LogError, ParetuneError, UnreachableError
from paretune.policy.registry import Registry
from shop import EXAMPLE, QUICK

GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands
ESCAPE = "\x1b["
ROOT = Path(__file__).parents[1]
PARETUNE = [sys.executable, "-m", "paretune"]

JOURNEY = """
simulate logs --days 6 --requests 1000 --explore 0.6
init weights.yaml -o other.toml
check logs
doctor logs
surface logs --requests 300
headroom logs
plan-exploration logs --lift 5
train logs -o model
sweep logs
worth runs/latest
sessions logs
isolate logs --group history=history_action
report runs/latest
calibrate runs/latest logs
distil runs/latest logs
continuous runs/latest logs
export runs/latest knee -o bundles/knee
plan --bundle bundles/knee --share 5
publish runs/latest knee --as anna
approve 1 --as bert
activate 1 --share 5 --static-arm 5 --yes
ramp 1 --share 25 --yes
rollback --yes
kill --yes
release --yes
history
diff 1 2
audit verify
rules
account add cara --role viewer --no-password
token list
ledger
publish runs/latest balanced --as anna
retire 2
version
"""
ELSEWHERE = {  # commands that need a service, time or a test with users: the file whose tests read their JSON
    "demo": "test_demo.py",
    "rehearse": "test_rehearse.py",
    "join": "serving/test_served_log.py",
    "readout": "experiment/test_readout_command.py",
    "guard": "experiment/test_guard_command.py",
    "monitor": "monitor/test_monitor_command.py",
    "console": "console/test_console_command.py",
}
SERVICES = {"serve"}  # prints its address as JSON and goes on; below


def help_at(name: str, width: int) -> str:
    command = COMMANDS[name]
    return command.context_class(command, info_name=f"paretune {name}", terminal_width=width, **command.context_settings).get_help()


def examples_of(name: str) -> Iterator[list[str]]:
    """The words of each example of a command."""
    section = (COMMANDS[name].help or "").split("Examples:")[1].replace("\\\n", " ")
    yield from (shlex.split(line) for line in section.splitlines() if line.strip())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_and_each_of_its_options_do_and_fits_a_terminal(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").splitlines()[0].endswith(".")
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []
    assert [line for line in help_at(name, 80).splitlines() if len(line) > 80] == []
    assert "Options:" in help_at(name, 40)
    assert ESCAPE not in help_at(name, 80)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_are_words_that_it_takes(name: str) -> None:
    own = [words[2:] for words in examples_of(name) if words[:2] == ["paretune", name]]
    assert own
    for words in own:
        COMMANDS[name].make_context(name, list(words))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_tell_its_result_as_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


def test_an_example_that_a_command_does_not_take_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["check"].make_context("check", ["logs", "--no-such-option"])


@dataclass(frozen=True)
class Said:
    """What a command printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """What every command of the journey says with --json, on a small simulated log."""
    folder, said = tmp_path_factory.mktemp("journey"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PARETUNE_REGISTRY", raising=False)
        (folder / "weights.yaml").write_text((EXAMPLE / "weights.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        for line in JOURNEY.strip().splitlines():
            words = line.split()
            done = run(*words, "--json")
            said.setdefault(words[0], done)
            if words[0] == "simulate":
                quicken(folder / "paretune.toml")
    return said


def run(*words: str) -> Said:
    """Run a command in this process."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    return Said(code, out.getvalue(), err.getvalue())


def quicken(toml: Path) -> None:
    text = toml.read_text(encoding="utf-8")
    for old, new in QUICK.items():
        assert old in text
        text = text.replace(old, new)
    toml.write_text(text, encoding="utf-8")


@pytest.mark.e2e
@pytest.mark.parametrize("name", dict.fromkeys(line.split()[0] for line in JOURNEY.strip().splitlines()))
def test_with_json_standard_output_is_one_object_and_nothing_else(name: str, journey: dict[str, Said]) -> None:
    said = journey[name]
    assert said.code in {0, 4}, said.err
    assert isinstance(json.loads(said.out), dict | list)
    assert ESCAPE not in said.out + said.err


def test_no_command_is_forgotten() -> None:
    assert {line.split()[0] for line in JOURNEY.strip().splitlines()} | set(ELSEWHERE) | SERVICES == set(COMMANDS)
    for name, file in ELSEWHERE.items():
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f'"{name}"' in text
        assert '"--json"' in text
        assert "json.loads" in text


def test_a_service_tells_its_address_as_json_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    toml = ROOT / "tests" / "nowhere.toml"
    with subprocess.Popen(
        [*PARETUNE, "serve", "--port", str(port := free_port()), "--json", "--drain-s", "0", "--config", str(toml)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=own_environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert told["address"] == f"http://127.0.0.1:{port}"


def own_environment(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"}}
    return {**plain, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **more}


def on_a_terminal(*words: str, cwd: Path, **environment: str) -> str:
    """Return what a command writes to a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen([*PARETUNE, *words], cwd=cwd, stdin=its, stdout=its, stderr=its, env=own_environment(**environment))
    os.close(its)
    said = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # how Linux tells that the other side is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    process.wait()
    return said.decode()


def test_colours_are_for_terminals_and_no_color_turns_them_off(tmp_path: Path) -> None:
    words = ["init", "nowhere.yaml"]
    assert f"{ESCAPE}31merror:" in on_a_terminal(*words, cwd=tmp_path)
    assert ESCAPE not in on_a_terminal(*words, cwd=tmp_path, NO_COLOR="1")
    piped = subprocess.run([*PARETUNE, *words], cwd=tmp_path, capture_output=True, text=True, env=own_environment(), check=False)
    assert piped.stderr.startswith("error:")
    assert ESCAPE not in piped.stdout + piped.stderr


def test_tables_have_styles_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from paretune.commands.output import show_table

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: StringIO) -> str:
        monkeypatch.setattr(sys, "stdout", stream)
        show_table("A table", ("what", "how"), [("a", "✗ bad")], note="note")
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert ESCAPE in shown(Terminal())
    assert ESCAPE not in shown(StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert ESCAPE not in shown(Terminal())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell: str, tmp_path: Path) -> None:
    def asked(**environment: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("paretune"))], cwd=tmp_path, capture_output=True, text=True, check=True,
            env=own_environment(**environment),
        )  # fmt: skip
        return done.stdout

    assert "_PARETUNE_COMPLETE=complete_" + shell in asked(_PARETUNE_COMPLETE=f"source_{shell}")
    for typed, wanted in (("paretune che", "check"), ("paretune plan-exploration --lif", "--lift")):
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)} if shell == "bash" else {"_TYPER_COMPLETE_ARGS": typed}
        found = asked(_PARETUNE_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **words)
        assert re.search(rf"(^|[\s\"]){re.escape(wanted)}\b", found), found


def test_each_documented_exit_code_is_given(tmp_path: Path) -> None:
    """By the program itself: done, unexpected (a disk that is full), usage, data, a rule, a server, an interrupt."""

    def code_of(*words: str, out: int = subprocess.DEVNULL) -> int:
        done = subprocess.run([*PARETUNE, *words], cwd=tmp_path, stdout=out, stderr=subprocess.DEVNULL, env=own_environment(), check=False)
        return done.returncode

    with open("/dev/full", "wb") as full:
        found = {0: code_of("version"), 1: code_of("version", out=full.fileno()), 2: code_of("chekc")}
    (tmp_path / "weights.json").write_text('{"save": 91.6, "p2p": 9.1}', encoding="utf-8")
    assert code_of("init", "weights.json") == 0
    found[3] = code_of("check", "nowhere")
    registry = Registry(tmp_path / "paretune.db")
    number = published(registry, approved=False)
    registry.close()
    found[4] = code_of("approve", str(number), "--as", ANNA)  # nobody approves their own
    found[5] = code_of("history", "--registry", "postgresql://nobody@127.0.0.1:9/none")
    words = [*PARETUNE, "simulate", "logs", "--days", "3000", "--requests", "1000", "--config", "other.toml"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, env=own_environment()) as process:
        while process.poll() is None and not list((tmp_path / "logs").glob("day=*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1].decode()
    found[130] = process.returncode
    assert "interrupted" in said
    assert found == {code: code for code in EXIT_CODES}


def test_every_error_has_a_documented_exit_code() -> None:
    kinds = [ParetuneError, ConfigError, LogError, ForbiddenError, UnreachableError]
    assert {kind.exit_code for kind in kinds} | {0, 130} == set(EXIT_CODES)
