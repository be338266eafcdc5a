"""The console's pages: what they show, to whom, and what they may never do."""

import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from asking import PEOPLE, House
from fronts import CONSTRAINED, KNEE, STATIC_BEST, publish_front, with_hides

from paretune.console import paper
from paretune.console.api import PREFIX
from paretune.console.guard import Guarded
from paretune.console.pages import pages
from paretune.console.paper import is_local
from paretune.console.traffic import Traffic
from paretune.policy.audit import AUTOMAT
from paretune.policy.states import Rules

# path -> least role; None = anybody. By hand.
TABLE = {
    "/login": None,
    "/static/{digest}/{name}": None,
    "/": "viewer",
    "/account": "viewer",
    "/audit": "viewer",
    "/fronts": "viewer",
    "/fronts/{fingerprint}": "viewer",
    "/fronts/{fingerprint}/dial": "viewer",
    "/fronts/{fingerprint}/report": "viewer",
    "/history": "viewer",
    "/live": "viewer",
    "/live/now": "viewer",
    "/policies": "viewer",
    "/policies/{number}": "viewer",
    "/people": "admin",
}
ORDER = (None, "viewer", "operator", "approver", "admin")


def filled(path: str, front: str) -> str:
    css = paper.address_of("console.css").split("/")
    return path.format(fingerprint=front, number=1, digest=css[2], name=css[3])


def operated(house: House) -> str:
    """A front, two policies, one of them served; the front's fingerprint."""
    front = publish_front(house.registry)
    house.registry.choose(front, CONSTRAINED, by="otto", note="less risk")
    house.registry.approve(1, by="bert")
    house.registry.activate(1, share=0.05, control=0.05, explore=0.01, by="otto", note="week 12")
    return front


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.tags.append((tag, dict(attrs)))


def test_the_table_names_every_page() -> None:
    found = {route.path: route for route in (*pages.routes, *paper.assets.routes) if isinstance(route, Guarded)}
    assert set(found) == set(TABLE)
    assert all(route.methods == {"GET"} for route in found.values())
    assert len(found) == len(pages.routes) + len(paper.assets.routes)


@pytest.mark.parametrize("path", TABLE)
def test_a_page_lets_in_whom_the_table_says(path: str, small: House) -> None:
    place, least = filled(path, operated(small)), TABLE[path]
    answer = small.client().get(place)
    led = answer.headers.get("location", "").startswith("/login?next=")
    assert (answer.status_code, led) == ((200, False) if least is None else (303, True))
    for name, role in PEOPLE.items():
        allowed = ORDER.index(role) >= ORDER.index(least)
        assert small.session(name).get(place).status_code == (200 if allowed else 403), role
    if least is not None:
        assert small.token("root", plans_only=True).get(place).status_code == (200 if path in {"/", "/history", "/account"} else 403)


def test_no_page_runs_or_loads_anything_but_the_consoles_own_files(house: House) -> None:
    front = operated(house)
    client = house.session("root")
    for path in TABLE:
        if path in {"/static/{digest}/{name}", "/fronts/{fingerprint}/report"}:
            continue
        answer = client.get(filled(path, front))
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        for tag, attributes in Page(answer.text).tags:
            assert not any(name.startswith("on") or name == "style" for name in attributes), (path, tag, attributes)
            for name in ("src", "href", "action", "data-call", "data-then", "hx-get"):
                value = attributes.get(name)
                assert value is None or value.startswith(("/", "#")), (path, value)
                assert value is None or not value.startswith("//"), (path, value)
            if tag == "script":
                assert attributes.get("src") or attributes["type"] == "application/json", path
            if tag in {"script", "link"} and (attributes.get("src") or attributes.get("href")):
                found = client.get(attributes.get("src") or attributes["href"] or "")
                assert found.status_code == 200
                assert "immutable" in found.headers["cache-control"]


def test_a_file_under_another_hash_or_name_is_not_there(small: House) -> None:
    css = paper.address_of("console.css")
    for path in (css.replace("/static/", "/static/0"), css.replace("console.css", "../pages.py"), "/static/x/console.css", css + ".bak"):
        assert small.client().get(path).status_code == 404


