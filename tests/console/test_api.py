"""The console's HTTP interface: signing in, governing, and what goes wrong."""

import json
import logging
import threading
from typing import Any

import httpx
import pytest
from asking import PASSWORD, House
from fronts import CONSTRAINED, publish_front
from registries import ANNA

from paretune.console.access import Role
from paretune.console.api import PREFIX
from paretune.console.attempts import Attempts, Limit
from paretune.console.origin import origin_of, trusted, user_of
from paretune.errors import ConfigError
from paretune.policy import tables

COOKIE = "__Host-paretune"


def signed_in(house: House, name: str, password: str = PASSWORD) -> httpx.Client:
    """By way of the login, as a browser."""
    client = house.client()
    answer = client.post(f"{PREFIX}/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf"]
    return client


def test_a_policy_is_approved_activated_ramped_rolled_back_killed_and_released(house: House) -> None:
    number, seen = house.publish()
    operator, approver, viewer = (signed_in(house, name) for name in ("otto", "bert", "vera"))
    assert viewer.get(f"{PREFIX}/plan").json() == {"version": 0, "fingerprint": None, "plan": None}
    shown = viewer.get(f"{PREFIX}/policies/{number}").json()
    assert (shown["state"], shown["fingerprint"], shown["authors"], shown["label"]) == ("draft", seen, ["anna"], "knee")
    early = operator.post(f"{PREFIX}/policies/{number}/activate", json={"share": 0.05})
    assert (early.status_code, "not approved" in early.json()["detail"]) == (403, True)
    stale = approver.post(f"{PREFIX}/policies/{number}/approve", json={"fingerprint": "0" * 64})
    assert (stale.status_code, "changed meanwhile" in stale.json()["detail"]) == (409, True)
    assert approver.post(f"{PREFIX}/policies/{number}/approve", json={"fingerprint": seen}).json()["approved_by"] == "bert"
    preview = operator.post(f"{PREFIX}/policies/{number}/activate", json={"share": 0.05, "preview": True}).json()
    assert (preview["made"], house.registry.version()) == (False, 0)
    made = operator.post(f"{PREFIX}/policies/{number}/activate", json={"share": 0.05, "expected": 0, "note": "go"}).json()
    assert (made["version"], made["made"], made["changes"]) == (1, True, preview["changes"])
    assert operator.post(f"{PREFIX}/policies/{number}/ramp", json={}).json()["plan"]["arms"][0]["share"] == 0.25
    assert operator.post(f"{PREFIX}/plan/rollback", json={"note": "hides"}).json()["plan"]["arms"][0]["share"] == 0.05
    assert operator.post(f"{PREFIX}/plan/kill", json={}).json()["plan"]["killed"]
    assert operator.post(f"{PREFIX}/plan/kill", json={}).status_code == 409
    assert not operator.post(f"{PREFIX}/plan/release", json={}).json()["plan"].get("killed", False)
    assert operator.post(f"{PREFIX}/policies/{number}/ramp", json={"share": 0}).status_code == 200
    assert approver.post(f"{PREFIX}/policies/{number}/retire", json={}).json()["state"] == "retired"
    assert [row["operation"] for row in viewer.get(f"{PREFIX}/plans").json()] == ["ramp", "release", "kill", "rollback", "ramp", "activate"]
    assert viewer.get(f"{PREFIX}/plans/diff", params={"before": 1, "after": 2}).json()["changes"] == ["  policy-1: 5 % -> 25 % of users"]
    assert viewer.get(f"{PREFIX}/plans/2").json()["plan"]["version"] == 2
    assert viewer.get(f"{PREFIX}/policies").json()[0]["state"] == "retired"
    trail = viewer.get(f"{PREFIX}/audit", params={"limit": 1000}).json()
    governed = [(row["who"], row["what"]) for row in trail if row["subject"].split()[0] in {"policy", "plan"}]
    assert governed == [
        ("anna", "publish"),
        ("bert", "approve"),
        ("otto", "activate"),
        ("otto", "ramp"),
        ("otto", "rollback"),
        ("otto", "kill"),
        ("otto", "release"),
        ("otto", "ramp"),
        ("bert", "retire"),
    ]
    by_http = [row for row in trail if row["who"] in {"otto", "bert", "vera"}]
    assert {json.loads(row["detail"])["from"] for row in by_http} == {"203.0.113.9"}
    verdict = viewer.get(f"{PREFIX}/audit/verify").json()
    assert verdict == {"whole": True, "problems": [], "head": trail[-1]["hash"]}
    assert not viewer.get(f"{PREFIX}/audit/verify", params={"head": "0" * 64}).json()["whole"]


