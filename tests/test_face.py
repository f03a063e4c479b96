"""What a person sees and hears of the page when things go wrong, or in other ways than with the eyes."""

import re
from pathlib import Path

import django_htmx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from testkit.browser import expect_end, newest, open_home, open_page, press_start, wait_for_percent

LONG = 100_000_000
HTMX = Path(django_htmx.__file__).parent / "static" / "django_htmx"


def cancel(page):
    """Cancel the newest job."""
    page.locator("#jobs .cancel:visible").first.click()
    expect_end(page, re.compile("^Cancelled"))


def test_the_loss_of_the_network_is_said_at_once_and_no_job_is_called_silent(visitor, site):
    page = open_home(visitor, site)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    visitor.set_offline(True)
    expect(page.locator("#link")).to_have_text("offline", timeout=3_000)
    expect(page.locator("#jobs .silence")).to_have_text(re.compile(r"^As of .+\.$"))
    visitor.set_offline(False)
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#jobs .silence")).to_be_hidden()
    cancel(page)


def test_a_press_while_the_line_is_away_has_a_card_and_can_be_taken_back(visitor, site):
    page = open_home(visitor, site)
    visitor.set_offline(True)
    expect(page.locator("#link")).to_have_text("offline")
    for below in (1000, 2000):
        press_start(page, below)
    unsent = page.locator("#jobs .unsent")
    expect(unsent.locator(".words")).to_have_text(["Will be sent when the line is back."] * 2)
    unsent.last.get_by_role("button", name="Cancel").click()
    expect(unsent).to_have_count(1)
    visitor.set_offline(False)
    expect_end(page, "Done. The answer is 303.")
    expect(page.locator("#jobs .job")).to_have_count(1)


def test_a_double_click_starts_one_job(visitor, site):
    page = open_home(visitor, site)
    page.fill("[name=below]", "1000")
    page.dblclick("#button_startAction")
    expect_end(page, "Done. The answer is 168.")
    press_start(page, 2000)
    expect_end(page, "Done. The answer is 303.")
    expect(page.locator("#jobs .job")).to_have_count(2)


def test_an_error_names_its_field_by_the_label_and_is_gone_once_it_is_mended(visitor, site):
    page = open_home(visitor, site)
    press_start(page, 12)
    alert, field = page.get_by_role("alert"), page.locator("[name=below]")
    expect(alert).to_have_text("Count the primes below: Ensure this value is greater than or equal to 1000.")
    assert field.get_attribute("aria-describedby") == alert.get_attribute("id")
    field.fill("1000")
    expect(alert).to_be_hidden()
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_a_screen_reader_hears_each_job_by_its_title_and_seldom(visitor, site):
    visitor.add_init_script(
        """window.heard = [];
        addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
          for (const { target } of changes) {
            const live = (target.closest ? target : target.parentElement).closest("[role=status], [role=alert]");
            if (live && live.id !== "link" && live.textContent) window.heard.push(live.textContent);
          }
        }).observe(document.body, { subtree: true, childList: true, characterData: true }));"""
    )
    page = open_home(visitor, site)
    press_start(page, 4_000_000)
    expect_end(page, "Done. The answer is 283146.")
    page.wait_for_function("window.heard.some((text) => text.includes('Done'))")
    heard = page.evaluate("window.heard")
    assert all("Primes below 4000000: " in text for text in heard)
    assert heard[-1].endswith("Primes below 4000000: Done. The answer is 283146.")
    assert len(heard) <= 6
    bar = page.locator("#jobs .job").first
    expect(bar.get_by_role("progressbar")).to_have_accessible_name("Primes below 4000000")


@pytest.mark.parametrize("colours", ["active", "none"])
def test_bars_and_buttons_are_seen_whatever_the_colours_are(visitor, site, colours):
    page = open_home(visitor, site)
    page.emulate_media(forced_colors=colours)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    bar = page.locator("#jobs progress").first
    before = bar.screenshot()
    page.locator("#jobs .cancel").first.click()
    expect_end(page, re.compile("^Cancelled"))
    page.evaluate("document.querySelector('#jobs progress').setAttribute('value', 0)")
    page.wait_for_timeout(300)  # the bar's own transition
    assert bar.screenshot() != before, "how far the job has come is drawn"
    if colours == "active":
        edges = [
            page.locator(one).first.evaluate("element => getComputedStyle(element).borderTopWidth")
            for one in ("progress", "#button_startAction")
        ]
        assert edges == ["1px", "1px"]


def titles(page):
    return page.locator("#jobs .job h2")


