"""The console's HTTP interface: what governs what is served, for programs and for its pages. An edge: HTTP, the clock.

The rules: every route says what it asks for; no GET changes what others see; every error is a problem document.
"""

from __future__ import annotations

import json
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
from paretune.console.pages import pages, to_sign_in
from paretune.console.paper import assets, trouble
from paretune.console.problems import CONTENT_TYPE, headers_of, problem, problem_of, problem_of_fields, status_of
from paretune.console.shell import Shell
from paretune.console.traffic import Traffic
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
    traffic: Traffic | None = None,
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
        traffic: asks the decision services; by default there are none.
        monotonic: seconds that never go back.
    """
    app = FastAPI(title="paretune console", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    desk = Desk(registry, accounts, monotonic, proxy or Proxy(), secure, setup_code, attempts or Attempts(), traffic=traffic or Traffic())
    app.state.desk = desk
    app.router.route_class = Guarded  # also for routes that are added later
    for router in (entry, governing):
        app.include_router(router, prefix=PREFIX, responses={"4XX": _PROBLEM, "5XX": _PROBLEM})
    for router in (assets, pages):
        app.include_router(router)
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
    body = problem_of(error, place=request.app.state.desk.registry.name)
    if _is_page(request):
        return to_sign_in(request) if status == 401 else _page(request, status, body, headers_of(error))
    return _answer(status, body, headers_of(error))


def _misfit(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    body = problem_of_fields(error.errors())
    return _page(request, 422, body) if _is_page(request) else _answer(422, body)


def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    body = problem(error.status_code, str(error.detail))
    if _is_page(request):
        return _page(request, error.status_code, body, dict(error.headers or {}))
    return _answer(error.status_code, body, dict(error.headers or {}))


def _is_page(request: Request) -> bool:
    """Whether people ask, not a program: outside the interface, and not for a file."""
    return not request.url.path.startswith(("/api", "/static/"))


def _page(request: Request, status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    told = json.loads(body)
    who = getattr(request.state, "asked", None)
    return trouble(
        request.url.path,
        who,
        status=status,
        title=told["title"],
        detail=told["detail"],
        hint=told.get("hint", ""),
        headers=headers,
    )


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type=CONTENT_TYPE)
