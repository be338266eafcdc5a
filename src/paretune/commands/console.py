"""`paretune console`: governing over HTTP. An edge: the terminal, HTTP."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import JsonOption
from paretune.commands.registered import WHERE, RegistryOption, registry_at

if TYPE_CHECKING:
    from fastapi import FastAPI


def console(
    *,
    registry: RegistryOption = WHERE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8078,
    proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Reverse proxy whose X-Forwarded-For is believed; may be repeated.")
    ] = None,
    user_header: Annotated[str, typer.Option(metavar="NAME", help="Header in which the proxy names who it signed in; needs --proxy.")] = "",
    service: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Decision service to show on the live page; may be repeated.")
    ] = None,
    guardrails: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `paretune guard --status FILE` last saw, for the live page.")
    ] = None,
    idle_min: Annotated[float, typer.Option(min=1, help="Minutes after which a session that is not used ends.")] = 30.0,
    session_h: Annotated[float, typer.Option(min=0.1, help="Hours after which any session ends.")] = 12.0,
    as_json: JsonOption = False,
) -> None:
    """Serve the registry's pages, where people choose, approve, ramp and undo, and the HTTP interface behind them.

    /api/v1/openapi.json describes the interface. Elsewhere than on this machine both are reached by HTTPS, by way of a reverse proxy:
    cookies go over nothing else. Where there is no account yet, a code to make the first admin is printed.

    \b
    Examples:
      paretune console --registry paretune.db --service http://127.0.0.1:8077
      paretune console --registry postgresql://db/paretune --host 0.0.0.0 \\
        --proxy 10.0.0.5
      curl -s localhost:8078/api/v1/plan -H "authorization: Bearer $TOKEN"
    """
    from paretune.console.accounts import Accounts
    from paretune.console.api import PREFIX, control_app
    from paretune.console.credentials import Expiry, new_secret
    from paretune.console.origin import trusted
    from paretune.console.traffic import Traffic

    believed = trusted(proxy or [], user_header=user_header)
    expiry = Expiry(idle_s=min(60 * idle_min, 3600 * session_h), absolute_s=3600 * session_h)
    opened = registry_at(registry, create=True)
    accounts = Accounts(opened.database, expiry=expiry)
    code = new_secret() if accounts.is_empty() else ""
    secure, traffic = bool(believed.networks) or not _is_loopback(host), Traffic(service or [], guardrails=guardrails)
    app = control_app(opened, accounts, proxy=believed, secure=secure, setup_code=code, traffic=traffic)
    address = f"http://{host}:{port}"
    if as_json:
        print(json.dumps({"address": address, "registry": opened.name, "setup_code": code or None}), flush=True)
    else:
        print(f"the console is at {address}, its interface at {address}{PREFIX}/openapi.json", file=sys.stderr, flush=True)
        if code:
            print(f"no account yet: make the first admin at {address}/login with the code {code}", file=sys.stderr, flush=True)
    run_app(app, host, port)
    traffic.close()
    opened.close()


def run_app(app: FastAPI, host: str, port: int) -> None:
    """Serve the console until the process is told to end."""
    import uvicorn

    config = uvicorn.Config(app, host=host, port=port, log_level="warning", proxy_headers=False, server_header=False, access_log=False)
    with suppress(KeyboardInterrupt):  # the way to end it; the server has been shut down by then
        uvicorn.Server(config).run()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
