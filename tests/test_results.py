"""Results, from a worker to a person's eyes: on the live bar, and on pages that the server draws."""

import re

import pytest
from playwright.sync_api import expect

from testkit.browser import PATIENCE, cdn_answers, open_home, open_page
from testkit.processes import Site

MARKUP = "<img src=x onerror=alert(1)>"
MAPPING = [
    ["<b>markup</b>", MARKUP],
    ["at", "2026-07-02 11:00:00 CEST"],
    ["day", "2026-01-02"],
    ["large", "9007199254740993"],
    ["of", "00000000-0000-0000-0000-000000000001"],
    ["price", "1.50"],
    ["took", "0:01:30"],
]
OWN = """document.addEventListener("livejobs:result", (event) => {
  if (event.detail.kind !== "results") return;
  event.preventDefault();
  event.target.append(`In my own way: ${event.detail.table.rows.length} of them.`);
});"""


@pytest.fixture(scope="module")
def resulting(tmp_path_factory):
    """The embedded site with kinds of the tests' own."""
    folder = tmp_path_factory.mktemp("results")
    site = Site(folder, DJANGO_SETTINGS_MODULE="testkit.fault_settings", EXECUTIONS=str(folder / "executions"))
    site.host = site.web()
    site.worker(1)
    yield site
    site.kill_all()


@pytest.fixture
def berliner(browser):
    """A visitor's browser in another time zone than the site's."""
    context = browser.new_context(timezone_id="Europe/Berlin")
    context.set_default_timeout(PATIENCE)
    context.route("https://code.jquery.com/**", cdn_answers)
    yield context
    context.close()


def start(page, kind, **params):
    """Start a job as a form of the page would."""
    page.evaluate(
        """async ([kind, params]) => {
            const body = new FormData(document.querySelector("form.start"));
            body.set("livejobs_ref", crypto.randomUUID());
            for (const [name, value] of Object.entries(params)) body.set(name, value);
            await fetch(`/start/${kind}/`, { method: "POST", body });
        }""",
        [kind, params],
    )


def cells(place):
    """Return the texts of a table's rows."""
    return place.locator("tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    )


def address_of_newest(page):
    """Return the address of the newest job's page."""
    return page.evaluate(
        "fetch('/api/jobs/').then((all) => all.json()).then(({ results }) => `/jobs/${results[0].task_id}/`)"
    )


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("large", "Done. The answer is 9007199254740993."),
        ("moment", "Done. The answer is 2026-07-02 11:00:00 CEST."),
        ("bytes", "Done. The answer is 12 bytes."),
        ("object as summary", re.compile(r"^Failed.* the \"summary\" of its result is not text\. Let the task")),
    ],
)
def test_one_value_is_told_in_a_sentence(berliner, resulting, which, words):
    page = open_home(berliner, resulting)
    start(page, "results", which=which)
    expect(page.locator("#jobs .words").first).to_have_text(words)
    expect(page.locator("#jobs .result").first).to_be_empty()
    assert page.problems == []


def test_an_object_is_a_table_on_the_bar_and_on_the_page_of_its_job(berliner, resulting):
    page = open_home(berliner, resulting)
    start(page, "results", which="mapping")
    expect(page.locator("#jobs .words").first).to_have_text("Done.")
    live = page.locator("#jobs .result").first
    expect(live.locator("tr")).to_have_count(len(MAPPING))
    assert cells(live) == MAPPING
    drawn = open_page(berliner, resulting, address_of_newest(page))
    expect(drawn.locator(".words")).to_have_text("Done.")
    expect(drawn.locator(".result time")).to_have_text("2026-07-02 11:00:00 CEST")
    assert cells(drawn.locator(".result")) == MAPPING
    assert page.locator(".result img, .result b").count() == drawn.locator(".result img, .result b").count() == 0
    assert page.problems == drawn.problems == []


def test_without_scripts_the_table_is_the_same_in_the_time_zone_of_the_site(berliner, browser, resulting):
    page = open_home(berliner, resulting)
    start(page, "results", which="mapping")
    expect(page.locator("#jobs .words").first).to_have_text("Done.")
    scriptless = browser.new_context(java_script_enabled=False, storage_state=berliner.storage_state()).new_page()
    scriptless.goto(f"http://{resulting.host}{address_of_newest(page)}")
    rows = [
        [cell.inner_text() for cell in row.locator("td").all()] for row in scriptless.locator(".result tbody tr").all()
    ]
    assert rows == [["at", "2026-07-02 09:00:00 UTC"] if row[0] == "at" else row for row in MAPPING]
    scriptless.context.close()


def test_a_long_list_is_a_table_that_says_what_it_leaves_out(berliner, resulting):
    page = open_home(berliner, resulting)
    start(page, "results", which="many")
    result = page.locator("#jobs .result").first
    expect(result.locator("th")).to_have_text(["name", "size"])
    assert cells(result) == [[f"<b>{number}</b>", str(number)] for number in range(20)]
    expect(result.locator(".more")).to_have_text("and 980 more")
    start(page, "results", which="bytes")
    expect(page.locator("#jobs .words").first).to_have_text("Done. The answer is 12 bytes.")
    expect(result).to_be_empty()
    expect(page.locator("#jobs .result").nth(1).locator("tbody tr")).to_have_count(20)


def test_a_script_of_the_page_shows_a_result_in_its_own_way(berliner, resulting):
    page = open_home(berliner, resulting)
    page.evaluate(OWN)
    start(page, "results", which="many")
    expect(page.locator("#jobs .result").first).to_have_text("In my own way: 20 of them.")


def test_what_a_template_of_the_project_has_drawn_stays_when_the_page_goes_live(berliner, resulting):
    page = open_home(berliner, resulting)
    start(page, "several_files")
    expect(page.locator("#jobs .words").first).to_have_text("Done.")
    drawn = open_page(berliner, resulting, address_of_newest(page))
    expect(drawn.get_by_role("link", name="Download south.csv")).to_be_visible()
    words = "Rows in the project's own way: 2, at 2026-07-02 11:00:00 CEST."
    expect(drawn.locator(".result")).to_have_text(words)


def test_each_of_several_files_is_downloaded(berliner, resulting):
    page = open_home(berliner, resulting)
    start(page, "several_files")
    links = page.locator("#jobs .job").first.locator(".download")
    expect(links).to_have_text(["Download north.csv", "Download south.csv"])
    expect(links.nth(1)).to_have_accessible_name("Download south.csv: Several files")
    for link, name in zip(links.all(), ("north.csv", "south.csv"), strict=True):
        with page.expect_download() as download:
            link.click()
        assert download.value.suggested_filename == name
        assert download.value.path().read_text() == f"of {name}"
    start(page, "results", which="bytes")
    expect(page.locator("#jobs .job").first.locator("h2")).not_to_have_text("Several files")
    expect(links).to_have_count(0)  # those of the job that is the first one now
    assert page.problems == []
