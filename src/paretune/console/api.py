"""The console's HTTP interface: what governs what is served, for programs and for its pages. An edge: HTTP, the clock.

The rules: every route says what it asks for; no GET changes what others see; every error is a problem document.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from paretune.console.accounts import Accounts
from paretune.console.attempts import Attempts
from paretune.console.entry import entry
from paretune.console.governing import governing
from paretune.console.guard import Desk, Guarded
from paretune.console.origin import Proxy
from paretune.console.problems import CONTENT_TYPE, headers_of, problem, problem_of, problem_of_fields, status_of
from paretune.console.shell import Shell
from paretune.errors import ParetuneError
from paretune.policy.registry import Registry

PREFIX = "/api/v1"
_PROBLEM: dict[str, Any] = {
    "description": "A problem (RFC 9457)",
    "content": {CONTENT_TYPE: {"schema": {"type": "object", "required": ["status", "detail"]}}},
}
_log = logging.getLogger("paretune.console")


def control_app(
    registry: Registry,
    accounts: Accounts,
    *,
    proxy: Proxy | None = None,
    secure: bool = True,
    setup_code: str = "",
    attempts: Attempts | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Return the application.

    Args:
        registry: that is governed.
        accounts: in the registry's database.
        proxy: whose headers are believed; by default nobody's.
        secure: cookies go by HTTPS only; False on loopback alone.
        setup_code: lets the first admin be made over HTTP; empty = by `paretune account add` alone.
        attempts: to sign in, and their limits.
        monotonic: seconds that never go back.
    """
    app = FastAPI(title="paretune console", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(registry, accounts, monotonic, proxy or Proxy(), secure, setup_code, attempts or Attempts())
    app.router.route_class = Guarded  # also for routes that are added later
    for router in (entry, governing):
        app.include_router(router, prefix=PREFIX, responses={"4XX": _PROBLEM, "5XX": _PROBLEM})
    app.add_exception_handler(ParetuneError, _known)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Shell, secure=secure)
    return app


def _known(request: Request, error: Exception) -> Response:
    if not isinstance(error, ParetuneError):
        raise error
    status = status_of(error)
    if status >= 500:
        _log.error("%s in %s %s: %s", type(error).__name__, request.method, request.url.path, error.args[0])
    return _answer(status, problem_of(error, place=request.app.state.desk.registry.name), headers_of(error))


def _misfit(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return _answer(422, problem_of_fields(error.errors()))


def _http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _answer(error.status_code, problem(error.status_code, str(error.detail)), dict(error.headers or {}))


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type=CONTENT_TYPE)