def test_nobody_approves_their_own_over_http(house: House) -> None:
    house.accounts.add("anna", Role.ADMIN, PASSWORD, by="root")
    number, seen = house.publish()
    answer = signed_in(house, "anna").post(f"{PREFIX}/policies/{number}/approve", json={"fingerprint": seen})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert "anna published policy 1" in answer.json()["detail"]
    assert house.registry.policy(number).state == "draft"


def test_the_same_activation_with_the_same_key_is_made_once(house: House) -> None:
    number, client = house.approved(), house.token("otto")
    asked: dict[str, Any] = {"json": {"share": 0.05}, "headers": {"idempotency-key": "week-12"}}
    first, again = (client.post(f"{PREFIX}/policies/{number}/activate", **asked) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json()["repeated"], again.json()["repeated"]) == (False, True)
    assert {**again.json(), "repeated": False} == first.json()
    other = client.post(f"{PREFIX}/policies/{number}/activate", json={"share": 0.25}, headers={"idempotency-key": "week-12"})
    assert (other.status_code, house.registry.version()) == (409, 1)


def test_of_activations_at_once_one_is_made(house: House) -> None:
    number, statuses = house.approved(), []
    clients = [house.token("otto") for _ in range(6)]
    start = threading.Barrier(len(clients))

    def ask(client: httpx.Client) -> None:
        start.wait()
        body = {"share": 0.05, "expected": 0}
        statuses.append(client.post(f"{PREFIX}/policies/{number}/activate", json=body).status_code)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 5
    assert (house.registry.version(), house.registry.verify()) == (1, [])


@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "ünsinn".encode().decode("latin-1")])
def test_a_session_changes_nothing_without_its_csrf_token(csrf: str | None, small: House) -> None:
    number, client = small.approved(), small.session("otto")
    client.headers.pop("x-csrf-token")
    headers = {} if csrf is None else {"x-csrf-token": csrf.encode("latin-1")}
    answer = client.post(f"{PREFIX}/policies/{number}/activate", json={"share": 0.05}, headers=headers)
    assert (answer.status_code, "CSRF" in answer.json()["detail"]) == (403, True)
    other = small.session("otto").headers["x-csrf-token"]
    assert client.post(f"{PREFIX}/plan/kill", json={}, headers={"x-csrf-token": other}).status_code == 403
    assert small.registry.version() == 0


def test_a_token_needs_no_csrf_and_counts_before_a_cookie(small: House) -> None:
    number, client = small.approved(), small.token("otto")
    client.cookies.set(COOKIE, small.accounts.begin("root"))
    assert client.post(f"{PREFIX}/policies/{number}/activate", json={"share": 0.05}).status_code == 200
    assert client.get(f"{PREFIX}/accounts").status_code == 403, "acts as the token, not as the cookie"
    told = json.loads(small.registry.audit()[-1].detail)["from"]
    assert told == f"203.0.113.9, token {small.accounts.tokens('otto')[0].id}"


@pytest.mark.parametrize("given", ["Basic b3R0bzp4", "Bearer", "Bearer ", "Bearer ptk_wrong", "ptk_x", f"Bearer {'x' * 400}"])
def test_what_is_no_token_is_refused_even_with_a_session(given: str, small: House) -> None:
    client = small.session("root")
    answer = client.get(f"{PREFIX}/plan", headers={"authorization": given})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_page_cannot_change_anything(site: str, small: House) -> None:
    client = small.session("otto")
    assert client.post(f"{PREFIX}/plan/kill", json={}, headers={"sec-fetch-site": site}).status_code == 403
    body = {"name": "otto", "password": PASSWORD}
    assert small.client().post(f"{PREFIX}/login", json=body, headers={"sec-fetch-site": site}).status_code == 403
    assert client.get(f"{PREFIX}/plan", headers={"sec-fetch-site": site}).status_code == 200


def test_the_cookie_is_for_this_host_over_https_and_not_for_scripts(small: House, tmp_path: Any) -> None:
    def cookie_of(house: House) -> list[str]:
        answer = house.client().post(f"{PREFIX}/login", json={"name": "otto", "password": PASSWORD})
        return [part.strip().lower() for part in answer.headers["set-cookie"].split(";")]

    parts = cookie_of(small)
    assert parts[0].startswith("__host-paretune=")
    assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=3600"} <= set(parts)
    loopback = House(str(tmp_path / "loopback.db"), {"secure": False}).people()
    parts = cookie_of(loopback)
    assert parts[0].startswith("paretune=")
    assert "secure" not in parts
    loopback.close()


