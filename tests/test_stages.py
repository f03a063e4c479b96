"""Stages, several loops, and the line of waiting jobs, from a worker to a bar in a browser."""

import re

import pytest
from playwright.sync_api import expect

from testkit.browser import open_home
from testkit.processes import Site

START = """([kind, params]) => {
    const body = new FormData(document.querySelector("form.start"));
    for (const [name, value] of Object.entries(params)) body.set(name, value);
    return fetch(`/start/${kind}/`, { method: "POST", body });
}"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The embedded site with kinds of the tests' own."""
    folder = tmp_path_factory.mktemp("staged")
    executions = {"EXECUTIONS": str(folder / "executions")}
    site = Site(folder, DJANGO_SETTINGS_MODULE="testkit.fault_settings", **executions)
    site.host = site.web()
    site.worker(1)
    yield site
    site.kill_all()


def start(page, kind, **params):
    """Start a job as a form of the page would."""
    page.evaluate(START, [kind, params])


def test_a_bar_names_its_stage_and_goes_on_to_the_whole(visitor, staged):
    page = open_home(visitor, staged)
    start(page, "staged", first=10, second=10, seconds=5)
    words, percent = page.locator("#jobs .words"), page.locator("#jobs .percent")
    expect(words).to_have_text(re.compile(r"^Running\. First, 1 of 2: [1-9] of 10\.$"))
    expect(percent).to_have_text(re.compile(r"^[12]?\d%$"))
    expect(words).to_have_text(re.compile(r"^Running\. Second, 2 of 2: [1-9] of 10\.$"))
    expect(percent).to_have_text(re.compile(r"^[3-9]\d%$"))
    page.reload()
    expect(words).to_have_text(re.compile("Second, 2 of 2|Done"))
    expect(words).to_have_text("Done. The answer is 20.")
    expect(percent).to_have_text("100%")
    assert page.problems == []


def test_a_second_loop_is_drawn_as_unknown_with_its_count(visitor, staged):
    page = open_home(visitor, staged)
    start(page, "loops", first=4, second=30, seconds=6)
    bar = page.locator("#jobs progress")
    expect(page.locator("#jobs .words")).to_have_text(re.compile(r"^Running\. Step 2: \d+ of 30\.$"))
    expect(bar).not_to_have_attribute("value", re.compile(".*"))
    expect(page.locator("#jobs .percent")).to_have_text("")
    expect(page.locator("#jobs .words")).to_have_text("Done. The answer is 34.")
    expect(bar).to_have_attribute("value", "100")


def test_jobs_that_wait_say_their_places_in_the_line(visitor, staged):
    page = open_home(visitor, staged)
    for _ in range(3):
        page.reload()  # a form starts one job
        start(page, "steps", count=100, seconds=100)
    words = page.locator("#jobs .words")
    expect(words).to_have_text(
        [re.compile(r"^Running\.$"), "Waiting for a worker, next in line.", "Waiting for a worker, 2nd in line."]
    )
    page.locator("#jobs .cancel").first.click()
    expect(words.last).to_have_text("Waiting for a worker, next in line.")
    for number in (1, 2):  # under the pointer they keep their order
        page.locator("#jobs .cancel").nth(number).click()
    expect(words).to_have_text([re.compile("^Cancelled")] * 3)
    assert page.problems == []
