"""The truth, whatever breaks, as the page shows it."""

import os
import re
import signal
import sqlite3

import pytest
from playwright.sync_api import expect

from testkit.browser import WAITING, expect_end, open_home, open_page, percent, press_start, wait_for_percent
from testkit.fault_proxy import FaultProxy
from testkit.processes import Site

#: Many seconds of work, and about 2 s of it with its answer.
LONG, SHORT, ANSWER = 60_000_000, 3_000_000, "Done. The answer is 216816."


@pytest.fixture(scope="module")
def site_without_worker(tmp_path_factory):
    """The embedded site, whose jobs wait."""
    site = Site(tmp_path_factory.mktemp("waiting"))
    site.host = site.web()
    yield site
    site.kill_all()


@pytest.fixture
def proxy(site):
    """A line to the site that can be broken."""
    host, _, port = site.host.partition(":")
    proxy = FaultProxy(host, int(port))
    proxy.host = f"{host}:{proxy.port}"
    yield proxy
    proxy.close()


@pytest.fixture
def web_killed(site):
    """Kills the web process, and starts it again on the same port."""

    class Web:
        def kill(self):
            web = next(process for process in site.processes if "runserver" in process.args)
            site.stop(web, signal.SIGKILL)

        def start(self):
            site.web(int(site.host.partition(":")[2]))

    return Web()


def words_of(page, title):
    return page.locator(".job", has=page.get_by_role("heading", name=title, exact=True)).locator(".words")


def cancel_all(page):
    for button in page.locator(".cancel:visible:enabled").all():
        button.click()
    expect(page.locator(".cancel:visible")).to_have_count(0)


def expect_live(page):
    expect(page.locator("#link")).to_have_text("live")


def change_row(site, page, **fields):
    """Change the row of the page's newest job."""
    task_id = page.evaluate("window.jQuery('.job').first().data('job').task_id")
    with sqlite3.connect(f"{site.environment['DATA_DIR']}/db.sqlite3", timeout=20) as database:
        changes = ", ".join(f"{name} = :{name}" for name in fields)
        database.execute(
            f"UPDATE livejobs_job SET {changes} WHERE id = :id", {**fields, "id": task_id.replace("-", "")}
        )
    database.close()


def let_it_run_silently(site, page, **fields):
    """Make a waiting job's row that of a job which a worker has begun, and which was last heard of long ago."""
    long_ago = "2026-01-01 00:00:00"
    change_row(site, page, state="PROGRESS", attempt=1, seq=10**9, started_at=long_ago, reported_at=long_ago, **fields)
    page.reload()
    expect_live(page)


# Cancel and Try again


def test_cancel_says_so_and_keeps_the_bar_where_it_came_to(page):
    page.evaluate(
        """() => {
          window.said = [];
          const words = document.querySelector("#jobs .words");
          new MutationObserver(() => window.said.push(words.textContent)).observe(words, { childList: true });
        }"""
    )
    press_start(page, LONG)
    wait_for_percent(page, 1)
    page.click(".cancel")
    expect_end(page, re.compile(r"^Cancelled at [1-9]\d?%\.$"))
    said = page.evaluate("window.said")
    assert said.index("Cancelling…") < said.index(f"Cancelled at {percent(page)}%.")
    assert page.evaluate("Math.floor(document.querySelector('#progress_bar').value)") == percent(page)
    expect(page.locator(".cancel")).to_be_hidden()
    expect(page.locator(".retry")).to_be_visible()
    assert page.problems == []


def test_try_again_is_a_new_job_with_the_same_parameters_and_a_bar_of_its_own(page):
    press_start(page, LONG)
    wait_for_percent(page, 1)
    page.click(".cancel")
    expect_end(page, re.compile("^Cancelled"))
    page.click(".retry")
    expect(page.locator("#jobs .job h2")).to_have_text([f"Primes below {LONG}"] * 2)
    expect(page.locator("#jobs .job").nth(1).locator(".words")).to_have_text(re.compile("^Cancelled"))
    wait_for_percent(page, 1)
    cancel_all(page)
    assert page.problems == []


