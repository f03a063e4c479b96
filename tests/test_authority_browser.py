"""What a page does when its session ends, or becomes another one, as the visitor has it."""

import re
import sqlite3

import pytest
from playwright.sync_api import expect

from testkit.browser import expect_end, open_home, open_page, percent, press_start, wait_for_percent
from tests.test_browser_truth import LONG, cancel_all, expect_live

PASSWORD = "secret-Fjord-17"
UNUSABLE = "This browser's session cannot be used: allow cookies for this site, then reload."


def in_database(site, statement, *values):
    """Execute a statement, and return its rows."""
    with sqlite3.connect(f"{site.environment['DATA_DIR']}/db.sqlite3", timeout=20) as database:
        rows = database.execute(statement, values).fetchall()
    database.close()
    return rows


@pytest.fixture
def user(site, request):
    """Somebody with an account, of the test's own name."""
    name = re.sub(r"\W", "", request.node.name)[:30]
    code = f"from HomeApp.models import User; User.objects.create_user({name!r}, '{name}@example.org', {PASSWORD!r})"
    site.manage("shell", "-v", "0", "-c", code)
    return name


def log_in(page, site, name):
    page.goto(f"http://{site.host}/login/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name=f"Log out {name}")).to_be_visible()


def mark(page):
    """Mark a page: a page that is loaded again has no mark."""
    page.evaluate("window.marked = true")


def marked(page) -> bool:
    return page.evaluate("window.marked === true")


def wait_for_reload(page):
    page.wait_for_function("window.marked !== true")


def owners(site, below):
    """Return the owners of the jobs that count primes below a number."""
    return in_database(site, "SELECT owner FROM livejobs_job WHERE title = ?", f"Primes below {below}")


@pytest.fixture
def no_cookies(visitor, site):
    """The visitor's browser keeps no cookies: they are gone before a socket opens. One entry for each page load."""
    loads = []

    def clear(route):
        loads.append(route)
        visitor.clear_cookies()
        route.continue_()

    visitor.route("**/socket.js", clear)
    return loads


def test_a_log_in_in_another_tab_makes_the_page_the_users_without_loading_it_again(page, visitor, site, user):
    press_start(page, LONG)
    wait_for_percent(page, 1)
    mark(page)
    tab = visitor.new_page()
    log_in(tab, site, user)
    press_start(page, 1001)  # at once, in the old tab
    expect(page.locator("#jobs .job h2")).to_have_text([f"Primes below {LONG}", "Primes below 1001"])
    expect_live(page)
    first = page.locator(".job", has=page.get_by_role("heading", name=f"Primes below {LONG}")).locator(".percent")
    before = int(first.inner_text().rstrip("%"))
    page.wait_for_function(
        "([percent, before]) => parseInt(percent.textContent) > before", arg=[first.element_handle(), before]
    )
    [[user_id]] = in_database(site, "SELECT id FROM HomeApp_user WHERE username = ?", user)
    assert owners(site, 1001) == [(f"user-{user_id}",)]
    assert marked(page)
    cancel_all(page)
    assert page.problems == []


def test_a_log_out_in_another_tab_loads_the_page_again_as_a_visitors(visitor, site, user):
    tab = visitor.new_page()
    log_in(tab, site, user)
    page = open_home(visitor, site)
    mark(page)
    tab.get_by_role("button", name=f"Log out {user}").click()
    wait_for_reload(page)
    expect_live(page)
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    expect(page.locator(".problem:visible")).to_have_count(0)
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    page.reload()
    expect_end(page, "Done. The answer is 168.")
    assert page.problems == []


def test_a_page_that_was_loaded_again_for_its_session_is_loaded_again_for_its_owner_too(visitor, site):
    """Two tabs were loaded again at the same moment, and the browser has kept the session of the other one."""
    page = open_home(visitor, site)
    page.evaluate("sessionStorage.setItem('celeryprogressbar.reloaded', 'answered')")
    mark(page)
    visitor.clear_cookies()
    open_home(visitor, site)
    visitor.set_offline(True)
    visitor.set_offline(False)
    wait_for_reload(page)
    expect_live(page)
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")


def test_a_deactivated_users_page_is_loaded_again_as_a_visitors(visitor, site, user):
    log_in(visitor.new_page(), site, user)
    page = open_home(visitor, site)
    mark(page)
    in_database(site, "UPDATE HomeApp_user SET is_active = 0 WHERE username = ?", user)
    wait_for_reload(page)
    expect_live(page)
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def test_what_was_pressed_when_the_session_had_ended_is_not_done_and_the_page_says_so(page, site):
    mark(page)
    in_database(site, "DELETE FROM django_session")
    press_start(page, 1002)
    wait_for_reload(page)
    expect_live(page)
    expect(page.get_by_role("alert").first).to_contain_text("Your last request may not have been carried out.")
    assert owners(site, 1002) == []
    page.reload()
    expect_live(page)
    expect(page.get_by_role("alert").first).to_be_hidden()


def test_a_page_whose_session_is_never_accepted_is_loaded_again_once_and_says_so(visitor, site, no_cookies):
    page = visitor.new_page()
    said = []
    page.expose_function("say", lambda text: said.append(text))
    page.add_init_script(
        """
        addEventListener("DOMContentLoaded", () => {
          const link = document.querySelector("#link");
          new MutationObserver(() => window.say(link.textContent)).observe(link, { childList: true });
        });
        """
    )
    page.goto(f"http://{site.host}/", wait_until="commit")
    expect(page.locator("#link")).to_have_text(UNUSABLE)
    with page.expect_event("websocket") as another:  # it goes on trying
        pass
    another.value.wait_for_event("close")
    expect(page.locator("#link")).to_have_text(UNUSABLE)
    assert len(no_cookies) == 2
    assert "live" not in said
    visitor.unroute("**/socket.js")  # the visitor allows cookies
    page.reload()
    expect_live(page)


def test_a_browser_that_keeps_no_cookies_has_a_page_that_works_while_it_is_open(visitor, site, no_cookies):
    visitor.add_init_script("Object.defineProperty(navigator, 'cookieEnabled', { value: false })")
    page = open_home(visitor, site)
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    assert len(no_cookies) == 1


def test_the_session_of_the_one_job_socket_may_change_too(visitor, site, user):
    """The sign-up page follows one job: after a log-in elsewhere, to its end as the user's."""
    page = open_home(visitor, site)
    press_start(page, LONG)
    wait_for_percent(page, 1)
    task_id = page.evaluate("window.jQuery('.job').first().data('job').task_id")
    follower = visitor.new_page()
    follower.goto(f"http://{site.host}/jobs/")
    follower.evaluate(
        """async ([path, taskId]) => {
          window.said = [];
          const { follow } = await import(path);
          follow(taskId, {
            onJob: (job) => window.said.push(job.state),
            onEnd: (found) => window.said.push(found ? "end" : "not found"),
            onLink: (open) => window.said.push(open ? "open" : "closed"),
          });
        }""",
        ["/static/livejobs/task_status.js", task_id],
    )
    follower.wait_for_function("window.said.includes('PROGRESS')")
    log_in(visitor.new_page(), site, user)
    follower.wait_for_function("window.said.lastIndexOf('open') > window.said.indexOf('closed')")
    expect_live(page)
    page.locator(".cancel:visible").click()
    follower.wait_for_function("window.said.includes('end')")
    assert follower.evaluate("window.said.slice(-2)") == ["REVOKED", "end"]
    assert percent(page) > 0


def test_a_job_that_cannot_be_followed_any_more_is_given_up(visitor, site):
    page = open_home(visitor, site)
    in_database(site, "DELETE FROM django_session")
    page.goto(f"http://{site.host}/healthz")  # which gives no session
    page.evaluate(
        """async (path) => {
          const { follow } = await import(path);
          follow("1", { onJob() {}, onLink() {}, onEnd: (found) => { window.found = found; } });
        }""",
        "/static/livejobs/task_status.js",
    )
    page.wait_for_function("window.found === false")


def test_a_frame_that_is_too_long_is_answered_by_the_page_and_not_sent(visitor, site):
    page = open_page(visitor, site, "/search/")
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda text: sent.append(text)))
    page.reload()
    expect_live(page)
    page.evaluate("document.querySelector('[name=query]').removeAttribute('maxlength')")
    page.fill("[name=query]", "é" * 16_400)
    page.click("#search button")
    expect(page.locator("#search .problem")).to_have_text(
        "This is too long: at most 32 KiB can be sent. Shorten it, then press again."
    )
    assert all(len(text) < 100 for text in sent)
    page.fill("[name=query]", "math.sqrt")
    page.click("#search button")
    expect(page.locator("section .words")).to_have_text(re.compile("^Done"))
    assert page.problems == []