def test_what_runs_stands_above_what_has_ended_of_which_three_are_shown(visitor, site):
    page = open_home(visitor, site)
    for below in (1001, 1002, 1003, 1004):
        press_start(page, below)
        expect_end(page, "Done. The answer is 168.")
    expect(page.locator("#jobs .job:visible")).to_have_count(3)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    press_start(page, 1005)
    expect_end(page, "Done. The answer is 168.")
    expect(titles(page)).to_have_text([f"Primes below {below}" for below in (LONG, 1005, 1004, 1003, 1002, 1001)])
    expect(page.locator("#job_counts")).to_have_text("1 running, 5 ended")
    expect(page.locator("#jobs .job:visible")).to_have_count(4)
    page.get_by_role("button", name="Show 2 more that have ended").click()
    expect(page.locator("#jobs .job:visible")).to_have_count(6)
    page.locator("#jobs .cancel:visible").click()
    expect(page.locator("#job_counts")).to_have_text("6 ended")
    assert page.problems == []


def test_nothing_moves_under_the_pointer(visitor, site):
    page = open_home(visitor, site)
    press_start(page, 1001)
    expect_end(page, "Done. The answer is 168.")
    press_start(page, LONG)
    expect(newest(page).locator("h2")).to_have_text(f"Primes below {LONG}")  # the bar of before is at 100 %
    newest(page).locator(".cancel").click()
    expect_end(page, re.compile("^Cancelled"))
    press = page.locator("#button_startAction")
    press.dispatch_event("click")  # the pointer stays on the bar
    expect(titles(page)).to_have_count(3)
    before = page.locator("#jobs .job").nth(1).bounding_box()
    expect_end(page, re.compile("^Running"))
    page.wait_for_timeout(300)
    assert page.locator("#jobs .job").nth(1).bounding_box() == before
    newest(page).locator(".cancel").click()
    expect_end(page, re.compile("^Cancelled"))


