"""`paretune version`. An edge: the terminal."""

from __future__ import annotations

from paretune.commands.output import JsonOption, say, show_json

PARTS = ("numpy", "polars", "pydantic", "scipy", "altair", "numba", "torch")


def version(*, as_json: JsonOption = False) -> None:
    """Print the versions that decide numbers.

    \b
    Examples:
      paretune version
      paretune version --json
    """
    import platform
    from importlib import metadata

    found = {"paretune": metadata.version("paretune"), "python": platform.python_version()}
    for part in PARTS:
        try:
            found[part] = metadata.version(part)
        except metadata.PackageNotFoundError:
            found[part] = "not installed"
    if as_json:
        show_json(found)
        return
    for name, number in found.items():
        say(f"{name} {number}")