def test_signing_out_ends_the_session_also_for_who_copied_the_cookie(small: House) -> None:
    client = signed_in(small, "otto")
    copied = client.cookies[COOKIE]
    assert client.get(f"{PREFIX}/session").json()["name"] == "otto"
    assert client.post(f"{PREFIX}/logout").status_code == 204
    thief = small.client()
    thief.cookies.set(COOKIE, copied)
    assert thief.get(f"{PREFIX}/session").status_code == 401


def test_a_session_expires_over_http(small: House) -> None:
    client = signed_in(small, "otto")
    small.clock.now += 599
    assert client.get(f"{PREFIX}/plan").status_code == 200
    small.clock.now += 601
    assert client.get(f"{PREFIX}/plan").status_code == 401


def test_guessing_a_password_is_slowed_down_and_says_until_when(tmp_path: Any) -> None:
    house = House(str(tmp_path / "x.db"), {"attempts": Attempts(Limit(3, 0.1), Limit(6, 0.1))}).people()
    client = house.client()

    def guess(name: str, password: str = "wrong wrong wrong") -> int:  # noqa: S107
        return client.post(f"{PREFIX}/login", json={"name": name, "password": password}).status_code

    assert [guess("otto") for _ in range(4)] == [401, 401, 401, 429]
    answer = client.post(f"{PREFIX}/login", json={"name": "OTTO", "password": PASSWORD})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert [guess(f"x{number}") for number in range(4)] == [401, 401, 401, 429], "the address has run out"
    assert house.client("203.0.113.10").post(f"{PREFIX}/login", json={"name": "bert", "password": PASSWORD}).status_code == 200
    house.clock.now += 10
    assert guess("otto", PASSWORD) == 200
    house.close()


def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(small: House) -> None:
    bodies = [{"name": "otto", "password": "wrong wrong wrong"}, {"name": "nobody", "password": "wrong wrong wrong"}]
    answers = [small.client().post(f"{PREFIX}/login", json=body) for body in bodies]
    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].content == answers[1].content


def test_the_first_admin_is_made_with_the_code_and_only_once(tmp_path: Any) -> None:
    house = House(str(tmp_path / "x.db"), {"setup_code": "printed-once"})
    client, body = house.client(), {"name": "root", "password": PASSWORD}
    assert client.post(f"{PREFIX}/setup", json={**body, "code": "guessed"}).status_code == 403
    assert client.post(f"{PREFIX}/setup", json={**body, "code": ""}).status_code == 403
    assert house.accounts.is_empty()
    assert client.post(f"{PREFIX}/setup", json={**body, "code": "printed-once"}).json()["role"] == "admin"
    assert client.post(f"{PREFIX}/setup", json={**body, "name": "two", "code": "printed-once"}).status_code == 409
    house.close()
    closed = House(str(tmp_path / "y.db"))
    assert closed.client().post(f"{PREFIX}/setup", json={**body, "code": ""}).status_code == 403
    closed.close()


def test_passwords_are_changed_by_oneself_with_the_old_one_or_given_by_an_admin(small: House) -> None:
    client, new = signed_in(small, "otto"), "a new one of mine"
    assert client.post(f"{PREFIX}/password", json={"password": "wrong wrong wrong", "new": new}).status_code == 401
    assert client.post(f"{PREFIX}/password", json={"password": PASSWORD, "new": "short"}).status_code == 422
    assert client.post(f"{PREFIX}/password", json={"password": PASSWORD, "new": new}).status_code == 204
    assert client.get(f"{PREFIX}/session").status_code == 401
    signed_in(small, "otto", new)
    assert signed_in(small, "root").post(f"{PREFIX}/accounts/otto/password", json={"password": "given by an admin"}).status_code == 204
    signed_in(small, "otto", "given by an admin")


