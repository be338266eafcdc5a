"""`paretune serve`: decisions over HTTP. An edge: the terminal, HTTP."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from paretune.commands.output import JsonOption


def serve(
    *,
    plan: Annotated[Path, typer.Option(metavar="FILE", help="Plan to follow, from `paretune plan`; changes are picked up.")] = Path(
        "plan.json"
    ),
    registry: Annotated[
        str, typer.Option(metavar="URL", help="Registry to follow in place of a plan file: SQLite file, or postgresql://HOST/DATABASE.")
    ] = "",
    mirror: Annotated[
        Path, typer.Option(metavar="DIR", help="The registry's plan and bundles are copied here, for starts without it.")
    ] = Path("served"),
    bundles: Annotated[Path, typer.Option(metavar="DIR", help="Folder of exported policies, from `paretune export`.")] = Path("bundles"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8077,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes; one per core that the service may use.")] = 1,
    deadline_ms: Annotated[float, typer.Option(min=0.1, help="Budget of a decision; what is late is served the static weights.")] = 10.0,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the last known good plan and bundles here, for starts without their source.")
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Log decisions to this folder, for `paretune join`; with --redis, those that it does not take."),
    ] = None,
    redis: Annotated[
        str, typer.Option(metavar="URL", help="Log decisions to redis://HOST:PORT/DB?stream=NAME; password in REDISCLI_AUTH.")
    ] = "",
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="Names the logged features; its static weights are served before any plan."),
    ] = Path("paretune.toml"),
    poll_s: Annotated[float, typer.Option(min=0.05, help="Seconds between looks at the plan.")] = 1.0,
    drain_s: Annotated[float, typer.Option(min=0, help="Seconds that /readyz says 503 before a stopped service ends.")] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Serve weights per request over HTTP.

    POST /v1/decide and /v1/decide/batch take JSON or MessagePack; /readyz, /livez, /metrics and /openapi.json are for those
    who run it. Every question is answered with weights; when something is wrong these are the static ones, with a reason.

    \b
    Examples:
      paretune serve --plan plan.json --bundles bundles
      paretune serve --registry paretune.db
      paretune serve --workers 4 --spool spool --state /var/lib/paretune
      paretune serve --redis redis://10.0.0.7:6379/0 --spool backlog
      curl -s localhost:8077/v1/decide -H 'content-type: application/json' \\
        -d '{"request_id": 1, "user": 7, "features": {"age": 31}}'
    """
    from paretune.serving.server import Settings
    from paretune.serving.server import serve as serve_forever

    heads, static = _static(config)
    settings = Settings(
        bundles=str(bundles),
        plan=str(plan),
        host=host,
        port=port,
        workers=workers,
        deadline_ms=deadline_ms,
        state=str(state or ""),
        spool=str(spool or ""),
        redis=redis,
        config=str(config) if spool or redis else "",
        poll_s=poll_s,
        drain_s=drain_s,
        registry=registry,
        mirror=str(mirror),
        heads=heads,
        static=static,
    )
    address = f"http://{host}:{port}"
    if as_json:
        print(json.dumps({"address": address, "workers": workers, "plan": registry or str(plan)}), flush=True)
    else:
        print(f"decisions at {address}/v1/decide (ready when {address}/readyz says 200)", file=sys.stderr, flush=True)
        if not registry and not plan.exists():
            print(f"no plan at {plan} yet: the static weights are served until there is one", file=sys.stderr, flush=True)
    serve_forever(settings)


def _static(config: Path) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return heads and static weights of a configuration; nothing where there is none."""
    from paretune.config import load_config

    if not config.exists():
        return (), ()
    surface = load_config(config).surface.build()
    return surface.names, tuple(surface.static.tolist())