def test_a_double_click_presses_once(visitor, site_without_worker):
    page = open_home(visitor, site_without_worker)
    press_start(page, 1000)
    expect_end(page, WAITING)
    page.locator(".cancel").first.dblclick(delay=50)
    expect_end(page, "Cancelled.")
    page.locator(".retry").first.dblclick(delay=50)
    expect(page.locator("#jobs .words")).to_have_text([WAITING, "Cancelled."])
    page.reload()
    expect_live(page)
    expect(page.locator("#jobs .words")).to_have_text([WAITING, "Cancelled."])


def test_a_job_that_waits_is_cancelled_at_once(visitor, site_without_worker):
    page = open_home(visitor, site_without_worker)
    press_start(page, 1000)
    expect_end(page, WAITING)
    page.click(".cancel")
    expect_end(page, "Cancelled.")
    expect(page.locator(".retry")).to_be_visible()


def test_an_error_about_one_job_is_told_at_that_job(visitor, site_without_worker):
    page = open_home(visitor, site_without_worker)
    press_start(page, 1000)
    expect_end(page, WAITING)
    # It has ended, and the news of it has not come through.
    change_row(site_without_worker, page, state="FAILURE", error="In vain.", finished_at="2026-01-01 00:00:00")
    page.click(".cancel")
    expect(page.locator(".job .problem")).to_contain_text("this job has ended already")
    expect(page.locator("form[data-kind=count_primes] .problem")).to_be_hidden()
    page.reload()
    expect_end(page, "Failed. In vain.")
    expect(page.locator(".job .problem")).to_be_hidden()


@pytest.mark.parametrize(("path", "button"), [("/search/", "#search button"), ("/exports/", "#button_export")])
def test_other_pages_have_the_same_buttons(visitor, site_without_worker, path, button):
    page = open_page(visitor, site_without_worker, path)
    if path == "/search/":
        page.fill("[name=query]", "math.sqrt")
    page.click(button)
    expect(page.locator("section .words")).to_have_text(WAITING)
    page.click("section .cancel")
    expect(page.locator("section .words")).to_have_text("Cancelled.")
    expect(page.locator("section .cancel")).to_be_hidden()
    page.click("section .retry")
    expect(page.locator("section .words")).to_have_text([WAITING, "Cancelled."])
    titles = page.locator("section h2").all_inner_texts()
    assert titles[0] == titles[1]
    assert page.problems == []


# The web process is killed


def test_the_bar_goes_on_when_the_web_process_was_killed(page, web_killed):
    press_start(page, LONG)
    wait_for_percent(page, 1)
    before = percent(page)
    web_killed.kill()
    expect(page.locator("#link")).to_have_text("reconnecting…")
    web_killed.start()
    expect_live(page)
    wait_for_percent(page, before + 1)
    cancel_all(page)


def test_what_was_pressed_while_it_was_down_is_done_once_afterwards(page, web_killed):
    press_start(page, LONG)
    wait_for_percent(page, 1)
    web_killed.kill()
    expect(page.locator("#link")).to_have_text("reconnecting…")
    page.click(".cancel")
    expect_end(page, "Cancelling…")
    press_start(page, SHORT)
    web_killed.start()
    expect_live(page)
    expect(words_of(page, f"Primes below {LONG}")).to_have_text(re.compile("^Cancelled at"))
    expect(words_of(page, f"Primes below {SHORT}")).to_have_text(ANSWER)
    page.reload()
    expect_live(page)
    expect(page.locator("#jobs .job h2")).to_have_text([f"Primes below {SHORT}", f"Primes below {LONG}"])
    expect(page.locator(".problem:visible")).to_have_count(0)


# The line is broken


def test_a_line_that_is_silently_cut_is_noticed_and_replaced(visitor, proxy):
    visitor.clock.install()  # so that nobody has to wait for the ping
    page = open_home(visitor, proxy)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    proxy.half_open()
    before = percent(page)
    expect(page.locator("#link")).to_have_text("live")
    for _ in range(3):  # a ping is sent, and not answered; the first may meet news that was still on its way
        page.clock.fast_forward(20_000)
    expect(page.locator("#link")).to_have_text("reconnecting…")
    proxy.carry()
    expect_live(page)
    wait_for_percent(page, before + 1)
    cancel_all(page)
    assert page.problems == []