def test_the_first_page_says_what_is_in_force_and_offers_what_the_role_may(house: House) -> None:
    operated(house)
    told = {name: house.session(name).get("/").text for name in PEOPLE}
    for text in told.values():
        assert "Plan 1" in text
        assert re.search(r"policy-1</a></th><td class=\"number\">5\.0 %", text)
        assert "week 12" in text
        assert "Explored: 1.00 % of requests" in text
    calls = {name: set(re.findall(r'data-call="([^"]+)"', text)) - {"/api/v1/logout"} for name, text in told.items()}
    switches = {"/api/v1/policies/1/ramp", "/api/v1/plan/rollback", "/api/v1/plan/kill"}
    assert calls == {"vera": set(), "otto": switches, "bert": switches, "root": switches}


def test_a_killed_plan_says_so_and_offers_the_release(small: House) -> None:
    operated(small)
    small.registry.kill(by="otto", note="hides")
    text = small.session("otto").get("/").text
    assert "Killed." in text
    assert "/api/v1/plan/release" in text
    assert "/api/v1/plan/kill" not in text


def test_nobody_is_offered_the_approval_of_their_own(small: House) -> None:
    front = publish_front(small.registry)
    small.registry.choose(front, CONSTRAINED, by="bert")
    assert "somebody else has to approve it" in small.session("bert").get("/policies/2").text
    assert "Approve what is shown here" in small.session("root").get("/policies/2").text
    assert "waits for somebody with the role of an approver" in small.session("otto").get("/policies/2").text


def test_the_front_stands_at_the_constrained_pick_and_carries_the_reports_picture(small: House) -> None:
    front = operated(small)
    text = small.session("vera").get(f"/fronts/{front}").text
    figure = re.search(r'data-figure="front">(.+?)</script>', text)
    assert figure is not None
    specification = json.loads(figure[1])
    assert {"name": "marked"} in [layer.get("data") for layer in specification["layer"]]
    marks = re.search(r'id="marks">(.+?)</script>', text)
    assert marks is not None
    assert json.loads(marks[1])[0] == {
        "what": "1 dial",
        "x": 2.0,
        "y": 1.0,
        "low_x": 1.44,
        "low_y": 0.44,
        "high_x": 2.56,
        "high_y": pytest.approx(1.56),
    }
    assert "constrained" in text
    assert "+2.00 % (+1.44 … +2.56)" in text
    assert "41 %" in text  # of requests get another list
    assert "Inside every cohort: NEW" in text
    assert "policy 2" in text
    assert "Draft this policy" not in text  # it is one already, and vera may not


def dial(client: httpx.Client, front: str, **query: object) -> str:
    return client.get(f"/fronts/{front}/dial", params={name: str(value) for name, value in query.items()}).text


def test_the_dial_turns_through_the_family_and_says_what_is_compared(small: House) -> None:
    front = operated(small)
    client = small.session("otto")
    names = [re.search(r'data-alpha="([^"]*)"', dial(client, front, step=step)) for step in range(5)]
    assert [found[1] for found in names if found] == ["0.000", "0.250", "0.500", "0.750", "1.000"]
    assert "Draft this policy" in dial(client, front, step=1)
    assert "policy 1" in dial(client, front, policy=KNEE)
    both = dial(client, front, step=0, compared=6)
    assert "best static" in both
    assert "+0.40 %" in both
    for strange in ({"step": 99}, {"step": "x"}, {"policy": 7}, {"policy": -1}, {"compared": "²"}):
        assert "constrained" in dial(client, front, **strange)


def test_a_report_is_kept_in_a_box_of_its_own(small: House) -> None:
    front = operated(small)
    answer = small.session("vera").get(f"/fronts/{front}/report")
    assert answer.text == "<html>the report</html>"
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert small.session("vera").get(f"/fronts/{'0' * 64}/report").status_code == 404
    bare = publish_front(small.registry, with_hides(), report=None)
    assert "No report" in small.session("vera").get(f"/fronts/{bare}/report").text


