"""Errors as answers: problem details (RFC 9457), one status for each branch of the tree of errors.

The rules: what is unknown is an answer with an id and nothing of the inside; what a caller sent is not sent back, for it may be a password;
where the registry lies is nobody's business.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from paretune.errors import (
    ConfigError,
    DataError,
    ForbiddenError,
    GateError,
    NotFoundError,
    ParetuneError,
    SignInError,
    TooOftenError,
    UnreachableError,
)

CONTENT_TYPE = "application/problem+json"
# The first that fits.
STATUS: tuple[tuple[type[ParetuneError], int], ...] = (
    (SignInError, 401),
    (TooOftenError, 429),
    (ForbiddenError, 403),
    (GateError, 409),  # conflicts among them
    (NotFoundError, 404),
    (ConfigError, 422),
    (UnreachableError, 503),
    (DataError, 500),  # something in the registry was altered, and the message says what
    (ParetuneError, 500),
)
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def status_of(error: ParetuneError) -> int:
    """Return the HTTP status of an error."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def headers_of(error: ParetuneError) -> dict[str, str]:
    """Return what an error says in headers."""
    if isinstance(error, TooOftenError):
        return {"retry-after": str(max(1, round(error.retry_after_s)))}
    return {"www-authenticate": "Bearer"} if isinstance(error, SignInError) else {}


def problem(status: int, detail: str, **more: Any) -> bytes:
    """Return a problem document."""
    return json.dumps({"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail, **more}).encode()


def problem_of(error: ParetuneError, *, place: str) -> bytes:
    """Return the problem document of an error of ours.

    Args:
        error: raised.
        place: of the registry, which is not told.
    """
    if isinstance(error, UnreachableError):
        detail = "the registry does not answer; what is served goes on as it is"
    else:
        detail = str(error.args[0]).replace(place, "the registry")
    return problem(status_of(error), detail, **({"hint": error.hint.replace(place, "the registry")} if error.hint else {}))


def problem_of_fields(errors: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the problem document of a request that is not as the interface says: where and why, without what was sent."""
    fields = [{"where": "/".join(str(part) for part in error["loc"]), "why": str(error["msg"])} for error in errors]
    return problem(422, "the request is not as the interface says", errors=fields)


def unexpected() -> tuple[str, bytes]:
    """Return the id and the problem document of a fault of ours."""
    incident = secrets.token_hex(8)
    return incident, problem(500, "something went wrong here; the log has it under this id", id=incident)