def test_accounts_and_tokens_over_http(small: House) -> None:
    admin, operator = signed_in(small, "root"), signed_in(small, "otto")
    assert admin.post(f"{PREFIX}/accounts", json={"name": "Nina", "role": "viewer", "password": PASSWORD}).status_code == 201
    assert admin.post(f"{PREFIX}/accounts/nina", json={"role": "operator"}).json()["role"] == "operator"
    assert admin.post(f"{PREFIX}/accounts/root", json={"disabled": True}).status_code == 409
    assert [row["name"] for row in admin.get(f"{PREFIX}/accounts").json()] == ["bert", "nina", "otto", "root", "vera"]
    made = operator.post(f"{PREFIX}/tokens", json={"name": "job", "role": "viewer", "plans_only": True})
    assert made.status_code == 201
    reader = small.client(headers={"authorization": f"Bearer {made.json()['secret']}"})
    assert (reader.get(f"{PREFIX}/plan").status_code, reader.get(f"{PREFIX}/policies").status_code) == (200, 403)
    assert reader.get(f"{PREFIX}/session").json()["csrf"] is None
    assert operator.post(f"{PREFIX}/tokens", json={"name": "up", "role": "admin"}).status_code == 403
    assert operator.post(f"{PREFIX}/tokens", json={"name": "hers", "role": "viewer", "account": "nina"}).status_code == 403
    assert admin.post(f"{PREFIX}/tokens", json={"name": "hers", "role": "viewer", "account": "nina"}).status_code == 201
    assert "secret" not in operator.get(f"{PREFIX}/tokens").json()[0]
    assert (len(operator.get(f"{PREFIX}/tokens").json()), len(admin.get(f"{PREFIX}/tokens").json())) == (1, 2)
    hers = admin.get(f"{PREFIX}/tokens").json()[0]["id"] if admin.get(f"{PREFIX}/tokens").json()[0]["account"] == "nina" else None
    hers = hers or admin.get(f"{PREFIX}/tokens").json()[1]["id"]
    assert operator.post(f"{PREFIX}/tokens/{hers}/revoke").status_code == 404
    assert operator.post(f"{PREFIX}/tokens/{made.json()['id']}/revoke").status_code == 200
    assert reader.get(f"{PREFIX}/plan").status_code == 401


def test_a_proxy_signs_people_in_only_from_its_address(tmp_path: Any) -> None:
    house = House(str(tmp_path / "x.db"), {"proxy": trusted(["10.0.0.0/24"], user_header="X-User")}).people()
    named = {"x-user": "Otto", "x-forwarded-for": "198.51.100.7"}
    assert house.client("203.0.113.9").post(f"{PREFIX}/login", headers=named).status_code == 401
    client = house.client("10.0.0.5", headers=named)
    answer = client.post(f"{PREFIX}/login")
    assert (answer.status_code, answer.json()["name"]) == (200, "otto")
    assert json.loads(house.registry.audit()[-1].detail) == {"from": "198.51.100.7", "how": "proxy"}
    assert client.get(f"{PREFIX}/plan").status_code == 200
    assert client.post(f"{PREFIX}/plan/kill", json={}).status_code == 403, "CSRF, like any session"
    assert client.get(f"{PREFIX}/plan", headers={"x-user": "vera"}).status_code == 401, "the proxy speaks of somebody else"
    assert house.client("10.0.0.5", headers={"x-user": "nobody"}).post(f"{PREFIX}/login").status_code == 401
    assert house.client("10.0.0.5", headers=named).post(f"{PREFIX}/login", json={"name": "root", "password": PASSWORD}).status_code == 401
    house.close()


def test_an_address_is_the_last_that_no_trusted_proxy_has() -> None:
    proxy = trusted(["10.0.0.0/24"], user_header="x-user")
    assert origin_of("203.0.113.9", ["1.1.1.1"], proxy) == "203.0.113.9"
    assert origin_of("10.0.0.5", ["1.1.1.1, 198.51.100.7, 10.0.0.6"], proxy) == "198.51.100.7"
    assert origin_of("10.0.0.5", ["nonsense"], proxy) == "10.0.0.5"
    assert origin_of("10.0.0.5", [], proxy) == "10.0.0.5"
    assert user_of("10.0.0.5", ["anna", "root"], proxy) == "", "two names are none"
    assert user_of("testclient", ["anna"], proxy) == ""
    with pytest.raises(ConfigError, match="anybody could send"):
        trusted([], user_header="x-user")
    with pytest.raises(ConfigError, match="no address"):
        trusted(["proxy.example"])


def test_every_answer_has_its_security_headers(small: House) -> None:
    client = small.session("vera")
    for path in ("/plan", "/nowhere", "/plans/99", "/accounts"):
        headers = client.get(f"{PREFIX}{path}").headers
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["strict-transport-security"]
        assert headers["x-frame-options"] == "DENY"