def test_what_people_wrote_is_shown_as_text(small: House) -> None:
    front = operated(small)
    nasty = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    small.registry.choose(front, 2, by="otto", note=nasty)
    small.registry.ramp(1, share=0.25, by="otto", note=nasty)
    client = small.session("root")
    for path in ("/", "/policies/3", "/history", "/audit"):
        text = client.get(path).text
        assert "<img src=x" not in text, path
        assert "alert(2)</script>" not in text, path


def test_signing_in_leads_back_to_a_page_of_the_console_only(small: House) -> None:
    where = small.client().get("/history?before=1&after=2").headers["location"]
    assert where == "/login?next=%2Fhistory%3Fbefore%3D1%26after%3D2"
    assert 'data-then="/history?before=1&amp;after=2"' in small.client().get(where).text
    for strange in ("https://evil.example", "//evil.example", "/\\evil.example", "/a\nb", "javascript:alert(1)"):
        assert not is_local(strange)
        assert 'data-then="/"' in small.client().get("/login", params={"next": strange}).text
    part = small.client().get("/live/now", headers={"hx-request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (204, "/login")


def test_a_console_without_accounts_asks_for_the_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = House(str(tmp_path_factory.mktemp("new") / "r.db"), {"setup_code": "abc"})
    assert "Make the first admin" in house.client().get("/login").text
    house.accounts.set_up("root", "correct horse battery")
    assert "Make the first admin" not in house.client().get("/login").text
    house.close()


def test_trouble_is_a_page_for_people_and_a_problem_for_programs(small: House) -> None:
    client = small.session("vera")
    missing = client.get("/policies/99")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "there is no policy 99" in missing.text
    assert client.get("/policies/none").status_code == 422
    assert client.get("/nowhere").status_code == 404
    assert client.get("/people").status_code == 403
    assert client.get(f"{PREFIX}/policies/99").headers["content-type"] == "application/problem+json"


def test_a_registry_that_does_not_answer_is_said_and_tried_again(small: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = small.session("vera")

    def refuse(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    answer = client.get("/")
    assert (answer.status_code, "what is served goes on as it is" in answer.text) == (503, True)
    assert 'http-equiv="refresh" content="5"' in answer.text
    assert "paretune.db" not in answer.text


def test_a_front_of_three_objectives_has_a_slider_for_each_floor(small: House) -> None:
    front = publish_front(small.registry, with_hides())
    client = small.session("otto")
    text = client.get(f"/fronts/{front}").text
    assert [name for name in ("floor-0", "floor-1", "floor-2") if f'name="{name}"' in text] == ["floor-0", "floor-1", "floor-2"]
    assert "hide (lower is better)" in text

    def at(**query: object) -> str:
        found = re.search(r'data-policy="(\d+)"', dial(client, front, **query))
        return found[1] if found else "none"

    # What is expected is 0.9 of (save, p2p, hide): 1 (-1, 5, 0.4) 2 (0.5, 4, -1) 3 (1.2, 3, -0.2) 4 (2, 1, 0.6) 5 (3, -2, 3).
    assert at(**{"maximise": 0, "floor-1": 0, "floor-2": -1}) == "4"
    assert at(**{"maximise": 0, "floor-1": 0, "floor-2": 0}) == "3"  # hides may not rise
    assert at(**{"maximise": 1, "floor-0": 0, "floor-2": 0}) == "2"
    assert at(**{"maximise": 0, "floor-1": 10, "floor-2": 0}) == "none"
    assert "No policy keeps these floors" in dial(client, front, **{"maximise": 0, "floor-1": 10})


def test_what_the_guardrails_did_is_said_where_people_look(tmp_path: Path) -> None:
    file = tmp_path / "guard.json"
    one = {"name": "hide", "state": "breached", "value": 0.4, "low": 0.1, "high": 0.8, "limit": 0.02}
    told = {"at_us": 1, "plan": 1, "action": "kill", "reasons": ["hide: +40 %"], "users": 700, "guardrails": [one]}
    file.write_text(json.dumps(told))
    house = House(str(tmp_path / "r.db"), {"traffic": Traffic(guardrails=file, wall_clock=lambda: 30.0)}).people()
    operated(house)
    house.registry.kill(by=AUTOMAT, note="hide: +40 %")
    client = house.session("vera")
    assert "The guardrails stepped back:</strong> hide: +40 %" in client.get("/").text
    live = client.get("/live").text
    assert "Nobody" not in live
    assert "Unwatched" not in live
    assert "+40.00 % (+10.00 … +80.00)" in live
    assert '<span class="badge bad">breached</span>' in live
    house.close()


def test_the_live_page_warns_when_nobody_watches(tmp_path: Path) -> None:
    file, clock = tmp_path / "guard.json", [1_000.0]
    traffic = Traffic(guardrails=file, wall_clock=lambda: clock[0])
    house = House(str(tmp_path / "r.db"), {"traffic": traffic}).people()
    client = house.session("vera")
    assert "Nobody is known to watch" in client.get("/live").text
    told = {"at_us": 1_000_000_000, "saw_us": 940_000_000, "silent_s": 600.0, "every_s": 60.0, "plan": 1, "action": "keep", "reasons": []}
    file.write_text(json.dumps({**told, "users": 0, "guardrails": [], "unwatched": ["the objectives of policy-1"]}))
    now = client.get("/live/now").text
    assert "Nobody" not in now
    assert "<strong>Unwatched</strong>: the objectives of policy-1." in now
    clock[0] = 940 + 25 * 60
    assert "Nobody has seen what the plan does since 1970-01-01 00:15:40 UTC</strong>, 25 minutes ago" in client.get("/live/now").text
    file.write_text("{")
    assert "Nobody is known to watch" in client.get("/live/now").text
    house.close()


def test_the_way_back_survives_a_session_that_ends_and_is_never_too_long(small: House) -> None:
    page = "https://console.example/fronts/abc?step=3&compared=6"
    part = small.client().get("/fronts/abc/dial?step=4", headers={"hx-request": "true", "hx-current-url": page})
    assert (part.status_code, part.headers["hx-redirect"]) == (204, "/login?next=%2Ffronts%2Fabc%3Fstep%3D3%26compared%3D6")
    for strange in ("https://console.example//evil.example", "https://evil.example", "javascript:alert(1)", "https://[", "/a\nb"):
        answer = small.client().get("/live/now", headers={"hx-request": "true", "hx-current-url": strange})
        assert answer.headers["hx-redirect"] in {"/login", "/login?next=%2Fab"}, strange
    long = "/history?" + "x" * 600
    led = small.client().get(long)
    answer = small.client().get(led.headers["location"])
    assert (led.status_code, answer.status_code, 'data-then="/"' in answer.text) == (303, 200, True)


def test_the_trail_is_read_a_page_at_a_time(small: House) -> None:
    for n in range(130):
        small.registry.set_rules(Rules(evidence_days=n + 1.0), by="root")
    client, total = small.session("vera"), small.registry.head()[0]

    def shown(place: str) -> tuple[list[int], dict[str, str]]:
        text = client.get(place).text
        links = {name: address for address, name in re.findall(r'<a href="(/audit[^"]*)">(Latest|Later|Earlier)</a>', text)}
        return [int(seq) for seq in re.findall(r'<tr><th scope="row">(\d+)</th>', text)], links

    place, seen = "/audit", []
    while True:
        found, links = shown(place)
        assert len(found) <= 50
        seen += found
        if "Earlier" not in links:
            break
        place = links["Earlier"]
    assert seen == list(range(total, 0, -1))
    later, _ = shown(links["Later"])
    assert later == list(range(later[-1] + 49, later[-1] - 1, -1))
    assert links["Latest"] == "/audit"
    assert client.get("/audit?before=1").status_code == 200


def test_a_front_of_which_only_fixed_weights_were_published_is_shown(small: House) -> None:
    front = publish_front(small.registry, policy=STATIC_BEST)
    client = small.session("otto")
    assert f"/fronts/{front}" in client.get("/fronts").text
    answer = client.get(f"/fronts/{front}")
    assert (answer.status_code, "Choose a trade-off" in answer.text) == (200, True)
    assert client.post(f"{PREFIX}/fronts/{front}/choose", json={"policy": CONSTRAINED}).status_code == 404
    publish_front(small.registry)  # the same front, with a model
    assert client.post(f"{PREFIX}/fronts/{front}/choose", json={"policy": CONSTRAINED}).status_code == 201
