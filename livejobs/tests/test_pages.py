"""The page of each job, and what forms post without scripts."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django import forms
from django.test import Client
from django.utils import timezone

from livejobs.models import Job, State
from livejobs.owner import VISITOR

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner():
    """A visitor who has a job page open."""
    client = Client()
    session = client.session
    session[VISITOR] = "visitor-1"
    session.save()
    client.cookies["sessionid"] = session.session_key
    return client


@pytest.fixture
def job():
    """The owner's job, which waits."""
    return Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes", params={"below": 1000})


def test_a_form_that_is_posted_starts_a_job_and_shows_it(owner):
    answer = owner.post("/start/count_primes/", {"below": 2000}, follow=True)
    job = Job.objects.get()
    assert answer.redirect_chain == [(f"/jobs/{job.pk}/", 302)]
    assert (job.owner, job.params) == ("visitor-1", {"below": 2000})
    assert "Primes below 2000" in answer.content.decode()


def test_a_form_that_is_posted_twice_starts_one_job(owner):
    posted = {"below": 2000, "livejobs_ref": str(uuid4())}
    first, second = (owner.post("/start/count_primes/", posted)["Location"] for _ in range(2))
    assert first == second
    assert Job.objects.count() == 1


def test_a_visitor_without_a_session_starts_a_job_and_sees_it():
    visitor = Client()
    assert visitor.post("/start/count_primes/", {"below": 2000}, follow=True).status_code == 200


def test_a_refused_start_shows_the_reason_at_its_field_and_keeps_what_was_filled_in(owner):
    answer = owner.post("/start/count_primes/", {"below": "12"})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert re.search(r'value="12".*Ensure this value is greater than or equal to 1000', page, re.DOTALL)
    assert not Job.objects.exists()


def test_too_many_jobs_are_refused_in_words(owner, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UNFINISHED_PER_OWNER": 1}
    owner.post("/start/count_primes/", {"below": 2000})
    answer = owner.post("/start/count_primes/", {"below": 2000})
    assert answer.status_code == 429
    assert "You have 1 unfinished jobs" in answer.content.decode()


def test_a_box_that_is_not_ticked_is_false_whatever_its_initial_value_is(owner, new_kind):
    class Form(forms.Form):
        careful = forms.BooleanField(required=False, initial=True)
        sizes = forms.MultipleChoiceField(choices=[("s", "small"), ("l", "large"), ("x", "extra")])
        name = forms.CharField(initial="thumb")

    def resize(self, **params):
        """Not run here."""

    new_kind(resize, form=Form)
    owner.post("/start/resize/", {"sizes": ["s", "x"]})
    assert Job.objects.get().params == {"careful": False, "sizes": ["s", "x"], "name": "thumb"}


@pytest.mark.parametrize("kind", ["welcome_email", "no_such_kind"])
def test_a_kind_that_no_visitor_may_start_is_not_found(owner, kind):
    assert owner.post(f"/start/{kind}/").status_code == 404


def test_a_start_needs_the_csrf_token(job):
    assert Client(enforce_csrf_checks=True).post("/start/count_primes/", {"below": 2000}).status_code == 403


def test_a_page_without_scripts_loads_itself_again_until_the_end(owner, job):
    refresh = '<meta http-equiv="refresh"'
    assert refresh in owner.get(f"/jobs/{job.pk}/").content.decode()
    job.end(State.SUCCESS, result=168)
    job.save_end()
    page = owner.get(f"/jobs/{job.pk}/").content.decode()
    assert refresh not in page
    assert "The answer is 168." in page


def test_a_job_is_cancelled_and_repeated_without_scripts(owner, job):
    owner.post(f"/jobs/{job.pk}/cancel/")
    job.refresh_from_db()
    assert job.state == State.REVOKED
    answer = owner.post(f"/jobs/{job.pk}/retry/", follow=True)
    new = Job.objects.get(retry_of=job)
    assert answer.redirect_chain == [(f"/jobs/{new.pk}/", 302)]
    assert f"/jobs/{job.pk}/" in answer.content.decode()


def done(job, result) -> str:
    """End a job. Returns the address of its page."""
    job.end(State.SUCCESS, result=result)
    job.save_end()
    return f"/jobs/{job.pk}/"


def test_a_result_is_drawn_as_a_table_of_texts(owner, job):
    page = owner.get(done(job, [{"name": "<script>", "at": "2026-07-02T09:00:00Z"}] * 21)).content.decode()
    assert '<th scope="col">at</th><th scope="col">name</th>' in page
    moment = '<time datetime="2026-07-02T09:00:00Z">2026-07-02 09:00:00 UTC</time>'
    assert page.count(f"<tr><td>{moment}</td><td>&lt;script&gt;</td></tr>") == 20
    assert '<p class="more">and 1 more</p>' in page


def test_a_project_draws_the_results_of_a_kind_with_its_own_template(owner, job, settings, tmp_path):
    template = tmp_path / "livejobs" / "results" / "count_primes.html"
    template.parent.mkdir(parents=True)
    template.write_text("<p>{{ job.result.primes|length }} primes, the first of them {{ job.result.primes.0 }}</p>")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    page = owner.get(done(job, {"primes": [2, 3, "<5>"]})).content.decode()
    assert '<div class="result"><p>3 primes, the first of them 2</p></div>' in page
    assert "<table>" not in page


def test_each_file_has_a_link_without_scripts(owner, job, settings, tmp_path):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path}
    page = owner.get(done(job, {"files": ["a&b.csv", "c.csv"]})).content.decode()
    for name, query in (("a&amp;b.csv", "a%26b.csv"), ("c.csv", "c.csv")):
        assert f'<a class="download" href="/api/jobs/{job.pk}/file/?name={query}">Download {name}</a>' in page


