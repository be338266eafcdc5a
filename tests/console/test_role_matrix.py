"""Every route, asked by everybody: who is let in is as this table says, written by hand."""

import re

import httpx
import pytest
from asking import PEOPLE, House
from fastapi import FastAPI

from paretune.console.access import Role
from paretune.console.api import PREFIX
from paretune.console.guard import Guarded
from paretune.errors import ConfigError

ORDER = (None, "viewer", "operator", "approver", "admin")
# (method, path) -> least role; then P where a token that reads plans is let in, S where only a session is.
TABLE = {
    ("GET", "/health"): (None, ""),
    ("GET", "/openapi.json"): (None, ""),
    ("POST", "/setup"): (None, ""),
    ("POST", "/login"): (None, ""),
    ("GET", "/session"): ("viewer", "P"),
    ("POST", "/logout"): ("viewer", "S"),
    ("POST", "/password"): ("viewer", "S"),
    ("GET", "/fronts"): ("viewer", ""),
    ("GET", "/fronts/{fingerprint}"): ("viewer", ""),
    ("POST", "/fronts/{fingerprint}/choose"): ("operator", ""),
    ("GET", "/policies"): ("viewer", ""),
    ("GET", "/policies/{number}"): ("viewer", ""),
    ("GET", "/plan"): ("viewer", "P"),
    ("GET", "/plans"): ("viewer", "P"),
    ("GET", "/plans/diff"): ("viewer", "P"),
    ("GET", "/plans/{version}"): ("viewer", "P"),
    ("GET", "/audit"): ("viewer", ""),
    ("GET", "/audit/verify"): ("viewer", ""),
    ("POST", "/policies/{number}/activate"): ("operator", ""),
    ("POST", "/policies/{number}/ramp"): ("operator", ""),
    ("POST", "/plan/rollback"): ("operator", ""),
    ("POST", "/plan/kill"): ("operator", ""),
    ("POST", "/plan/release"): ("operator", ""),
    ("GET", "/tokens"): ("operator", "S"),
    ("POST", "/tokens"): ("operator", "S"),
    ("POST", "/tokens/{token_id}/revoke"): ("operator", "S"),
    ("POST", "/policies/{number}/approve"): ("approver", ""),
    ("POST", "/policies/{number}/retire"): ("approver", ""),
    ("GET", "/accounts"): ("admin", ""),
    ("POST", "/accounts"): ("admin", "S"),
    ("POST", "/accounts/{name}"): ("admin", "S"),
    ("POST", "/accounts/{name}/password"): ("admin", "S"),
}
FILLED = {"number": "7", "version": "7", "name": "zed", "token_id": "00000000", "fingerprint": "0" * 64}
LET_IN = {200, 204, 404, 422}  # the door is passed, whatever comes after it


def ask(client: httpx.Client, route: tuple[str, str]) -> int:
    """Ask with nothing in the body, so that a change that is let in goes no further."""
    path = re.sub(r"\{(\w+)\}", lambda found: FILLED[found[1]], route[1])
    return client.request(route[0], f"{PREFIX}{path}").status_code


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    paths = app.openapi()["paths"]
    found = {(method.upper(), path.removeprefix(PREFIX)) for path, methods in paths.items() for method in methods}
    return found | {("GET", "/openapi.json")}


def test_the_table_names_every_route(small: House) -> None:
    assert routes_of(small.app) == set(TABLE)


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
def test_a_route_lets_in_whom_the_table_says(route: tuple[str, str], small: House) -> None:
    least, how = TABLE[route]
    expected, seen = {}, {}
    expected["nobody"], seen["nobody"] = least is None or 401, ask(small.client(), route)
    for name, role in PEOPLE.items():
        may = ORDER.index(role) >= ORDER.index(least)
        expected[f"{role} session"], seen[f"{role} session"] = may or 403, ask(small.session(name), route)
        expected[f"{role} token"], seen[f"{role} token"] = (may and how != "S") or 403, ask(small.token(name), route)
    expected["plans only"] = (least is None or how == "P") or 403
    seen["plans only"] = ask(small.token("root", plans_only=True), route)
    if route == ("POST", "/login"):
        expected, seen = {"nobody": 401}, {"nobody": seen["nobody"]}  # let in, and told that nothing was sent
    assert {who: (status in LET_IN or status) for who, status in seen.items()} == expected


def test_a_route_that_asks_for_nothing_cannot_be_made(small: House) -> None:
    with pytest.raises(ConfigError, match="asks for nothing"):
        small.app.get("/secret")(lambda: {})
    with pytest.raises(ConfigError, match="asks for nothing"):
        Guarded("/secret", lambda: {})


def test_nothing_but_guarded_routes_answers(small: House) -> None:
    client = small.session("root")
    for path in ("/docs", "/redoc", "/openapi.json", "/api", f"{PREFIX}/", f"{PREFIX}/nowhere", "/static/x"):
        assert client.get(path).status_code == 404, path


def test_the_interface_says_which_role_each_route_takes(small: House) -> None:
    for path, methods in small.app.openapi()["paths"].items():
        for method, told in methods.items():
            assert told["x-least-role"] == (TABLE[method.upper(), path.removeprefix(PREFIX)][0] or "nobody")


def test_a_stolen_viewer_token_changes_nothing(small: House) -> None:
    number, seen = small.publish()
    small.approved("other")
    thief = small.token("vera")
    before = small.registry.audit(), small.accounts.all(), small.accounts.tokens()
    bodies = [
        {},
        {"share": 0.05},
        {"fingerprint": seen},
        {"name": "mine", "role": "admin", "password": "x" * 20},
        {"role": "admin"},
        {"password": "correct horse battery", "new": "y" * 20},
    ]
    for method, path in routes_of(small.app):
        place = (
            path.replace("{number}", str(number)).replace("{version}", "1").replace("{name}", "vera").replace("{token_id}", before[2][0].id)
        )
        for body in bodies if method == "POST" and path not in {"/login", "/setup"} else []:
            assert thief.post(f"{PREFIX}{place}", json=body).status_code == 403, path
    assert (small.registry.audit(), small.accounts.all(), small.accounts.tokens()) == before
    assert small.accounts.by_token(thief.headers["authorization"].removeprefix("Bearer ")).role is Role.VIEWER
