"""The way from a front to what is served, and back, by people who only have a browser; on both databases."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from visits import PASSWORD, Stage, Visit

pytestmark = pytest.mark.e2e


def set_up(stage: Stage) -> None:
    """Make the first admin with the code, and the others, by the pages."""
    root = stage.open()
    page = root.go("/")
    page.wait_for_url(re.compile("/login"))
    page.get_by_label("Code").fill("wrong")
    page.get_by_label("Name").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    assert "not the code" in page.get_by_role("alert").inner_text()
    page.get_by_label("Code").fill(stage.code)
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("button", name="Sign in").wait_for()
    root.sign_in("root")
    for name, role in (("otto", "operator"), ("bert", "approver")):
        page = root.go("/people")
        form = page.get_by_role("form", name="Add an account")
        form.get_by_label("Name").fill(name)
        form.get_by_label("Role").select_option(role)
        form.get_by_label("Password").fill(PASSWORD)
        form.get_by_role("button", name="Add").click()
        page.get_by_role("rowheader", name=name).wait_for()
    root.close()


def wait_for_share(visit: Visit, condition: str) -> None:
    """Wait until the live page shows such a share of decisions by policy, in per cents."""
    shown = "/By policy\\s+([\\d.]+) %/.exec(document.querySelector('#now').innerText)"
    visit.page.wait_for_function(f"() => Number(({shown} || [])[1]) {condition}", timeout=120_000)


def test_from_the_front_to_what_is_served_and_back(stage: Stage) -> None:
    set_up(stage)
    bert, otto, root = (stage.open().sign_in(name) for name in ("bert", "otto", "root"))

    page = bert.go(f"/fronts/{stage.registry.fronts()[0].fingerprint}")
    page.locator("#front svg").wait_for()
    marks, policy = page.locator("#marks"), page.locator("[data-policy]")
    before = (marks.inner_text(), policy.get_attribute("data-policy"))
    slider = page.get_by_label(re.compile("Trade-off"))
    slider.focus()
    page.keyboard.press("End" if slider.input_value() == "0" else "Home")
    page.wait_for_function("before => document.querySelector('[data-policy]').dataset.policy !== before", arg=before[1])
    assert marks.inner_text() != before[0]
    assert page.locator("#alpha").inner_text() == policy.get_attribute("data-alpha")
    page.get_by_role("button", name="Draft this policy").click()
    page.wait_for_url(f"{stage.address}/policies/2")

    page.get_by_role("button", name="Approve what is shown here").click()
    page.get_by_role("alert").wait_for()
    assert "bert published policy 2" in page.get_by_role("alert").inner_text()
    assert stage.registry.policy(2).state == "draft"

    root.go("/policies/2").get_by_role("button", name="Approve what is shown here").click()
    root.page.get_by_text("by root").wait_for()
    assert stage.registry.policy(2).standing.approved_by == "root"

    page = otto.go("/policies/2")
    page.get_by_label("Serve it to").fill("5")
    page.get_by_label("Keep as control").fill("5")
    page.get_by_role("button", name="Activate…").click()
    page.get_by_role("button", name="Leave it").click()
    assert stage.registry.current() is None
    otto.confirm("Activate…", says="policy-2")
    page.wait_for_url(f"{stage.address}/")
    plan = stage.registry.current()
    assert plan is not None
    assert [(arm.name, arm.share) for arm in plan.arms] == [("policy-2", 0.05), ("control", 0.05)]

    live = stage.open().sign_in("otto")
    live.go("/live")
    live.page.wait_for_function("() => /By policy/.test(document.querySelector('#now').innerText)")
    page.get_by_label("Policy 2 to").fill("90")
    otto.confirm("Ramp…", says="5 % -> 90 % of users")
    page.get_by_text("Plan 2").wait_for()
    wait_for_share(live, "> 60")
    live.page.locator("#live-1 svg").wait_for()

    otto.confirm("Roll back…", says="90 % -> 5 % of users")
    page.get_by_text("Plan 3").wait_for()
    wait_for_share(live, "< 20")

    otto.confirm("Kill: static weights for all…", says="static weights")
    page.get_by_text("Everybody is served the static weights").wait_for()
    otto.confirm("Release…", says="released")
    page.get_by_text("Plan 5").wait_for()
    assert [one.operation for one in stage.registry.history()] == ["release", "kill", "rollback", "ramp", "activate"]

    page = root.go("/audit")
    page.get_by_role("button", name="Verify now").click()
    page.get_by_text("Everything is as it was written").wait_for()
    assert stage.registry.verify() == []
    expected = re.compile("status of (403|401)")  # the browser itself notes answers that are errors
    assert [line for visit in (bert, otto, root, live) for line in visit.complaints if not expected.search(line)] == []
    for visit in (bert, otto, root, live):
        visit.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_has_a_serious_fault_of_accessibility(stage: Stage, dark: bool) -> None:
    set_up(stage)
    front = stage.registry.fronts()[0].fingerprint
    stage.registry.approve(1, by="bert")
    stage.registry.activate(1, share=0.25, control=0.25, explore=0.02, by="otto")
    visit, axe = stage.open(dark=dark), Axe()
    found: dict[str, list[tuple[str, list[str]]]] = {}
    pages = ["/login", "/", f"/fronts/{front}", "/fronts", "/policies", "/policies/1", "/history?before=0&after=1", "/audit", "/live"]
    for path in [*pages, "/account", "/people", "/nowhere"]:
        if path == "/":
            visit.sign_in("root")
        visit.go(path)
        if path.startswith("/fronts/"):
            visit.page.locator("#front svg").wait_for()
        for fault in axe.run(visit.page).response["violations"]:
            if fault["impact"] in {"serious", "critical"}:
                found.setdefault(path, []).append((fault["id"], [node["html"][:120] for node in fault["nodes"]]))
    assert found == {}
    visit.close()
