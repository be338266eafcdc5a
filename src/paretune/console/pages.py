"""The console's pages, for people: read here, changed by way of the HTTP interface. An edge: HTTP.

The rules: a page changes nothing; its buttons call the documented interface, with the session's CSRF token. Nothing is loaded from
elsewhere, and no page allows a script of its own text. Whoever is not signed in is led to the sign-in page and back.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from paretune.console.access import Action, Role
from paretune.console.dial import Dial, asked_of, dial_of
from paretune.console.forms import LARGEST, Hash, Number
from paretune.console.fronts import Shown
from paretune.console.guard import Asked, Guarded, Who, asks
from paretune.console.live import plans_of
from paretune.console.paper import is_local, rendered
from paretune.console.pictures import front_specification, live_specifications, weights_specification
from paretune.policy.audit import AUTOMAT
from paretune.policy.changes import STEPS, arm_name, diff, next_step, numbers_in, share_of

pages = APIRouter(route_class=Guarded, include_in_schema=False, default_response_class=HTMLResponse)
_RECENT = 20  # lines of the history on the first page
_LONGEST_WAY = 500  # characters of the way back from the sign-in page
_PAGE = 50  # lines of the history and of the trail on a page of their own
_REPORT_POLICY = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@pages.get("/login")
@asks(Action.SEE_INTERFACE)
def login(request: Request, who: Who, back: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Sign in, or make the first admin; leads back to where people came from, where that is a place of the console."""
    desk = who.desk
    new = bool(desk.setup_code) and desk.accounts.is_empty()
    return _page(request, who, "login", back=back if len(back) <= _LONGEST_WAY and is_local(back) else "/", new=new, proxied=who.user)


@pages.get("/")
@asks(Action.READ_PLANS)
def in_force(request: Request, who: Who) -> Response:
    """What is in force, and the switches."""
    registry = who.registry
    plan, past = registry.current(), registry.history(_RECENT)
    policies = registry.policies()
    served = [{"number": number, "share": share_of(plan, number), "next": next_step(share_of(plan, number))} for number in numbers_in(plan)]
    waiting = [
        found for found in policies if found.state == "draft" or (found.state == "approved" and found.number not in numbers_in(plan))
    ]
    numbers = {arm_name(number): number for number in numbers_in(plan)}
    stepped_back = bool(past) and past[0].by == AUTOMAT and past[0].operation != "ramp"
    told = {"plan": plan, "past": past, "served": served, "waiting": waiting, "numbers": numbers, "stepped_back": stepped_back}
    return _page(request, who, "in_force", **told, steps=STEPS, fronts=registry.fronts())


@pages.get("/fronts")
@asks(Action.READ_POLICIES)
def fronts(request: Request, who: Who) -> Response:
    """The fronts to choose from."""
    return _page(request, who, "fronts", fronts=who.registry.fronts())


@pages.get("/fronts/{fingerprint}")
@asks(Action.READ_POLICIES)
def front(
    request: Request,
    fingerprint: Hash,
    who: Who,
) -> Response:
    """One front with its dial."""
    shown = who.desk.fronts.shown(who.registry, fingerprint)
    dial = dial_of(shown, asked_of(request.query_params, shown.front))
    picture = front_specification(shown.front) if len(shown.front.lifts.objectives) > 1 else None
    return _page(request, who, "front", shown=shown, **_dialled(who, shown, dial), picture=picture)


@pages.get("/fronts/{fingerprint}/dial")
@asks(Action.READ_POLICIES)
def turned(
    request: Request,
    fingerprint: Hash,
    who: Who,
) -> Response:
    """What the dial shows at one place: a part of the page."""
    shown = who.desk.fronts.shown(who.registry, fingerprint)
    dial = dial_of(shown, asked_of(request.query_params, shown.front))
    return _page(request, who, "reading", shown=shown, **_dialled(who, shown, dial))


@pages.get("/fronts/{fingerprint}/report")
@asks(Action.READ_POLICIES)
def report(fingerprint: Hash, who: Who) -> Response:
    """The report of a front, kept apart from the console: it may run its scripts, and reach nothing."""
    _, page = who.registry.front(fingerprint)
    body = page if page is not None else b"<p>No report was published with this front.</p>"
    return HTMLResponse(body, 200 if page is not None else 404, {"content-security-policy": _REPORT_POLICY})


@pages.get("/policies")
@asks(Action.READ_POLICIES)
def policies(request: Request, who: Who) -> Response:
    """All policies."""
    registry = who.registry
    plan = registry.current()
    return _page(request, who, "policies", policies=registry.policies()[::-1], shares={n: share_of(plan, n) for n in numbers_in(plan)})


