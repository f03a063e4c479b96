"""Jobs with children, from a worker to one bar in a browser."""

import re

import pytest
from playwright.sync_api import expect

from testkit.browser import open_home
from testkit.processes import Site
from tests.test_stages import start


@pytest.fixture(scope="module")
def site_of_parts(tmp_path_factory):
    """The embedded site with kinds of the tests' own."""
    folder = tmp_path_factory.mktemp("parts")
    executions = {"EXECUTIONS": str(folder / "executions")}
    site = Site(folder, DJANGO_SETTINGS_MODULE="testkit.fault_settings", **executions)
    site.host = site.web()
    site.worker(2)
    yield site
    site.kill_all()


def test_a_job_of_many_jobs_has_one_bar(visitor, site_of_parts):
    page = open_home(visitor, site_of_parts)
    start(page, "parts", count=6, seconds=1)
    words = page.locator("#jobs .words")
    expect(words).to_have_text(re.compile(r"^Running\. [1-5] of 6 parts done, [12] running\.$"))
    expect(page.locator("#jobs .percent")).to_have_text(re.compile(r"^[1-9]\d%$"))
    page.reload()
    expect(words).to_have_text("Done. The answer is 24.")
    expect(page.locator("#jobs .job")).to_have_count(1)
    assert page.problems == []


def test_a_cancel_reaches_the_children(visitor, site_of_parts):
    page = open_home(visitor, site_of_parts)
    start(page, "parts", count=4, seconds=60)
    words = page.locator("#jobs .words").first
    expect(words).to_have_text(re.compile(r"^Running\. 0 of 4 parts done, 2 running\.$"))
    page.locator("#jobs .cancel").first.click()
    expect(words).to_have_text(re.compile("^Cancelled"))
    page.reload()  # a form starts one job
    start(page, "steps", count=1, seconds=0)
    expect(page.locator("#jobs .words").first).to_have_text("Done. The answer is 1.")  # the worker is free again
    assert page.problems == []
