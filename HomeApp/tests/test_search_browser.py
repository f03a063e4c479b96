"""The search page as a visitor has it."""

import threading

import pytest
from playwright.sync_api import expect

from HomeApp.search.documentation import SITE
from testkit.browser import cdn_answers, open_home
from testkit.openai_server import BEGUN, GOOD, KEY, completed, deltas, error
from testkit.processes import Site, wait_until


@pytest.fixture(scope="module")
def site_with_key(tmp_path_factory, openai_process):
    """The embedded site, which asks the tests' own OpenAI."""
    site = Site(tmp_path_factory.mktemp("openai"), OPENAI_API_KEY=KEY, OPENAI_BASE_URL=openai_process.url)
    site.host = site.web()
    site.worker()
    yield site
    site.kill_all()


def open_search(visitor, site):
    page = visitor.new_page()
    page.problems = []
    page.on("pageerror", lambda problem: page.problems.append(problem))
    page.goto(f"http://{site.host}/search/", wait_until="commit")
    expect(page.locator("#link")).to_have_text("live")
    page.evaluate("window.untouched = true")  # gone after a reload
    return page


def search(page, query):
    page.fill("[name=query]", query)
    page.click("#search button")


def search_to_the_end(page, query):
    search(page, query)
    expect(newest(page, "h2")).to_have_text(f"Search: {query}")
    expect(newest(page, ".words")).to_contain_text("Done")


def newest(page, part):
    return page.locator("#searches > .job").first.locator(part)


def test_results_come_in_without_a_reload_each_under_its_own_query(visitor, site):
    page = open_search(visitor, site)
    search(page, "temporary directory")
    expect(page.get_by_text("Search started: temporary directory")).to_be_visible()
    expect(newest(page, ".results a").first).to_have_text("tempfile.TemporaryDirectory")
    search(page, "str.join")
    expect(newest(page, ".results a").first).to_have_text("str.join")
    expect(newest(page, ".results a").first).to_have_attribute("href", f"{SITE}stdtypes.html#str.join")
    expect(newest(page, ".content").first).to_contain_text("Concatenate any number of strings.")
    expect(newest(page, ".words")).to_contain_text("from the documentation of Python 3.")
    expect(page.locator("#searches h2")).to_have_text(["Search: str.join", "Search: temporary directory"])
    assert page.evaluate("window.untouched")
    assert page.problems == []


def test_earlier_searches_are_there_after_a_reload_and_none_twice(visitor, site):
    page = open_search(visitor, site)
    search_to_the_end(page, "math.sqrt")
    search_to_the_end(page, "math.cos")
    before = page.locator("#searches").inner_text()
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#searches h2")).to_have_text(["Search: math.cos", "Search: math.sqrt"])
    assert page.locator("#searches").inner_text() == before


def test_a_second_tab_shows_the_search_too_and_the_home_page_its_bar(visitor, site):
    second, home = open_search(visitor, site), open_home(visitor, site)
    page = open_search(visitor, site)
    search(page, "math.sqrt")
    expect(newest(second, ".results a").first).to_have_text("math.sqrt")
    expect(home.locator("#jobs .job h2")).to_have_text(["Search: math.sqrt"])
    expect(home.locator("#jobs .words")).to_contain_text("Python 3.")


def test_the_search_page_shows_searches_only(visitor, site):
    home = open_home(visitor, site)
    home.fill("[name=below]", "1000")
    home.click("#button_startAction")
    expect(home.get_by_text("Done. The answer is 168.")).to_be_visible(timeout=60_000)
    page = open_search(visitor, site)
    search_to_the_end(page, "math.sqrt")
    expect(page.locator("#searches h2")).to_have_text(["Search: math.sqrt"])


def test_another_visitor_sees_nothing_of_it(visitor, browser, site):
    page = open_search(visitor, site)
    search_to_the_end(page, "math.sqrt")
    context = browser.new_context()
    context.route("https://code.jquery.com/**", cdn_answers)
    other = open_search(context, site)
    expect(other.locator("#searches .job")).to_have_count(0)
    context.close()


def test_a_bad_query_is_told_at_the_field_and_starts_nothing(visitor, site):
    page = open_search(visitor, site)
    search(page, "   ")
    expect(page.get_by_role("alert")).to_have_text("query: This field is required.")
    expect(page.locator("[name=query]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#searches .job")).to_have_count(0)


def test_without_scripts_the_page_can_search_too(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://{site.host}/search/")
    search(page, "math.sqrt")
    expect(newest(page, "h2")).to_have_text("Search: math.sqrt")
    wait_until(lambda: page.reload() and newest(page, ".results a").count(), "the results are on the page")
    expect(newest(page, ".results a").first).to_have_text("math.sqrt")
    context.close()


def test_the_answer_is_shown_as_it_streams_in(visitor, site_with_key, openai_server):
    rest = threading.Event()
    openai_server.say([*BEGUN, *deltas("Django 5.2 is a long-"), rest, completed()])
    page = open_search(visitor, site_with_key)
    search(page, "django")
    expect(newest(page, ".answer")).to_have_text("Django 5.2 is a long-")
    expect(newest(page, ".words")).to_have_text("Running. OpenAI is answering.")
    page.reload()
    expect(newest(page, ".answer")).to_have_text("Django 5.2 is a long-")
    rest.set()
    expect(newest(page, ".answer")).to_have_text("Django 5.2 is a long-term support release. [1] It came in April.")
    expect(newest(page, ".words")).to_have_text("Done. 1 result from OpenAI (gpt-5.4-mini).")
    expect(newest(page, ".results a")).to_have_text("Django <b>5.2</b>")
    expect(newest(page, ".results a")).to_have_attribute("href", "https://www.djangoproject.com/")
    assert KEY not in page.content()


def test_a_link_that_leads_elsewhere_than_to_the_web_is_none(visitor, site_with_key, openai_server):
    citation = {"type": "url_citation", "start_index": 0, "end_index": 0, "title": "<img src=x>", "url": "javascript:1"}
    openai_server.say([completed(text="<script>alert(1)</script>", citations=[citation])])
    page = open_search(visitor, site_with_key)
    search(page, "<b>bold</b>")
    expect(newest(page, ".results a")).to_have_text("<img src=x>")
    expect(newest(page, ".answer")).to_have_text("[1]<script>alert(1)</script>")
    expect(newest(page, "h2")).to_have_text("Search: <b>bold</b>")
    assert newest(page, ".results a").get_attribute("href") is None
    assert page.locator("#searches img, #searches script, #searches b").count() == 0


def test_a_failure_is_told_in_words_and_can_be_tried_again(visitor, site_with_key, openai_server):
    openai_server.say(error(401, f"Incorrect API key provided: {KEY}."))
    page = open_search(visitor, site_with_key)
    search(page, "django")
    expect(newest(page, ".words")).to_contain_text("Failed. OpenAI does not accept this site's key.")
    page.reload()
    expect(newest(page, ".words")).to_contain_text("Failed. OpenAI does not accept this site's key.")
    expect(page.locator("#link")).to_have_text("live")
    openai_server.say(GOOD)
    newest(page, ".retry").click()
    expect(newest(page, ".results a")).to_have_count(1)
    expect(newest(page, "h2")).to_have_text("Search: django")
    expect(page.locator("#searches > .FAILURE")).to_have_count(1)
    logs = "".join(path.read_text() for path in site_with_key.folder.glob("*.log"))
    assert KEY not in logs + page.content()