def test_where_websockets_are_blocked_the_page_asks_over_http(visitor, proxy):
    proxy.refuse_sockets()
    page = visitor.new_page()
    page.goto(f"http://{proxy.host}/", wait_until="commit")
    expect(page.locator("#link")).to_have_text("WebSockets are blocked here: asking every 2 s")
    press_start(page, LONG)
    wait_for_percent(page, 1)
    page.click(".cancel")
    expect_end(page, re.compile("^Cancelled at"))
    page.click(".retry")
    expect(page.locator("#jobs .job h2")).to_have_text([f"Primes below {LONG}"] * 2)
    wait_for_percent(page, 1)
    before = percent(page)
    proxy.carry()
    page.evaluate("dispatchEvent(new Event('online'))")  # or wait for the next try
    expect_live(page)
    wait_for_percent(page, before + 1)
    cancel_all(page)


def test_a_page_that_comes_to_a_network_where_they_are_blocked_asks_over_http_too(visitor, proxy):
    page = open_home(visitor, proxy)
    proxy.reset()
    expect(page.locator("#link")).to_have_text("reconnecting…")
    proxy.refuse_sockets()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("#link")).to_have_text("WebSockets are blocked here: asking every 2 s")


def test_a_page_too_many_is_not_tried_again_at_once(visitor, site):
    visitor.clock.install()
    page = visitor.new_page()
    page.add_init_script(
        """
        window.tries = 0;
        window.WebSocket = class {
          constructor() {
            window.tries += 1;
            queueMicrotask(() => { this.onopen(); this.onclose({ code: 4429 }); });
          }
          send() {}
          close() {}
        };
        """
    )
    page.goto(f"http://{site.host}/")
    expect(page.locator("#link")).to_have_text("reconnecting…")
    page.clock.run_for(2000)
    assert page.evaluate("window.tries") == 1
    page.clock.run_for(3000)
    assert page.evaluate("window.tries") == 2


def test_what_was_pressed_while_nothing_could_be_reached_is_said_again_over_http(visitor, proxy):
    proxy.refuse_sockets()
    page = visitor.new_page()
    page.goto(f"http://{proxy.host}/", wait_until="commit")
    expect(page.locator("#link")).to_have_text("WebSockets are blocked here: asking every 2 s")
    proxy.reset()
    press_start(page, 1000)
    expect(page.locator("#link")).to_have_text("reconnecting…")
    proxy.refuse_sockets()
    expect_end(page, "Done. The answer is 168.")
    expect(page.locator("#jobs .job")).to_have_count(1)


# Silence


def test_silence_is_told_and_the_job_still_runs(visitor, site_without_worker):
    page = open_home(visitor, site_without_worker)
    press_start(page, 1000)
    expect_end(page, WAITING)
    expect(page.locator(".silence")).to_be_hidden()
    let_it_run_silently(site_without_worker, page, current=30, total=100)
    expect(page.locator(".silence")).to_have_text(re.compile(r"^No news for \d+ min\.$"))
    expect_end(page, "Running.")
    assert percent(page) == 30
    expect(page.locator(".cancel")).to_be_enabled()


def test_a_job_that_falls_silent_while_it_is_watched_says_so(visitor, site):
    visitor.clock.install()
    page = open_home(visitor, site)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    os.killpg(site.the_worker.pid, signal.SIGSTOP)
    page.clock.fast_forward(31_000)
    expect(page.locator(".silence")).to_have_text(re.compile(r"^No news for \d+ s\.$"))
    expect_end(page, "Running.")
    os.killpg(site.the_worker.pid, signal.SIGCONT)
    page.reload()  # its clock is the server's again
    expect_live(page)
    wait_for_percent(page, 1)
    expect(page.locator(".silence")).to_be_hidden()
    cancel_all(page)


