"""Passwords, tokens, sessions and their CSRF tokens: made here, and stored only as what cannot be turned back.

The rules: a password is stretched with scrypt (RFC 7914) under a salt of its own, its parameters stored beside it; tokens and session ids
are 256 random bits, shown once and stored as SHA-256; a CSRF token is HMAC-SHA256 under the session id, so that only who holds the
session can make it, and it tells nothing of the session. All comparisons take the same time, whatever differs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass

from paretune.errors import ConfigError

TOKEN_PREFIX = "ptk_"  # noqa: S105  (what tokens begin with, so that scanners of secrets find them)
SHORTEST, LONGEST = 12, 256  # characters of a password
_SALT, _KEY = 16, 32  # bytes
_MEMORY = 1 << 28  # bytes that scrypt may take at most


@dataclass(frozen=True, slots=True)
class Cost:
    """Of stretching a password; memory is 128 n r bytes."""

    n: int = 1 << 15
    r: int = 8
    p: int = 3


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a session ends."""

    idle_s: float = 30 * 60.0  # after its last request
    absolute_s: float = 12 * 3600.0  # after it began

    def __post_init__(self) -> None:
        if not 0 < self.idle_s <= self.absolute_s:
            raise ConfigError(
                f"sessions of {self.idle_s:g} s idle and {self.absolute_s:g} s in all", hint="give 0 < idle <= all, in seconds"
            )


def hash_password(password: str, *, cost: Cost | None = None) -> str:
    """Return what is stored of a password: scrypt$n$r$p$salt$key.

    Raises:
        ConfigError: it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password of {len(password)} characters", hint=f"give {SHORTEST} to {LONGEST}; a few words do well")
    cost, salt = cost or Cost(), secrets.token_bytes(_SALT)
    parts = (str(cost.n), str(cost.r), str(cost.p), b64encode(salt).decode(), b64encode(_stretched(password, salt, cost)).decode())
    return "$".join(("scrypt", *parts))


def is_password(password: str, stored: str) -> bool:
    """Say whether a password is the one that was stored; False where none was, after as long a time."""
    known = stored.startswith("scrypt$")
    n, r, p, salt, key = (stored if known else _NONE).split("$")[1:]
    made = _stretched(password[: LONGEST + 1], b64decode(salt), Cost(int(n), int(r), int(p)))
    return hmac.compare_digest(made, b64decode(key)) and known


def new_secret(prefix: str = "") -> str:
    """Return 256 random bits as text."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return what is stored of a token or session id."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_token(session_id: str) -> str:
    """Return the CSRF token of a session."""
    return hmac.new(session_id.encode("utf-8", "surrogateescape"), b"paretune csrf", hashlib.sha256).hexdigest()


def is_csrf_token(token: str, session_id: str) -> bool:
    """Say whether a CSRF token is that of a session."""
    return same(token, csrf_token(session_id))


def same(one: str, other: str) -> bool:
    """Compare two secrets, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def is_alive(*, made_s: float, seen_s: float, now_s: float, expiry: Expiry) -> bool:
    """Say whether a session still counts; a clock that was turned back ends none early."""
    return now_s - seen_s < expiry.idle_s and now_s - made_s < expiry.absolute_s


def _stretched(password: str, salt: bytes, cost: Cost) -> bytes:
    text = password.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(text, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=_MEMORY, dklen=_KEY)


_NONE = "scrypt$32768$8$3$" + b64encode(bytes(_SALT)).decode() + "$" + b64encode(bytes(_KEY)).decode()
