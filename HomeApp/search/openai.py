"""OpenAI's web search, over its own client. Source: OpenAI, "Web search" and "Streaming API responses"."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, OpenAI, RateLimitError, Timeout

from HomeApp.search.provider import ANSWER, RESULTS, Found, Result, SearchFailed, Tell, Track, clean

logger = logging.getLogger(__name__)

INSTRUCTIONS = "Search the web and answer in a few plain sentences, without Markdown. Cite the pages you found it on."
#: Seconds without a word from OpenAI: a model may think that long between two of them.
SILENCE = 60.0
#: Seconds that an answer may take in all.
PATIENCE = 300.0
#: The answer is shown as it comes in, at most this often.
TELLS_PER_SECOND = 10

SILENT = "OpenAI does not answer: it was silent for too long. Try again in a moment."
UNREACHABLE = "OpenAI cannot be reached. Try again in a moment."
REFUSED = "OpenAI does not accept this site's key. Whoever runs the site can see to it."
NO_CREDIT = "This site's credit at OpenAI is used up. Whoever runs the site can see to it."
TOO_OFTEN = "OpenAI is asked too often at the moment. Try again in {}."
BROKEN = "OpenAI has a problem of its own at the moment. Try again in a moment."
REJECTED = "OpenAI does not take this search. Try other words."
MALFORMED = "OpenAI's answer broke off or cannot be understood. Try again."


class OpenAISearch:
    """Asks a model that searches the web.

    What may pass of itself (no connection, 408, 409, 429, 5xx) is tried again, at most twice, by OpenAI's client,
    which waits as `Retry-After` says. Nothing that OpenAI says of an error goes further: it may repeat the key.

    Args:
        key: the site's own.
        base_url: where the API is.
        model: one that has the tool `web_search`.
        silence: seconds without a word after which to give up.
    """

    def __init__(self, key: str, base_url: str, model: str, silence: float = SILENCE) -> None:
        self.key, self.base_url, self.model = key, base_url, model
        self.timeout = Timeout(silence, connect=5.0)

    def search(self, query: str, track: Track, tell: Tell) -> Found:
        """Search; see `HomeApp.search.provider.Provider`."""
        tell("Asking OpenAI.", "")
        try:
            with OpenAI(api_key=self.key, base_url=self.base_url, timeout=self.timeout, max_retries=2) as client:
                answer, results = _read(self._response(client, query, tell))
        except APIError as problem:
            logger.warning("OpenAI: %s %s", type(problem).__name__, getattr(problem, "status_code", ""))
            raise SearchFailed(_sentence(problem)) from None
        except (ValueError, TypeError, AttributeError) as problem:
            # The client checks little of what it is told: what is not there shows when it is used.
            logger.warning("OpenAI's answer cannot be understood: %s", type(problem).__name__)
            raise SearchFailed(MALFORMED) from None
        return Found(f"OpenAI ({self.model})", results, answer)

    def _response(self, client: OpenAI, query: str, tell: Tell) -> Any:
        """Return the whole response, telling of its text as it comes in."""
        deadline = time.monotonic() + PATIENCE
        with client.responses.create(
            model=self.model,
            instructions=INSTRUCTIONS,
            input=query,
            tools=[{"type": "web_search"}],
            tool_choice="required",
            store=False,
            stream=True,
        ) as events:
            text, told = "", 0.0
            for event in events:
                now = time.monotonic()
                if now > deadline:
                    raise SearchFailed(SILENT)
                if event.type == "response.completed":
                    return event.response
                if event.type in ("response.failed", "error"):
                    raise SearchFailed(BROKEN)
                if event.type == "response.output_text.delta":
                    text += event.delta
                    if now - told >= 1 / TELLS_PER_SECOND:
                        told = now
                        tell("OpenAI is answering.", clean(text, ANSWER))
        raise SearchFailed(MALFORMED)


def _read(response: Any) -> tuple[str, list[Result]]:
    """Return the answer, with a number in place of each citation, and the pages it cites, in the same order.

    The content of such a page is what the answer says with it.
    """
    answer = said = ""
    results: list[Result] = []
    numbers: dict[str, int] = {}
    for part in _texts(response):
        text, done = part.text, 0
        for citation in sorted(_citations(part), key=lambda citation: citation.start_index):
            new = text[done : citation.start_index]
            said = new if new.strip() else said
            if citation.url not in numbers:
                numbers[citation.url] = len(numbers) + 1
                results.append(Result.of(citation.title, citation.url, said))
            answer += f"{new}[{numbers[citation.url]}]"
            done = max(done, citation.end_index)
        answer += text[done:] + "\n"
    return clean(answer, ANSWER), results[:RESULTS]


def _texts(response: Any) -> Iterator[Any]:
    for item in response.output:
        if item.type == "message":
            yield from (part for part in item.content if part.type == "output_text")


def _citations(part: Any) -> list[Any]:
    return [annotation for annotation in part.annotations if annotation.type == "url_citation"]


def _sentence(problem: APIError) -> str:
    """Return what the visitor may know of an error."""
    if isinstance(problem, APITimeoutError):
        return SILENT
    if isinstance(problem, APIConnectionError):
        return UNREACHABLE
    if isinstance(problem, RateLimitError):
        return NO_CREDIT if problem.code == "insufficient_quota" else TOO_OFTEN.format(_wait(problem))
    if isinstance(problem, APIStatusError) and problem.status_code in (401, 403):
        return REFUSED
    if isinstance(problem, APIStatusError) and problem.status_code < 500:
        return REJECTED
    return BROKEN


def _wait(problem: RateLimitError) -> str:
    """Return how long OpenAI asks to wait, in words."""
    seconds = problem.response.headers.get("retry-after", "")
    if not seconds.isdecimal():
        return "a moment"
    return f"{int(seconds)} seconds" if int(seconds) <= 120 else f"{-(-int(seconds) // 60)} minutes"