def test_an_unknown_percentage_is_drawn_as_such(visitor, site_without_worker):
    page = open_home(visitor, site_without_worker)
    press_start(page, 1000)
    expect_end(page, WAITING)
    expect(page.locator("#progress_bar")).to_have_attribute("value", "0")
    let_it_run_silently(site_without_worker, page)
    expect_end(page, "Running.")
    expect(page.locator("#progress_bar")).not_to_have_attribute("value", re.compile(""))
    expect(page.locator("#div_progress_val")).to_have_text("")


def test_what_was_shown_of_an_attempt_stays_when_the_row_knows_less(visitor, site_without_worker):
    """A relay that was killed has told percentages of its last second that it had not saved."""
    page = open_home(visitor, site_without_worker)
    press_start(page, 1000)
    expect_end(page, WAITING)
    let_it_run_silently(site_without_worker, page, current=30, total=100)
    expect_end(page, "Running.")
    lost = {"state": "RETRY", "error": "The worker was lost."}
    change_row(site_without_worker, page, seq=10**9 + 1, current=10, **lost)
    expect_end(page, re.compile(r"^The worker was lost\. The job will begin again\."))
    assert percent(page) == 30
    change_row(site_without_worker, page, seq=2 * 10**9, attempt=2, state="STARTED", current=None, total=None)
    expect_end(page, re.compile("^Running, attempt 2"))
    expect(page.locator("#div_progress_val")).to_have_text("")


# A deleted job


def delete_in_a_shell(site):
    code = "from livejobs.models import Job; Job.objects.order_by('-created_at')[:1].get().delete()"
    site.manage("shell", "-c", code)


@pytest.mark.parametrize("blocked", [False, True], ids=["over the socket", "over HTTP"])
def test_the_bar_of_a_deleted_job_disappears(visitor, site_without_worker, blocked):
    if blocked:
        page = visitor.new_page()
        page.add_init_script(
            "window.WebSocket = class { constructor() { setTimeout(() => this.onclose({})) } close() {} }"
        )
        page.goto(f"http://{site_without_worker.host}/")
        expect(page.locator("#link")).to_have_text("WebSockets are blocked here: asking every 2 s")
    else:
        page = open_home(visitor, site_without_worker)
    for below in (2000, 3000):
        press_start(page, below)
        expect(page.get_by_role("heading", name=f"Primes below {below}", exact=True)).to_be_visible()
    delete_in_a_shell(site_without_worker)
    expect(page.get_by_role("heading", name="Primes below 3000")).to_have_count(0)
    expect(page.get_by_role("heading", name="Primes below 2000")).to_be_visible()
    expect(page.locator("#progress_bar")).to_have_count(1)
    delete_in_a_shell(site_without_worker)
    expect(page.get_by_role("heading", name="Your bar")).to_be_visible()
    press_start(page, 4000)
    expect(page.get_by_role("heading", name="Primes below 4000", exact=True)).to_be_visible()
    cancel_all(page)


# A page that comes back


@pytest.mark.parametrize("api", ["/api/", ""], ids=["by the API", "by sockets alone"])
def test_a_page_that_comes_back_learns_of_ends_that_are_not_recent_any_more(visitor, tmp_path, api):
    # Before the page's scripts run, which are modules.
    visitor.add_init_script(
        f"""document.addEventListener("readystatechange", () =>
            document.getElementById("livejobs")?.setAttribute("data-api", "{api}"))"""
    )
    site = Site(tmp_path, JOBS_RECENT="1")
    try:
        site.host = site.web()
        port = int(site.host.partition(":")[2])
        page = open_home(visitor, site)
        press_start(page, 2000)
        expect(page.get_by_role("heading", name="Primes below 2000", exact=True)).to_be_visible()
        site.stop(site.processes[0], signal.SIGKILL)
        end = "from livejobs import jobs; from livejobs.models import Job; one = Job.objects.get(); "
        later = "[jobs.cancel(one.owner, jobs.start(one.owner, 'count_primes', {}).pk) for _ in range(2)]"
        site.manage("shell", "-v", "0", "-c", f"{end}jobs.cancel(one.owner, one.pk); {later}")
        site.web(port)
        expect_live(page)
        expect(words_of(page, "Primes below 2000")).to_have_text("Cancelled.")
    finally:
        site.kill_all()
