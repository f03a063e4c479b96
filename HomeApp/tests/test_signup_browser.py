"""The sign-up page as a visitor has it."""

from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from HomeApp import welcome_email
from testkit.fault_proxy import FaultProxy
from testkit.mail_server import MailServer
from testkit.processes import Site

# Notes all that the bar says.
LISTEN = """() => {
  window.said = [];
  const words = document.querySelector("#jobs .words");
  new MutationObserver(() => window.said.push(words.textContent)).observe(words, { childList: true });
}"""


@pytest.fixture(scope="module")
def mail_server():
    with MailServer("250 OK") as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory, mail_server):
    site = Site(tmp_path_factory.mktemp("site"), EMAIL_URL=mail_server.url, SIGNUPS_PER_ADDRESS="1000")
    site.host = site.web()
    site.worker()
    yield site
    site.kill_all()


@pytest.fixture
def page(visitor, site) -> Page:
    """The sign-up page, ready."""
    page = visitor.new_page()
    page.problems = []
    page.on("pageerror", lambda problem: page.problems.append(problem))
    page.goto(f"http://{site.host}/signup/", wait_until="commit")
    expect_the_button_back(page)
    page.evaluate(LISTEN)
    yield page
    assert page.problems == []


def fill(page, name, email=None, password="the analytical engine"):
    page.fill("[name=email]", f"{name}@example.org" if email is None else email)
    page.fill("[name=username]", name)
    page.fill("[name=password]", password)


def button(page):
    return page.locator("#signup button")


def expect_the_button_back(page):
    expect(button(page)).to_have_text("Sign up")
    expect(button(page)).to_be_enabled()


def words(page):
    return page.locator("#jobs .job .words").first


def test_a_sign_up_is_followed_to_success(page, mail_server):
    posts = []
    page.route("**/api/users/", lambda route: posts.append(route))
    fill(page, "ada")
    button(page).click()
    expect(button(page)).to_have_text("Processing…")
    expect(button(page)).to_be_disabled()
    posts[0].continue_()
    expect(page.locator(".outcome")).to_contain_text("Success.")
    expect(words(page)).to_have_text("Done.")
    expect_the_button_back(page)
    expect(page.locator("[name=password]")).to_have_value("")
    assert "ada@example.org" in mail_server.asked
    page.goto(page.url.replace("signup", "login"))
    page.fill("[name=username]", "Ada")
    page.fill("[name=password]", "the analytical engine")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out ada").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def test_each_problem_is_told_at_its_field_and_gone_with_the_next_try(page):
    fill(page, "a b", email="nowhere", password="short")
    button(page).click()
    for field, problem in (("email", "valid email"), ("username", "valid username"), ("password", "too short")):
        expect(page.locator(f"#problem_{field}")).to_contain_text(problem)
        expect(page.locator(f"[name={field}]")).to_have_attribute("aria-invalid", "true")
    expect_the_button_back(page)
    expect(page.locator("#jobs")).to_be_hidden()
    fill(page, "grace")
    button(page).click()
    expect(page.locator(".outcome")).to_contain_text("Success.")
    assert page.locator("[aria-invalid]").count() == 0
    expect(page.locator("#problem_email")).to_be_hidden()


def test_a_retry_is_shown_and_then_the_truth(page, mail_server):
    mail_server.answers = ["451 Later", "451 Later", "250 OK"]  # the delay of one may be 0 s, and then it is not drawn
    fill(page, "mary")
    button(page).click()
    expect(page.locator(".outcome")).to_contain_text("Success.")
    expect_the_button_back(page)
    assert any(welcome_email.BUSY in said for said in page.evaluate("window.said"))


def test_a_refused_e_mail_is_told_in_words(page, mail_server):
    mail_server.answers = ["550 No such user here"]
    fill(page, "edith")
    button(page).click()
    expect(words(page)).to_have_text(f"Failed. {welcome_email.REFUSED}")
    expect(page.locator(".outcome")).to_contain_text("the welcome e-mail could not be sent")
    expect_the_button_back(page)
    mail_server.answers = ["250 OK"]


def test_a_site_out_of_reach_is_told_and_nothing_typed_is_lost(page):
    page.route("**/api/users/", lambda route: route.abort())
    fill(page, "joan")
    button(page).click()
    expect(page.get_by_role("alert")).to_contain_text("could not be reached")
    expect_the_button_back(page)
    expect(page.locator("[name=username]")).to_have_value("joan")
    page.unroute("**/api/users/")
    button(page).click()
    expect(page.locator(".outcome")).to_contain_text("Success.")


def test_where_websockets_are_blocked_a_sign_up_is_followed_over_http(visitor, site):
    """It had said "Processing…" for ever."""
    host, _, port = site.host.partition(":")
    with closing(FaultProxy(host, int(port))) as proxy:
        proxy.refuse_sockets()
        page = visitor.new_page()
        page.goto(f"http://{host}:{proxy.port}/signup/", wait_until="commit")
        expect_the_button_back(page)
        fill(page, "hedy")
        button(page).click()
        expect(page.locator(".outcome")).to_contain_text("Success.")
        expect(words(page)).to_have_text("Done.")
