"""Files, fields of several parts and long texts, from a page to a worker, with scripts and without."""

import re

import pytest
from playwright.sync_api import expect

from testkit.browser import expect_end, open_page
from testkit.processes import Site, wait_until

DONE = "Done. notes.txt: 6 bytes, pixels, {}, {}."


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The embedded site with kinds and pages of the tests' own."""
    site = Site(tmp_path_factory.mktemp("forms"), DJANGO_SETTINGS_MODULE="testkit.form_settings")
    site.host = site.web()
    site.worker(1)
    yield site
    site.kill_all()


def uploads(site) -> list[str]:
    """Return the names of the files that are stored."""
    return sorted(path.name for path in (site.folder / "var" / "files" / "uploads").rglob("*") if path.is_file())


def choose(page, content=b"pixels", name="notes.txt"):
    """Choose a file."""
    page.set_input_files("[name=document]", {"name": name, "mimeType": "text/plain", "buffer": content})


def test_a_file_and_its_fields_arrive_without_scripts(scriptless, site):
    page = scriptless.new_page()
    page.goto(f"http://{site.host}/form/read_document/")
    choose(page, b"")
    page.fill("[name=when_1]", "4 o'clock")
    page.uncheck("[name=careful]")
    page.click("form.start button")
    problems = page.locator("form.start .problem:not(:empty)")
    expect(problems).to_have_text(["The submitted file is empty.", "Enter a valid time."])
    assert page.input_value("[name=when_0]") == "2026-01-02"
    choose(page)
    page.fill("[name=when_1]", "16:05")
    page.click("form.start button")
    expect(page.locator(".words").first).to_have_text(DONE.format("2026-01-02 16:05:00", False))
    assert page.inner_text("h2") == "Read notes.txt"


def test_a_file_and_its_fields_arrive_with_scripts(visitor, site):
    page = open_page(visitor, site, "/form/read_document/")
    choose(page)
    page.fill("[name=when_0]", "2026-05-06")
    page.fill("[name=failing]", "1")
    before = len(uploads(site))
    page.click("form.start button")
    expect_end(page, DONE.format("2026-05-06 03:04:05", True))
    expect(page.locator("#jobs .job")).to_have_count(1)
    assert page.url.endswith("/form/read_document/")
    assert len(uploads(site)) == before + 1
    assert page.problems == []


def test_a_wrong_part_is_told_by_the_label_of_its_field(visitor, site):
    page = open_page(visitor, site, "/form/read_document/")
    choose(page)
    page.fill("[name=when_1]", "4 o'clock")
    page.click("form.start button")
    alert = page.locator("form.start > .problem").last
    expect(alert).to_have_text("When it counts: Enter a valid time.")
    for part in ("when_0", "when_1"):
        assert page.get_attribute(f"[name={part}]", "aria-describedby") == alert.get_attribute("id")
    page.fill("[name=when_1]", "4:00")
    expect(alert).to_have_text("")
    page.click("form.start button")
    expect_end(page, DONE.format("2026-01-02 04:00:00", True))


def test_a_file_that_is_too_large_is_told_before_it_is_sent(visitor, site):
    page = open_page(visitor, site, "/form/read_document/")
    posts = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    choose(page, b"x" * (512 * 1024 + 1))
    alert = page.locator("form.start > .problem").last
    words = "Your document: At most 0.5 MiB can be uploaded. This file is larger."
    expect(alert).to_have_text(words)
    page.click("form.start button")
    expect(alert).to_have_text(words)
    assert posts == []
    choose(page)
    expect(alert).to_have_text("")
    page.click("form.start button")
    expect_end(page, DONE.format("2026-01-02 03:04:05", True))
    assert len(posts) == 1


def test_a_job_is_repeated_with_its_file_after_the_first_one_was_deleted(visitor, site):
    page = open_page(visitor, site, "/form/read_document/")
    choose(page, name="never.txt")
    page.fill("[name=failing]", "9")
    page.click("form.start button")
    words = re.compile("never.txt is never read to its end")
    expect_end(page, words)
    page.locator("#jobs .retry").first.click()
    expect(page.locator("#jobs .words")).to_have_text([words, words])
    assert len([name for name in uploads(site) if name.endswith("never.txt")]) == 2
    first = "Job.objects.filter(title='Read never.txt').order_by('created_at').first()"
    site.manage("shell", "-v", "0", "-c", f"from livejobs.models import Job; {first}.delete()")
    expect(page.locator("#jobs .job")).to_have_count(1)
    page.locator("#jobs .retry").first.click()
    expect(page.locator("#jobs .words")).to_have_text([words, words])
    site.manage("shell", "-v", "0", "-c", "from livejobs.models import Job; Job.objects.all().delete()")
    wait_until(lambda: uploads(site) == [], "all files are deleted")


def test_an_upload_while_the_line_is_away_waits_for_it_and_is_sent_once(visitor, site):
    page = open_page(visitor, site, "/form/read_document/")
    choose(page)
    visitor.set_offline(True)
    expect(page.locator("#link")).to_have_text("offline")
    page.click("form.start button")
    unsent = page.locator("#jobs .unsent")
    expect(unsent.locator(".words")).to_have_text("Will be sent when the line is back.")
    page.click("form.start button")
    expect(unsent).to_have_count(2)
    unsent.first.get_by_role("button", name="Cancel").click()
    visitor.set_offline(False)
    expect_end(page, DONE.format("2026-01-02 03:04:05", True))
    expect(page.locator("#jobs .job")).to_have_count(1)


def test_an_upload_goes_where_sockets_are_blocked(visitor, site):
    visitor.route_web_socket("**/ws/**", lambda socket: socket.close())
    page = visitor.new_page()
    page.goto(f"http://{site.host}/form/read_document/")
    expect(page.locator("#link")).to_contain_text("asking every")
    choose(page)
    page.click("form.start button")
    expect_end(page, DONE.format("2026-01-02 03:04:05", True))


@pytest.mark.parametrize("text", ["ж" * 2000, "a" * 20_000, "ж" * 100_000], ids=["a frame", "a long frame", "no frame"])
def test_a_text_that_the_form_allows_can_be_sent(visitor, site, text):
    page = visitor.new_page()
    frames = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda sent: frames.append(sent)))
    page.goto(f"http://{site.host}/form/write/")
    expect(page.locator("#link")).to_have_text("live")
    page.fill("[name=text]", text)
    page.click("form.start button")
    expect_end(page, f"Done. {len(text)} letters, from {text[0]} to {text[0]}.")
    assert any(len(frame) > 1000 for frame in frames) is (len(text.encode()) < 32_000)


def test_a_text_that_the_form_refuses_or_the_site_cannot_take_is_told_at_once(visitor, site):
    page = open_page(visitor, site, "/form/write/")
    alert = page.locator("form.start > .problem").last
    page.evaluate("document.querySelector('[name=text]').removeAttribute('maxlength')")
    page.fill("[name=text]", "a" * 100_001)
    page.click("form.start button")
    expect(alert).to_have_text(re.compile("^Your text: Ensure this value has at most 100000 characters"))
    page.fill("[name=text]", "a" * 3_000_000)
    page.click("form.start button")
    expect(alert).to_have_text(re.compile("^The site has not taken this. It may be too large"))
    expect(page.locator("#jobs .unsent")).to_have_count(0)
    posts = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    visitor.set_offline(True)
    expect(page.locator("#link")).to_have_text("offline")
    visitor.set_offline(False)
    expect(page.locator("#link")).to_have_text("live")
    assert posts == [], "it is not sent again"
