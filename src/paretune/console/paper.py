"""What pages are made of: templates, scripts and styles, each found in the package. An edge: HTTP.

The rules: what stands in a page is escaped; a page runs only the scripts of this package, by their content's hash, and connects to nothing
but the console itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from paretune.console.access import NOBODY, RULES, Action, By
from paretune.console.credentials import csrf_token
from paretune.console.guard import Asked, Guarded, asks
from paretune.report.html import drawing_library, script_json
from paretune.report.tables import interval, percent, signed
from paretune.report.theme import ON_DARK, theme

assets = APIRouter(route_class=Guarded, include_in_schema=False)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FOREVER = "public, max-age=31536000, immutable"
_KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
_SHIPPED = ("console.css", "console.js", "htmx.min.js", "mark.svg")
_DRAWING = "drawing.js"  # Vega, Vega-Lite and vega-embed


@assets.get("/static/{digest}/{name}")
@asks(Action.SEE_INTERFACE)
def static(digest: str, name: str) -> Response:
    """A script or a style."""
    found = _content().get(name)
    if found is None or found[0] != digest:
        raise HTTPException(404, "there is no such file")
    return Response(found[1], media_type=_KINDS[name.rpartition(".")[2]], headers={"cache-control": _FOREVER})


def rendered(name: str, who: Asked | None, path: str, *, status: int = 200, **content: Any) -> HTMLResponse:
    """Return a page.

    Args:
        name: of its template.
        who: asks; None where that could not be found out.
        path: that was asked for.
        status: of the answer.
        content: of the template.
    """
    caller = NOBODY if who is None else who.caller
    role = caller.role

    def may(action: str) -> bool:
        least = RULES[Action(action)].least
        return least is None or (role is not None and role.rank >= least.rank)

    csrf = csrf_token(who.session_id) if who is not None and caller.by is By.SESSION else ""
    body = _environment().get_template(f"{name}.html.j2").render(me=caller, may=may, csrf=csrf, path=path, **content)
    return HTMLResponse(body, status, {"content-security-policy": POLICY})


def trouble(
    path: str, who: Asked | None, *, status: int, title: str, detail: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return the page of an error."""
    page = rendered("trouble", who, path, status=status, heading=title, detail=detail, hint=hint, code=status)
    page.headers.update(headers or {})
    return page


def is_local(place: str) -> bool:
    """Say whether a place is a page of the console itself, however a browser may read it."""
    return place.startswith("/") and not place.startswith(("//", "/\\")) and all(32 < ord(c) < 127 for c in place) and "\\" not in place


def address_of(name: str) -> str:
    """Return the address of a script or style, which changes with its content."""
    return f"/static/{_content()[name][0]}/{name}"


@cache
def _content() -> dict[str, tuple[str, bytes]]:
    """Return name -> (hash, content)."""
    folder = files("paretune.console").joinpath("static")
    found = {name: folder.joinpath(name).read_bytes() for name in _SHIPPED}
    found[_DRAWING] = str(drawing_library()).encode()
    return {name: (hashlib.sha256(content).hexdigest()[:16], content) for name, content in found.items()}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("paretune.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(percent=percent, signed=signed, script=script_json, moment=moment, day=lambda at_us: moment(at_us)[:10])
    made.globals.update(
        asset=address_of,
        interval=interval,
        themes={"light": theme(), "dark": theme(dark=True)},
        on_dark=ON_DARK,
    )
    return made


def moment(at_us: int) -> str:
    """Return a time, in UTC, to the second."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
