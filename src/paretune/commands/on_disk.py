"""What a command says to a URL where it works on disk only. An edge: paths.

The rule: pathlib would make a folder called `s3:` of a URL, so every argument and option that is a path is looked at before a command runs;
those that take URLs are parsed by `where`, and are no paths then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from paretune.errors import ConfigError
from paretune.storage.place import is_url


class Command(TyperCommand):
    """A command of paretune."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, unless a path that it was given is a URL.

        Raises:
            ConfigError: one is.
        """
        for parameter in self.params:
            for path in _paths(ctx.params.get(parameter.name or "")):
                if is_url(str(path)):
                    scheme = str(path).partition(":")[0]
                    raise ConfigError(
                        f"{max(parameter.opts, key=len)} of `{ctx.command_path}` is on disk, and was given as {scheme}://...",
                        hint="name a local path; which commands take URLs for what is in docs/storage.md",
                    )
        return super().invoke(ctx)


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, list | tuple):
        yield from (one for one in value if isinstance(one, Path))
