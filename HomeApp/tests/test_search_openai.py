"""OpenAI's web search, before a server that speaks its API."""

import itertools
import logging
import threading

import openai._base_client
import pytest

from HomeApp.search import openai as provider
from HomeApp.search.openai import OpenAISearch
from HomeApp.search.provider import RESULTS, SearchFailed
from testkit.openai_server import BEGUN, CITATION, GOOD, KEY, completed, deltas, error
from testkit.processes import free_port


@pytest.fixture
def naps(monkeypatch) -> list[float]:
    """How long OpenAI's client wants to wait before each further try, in seconds; it does not wait."""
    naps = []
    monkeypatch.setattr(openai._base_client.time, "sleep", naps.append)
    return naps


@pytest.fixture
def search(openai_server):
    """Searches, and notes what is told."""

    def search(query="django", **options):
        return OpenAISearch(KEY, openai_server.url, "a-model", **options).search(query, iter, tell)

    def tell(description, partial):
        search.told.append((description, partial))

    search.told = []
    return search


def failure(search, **options) -> str:
    with pytest.raises(SearchFailed) as failed:
        search(**options)
    return str(failed.value)


def test_the_answer_and_its_sources_are_found(search):
    found = search()
    assert found.provider == "OpenAI (a-model)"
    assert found.answer == "Django 5.2 is a long-term support release. [1] It came in April."
    assert [tuple(result) for result in found.results] == [
        ("Django <b>5.2</b>", "https://www.djangoproject.com/", "Django 5.2 is a long-term support release.")
    ]


def test_it_is_asked_to_search_the_web_and_to_keep_nothing(search, openai_server):
    search("what is new")
    [(headers, body)] = openai_server.requests
    assert body["path"] == "/v1/responses"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["input"], body["tools"]) == ("a-model", "what is new", [{"type": "web_search"}])
    assert body["stream"] is True
    assert body["store"] is False


def test_the_answer_is_told_as_it_comes_in(search, openai_server, monkeypatch):
    monkeypatch.setattr(provider.time, "monotonic", itertools.count(step=1.0).__next__)
    openai_server.say([*BEGUN, *deltas("One, ", "two, ", "three."), completed(text="One, two, three.", citations=())])
    assert search().answer == "One, two, three."
    said = [partial for _, partial in search.told]
    assert said == ["", "One,", "One, two,", "One, two, three."]


def test_it_is_told_at_most_so_often(search, openai_server, monkeypatch):
    monkeypatch.setattr(provider.time, "monotonic", itertools.count(step=0.01).__next__)
    openai_server.say([*deltas(*["word "] * 200), completed()])
    search()
    assert 15 <= len(search.told) <= 25


def test_a_page_cited_twice_is_one_result(search, openai_server):
    text = "First.() Second.() Third.()"
    spots = [text.index("()", start) for start in (0, 8, 18)]
    urls = ["https://one.example/", "https://two.example/", "https://one.example/"]
    citations = [
        {**CITATION, "url": url, "start_index": at, "end_index": at + 2} for url, at in zip(urls, spots, strict=True)
    ]
    openai_server.say([completed(text=text, citations=citations)])
    found = search()
    assert found.answer == "First.[1] Second.[2] Third.[1]"
    assert [(result.url, result.content) for result in found.results] == [(urls[0], "First."), (urls[1], "Second.")]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//one.example", "https://", "http://[", ""]
)
def test_a_source_that_is_no_web_page_is_no_link(search, openai_server, url):
    openai_server.say([completed(citations=[{**CITATION, "url": url}])])
    assert search().results[0].url == ""


def test_what_is_found_is_bounded_and_can_be_stored(search, openai_server):
    citations = [
        {**CITATION, "url": f"https://{n}.example/", "title": "T\0" + "t" * 900, "start_index": 2000, "end_index": 2001}
        for n in range(30)
    ]
    openai_server.say([completed(text="x\ud800" * 5000, citations=citations)])
    found = search()
    assert len(found.results) == RESULTS
    assert len(found.answer) <= 4000
    for text, most in ((found.results[0].title, 200), (found.results[0].content, 500)):
        assert len(text) == most
        assert "\0" not in text
        text.encode()


def test_an_answer_without_sources_is_an_answer(search, openai_server):
    openai_server.say([completed(text="Nobody knows.", citations=())])
    assert (search().answer, search().results) == ("Nobody knows.", [])