def test_errors_are_problem_documents_that_do_not_repeat_what_was_sent(small: House) -> None:
    client = small.session("root")
    cases = [
        (client.get(f"{PREFIX}/plans/99"), 404),
        (client.get(f"{PREFIX}/policies/0"), 422),
        (client.delete(f"{PREFIX}/plan"), 405),
        (client.post(f"{PREFIX}/accounts", json={"name": "x", "role": "king", "password": "hidden words here"}), 422),
        (client.post(f"{PREFIX}/accounts", content=b'{"password": "hidden words here'), 422),
        (client.post(f"{PREFIX}/accounts", content=b"[" * 50_000, headers={"content-type": "application/json"}), 400),
        (client.post(f"{PREFIX}/plan/kill", content=b"x" * 70_000), 413),
        (client.post(f"{PREFIX}/plan/kill", content=(b"x" * 10_000 for _ in range(9))), 413),
    ]
    for answer, status in cases:
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
        assert answer.json()["status"] == status
        assert "hidden" not in answer.text


def test_an_unknown_fault_is_an_id_and_tells_nothing(
    small: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "sword" + "fish"

    def broken(*_: Any) -> None:
        raise RuntimeError(said)

    client = small.session("vera")
    monkeypatch.setattr(type(small.registry), "current", broken)
    with caplog.at_level(logging.DEBUG):
        answer = client.get(f"{PREFIX}/plan")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "swordfish" not in answer.text
    assert answer.json()["id"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "swordfish" not in caplog.text


def test_a_registry_that_does_not_answer_is_a_503_that_does_not_say_where_it_lies(small: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from paretune.errors import UnreachableError

    def silent(*_: Any) -> None:
        raise UnreachableError(f"{small.registry.name} did not answer within 5 s", hint="see whether the database is up")

    monkeypatch.setattr(type(small.registry.database), "read", silent)
    for answer in (small.client().get(f"{PREFIX}/health"), small.client(headers={"authorization": "Bearer ptk_x"}).get(f"{PREFIX}/plan")):
        assert answer.status_code == 503
        assert "does not answer" in answer.json()["detail"]
        assert small.registry.name not in answer.text


def test_no_get_changes_anything(small: House) -> None:
    front = publish_front(small.registry)
    small.registry.approve(number := 1, by="bert")
    small.registry.activate(number, share=0.05, by="otto")
    client = small.session("root")
    kept = [table for table in tables.metadata.sorted_tables if table.name != "sessions"]

    def everything() -> str:
        return small.registry.database.read(lambda connection: repr([connection.execute(table.select()).all() for table in kept]))

    before = everything()
    paths = [path for path, methods in small.app.openapi()["paths"].items() if "get" in methods]
    assert len(paths) > 8
    for path in paths:
        filled = path.replace("{number}", str(number)).replace("{version}", "1").replace("{fingerprint}", front)
        assert client.get(filled, params={"before": 0, "after": 1} if "diff" in path else {}).status_code == 200, path
        small.clock.now += 1
    assert everything() == before


def test_no_secret_is_logged_or_in_the_trail(small: House, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = signed_in(small, "root")
        secret = client.post(f"{PREFIX}/tokens", json={"name": "job", "role": "admin"}).json()["secret"]
        program = small.client(headers={"authorization": f"Bearer {secret}"})
        assert program.get(f"{PREFIX}/accounts").status_code == 200
        client.post(f"{PREFIX}/accounts", json={"name": "nina", "role": "viewer", "password": "another password"})
        client.post(f"{PREFIX}/login", json={"name": "otto", "password": "wrong wrong wrong"})
    told = caplog.text + repr(small.registry.audit())
    for hidden in (PASSWORD, secret, client.cookies[COOKIE], client.headers["x-csrf-token"], "another password", "wrong wrong wrong"):
        assert hidden not in told


def test_a_front_is_listed_read_and_chosen_from(house: House) -> None:
    front = publish_front(house.registry)
    viewer, operator = house.session("vera"), house.session("otto")
    listed = viewer.get(f"{PREFIX}/fronts").json()
    assert [(one["fingerprint"], one["by"], one["policies"]) for one in listed] == [(front, ANNA, [1])]
    whole = viewer.get(f"{PREFIX}/fronts/{front}").json()
    chosen = operator.post(f"{PREFIX}/fronts/{front}/choose", json={"policy": CONSTRAINED, "note": "less risk"})
    assert chosen.status_code == 201
    assert (chosen.json()["number"], chosen.json()["state"], chosen.json()["authors"]) == (2, "draft", ["otto"])
    assert chosen.json()["operating"]["policy"] == whole["policies"][CONSTRAINED]["name"]
    assert operator.post(f"{PREFIX}/fronts/{front}/choose", json={"policy": CONSTRAINED}).status_code == 409
    assert operator.post(f"{PREFIX}/fronts/{front}/choose", json={"policy": 99}).status_code == 422
    assert viewer.get(f"{PREFIX}/fronts/{'0' * 64}").status_code == 404
