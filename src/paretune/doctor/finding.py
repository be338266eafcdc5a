"""What was looked at and how it is, without secrets.

The rule: an address is shown without user, password and query; where another library's message repeats one of them, it is blotted out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from paretune.errors import ParetuneError

OK: Final = "ok"
NOTE: Final = "note"
WARNING: Final = "warning"
WRONG: Final = "wrong"
ORDER = (2, 5, 3)  # which exit code wins where several things are wrong: what follows cannot be looked at without the first
BLOT = "***"
_SECRET_KEY = re.compile(r"pass|secret|token|key", re.IGNORECASE)

Level = Literal["ok", "note", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    part: str  # of the list: versions, parts, machine, ...
    name: str
    level: Level
    seen: str
    hint: str = ""
    exit_code: int = 0  # other than 0 only where the level is wrong


def failed(part: str, name: str, error: ParetuneError) -> Finding:
    """Return an error as a finding."""
    return Finding(part, name, WRONG, str(error.args[0]), error.hint, error.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 where nothing is wrong, else 2 for the configuration, 5 for a server that does not answer, 3 for a log."""
    codes = {finding.exit_code for finding in findings} - {0}
    return next((code for code in ORDER if code in codes), max(codes, default=0))


def shown(url: str) -> str:
    """Return an address without user, password, query and fragment."""
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:  # a path
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def secrets_of(urls: Iterable[str]) -> tuple[str, ...]:
    """Return what must not be shown of some addresses: passwords, users without one (they are tokens), and secrets of the query."""
    found = set()
    for url in urls:
        parts = urlsplit(url)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        found |= {password or user, *(value for key, value in parse_qsl(parts.query) if _SECRET_KEY.search(key))}
    return tuple(sorted((found | {unquote(secret) for secret in found}) - {""}, key=len, reverse=True))


def without(secrets: tuple[str, ...], finding: Finding) -> Finding:
    """Return a finding in whose words no secret stands."""
    seen, hint = finding.seen, finding.hint
    for secret in secrets:
        seen, hint = seen.replace(secret, BLOT), hint.replace(secret, BLOT)
    return replace(finding, seen=seen, hint=hint)