def test_429_is_tried_again_as_retry_after_says(search, openai_server, naps):
    openai_server.say(error(429, **{"Retry-After": "7"}), error(429, **{"Retry-After": "11"}), GOOD)
    assert search().results
    assert naps == [7, 11]


def test_429_that_stays_is_told_with_the_time_to_wait(search, openai_server, naps):
    openai_server.say(error(429, **{"Retry-After": "20"}))
    assert failure(search) == "OpenAI is asked too often at the moment. Try again in 20 seconds."
    assert len(openai_server.requests) == 3


def test_429_that_asks_for_a_long_wait_is_told_at_once(search, openai_server, naps):
    openai_server.say(error(429, **{"Retry-After": "3000"}))
    assert failure(search) == "OpenAI is asked too often at the moment. Try again in 50 minutes."
    assert naps == []


def test_credit_used_up_is_told(search, openai_server, naps):
    openai_server.say(error(429, code="insufficient_quota"))
    assert "credit" in failure(search)


def test_500_that_passes_is_not_seen(search, openai_server, naps):
    openai_server.say(error(500), error(503), GOOD)
    assert search().results


def test_500_that_stays_is_told(search, openai_server, naps):
    openai_server.say(error(500))
    assert "problem of its own" in failure(search)
    assert len(openai_server.requests) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_told_and_not_tried_again(search, openai_server, naps, status):
    openai_server.say(error(status, f"Incorrect API key provided: {KEY}."))
    assert "key" in failure(search)
    assert len(openai_server.requests) == 1


def test_the_key_reaches_neither_the_visitor_nor_the_log(search, openai_server, naps, caplog):
    caplog.set_level(logging.INFO)
    for answer in (error(401, KEY), error(400, KEY), error(500, KEY), [{"type": "error", "message": KEY, "code": KEY}]):
        openai_server.say(answer)
        with pytest.raises(SearchFailed) as failed:
            search()
        assert KEY not in str(failed.getrepr(style="native"))
    assert caplog.records
    assert KEY not in caplog.text


def test_400_asks_for_other_words(search, openai_server):
    openai_server.say(error(400))
    assert "other words" in failure(search)


def test_silence_before_the_answer_is_told(search, openai_server, naps):
    for_ever = threading.Event()
    openai_server.say([for_ever])
    assert "silent" in failure(search, silence=0.2)
    for_ever.set()


def test_silence_in_the_answer_is_told(search, openai_server):
    for_ever = threading.Event()
    openai_server.say([*BEGUN, *deltas("Well,"), for_ever])
    assert "silent" in failure(search, silence=1.5)
    assert search.told[-1] == ("OpenAI is answering.", "Well,")
    for_ever.set()


def test_an_answer_that_takes_for_ever_is_given_up(search, openai_server, monkeypatch):
    monkeypatch.setattr(provider.time, "monotonic", itertools.count(step=10.0).__next__)
    openai_server.say([*deltas(*["well, "] * 100), completed()])
    assert "silent" in failure(search)


def test_nobody_there_is_told(naps):
    search = OpenAISearch(KEY, f"http://127.0.0.1:{free_port()}/v1", "a-model")
    with pytest.raises(SearchFailed, match="cannot be reached"):
        search.search("django", iter, lambda *words: None)


MALFORMED = {
    "a page of some proxy": (200, {"Content-Type": "text/html"}, "<html>Welcome</html>"),
    "nothing": (200, {"Content-Type": "text/event-stream"}, ""),
    "broken off": [*BEGUN, *deltas("Well,")],
    "no JSON": ["data: {oops\n\n"],
    "no object": ["data: [1]\n\n"],
    "a delta without text": [{"type": "response.output_text.delta"}],
    "a delta of another type": [{"type": "response.output_text.delta", "delta": 7}],
    "completed with nothing": [{"type": "response.completed"}],
    "completed with no output": [{"type": "response.completed", "response": {"id": "resp_1"}}],
    "output of another type": [completed(output="hello")],
    "a citation without its place": [completed(citations=[{"type": "url_citation", "url": "https://one.example/"}])],
    "an incomplete answer": [{"type": "response.incomplete", "response": {}}],
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_told(search, openai_server, answer):
    openai_server.say(answer)
    assert failure(search) == provider.MALFORMED


@pytest.mark.parametrize("event", [{"type": "response.failed", "response": {}}, {"type": "error", "message": "Oh."}])
def test_a_failure_in_the_stream_is_told(search, openai_server, event):
    openai_server.say([*BEGUN, event])
    assert failure(search) == provider.BROKEN