@pytest.mark.parametrize(
    ("state", "action", "words"),
    [(State.SUCCESS, "cancel", "has ended already"), (State.PENDING, "retry", "only a job that has failed")],
)
def test_what_cannot_be_done_is_refused_in_words(owner, job, state, action, words):
    if state == State.SUCCESS:
        job.end(state, result=1)
        job.save_end()
    answer = owner.post(f"/jobs/{job.pk}/{action}/")
    assert answer.status_code == 409
    assert words in answer.content.decode()


@pytest.mark.parametrize(
    ("method", "path"), [("get", ""), ("get", "file/"), ("post", "cancel/"), ("post", "retry/")], ids=lambda one: one
)
def test_a_job_of_another_owner_is_not_found(client, job, method, path):
    job.end(State.FAILURE, error="no")
    job.save_end()
    assert getattr(client, method)(f"/jobs/{job.pk}/{path}").status_code == 404
    assert Job.objects.count() == 1


def test_a_file_is_downloaded_by_its_owner(owner, job, settings, tmp_path):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path}
    (tmp_path / str(job.pk)).write_text("the rows")
    Job.objects.update(state=State.SUCCESS, finished_at=timezone.now(), file="rows.csv")
    answer = owner.get(f"/jobs/{job.pk}/file/")
    assert b"".join(answer.streaming_content) == b"the rows"
    assert answer["Content-Disposition"] == 'attachment; filename="rows.csv"'
    (tmp_path / str(job.pk)).unlink()
    assert owner.get(f"/jobs/{job.pk}/file/").status_code == 404


def test_a_file_has_an_address_below_the_sites_path_in_every_thread(job, settings):
    """Django sets the prefix in requests and in the main thread; the relay has a thread of its own."""
    job.file = "rows.csv"
    settings.FORCE_SCRIPT_NAME = "/shop"
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: job.url).result() == f"/shop/api/jobs/{job.pk}/file/"


def test_a_file_has_an_address_in_a_project_without_the_api(job, settings):
    job.file = "rows.csv"
    settings.ROOT_URLCONF = "livejobs.tests.urls_without_api"
    assert job.url == f"/bars/jobs/{job.pk}/file/"


def test_the_page_of_a_job_tells_what_has_happened_and_what_it_was_started_with(owner, job):
    begun = job.created_at + timedelta(seconds=2)
    job.started_at, job.attempt_started_at = begun, begun + timedelta(minutes=3)
    job.attempt, job.reason = 2, "The worker that ran attempt 1 was lost."
    job.end(State.FAILURE, error="In vain.")
    job.finished_at = begun + timedelta(minutes=65)
    job.save()
    again = Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes", retry_of=job)
    page = " ".join(re.sub("<.*?>", " ", owner.get(f"/jobs/{job.pk}/").content.decode()).split())
    moments = [
        "Asked for.",
        "Begun, after 2.0 s.",
        "Attempt 2 begun. The worker that ran attempt 1 was lost.",
        "Failed, after 1:05:00. In vain.",
    ]
    assert re.search(".*".join(re.escape(one) for one in moments), page)
    assert "Count the primes below 1000" in page
    assert "A job that repeats this one" in page
    assert "The job that this one repeats" in owner.get(f"/jobs/{again.pk}/").content.decode()


def test_the_page_of_a_job_shows_no_password_and_every_other_value_as_a_person_reads_it(owner, new_kind):
    class Form(forms.Form):
        password = forms.CharField(widget=forms.PasswordInput)
        colour = forms.ChoiceField(choices=[("r", "Red"), ("g", "Green")])
        sizes = forms.MultipleChoiceField(choices=[("s", "Small"), ("l", "Large")])
        hurry = forms.BooleanField()
        at = forms.DateTimeField(label="When")

    def paint(self, **params):
        pass

    new_kind(paint, form=Form)
    params = {"password": "secret", "colour": "g", "sizes": ["s", "l"], "hurry": True, "at": "2026-01-02T03:04:05Z"}
    job = Job.objects.create(owner="visitor-1", kind="paint", title="Paint", params=params)
    page = owner.get(f"/jobs/{job.pk}/").content.decode()
    rows = dict(re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', page))
    assert rows == {
        "Password": "••••••",
        "Colour": "Green",
        "Sizes": "Small, Large",
        "Hurry": "yes",
        "When": "2026-01-02 03:04:05 UTC",
    }
    assert "secret" not in page
