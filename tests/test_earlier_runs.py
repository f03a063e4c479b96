"""How long a waiting job will run, told in a browser."""

import re

import pytest
from playwright.sync_api import expect

from testkit.browser import newest, open_home, press_start
from testkit.processes import Site


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The embedded site with a worker."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.host = site.web()
    site.the_worker = site.worker()
    yield site
    site.kill_all()


def test_a_waiting_job_says_how_long_it_will_run_once_others_have_run(visitor, quiet):
    page = open_home(visitor, quiet)
    for number in range(1, 6):
        press_start(page, 1000 + number)
        expect(page.locator("#jobs .job .words")).to_have_text(["Done. The answer is 168."] * number)
        expect(page.locator("#jobs .left:visible")).to_have_count(0)
    quiet.stop(quiet.the_worker)
    press_start(page, 1000)
    words, left = newest(page).locator(".words"), newest(page).locator(".left")
    expect(words).to_have_text("Waiting for a worker. No worker is running.")
    expect(left).to_have_text(re.compile(r"^(about \d+|\d+.\d+) s once it runs$"))
    press_start(page, 100_000_000)
    expect(words).to_have_text(re.compile("^Waiting for a worker"))
    expect(left).to_have_text("")
    assert page.problems == []
