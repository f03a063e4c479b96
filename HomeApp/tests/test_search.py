"""Searching: who answers, what is stored, and the page."""

import uuid

import pytest
from celery import current_app
from celery.app.trace import build_tracer
from django.db import IntegrityError, transaction

from HomeApp.forms import SearchForm
from HomeApp.models import SearchResult
from HomeApp.search import provider
from HomeApp.search.library import LibrarySearch
from HomeApp.search.provider import Found, Result, SearchFailed
from livejobs.backend import REPLY_QUEUE
from livejobs.jobs import kinds
from livejobs.models import Job, State
from testkit.openai_server import KEY

# Who answers


def test_without_a_key_the_embedded_provider_answers(settings):
    settings.OPENAI_API_KEY = ""
    assert isinstance(provider(), LibrarySearch)


def test_with_a_key_openai_answers(settings):
    settings.OPENAI_API_KEY = KEY
    assert type(provider()).__name__ == "OpenAISearch"


# What is stored

ONE = Result.of("One", "https://one.example/", "The first.")
TWO = Result.of("Two", "http://two.example/", "The second.")


@pytest.fixture
def make(db):
    def make(owner="visitor-1", query="django", **fields) -> Job:
        fields = {"kind": "search", "title": f"Search: {query}", "params": {"query": query}, **fields}
        return Job.objects.create(owner=owner, **fields)

    return make


def stored(job) -> list[tuple]:
    return [(one.position, one.title, one.url, one.content) for one in job.results.all()]


def test_a_search_that_runs_twice_stores_its_results_once(make):
    job = make()
    for results in ([TWO, ONE, ONE], [ONE, TWO]):
        SearchResult.objects.replace(job.pk, results)
    assert stored(job) == [
        (1, "One", "https://one.example/", "The first."),
        (2, "Two", "http://two.example/", "The second."),
    ]


def test_a_search_that_has_ended_stores_nothing_more(make):
    job = make()
    SearchResult.objects.replace(job.pk, [ONE])
    job.end(State.REVOKED)
    job.save_end()
    SearchResult.objects.replace(job.pk, [TWO])
    assert [title for _, title, _, _ in stored(job)] == ["One"]


def test_the_database_itself_refuses_two_results_at_one_place(make):
    job = make()
    SearchResult.objects.replace(job.pk, [ONE])
    with pytest.raises(IntegrityError), transaction.atomic():
        SearchResult.objects.create(job=job, position=1, title="Another")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "JAVASCRIPT:alert(1)", " https://one.example/ x", "ftp://x/", "x"]
)
def test_only_web_addresses_are_links(url):
    assert Result.of("One", url, "").url == ""


def test_a_result_says_how_many_and_from_whom():
    assert Found("a provider", [ONE]).as_json()["summary"] == "1 result from a provider."
    assert Found("a provider", [ONE, TWO]).as_json()["summary"] == "2 results from a provider."
    assert Found("a provider").as_json()["summary"] == "No results from a provider."


# The task


@pytest.fixture
def run(monkeypatch, make):
    """Runs `search` as a worker does, with a provider of the test's own. Returns its job and its replies."""

    def run(search) -> tuple[Job, list]:
        replies = []

        def store(backend, task_id, result, state, traceback=None, request=None, **kwargs):
            replies.append((str(state), result, str(traceback)))

        monkeypatch.setattr("livejobs.backend.ReplyBackend.store_result", store)
        monkeypatch.setattr("HomeApp.tasks.provider", lambda: type("Provider", (), {"search": staticmethod(search)}))
        job, task = make(), kinds()["search"]
        request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
        tracer = build_tracer(task.name, task, app=current_app._get_current_object())
        tracer(str(job.pk), (), {"query": "django"}, request)
        return job, replies

    return run


def test_the_task_tells_the_answer_as_it_comes_stores_and_returns_what_is_found(run):
    def search(query, track, tell):
        tell("Answering.", f"It is {query}")
        return Found("a provider", [ONE, TWO], "It is django.")

    job, replies = run(search)
    assert [state for state, _, _ in replies] == ["STARTED", "PROGRESS", "SUCCESS"]
    assert replies[1][1]["partial"] == "It is django"
    assert replies[1][1]["description"] == "Answering."
    result = replies[-1][1]
    assert (result["provider"], result["count"], result["answer"]) == ("a provider", 2, "It is django.")
    assert result["results"][0] == {"title": "One", "url": "https://one.example/", "content": "The first."}
    assert [title for _, title, _, _ in stored(job)] == ["One", "Two"]


