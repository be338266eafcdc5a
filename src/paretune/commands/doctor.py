"""`paretune doctor`: is everything here that is needed? An edge: the terminal, and all that is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import CONFIG, ConfigOption, JsonOption, named_options, say, show_json
from paretune.commands.registered import WHERE, RegistryOption

if TYPE_CHECKING:
    from paretune.doctor.finding import Finding

MARKS = {"ok": "✓", "note": "–", "warning": "!", "wrong": "✗"}


def doctor(
    context: typer.Context,
    logs: Annotated[Path | None, typer.Argument(metavar="[LOGS]", help="Log whose first rows are looked at.")] = None,
    *,
    config: ConfigOption = CONFIG,
    registry: RegistryOption = WHERE,
    service: Annotated[list[str] | None, typer.Option(metavar="URL", help="Decision service to ask; may be repeated.")] = None,
    redis: Annotated[str, typer.Option(metavar="URL", help="Stream of decisions to ask: redis://HOST:PORT/DB?stream=NAME.")] = "",
    timeout_s: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds that servers have to answer, all at once.")] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Say whether everything is here that is needed.

    Looks at versions, optional parts and the command that brings each, cores, memory, clock, disks, the configuration, the
    registry and who may read its file, the servers that are named, and the first rows of a log; changes nothing. Addresses are
    shown without passwords. Exit code 2: the configuration is wrong; 5: a server does not answer; 3: the log's rows are not
    sound.

    \b
    Examples:
      paretune doctor
      paretune doctor logs/ --service http://127.0.0.1:8077
      paretune doctor --registry postgresql://db/paretune --json
      paretune doctor --redis redis://events/0 --timeout-s 5
    """
    from paretune.doctor.finding import exit_code, secrets_of, without

    given = set(named_options(context, "config", "registry"))
    secrets = secrets_of([registry, redis, *(service or [])])
    found = [without(secrets, each) for each in _found(logs, config, registry, service or [], redis, timeout_s, given)]
    code = exit_code(found)
    if as_json:
        show_json({"ok": code == 0, "exit_code": code, "findings": found})
    else:
        for each in found:
            say(f"{MARKS[each.level]} {each.part:<13} {each.name}: {each.seen}")
            if each.hint:
                say(f"  {'':<13} hint: {each.hint}")
    if code:
        raise typer.Exit(code)


def _found(
    logs: Path | None, path: Path, registry: str, services: list[str], redis: str, timeout_s: float, given: set[str]
) -> list[Finding]:
    from paretune.doctor import machine, sample, servers
    from paretune.doctor.finding import failed
    from paretune.errors import ConfigError, ParetuneError

    config, configured = machine.configuration(path, named="--config" in given or logs is not None)
    questions = [servers.registry(registry, named="--registry" in given), *map(servers.service, services)]
    try:
        folders = [Path(), *servers.folders_of(registry)]
    except ParetuneError:  # the question to it says what is wrong
        folders = [Path()]
    answers = servers.ask([*questions, *([servers.stream(redis)] if redis else [])], deadline_s=timeout_s)
    found = [*machine.versions(), *machine.parts(), *machine.machine(), *machine.clock(), *machine.disks(folders), configured, *answers]
    if logs is not None and config is None:
        wanting = ConfigError("not looked at: without a configuration nobody knows its columns", hint="mend the configuration first")
        return [*found, failed("log", str(logs), wanting)]
    return [*found, *([] if logs is None or config is None else sample.log(logs, config))]
