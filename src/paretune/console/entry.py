"""Routes of signing in and out, tokens and accounts. An edge: HTTP.

The rules: a password is looked at only after a try was taken for it; of a token or session, the secret leaves once; signing in by way of a
proxy takes no password and gives a session like any other.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from paretune.console.access import Action, By, Caller, Role
from paretune.console.credentials import csrf_token, same
from paretune.console.forms import (
    ChangedAccount,
    GivenPassword,
    Health,
    MadeToken,
    Name,
    NewAccount,
    NewPassword,
    NewToken,
    SeenAccount,
    SeenSelf,
    SeenToken,
    SetUp,
    SignIn,
    TokenId,
    seen_account,
    seen_token,
)
from paretune.console.guard import Asked, Guarded, Who, asks
from paretune.errors import ForbiddenError, SignInError

entry = APIRouter(route_class=Guarded)


@entry.get("/health", tags=["console"])
@asks(Action.SEE_HEALTH)
def health(who: Who) -> Health:
    """Whether the console and its registry answer."""
    who.registry.version()
    return Health(status="ok")


@entry.get("/openapi.json", include_in_schema=False)
@asks(Action.SEE_INTERFACE)
def interface(request: Request) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    return document


@entry.post("/setup", tags=["sign in"], status_code=201)
@asks(Action.SET_UP)
async def set_up(body: SetUp, who: Who) -> SeenAccount:
    """Make the first admin, with the code that the console printed when it started without accounts."""
    desk, now_s = who.desk, who.desk.now_s()
    desk.attempts.take(account="setup", address=who.origin, now_s=now_s)
    if not desk.setup_code or not same(body.code, desk.setup_code):
        raise ForbiddenError("this is not the code to set up the console", hint="start it again to see a new one")
    made = await run_in_threadpool(desk.accounts.set_up, body.name, body.password, origin=who.where)
    desk.attempts.give_back(account="setup", address=who.origin, now_s=now_s)
    return seen_account(made)


@entry.post("/login", tags=["sign in"])
@asks(Action.SIGN_IN)
async def sign_in(response: Response, who: Who, body: SignIn | None = None) -> SeenSelf:
    """Sign in with a name and a password; without them, as whom the proxy says."""
    desk = who.desk
    if body is not None:
        await _check(who, body.name, body.password)
    name, how = (who.user, "proxy") if body is None else (body.name.lower(), "password")
    if not name or (who.user and name != who.user):
        raise SignInError("no name and password were sent", hint="send both; no proxy signed you in under that name")
    session_id = await run_in_threadpool(desk.accounts.begin, name, origin=who.where, how=how)
    caller = await run_in_threadpool(desk.accounts.by_session, session_id)
    response.set_cookie(
        desk.cookie,
        session_id,
        max_age=int(desk.accounts.expiry.absolute_s),
        path="/",
        secure=desk.secure,
        httponly=True,
        samesite="strict",
    )
    return _self(caller, session_id)


@entry.post("/logout", tags=["sign in"], status_code=204)
@asks(Action.SIGN_OUT)
def sign_out(response: Response, who: Who) -> None:
    """End the session."""
    who.desk.accounts.end(who.session_id, origin=who.where)
    response.delete_cookie(who.desk.cookie, path="/", secure=who.desk.secure, httponly=True, samesite="strict")


@entry.get("/session", tags=["sign in"])
@asks(Action.SEE_SELF)
def session(who: Who) -> SeenSelf:
    """Who is signed in, and the CSRF token of the session."""
    return _self(who.caller, who.session_id)


@entry.post("/password", tags=["sign in"], status_code=204)
@asks(Action.CHANGE_PASSWORD)
async def change_password(body: NewPassword, who: Who) -> None:
    """Change one's own password; all one's sessions end."""
    await _check(who, who.caller.name, body.password)
    await run_in_threadpool(who.desk.accounts.set_password, who.caller.name, body.new, by=who.caller.name, origin=who.where)


@entry.get("/tokens", tags=["tokens"])
@asks(Action.READ_TOKENS)
def list_tokens(who: Who) -> list[SeenToken]:
    """One's own tokens; of an admin, all."""
    mine = None if who.caller.role is Role.ADMIN else who.caller.name
    return [seen_token(token) for token in who.desk.accounts.tokens(mine)]


@entry.post("/tokens", tags=["tokens"], status_code=201)
@asks(Action.MAKE_TOKEN)
def make_token(body: NewToken, who: Who) -> MadeToken:
    """Make a token; its secret is shown this once."""
    account = body.account.lower() if body.account else who.caller.name
    if account != who.caller.name and who.caller.role is not Role.ADMIN:
        raise ForbiddenError("a token of somebody else is made by an admin", hint="leave the account out")
    made, secret = who.desk.accounts.make_token(
        account, body.name, role=body.role, by=who.caller.name, plans_only=body.plans_only, days=body.days, origin=who.where
    )
    return MadeToken(**seen_token(made).model_dump(), secret=secret)


@entry.post("/tokens/{token_id}/revoke", tags=["tokens"])
@asks(Action.REVOKE_TOKEN)
def revoke_token(token_id: Annotated[TokenId, Path()], who: Who) -> SeenToken:
    """End one of one's tokens for good; of an admin, any."""
    mine = None if who.caller.role is Role.ADMIN else who.caller.name
    return seen_token(who.desk.accounts.revoke(token_id, by=who.caller.name, of=mine, origin=who.where))


@entry.get("/accounts", tags=["accounts"])
@asks(Action.READ_ACCOUNTS)
def list_accounts(who: Who) -> list[SeenAccount]:
    """All accounts."""
    return [seen_account(account) for account in who.desk.accounts.all()]


@entry.post("/accounts", tags=["accounts"], status_code=201)
@asks(Action.CHANGE_ACCOUNTS)
def add_account(body: NewAccount, who: Who) -> SeenAccount:
    """Make an account."""
    return seen_account(who.desk.accounts.add(body.name, body.role, body.password, by=who.caller.name, origin=who.where))


@entry.post("/accounts/{name}", tags=["accounts"])
@asks(Action.CHANGE_ACCOUNTS)
def change_account(name: Annotated[Name, Path()], body: ChangedAccount, who: Who) -> SeenAccount:
    """Give an account another role, bar it, or let it in again; its sessions end."""
    changed = who.desk.accounts.change(name, by=who.caller.name, role=body.role, disabled=body.disabled, origin=who.where)
    return seen_account(changed)


@entry.post("/accounts/{name}/password", tags=["accounts"], status_code=204)
@asks(Action.CHANGE_ACCOUNTS)
def give_password(name: Annotated[Name, Path()], body: GivenPassword, who: Who) -> None:
    """Give somebody another password; their sessions end."""
    who.desk.accounts.set_password(name, body.password, by=who.caller.name, origin=who.where)


async def _check(who: Asked, name: str, password: str) -> None:
    """Pass where a name and a password belong together.

    Raises:
        TooOftenError: no try is left.
        SignInError: they do not.
    """
    desk, account = who.desk, name.lower()
    desk.attempts.take(account=account, address=who.origin, now_s=desk.now_s())
    await run_in_threadpool(desk.accounts.check, name, password)
    desk.attempts.give_back(account=account, address=who.origin, now_s=desk.now_s())


def _self(caller: Caller, session_id: str) -> SeenSelf:
    role, csrf = caller.role or Role.VIEWER, csrf_token(session_id) if caller.by is By.SESSION else None
    return SeenSelf(name=caller.name, role=role, by=caller.by.value, plans_only=caller.plans_only, csrf=csrf)