def test_a_search_that_fails_says_why_and_nothing_else(run):
    def search(query, track, tell):
        try:
            raise ValueError(KEY)
        except ValueError:
            raise SearchFailed("Nobody answers.") from None

    job, replies = run(search)
    state, problem, traceback = replies[-1]
    assert (state, str(problem)) == ("FAILURE", "Nobody answers.")
    assert KEY not in traceback
    assert stored(job) == []


@pytest.mark.parametrize(("query", "cleaned"), [(" a ", "a"), ("x" * 200, "x" * 200), ("{query}", "{query}")])
def test_a_query_is_stripped(query, cleaned):
    form = SearchForm({"query": query})
    assert form.is_valid()
    assert form.cleaned_data == {"query": cleaned}
    assert kinds()["search"].title.format(**form.cleaned_data) == f"Search: {cleaned}"


@pytest.mark.parametrize("query", ["", "   ", "x" * 201, "a\0b", "a\ud800"])
def test_a_bad_query_is_refused(query):
    assert "query" in SearchForm({"query": query}).errors


# The page


def end(job, results=(), **fields):
    found = Found("a provider", list(results), "An <i>answer</i>.")
    SearchResult.objects.replace(job.pk, results)
    job.end(State.SUCCESS, result=found.as_json())
    job.save_end()


def test_an_owner_sees_their_searches_each_under_its_own_query_the_newest_first(owner, make):
    end(make(owner.owner, "first"), [ONE])
    end(make(owner.owner, "second"), [TWO])
    page = owner.get("/search/").content.decode()
    parts = ["Search: second", "1 result from a provider.", TWO.url, "Search: first", ONE.url]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)


def test_nobody_else_sees_them(owner, another_user, stranger, make):
    end(make(owner.owner, "a secret"), [ONE])
    assert "a secret" in owner.get("/search/").content.decode()
    for other in (another_user, stranger):
        page = other.get("/search/")
        assert page.status_code == 200
        assert "secret" not in page.content.decode()
        assert ONE.url not in page.content.decode()


def test_searches_older_than_the_recent_ones_are_listed_too(owner, make, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "RECENT": 2}
    for n in range(45):
        end(make(owner.owner, f"query-{n:02}"))
    pages = [owner.get("/search/", {"page": number}).content.decode() for number in (1, 2, 3)]
    assert [page.count(">Search: query-") for page in pages] == [20, 20, 5]
    assert "Search: query-44" in pages[0]
    assert "Search: query-00" in pages[2]
    assert ["search.js" in page for page in pages] == [True, False, False]


def test_what_others_have_written_is_text(owner, make):
    end(make(owner.owner, "<script>alert(1)</script>"), [Result.of("<b>T</b>", "javascript:alert(1)", "<img src=x>")])
    page = owner.get("/search/").content.decode()
    for bad in ("<script>alert", "<b>T</b>", "<img src=x>", "javascript:alert", "<i>answer"):
        assert bad not in page
    assert "&lt;b&gt;T&lt;/b&gt;" in page


def test_a_failed_search_says_so_and_shows_no_results(owner, make):
    job = make(owner.owner)
    SearchResult.objects.replace(job.pk, [ONE])
    job.end(State.FAILURE, error="Nobody answers.")
    job.save_end()
    page = owner.get("/search/").content.decode()
    assert "Failed. Nobody answers." in page
    assert ONE.url not in page


def test_without_scripts_the_form_is_posted(owner, monkeypatch):
    monkeypatch.setattr("livejobs.task.JobTask.apply_async", lambda *args, **options: None)
    page = owner.post("/search/", {"query": " django "}, follow=True).content.decode()
    assert "Search: django" in page
    assert "Search started." in page
    assert Job.objects.get().params == {"query": "django"}


def test_a_bad_query_that_is_posted_gets_a_clear_error_and_starts_nothing(owner):
    response = owner.post("/search/", {"query": "x" * 201})
    assert response.status_code == 400
    assert "query: Ensure this value has at most 200 characters" in response.content.decode()
    assert "x" * 201 in response.content.decode()
    assert Job.objects.count() == 0


def test_a_post_from_another_site_is_refused(owner):
    owner.handler.enforce_csrf_checks = True
    assert owner.post("/search/", {"query": "django"}).status_code == 403


def test_the_snapshot_of_a_search_says_what_there_is_of_the_answer_until_it_is_whole(make):
    job = make(id=uuid.uuid4())
    assert job.snapshot()["partial"] is None
    job.partial = "It is"
    assert job.snapshot()["partial"] == "It is"
    end(job)
    assert job.snapshot()["partial"] is None
