"""A visitor's browser for the tests: Debian's Chromium before the real site."""

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from playwright.sync_api import Locator, Page, expect, sync_playwright

from testkit.processes import Site

JQUERY = Path(finders.find("admin/js/vendor/jquery/jquery.min.js")).read_text()
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds until a page counts as stuck: the machine may be slow, and busy with other things too.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The embedded site."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.host = site.web()
    site.the_worker = site.worker()
    yield site
    site.kill_all()


@pytest.fixture(scope="module")
def browser(chromium):
    """Chromium, running."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


def cdn_answers(route):
    headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
    route.fulfill(body=JQUERY, headers=headers)


@pytest.fixture
def scriptless(browser):
    """A visitor's browser that runs no scripts."""
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def visitor(browser):
    """A visitor's browser, new and without cookies.

    It passes over the Content-Security-Policy, which forbids to evaluate a test's conditions in the page: the policy is
    tested in test_policy.py.
    """
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(PATIENCE)
    context.route("https://code.jquery.com/**", cdn_answers)
    yield context
    context.close()


@pytest.fixture
def page(visitor, site) -> Page:
    """The home page."""
    return open_home(visitor, site)


def open_home(visitor, site) -> Page:
    """Open the home page, and wait until it is live."""
    return open_page(visitor, site, "/")


def open_page(visitor, site, path) -> Page:
    """Open a page, and wait until it is live; what goes wrong in its scripts is in `page.problems`."""
    page = visitor.new_page()
    page.problems = []
    page.on("pageerror", lambda problem: page.problems.append(problem))
    page.goto(f"http://{site.host}{path}", wait_until="commit")
    expect(page.locator("#link")).to_have_text("live")
    return page


def press_start(page, below):
    """Start to count primes."""
    page.fill("[name=below]", str(below))
    page.click("#button_startAction")


def percent(page) -> int:
    """Return what the newest bar says."""
    return int(page.inner_text("#div_progress_val").rstrip("%") or 0)


def wait_for_percent(page, at_least):
    """Wait until the newest bar has come so far."""
    page.wait_for_function(f"parseInt(document.querySelector('#div_progress_val').textContent) >= {at_least}")


def newest(page) -> Locator:
    """Return the bar of the newest job; above it are those that run, if it does not."""
    return page.locator("#jobs .job", has=page.locator("#progress_bar"))


#: What a bar says of a job that waits; its place and the lack of workers may be told too.
WAITING = re.compile(r"^Waiting for a worker\b")


def expect_end(page, words):
    """Wait until the newest bar has these words."""
    expect(newest(page).locator(".words")).to_have_text(words)
