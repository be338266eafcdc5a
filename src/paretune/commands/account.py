"""`paretune account` and `paretune token`: who may sign in to the console. An edge: the terminal, the registry, a password file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paretune.commands.output import JsonOption, remark, say, show_json, show_table
from paretune.commands.registered import WHERE, AsOption, RegistryOption, acting, registry_at
from paretune.errors import ConfigError

if TYPE_CHECKING:
    from paretune.console.accounts import Accounts

RoleOption = Annotated[str, typer.Option(metavar="ROLE", help="viewer, operator, approver or admin.")]


def account(
    what: Annotated[Literal["add", "list", "role", "password", "bar", "admit"], typer.Argument(help="What to do.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the account.")] = "",
    *,
    role: RoleOption = "viewer",
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read the password from here instead of asking; - is standard input.")
    ] = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="For somebody whom a reverse proxy signs in.")] = False,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make and change accounts of the console.

    A viewer sees; an operator activates, ramps, rolls back and kills; an approver approves and retires; an admin says who is
    what. Each may do what the ones before it may. Every change is in the audit trail.

    \b
    Examples:
      paretune account add root --role admin
      paretune account add anna --role operator --password-file - --json
      paretune account role anna --role approver
      paretune account bar anna
    """
    from paretune.console.access import role_named

    accounts = _accounts(registry, create=what == "add")
    if what == "list":
        found = accounts.all()
        if as_json:
            show_json(found)
            return
        show_table(
            "accounts", ("name", "role", "may sign in"), [(one.name, one.role.value, "no" if one.disabled else "yes") for one in found]
        )
        return
    if not name:
        raise ConfigError("which account?", hint=f"paretune account {what} NAME")
    by, origin = acting(user), "command line"
    if what == "add":
        password = None if no_password else _password(password_file)
        shown = accounts.add(name, role_named(role), password, by=by, origin=origin)
    elif what == "password":
        accounts.set_password(name, _password(password_file), by=by, origin=origin)
        shown = next(one for one in accounts.all() if one.name == name.lower())
    elif what == "role":
        shown = accounts.change(name, role=role_named(role), by=by, origin=origin)
    else:
        shown = accounts.change(name, disabled=what == "bar", by=by, origin=origin)
    if as_json:
        show_json(shown)
        return
    say(f"account {shown.name}: {shown.role}{', barred' if shown.disabled else ''}")


def token(
    what: Annotated[Literal["make", "list", "revoke"], typer.Argument(help="What to do.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the token is for; of revoke, its id.")] = "",
    *,
    account: Annotated[str, typer.Option(metavar="NAME", help="Account that it acts for.")] = "",
    role: RoleOption = "viewer",
    plans_only: Annotated[bool, typer.Option("--plans-only", help="It reads plans and nothing else.")] = False,
    days: Annotated[float | None, typer.Option(min=0, help="Until it ends; by default never.")] = None,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make, list and revoke tokens with which programs ask the console.

    A token is shown once. It acts as its role, and never as more than its account may.

    \b
    Examples:
      paretune token make "ramp job" --account anna --role operator --days 90
      paretune token make reader --account anna --plans-only --json
      paretune token list
      paretune token revoke 1f6c02aa
    """
    from paretune.console.access import role_named

    accounts = _accounts(registry)
    if what == "list":
        found = accounts.tokens(account or None)
        if as_json:
            show_json(found)
            return
        rows = [(one.id, one.account, one.name, one.role.value, "revoked" if one.revoked_us else "") for one in found]
        show_table("tokens", ("id", "account", "for", "role", ""), rows)
    elif what == "make":
        if not account:
            raise ConfigError("for which account?", hint="say --account NAME")
        made, secret = accounts.make_token(
            account, name, role=role_named(role), by=acting(user), plans_only=plans_only, days=days, origin="command line"
        )
        if as_json:
            show_json({"id": made.id, "account": made.account, "role": made.role, "plans_only": made.plans_only, "secret": secret})
            return
        remark(f"token {made.id} of {made.account}, as {made.role}; it is shown this once:")
        say(secret)
    else:
        gone = accounts.revoke(name, by=acting(user), origin="command line")
        if as_json:
            show_json(gone)
            return
        say(f"token {gone.id} ({gone.name}) of {gone.account} is revoked")


def _accounts(where: str, *, create: bool = False) -> Accounts:
    from paretune.console.accounts import Accounts

    return Accounts(registry_at(where, create=create).database)


def _password(file: Path | None) -> str:
    """Return a password: of a file's first line, or asked for twice.

    Raises:
        ConfigError: nobody is there to be asked, or the file cannot be read.
    """
    if file is not None:
        try:
            lines = (sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the password cannot be read from {file}: {type(error).__name__}", hint="name a text file") from None
        return lines[0] if lines else ""
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to be asked for a password", hint="give --password-file FILE, or - for standard input")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