def test_nothing_moves_when_the_page_goes_live(visitor, site):
    """Source: Layout Instability API, which sums up how far what was drawn has moved."""
    visitor.add_init_script(
        """window.moved = [];
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries())
            for (const { node } of entry.sources) window.moved.push(`${node?.nodeName} ${node?.id} ${node?.className}`);
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    page = open_home(visitor, site)
    page.wait_for_timeout(300)
    assert page.evaluate("moved") == []


def test_the_tab_says_how_far_the_job_is(visitor, site):
    page = open_home(visitor, site)
    press_start(page, LONG)
    expect(page).to_have_title(re.compile(rf"^\d+% Primes below {LONG} · CeleryProgressbar$"))
    cancel(page)
    expect(page).to_have_title("CeleryProgressbar")


HIDDEN = "Object.defineProperty(document, 'hidden', { configurable: true, get: () => %s })"


def test_the_tab_says_that_a_job_has_ended_until_it_is_looked_at(visitor, site):
    page = open_home(visitor, site)
    press_start(page, 3_000_000)
    expect(page).to_have_title(re.compile(r"^\d+% Primes below"))
    page.evaluate(HIDDEN % "true")
    expect(page).to_have_title("Done: Primes below 3000000 · CeleryProgressbar")
    page.evaluate(f"{HIDDEN % 'false'}; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page).to_have_title("CeleryProgressbar")


NOTIFICATIONS = """
window.shown = [];
window.Notification = class {
  static permission = "default";
  static requestPermission = async () => (this.permission = "%s");
  constructor(title, { body }) { window.shown.push(`${title}: ${body}`); }
};
"""


def test_the_end_is_notified_to_who_has_asked_for_it_after_a_reload_too(visitor, site):
    visitor.add_init_script(NOTIFICATIONS % "granted")
    page = open_home(visitor, site)
    press_start(page, LONG)
    ask = newest(page).get_by_role("button", name=f"Notify me: Primes below {LONG}")
    ask.click()
    expect(ask).to_be_hidden()
    assert page.evaluate("shown") == [f"Primes below {LONG}: You will be told when this job ends."]
    page.reload()
    expect(newest(page).locator(".cancel")).to_be_visible()
    expect(ask).to_be_hidden()
    cancel(page)
    (shown,) = page.evaluate("shown")
    assert re.match(rf"^Primes below {LONG}: Cancelled( at \d+%)?\.$", shown)
    page.reload()
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    assert page.evaluate("shown") == []  # it was not asked for


def test_a_browser_that_shows_no_notifications_says_so(visitor, site):
    visitor.add_init_script(NOTIFICATIONS % "denied")
    page = open_home(visitor, site)
    press_start(page, LONG)
    newest(page).locator(".notify").click()
    expect(newest(page).locator(".problem")).to_contain_text("shows no notifications of this site")
    expect(newest(page).locator(".notify")).to_be_hidden()
    cancel(page)


def test_a_bar_says_how_long_its_job_has_run_and_when_it_ended(visitor, site):
    page = open_home(visitor, site)
    press_start(page, LONG)
    clock = newest(page).locator(".clock")
    expect(clock).to_have_text(re.compile(r"^0:0[1-9]$"))
    cancel(page)
    expect(clock).to_have_text(re.compile(r"^\d+\.\d s, just now$"))


@pytest.mark.parametrize("version", [2, 4])
def test_a_bar_that_htmx_swaps_in_is_live(visitor, site, version):
    page = open_home(visitor, site)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    job = newest(page).get_attribute("task-id")
    visitor.route("**/fragment", lambda route: route.fulfill(body=f"<job-bar task-id={job}></job-bar>"))
    other = open_page(visitor, site, "/search/")
    other.add_script_tag(path=HTMX / f"htmx-{version}.min.js")
    other.evaluate(
        """() => {
          const button = document.createElement("button");
          button.textContent = "Show the job";
          for (const [name, value] of Object.entries({ get: "/fragment", target: "main", swap: "beforeend" }))
            button.setAttribute(`hx-${name}`, value);
          document.querySelector("main").append(button);
          htmx.process(button);
        }"""
    )
    other.get_by_role("button", name="Show the job").click()
    bar = other.locator(f"job-bar[task-id='{job}']")
    expect(bar.locator("h2")).to_have_text(f"Primes below {LONG}")
    expect(bar.locator(".words")).to_have_text("Running.")
    bar.locator(".cancel").click()
    expect(bar.locator(".words")).to_have_text(re.compile("^Cancelled"))
    assert page.problems == other.problems == []


def test_a_bar_that_a_script_adds_is_live(visitor, site):
    """By HTML, and as React does, which sets the attribute of an element that it keeps."""
    page = open_home(visitor, site)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    job = newest(page).get_attribute("task-id")
    other = open_page(visitor, site, "/search/")
    bar = f"<job-bar id=one task-id={job}></job-bar>"
    other.evaluate("bar => document.querySelector('main').insertAdjacentHTML('beforeend', bar)", bar)
    other.evaluate(
        """id => {
          const bar = document.createElement("job-bar");
          bar.id = "other";
          document.querySelector("main").append(bar);
          bar.setAttribute("task-id", id);
        }""",
        job,
    )
    for name in ("#one", "#other"):
        expect(other.locator(f"{name} h2")).to_have_text(f"Primes below {LONG}")
        expect(other.locator(f"{name} .words")).to_have_text("Running.")
    other.locator("#one").evaluate("bar => bar.remove()")
    other.locator("#other .cancel").click()
    expect(other.locator("#other .words")).to_have_text(re.compile("^Cancelled"))
    expect_end(page, re.compile("^Cancelled"))
    assert page.problems == other.problems == []


def test_the_list_of_all_jobs_is_live(visitor, site):
    page = open_home(visitor, site)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    jobs = open_page(visitor, site, "/jobs/?state=running")
    bar = jobs.locator(".job")
    expect(bar.locator("h2")).to_have_text([f"Primes below {LONG}"])
    bar.locator(".cancel").click()
    expect(bar.locator(".words")).to_have_text(re.compile("^Cancelled"))
    bar.locator("h2 a").click()
    expect(jobs.locator("h1")).to_have_text(f"Primes below {LONG}")
    expect(jobs.locator(".timeline li").last).to_contain_text("Cancelled")
    assert jobs.problems == []


def test_every_page_is_accessible_in_both_colour_schemes(visitor, site):
    page = open_home(visitor, site)

    def assert_accessible(what):
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours)
            violations = Axe().run(page).response["violations"]
            found = [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations]
            assert not found, f"{what}, {colours}"

    assert_accessible("home, empty")
    press_start(page, 12)
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible("home, an error")
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    press_start(page, LONG)
    wait_for_percent(page, 1)
    assert_accessible("home, a job runs")
    cancel(page)
    assert_accessible("home, cancelled")
    newest(page).locator("h2 a").click()
    expect(page.locator(".timeline li").last).to_contain_text("Cancelled")
    assert_accessible("the page of a job")
    for path in ("/search/", "/exports/", "/jobs/", "/jobs/?state=none", "/signup/", "/login/", "/no/such/page/"):
        page.goto(f"http://{site.host}{path}")
        assert_accessible(path)
