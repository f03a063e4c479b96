"""START, the bar, Cancel and Try again for a visitor without scripts, and for one who presses before they have run."""

from playwright.sync_api import expect

from testkit.browser import open_page, percent, press_start


def test_a_job_is_started_and_followed_to_its_end(scriptless, site):
    page = scriptless.new_page()
    page.goto(f"http://{site.host}/")
    press_start(page, 1_000_000)
    expect(page).to_have_url(f"http://{site.host}/jobs/{page.url.split('/')[-2]}/")
    expect(page.locator(".words")).to_have_text("Done. The answer is 78498.")
    expect(page.locator(".percent")).to_have_text("100%")
    assert page.locator("meta[http-equiv=refresh]").count() == 0


def test_a_job_is_cancelled_and_repeated(scriptless, site):
    page = scriptless.new_page()
    page.goto(f"http://{site.host}/")
    press_start(page, 100_000_000)
    expect(page.locator(".words")).to_contain_text("Running")
    page.click('form[action$="/cancel/"] button')
    expect(page.locator(".words")).to_contain_text("Cancelled")
    first = page.url
    page.click('form[action$="/retry/"] button')
    expect(page).not_to_have_url(first)
    page.click('form[action$="/cancel/"] button')
    expect(page.locator(".words")).to_contain_text("Cancelled")


def test_a_wrong_value_is_shown_at_its_field(scriptless, site):
    page = scriptless.new_page()
    page.goto(f"http://{site.host}/")
    press_start(page, 12)
    expect(page.locator("label + input + .problem")).to_have_text("Ensure this value is greater than or equal to 1000.")
    assert page.input_value("[name=below]") == "12"
    page.fill("[name=below]", "1000")
    page.click("form.start button")
    expect(page.locator(".words").first).to_have_text("Done. The answer is 168.")


def test_a_press_before_the_scripts_have_run_starts_one_job(visitor, site):
    """The scripts never come: the page posts its form, as without scripts."""
    visitor.route("**/livejobs/page*.js", lambda route: None)
    page = visitor.new_page()
    page.goto(f"http://{site.host}/", wait_until="commit")
    press_start(page, 2_000_000)
    page.wait_for_url("**/jobs/*/", wait_until="commit")
    visitor.unroute("**/livejobs/page*.js")
    page = open_page(visitor, site, "/")
    expect(page.locator("#jobs .job")).to_have_count(1)
    expect(page.locator("#jobs .words")).to_have_text("Done. The answer is 148933.")


def test_a_jobs_page_is_live(visitor, site):
    home = open_page(visitor, site, "/")
    press_start(home, 20_000_000)
    expect(home.locator("#jobs .words")).to_contain_text("Running")
    task_id = home.locator("#jobs .job").first.get_attribute("data-task-id") or home.evaluate(
        "document.querySelector('#jobs .job') && jQuery('#jobs .job').data('job').task_id"
    )
    page = open_page(visitor, site, f"/jobs/{task_id}/")
    before = percent_of(page)
    page.wait_for_function(f"parseInt(document.querySelector('.percent').textContent) > {before}")
    page.click("text=Cancel")
    expect(page.locator(".words")).to_contain_text("Cancelled")
    assert percent(home) < 100
    assert page.problems == []


def percent_of(page) -> int:
    """Return what the page's only bar says."""
    return int(page.inner_text(".percent").rstrip("%") or 0)
