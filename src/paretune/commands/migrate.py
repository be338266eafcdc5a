"""`paretune migrate`: the registry's tables, made or brought up to date. An edge: the terminal, the database."""

from __future__ import annotations

from paretune.commands.output import JsonOption, say, show_json
from paretune.commands.registered import WHERE, RegistryOption


def migrate(*, registry: RegistryOption = WHERE, as_json: JsonOption = False) -> None:
    """Make the registry's tables, or bring them up to date.

    For deployments where those who use the registry may not change its tables: run it as their owner, then deploy/postgres/roles.sql
    grants the rest. Everywhere else the first command that opens a registry does the same. Run it as often as you like.

    \b
    Examples:
      paretune migrate --registry postgresql://owner@db/paretune
      paretune migrate --registry paretune.db --json
    """
    from paretune.policy.database import Database
    from paretune.policy.tables import HEAD

    database = Database(registry)
    changed = database.migrate()
    database.close()
    if as_json:
        show_json({"registry": database.name, "tables": HEAD, "changed": changed})
    else:
        say(f"{database.name}: tables of version {HEAD}{'' if changed else ', as they were'}")
