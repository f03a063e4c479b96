"""The Content-Security-Policy: no page breaks it, and it keeps out what it is to keep out."""

import pytest
from playwright.sync_api import Error, expect

from testkit.browser import cdn_answers, expect_end, open_home, press_start

PAGES = ["/", "/search/", "/exports/", "/jobs/", "/signup/", "/login/", "/admin/", "/api/docs/", "/no/such/page/"]


@pytest.fixture
def strict(browser):
    """A browser that keeps to the policy. What is refused on any page is in `refused`."""
    context = browser.new_context()
    context.route("https://code.jquery.com/**", cdn_answers)
    context.refused = []
    context.on("console", lambda message: "Content Security Policy" in message.text and context.refused.append(message))
    yield context
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_no_page_asks_for_what_the_policy_refuses(strict, site, path):
    page = strict.new_page()
    answer = page.goto(f"http://{site.host}{path}", wait_until="load")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    expect(page.locator("#swagger-ui .title" if "docs" in path else "h1, #site-name").first).to_be_visible()
    assert strict.refused == []


def test_a_job_is_watched_to_its_end_under_the_policy(strict, site):
    page = open_home(strict, site)
    press_start(page, 1000)
    expect_end(page, "Done. The answer is 168.")
    page.locator("#jobs h2 a").click()
    expect(page.locator(".timeline li").last).to_contain_text("Done")
    assert page.problems == strict.refused == []


def test_a_script_that_is_put_into_a_page_does_not_run(strict, site):
    page = open_home(strict, site)
    with pytest.raises(Error, match="Content Security Policy"):
        page.add_script_tag(content="window.intruder = true")
    assert len(strict.refused) == 1
