"""The door of every route: who asks, whether they may, and that a browser was not tricked into asking. An edge: HTTP.

    @router.post("/plan/kill")
    @asks(Action.KILL)
    def kill(...)

The rules: a route that does not say what it asks for cannot be made; the door comes before the body is read; what a session changes carries
its CSRF token, what a token changes needs none, since no browser sends one by itself; where both are sent, the token counts.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from paretune.console.access import NOBODY, RULES, Action, By, Caller, require
from paretune.console.accounts import Accounts
from paretune.console.attempts import Attempts
from paretune.console.credentials import is_csrf_token
from paretune.console.fronts import Fronts
from paretune.console.origin import FORWARDED, Proxy, origin_of, user_of
from paretune.console.traffic import Traffic
from paretune.errors import ConfigError, ForbiddenError, SignInError
from paretune.policy.registry import Registry

CSRF_HEADER = "x-csrf-token"
_STRANGE = {"cross-site", "same-site"}  # of Sec-Fetch-Site: sent by another site's page
_LONGEST = 300  # characters of a secret
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with."""

    registry: Registry
    accounts: Accounts
    now_s: Callable[[], float]  # never goes back
    proxy: Proxy = field(default_factory=Proxy)
    secure: bool = True  # cookies go by HTTPS only
    setup_code: str = ""  # lets the first admin be made; empty = not by HTTP
    attempts: Attempts = field(default_factory=Attempts)
    fronts: Fronts = field(default_factory=Fronts)
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie; the prefix makes browsers refuse one that was not set over HTTPS by this very host."""
        return "__Host-paretune" if self.secure else "paretune"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, from where, of what."""

    caller: Caller
    origin: str  # address
    user: str  # whom a trusted proxy signed in; empty = nobody
    session_id: str
    desk: Desk

    @property
    def registry(self) -> Registry:
        """The registry, as it notes from where it is asked."""
        return self.desk.registry.asked_from(self.where)

    @property
    def where(self) -> str:
        """The address, and the token where one was used, for the trail."""
        return f"{self.origin}, token {self.caller.token}" if self.caller.token else self.origin


def asks(action: Action) -> Callable[[F], F]:
    """Say what a route asks for."""

    def mark(endpoint: F) -> F:
        endpoint.__dict__["action"] = action
        return endpoint

    return mark


def action_of(endpoint: Callable[..., Any]) -> Action:
    """Return what a route asks for.

    Raises:
        ConfigError: it does not say.
    """
    action = getattr(endpoint, "action", None)
    if not isinstance(action, Action):
        raise ConfigError(f"the route {getattr(endpoint, '__name__', endpoint)} asks for nothing", hint="mark it with @asks(Action...)")
    return action


class Guarded(APIRoute):
    """A route behind its door."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Make a route.

        Raises:
            ConfigError: it does not say what it asks for.
        """
        rule = RULES[action_of(endpoint)]
        told = {"x-action": action_of(endpoint).value, "x-least-role": rule.least.value if rule.least else "nobody"}
        options["openapi_extra"] = {**(options.get("openapi_extra") or {}), **told}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request: the door first."""
        within, action = super().get_route_handler(), action_of(self.endpoint)

        async def handle(request: Request) -> Response:
            request.state.asked = await run_in_threadpool(admit, request, action)
            return await within(request)

        return handle


def admit(request: Request, action: Action) -> Asked:
    """Return who asks, where they may.

    Raises:
        SignInError: nobody is signed in.
        ForbiddenError: they may not, or another site may have made their browser ask.
    """
    desk: Desk = request.app.state.desk
    peer = request.client.host if request.client else ""
    origin = origin_of(peer, request.headers.getlist(FORWARDED), desk.proxy)
    user = user_of(peer, request.headers.getlist(desk.proxy.user_header), desk.proxy) if desk.proxy.user_header else ""
    bearer, session_id = _bearer(request), request.cookies.get(desk.cookie, "")[:_LONGEST]
    if bearer:
        caller, session_id = desk.accounts.by_token(bearer), ""
    else:
        caller = desk.accounts.by_session(session_id) if session_id else NOBODY
        if user and caller.name != user:  # the proxy speaks of somebody else by now
            caller = NOBODY
    require(caller, action)
    if RULES[action].changes:
        if request.headers.get("sec-fetch-site", "") in _STRANGE:
            raise ForbiddenError("another site's page asks for this", hint="ask from the console itself")
        if caller.by is By.SESSION and RULES[action].least is not None:
            _require_csrf(request, session_id)
    return Asked(caller, origin, user, session_id, desk)


def _asked(request: Request) -> Asked:
    asked: Asked = request.state.asked
    return asked


Who = Annotated[Asked, Depends(_asked)]
"""Of an endpoint: who asks."""


def _bearer(request: Request) -> str:
    """Return the token that was sent; empty where none was.

    Raises:
        SignInError: something else was sent in its place.
    """
    given = request.headers.get("authorization")
    if given is None:
        return ""
    kind, _, secret = given.partition(" ")
    if kind.lower() != "bearer" or not 0 < len(secret.strip()) <= _LONGEST:
        raise SignInError("this is no token", hint="send Authorization: Bearer TOKEN")
    return secret.strip()


def _require_csrf(request: Request, session_id: str) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None or not is_csrf_token(given, session_id):
        raise ForbiddenError(
            f"the CSRF token is {'missing' if given is None else 'not that of this session'}",
            hint=f"send it as {CSRF_HEADER}; see /api/v1/session",
        )
