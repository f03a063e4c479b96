"""The page as a visitor has it."""

import hashlib
import itertools
import re
import zipfile
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import expect

from testkit.browser import cdn_answers, expect_end, open_home, open_page, percent, press_start, wait_for_percent

# Notes each value that the newest bar takes.
WATCH = """() => {
  window.steps = [];
  const note = () => window.steps.push(document.querySelector("#progress_bar").value);
  new MutationObserver(note).observe(document.querySelector("#progress_bar"), { attributeFilter: ["value"] });
}"""


def cdn_refuses(route):
    route.abort()


def cdn_is_silent(route):
    """Leave the request without any answer."""


def cdn_lies(route):
    route.fulfill(body="window.jQuery = null; window.lied = true", headers={"Access-Control-Allow-Origin": "*"})


def test_start_moves_the_bar_to_the_answer(page):
    page.evaluate(WATCH)
    press_start(page, 2_000_000)
    expect_end(page, "Done. The answer is 148933.")
    steps = [value for value, _ in itertools.groupby(page.evaluate("window.steps"))]
    assert len(steps) >= 10
    assert steps == sorted(steps)
    assert percent(page) == page.locator("#progress_bar").evaluate("bar => bar.value") == 100
    assert page.problems == []


def test_the_bar_goes_on_after_a_reload(page):
    press_start(page, 60_000_000)  # it does not end meanwhile, however slow the reload is
    wait_for_percent(page, 3)
    before = percent(page)
    page.reload()
    wait_for_percent(page, 1)
    assert before <= percent(page) < 100
    wait_for_percent(page, before + 1)
    page.click(".cancel")
    expect_end(page, re.compile("^Cancelled"))


def test_a_second_tab_shows_the_same_bar(page, visitor, site):
    press_start(page, 5_000_000)
    wait_for_percent(page, 10)
    second = open_home(visitor, site)
    wait_for_percent(second, 10)
    for tab in (page, second):
        expect_end(tab, "Done. The answer is 348513.")


def test_a_page_closed_and_opened_again_shows_the_end(page, visitor, site):
    press_start(page, 500_000)
    page.wait_for_selector(".job[class*=P], .job[class*=S]")
    page.close()
    again = open_home(visitor, site)
    expect_end(again, "Done. The answer is 41538.")


def test_each_press_has_its_own_bar_and_the_ids_are_the_newests(page):
    press_start(page, 3_000_000)
    expect(page.locator("#jobs .job h2")).to_have_text(["Primes below 3000000"])
    press_start(page, 1_000_000)
    expect(page.locator("#jobs .job h2")).to_have_text(["Primes below 1000000", "Primes below 3000000"])
    for answer in ("78498", "216816"):
        expect(page.get_by_text(f"Done. The answer is {answer}.")).to_be_visible(timeout=60_000)
    assert page.locator("#progress_bar").count() == page.locator("#div_progress_val").count() == 1
    assert page.locator(".job").first.locator("#progress_bar").count() == 1


def test_another_visitor_sees_nothing_of_it(page, browser, site):
    press_start(page, 1_000_000)
    wait_for_percent(page, 1)
    context = browser.new_context()
    context.route("https://code.jquery.com/**", cdn_answers)
    other = open_home(context, site)
    expect_end(page, "Done. The answer is 78498.")
    expect(other.locator("#jobs .job h2")).to_have_text(["Your bar"])
    context.close()


def test_a_bad_number_is_told_at_the_field_and_starts_nothing(page):
    press_start(page, 12)
    expect(page.get_by_role("alert")).to_contain_text("greater than or equal to 1000")
    expect(page.locator("[name=below]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#jobs .job h2")).to_have_text(["Your bar"])
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("cdn", [cdn_refuses, cdn_is_silent, cdn_lies])
def test_where_the_cdn_fails_the_page_works_the_same(visitor, site, cdn):
    visitor.unroute("https://code.jquery.com/**")
    visitor.route("https://code.jquery.com/**", cdn)
    page = open_home(visitor, site)
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    assert page.evaluate("window.jQuery.fn.jquery") == "3.7.1"
    assert not page.evaluate("window.lied")


def test_without_a_worker_the_bar_says_that_it_waits_and_goes_when_one_comes(page, site):
    site.stop(site.the_worker)
    press_start(page, 1000)
    expect_end(page, "Waiting for a worker. No worker is running.")
    site.the_worker = site.worker()
    expect_end(page, "Done. The answer is 168.")


def test_the_checksums_of_a_zip_file_are_computed_in_parts_with_one_bar(visitor, site, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as writing:
        for number in range(3000):
            writing.writestr(f"{number}.raw", bytes(5_000))
    page = open_home(visitor, site)
    page.set_input_files("#checksums_archive", archive)
    page.click("form[data-kind=checksums] button")
    expect(page.locator("#jobs .words").first).to_have_text(re.compile(r"Compute, 2 of 2\. \d+ of 60 parts done"))
    expect_end(page, "Done. Checksums in the file: 3000.")
    expect(page.locator("#jobs .job h2").first).to_have_text("Checksums of photos.zip")
    with page.expect_download() as downloading:
        page.locator("#jobs .download").first.click()
    assert downloading.value.suggested_filename == "SHA256SUMS"
    digest = hashlib.sha256(bytes(5_000)).hexdigest()
    expected = [f"{digest}  {number}.raw" for number in range(3000)]
    assert Path(downloading.value.path()).read_text().splitlines() == expected
    assert page.problems == []


def test_an_export_has_a_bar_and_a_file(visitor, site, tmp_path):
    page = open_page(visitor, site, "/exports/")
    expect(page.get_by_label("everybody")).to_have_count(0)
    page.click("#button_export")
    expect(page.locator("#jobs .job .words")).to_have_text("Done. Rows in the file: 1.")
    assert percent(page) == 100
    with page.expect_download() as download:
        page.click("#jobs .download")
    assert download.value.suggested_filename.endswith(".xlsx")
    download.value.save_as(tmp_path / "jobs.xlsx")
    heading, row = openpyxl.load_workbook(tmp_path / "jobs.xlsx").active.iter_rows(values_only=True)
    assert (heading[0], row[0]) == ("Job", "Excel export")
    assert page.problems == []


def test_a_deleted_file_is_told_after_a_reload(visitor, site, monkeypatch):
    page = open_page(visitor, site, "/exports/")
    page.click("#button_export")
    expect(page.locator("#jobs .download")).to_be_visible()
    monkeypatch.setitem(site.environment, "FILES_KEEP_HOURS", "0")
    site.manage("delete_old_files")
    page.reload()
    expect_end(page, "Done. The file has been deleted.")
    expect(page.locator("#jobs .download")).to_be_hidden()


def test_the_export_page_shows_exports_alone(page, visitor, site):
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    exports = open_page(visitor, site, "/exports/")
    expect(exports.locator("#jobs .job h2")).to_have_text(["Your export"])
    exports.click("#button_export")
    expect(exports.locator("#jobs .job h2")).to_have_text(["Excel export"])
    expect_end(exports, "Done. Rows in the file: 2.")
    expect(page.locator("#jobs .job h2")).to_have_text(["Excel export", "Primes below 1000"])
    exports.get_by_role("link", name="Jobs").click()
    expect(exports.locator(".job h2")).to_have_text(["Excel export", "Primes below 1000"])