@pages.get("/policies/{number}")
@asks(Action.READ_POLICIES)
def policy(request: Request, number: Annotated[Number, Path()], who: Who) -> Response:
    """One policy with its evidence."""
    registry = who.registry
    found, plan, rules = registry.policy(number), registry.current(), registry.rules()
    share = share_of(plan, number)
    own = who.caller.name in found.standing.authors and not rules.self_approval
    evidence = found.policy.evidence
    lifts = [
        {
            "objective": name,
            **{
                what: np.nan if evidence.lifts[what][j] is None else evidence.lifts[what][j]
                for what in ("estimate", "band_low", "band_high")
            },
        }
        for j, name in enumerate(evidence.objectives)
    ]
    return _page(
        request, who, "policy", found=found, plan=plan, share=share, step=next_step(share), own=own, rules=rules, lifts=lifts, steps=STEPS
    )


@pages.get("/history")
@asks(Action.READ_PLANS)
def history(
    request: Request,
    who: Who,
    before: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
    after: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
) -> Response:
    """How each version came into force, and what two of them differ in."""
    registry = who.registry
    lines = None
    if after is not None:
        lines = diff(registry.plan(before) if before else None, registry.plan(after))
    return _page(request, who, "history", past=registry.history(500), lines=lines, before=before, after=after)


@pages.get("/audit")
@asks(Action.READ_AUDIT)
def trail(
    request: Request,
    who: Who,
    before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
    after: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
) -> Response:
    """The audit trail, the latest first: the entries before one, or after one, or the latest."""
    registry = who.registry
    entries = registry.trail_before(before, limit=_PAGE) if after is None else registry.trail_after(after, limit=_PAGE)[::-1]
    return _page(request, who, "audit", entries=entries, total=registry.head()[0])


@pages.get("/live")
@asks(Action.READ_TRAFFIC)
def live(request: Request, who: Who) -> Response:
    """What the decision services do now."""
    who.desk.traffic.start()
    return _page(request, who, "live", **_lately(who))


@pages.get("/live/now")
@asks(Action.READ_TRAFFIC)
def lately(request: Request, who: Who) -> Response:
    """The same, as a part of the page."""
    return _page(request, who, "now", **_lately(who))


@pages.get("/account")
@asks(Action.SEE_SELF)
def account(request: Request, who: Who) -> Response:
    """One's own password and tokens."""
    mine = who.desk.accounts.tokens(who.caller.name)
    return _page(
        request, who, "account", tokens=mine, roles=[role for role in Role if who.caller.role and role.rank <= who.caller.role.rank]
    )


@pages.get("/people")
@asks(Action.READ_ACCOUNTS)
def people(request: Request, who: Who) -> Response:
    """All accounts."""
    return _page(request, who, "people", accounts=who.desk.accounts.all(), roles=list(Role))


def to_sign_in(request: Request) -> Response:
    """Lead to the sign-in page, and back afterwards."""
    if "hx-request" not in request.headers:
        return RedirectResponse(_login_from(request.url.path, request.url.query), status_code=303)
    try:
        page = urlsplit(request.headers.get("hx-current-url", ""))  # a part of a page is no place to come back to; the page is
    except ValueError:  # it is no address
        page = urlsplit("")
    return Response(status_code=204, headers={"hx-redirect": _login_from(page.path, page.query)})  # a part cannot lead away by itself


def _login_from(path: str, query: str) -> str:
    """Return the address of the sign-in page, with the way back to a place of the console."""
    place = path + (f"?{query}" if query else "")
    return f"/login?next={quote(place, safe='')}" if is_local(place) else "/login"


def _page(request: Request, who: Asked, name: str, **content: Any) -> Response:
    return rendered(name, who, request.url.path, **content)


def _dialled(who: Asked, shown: Shown, dial: Dial) -> dict[str, Any]:
    published = {
        found.policy.policy: found for found in who.registry.policies() if found.front == shown.fingerprint and found.state != "retired"
    }
    picture = None
    if dial.reading is not None and shown.surface is not None:
        picture = weights_specification(shown.front, shown.surface, dial.reading.index)
    return {"dial": dial, "published": published, "weights": picture}


def _lately(who: Asked) -> dict[str, Any]:
    traffic, registry = who.desk.traffic, who.registry
    plan, sample, look = registry.current(), traffic.latest(), traffic.look()
    return {
        "plan": plan,
        "services": traffic.services,
        "sample": sample,
        "plans": plans_of(sample) if sample else [],
        "last": traffic.last(10),
        "look": look,
        "guarded": traffic.is_guarded,
        "unseen_s": None if look is None else traffic.unseen_s(look),
        "pictures": live_specifications(traffic.steps(every=2)) if sample else [],
    }
