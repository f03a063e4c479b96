"""The interface of a search provider."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

#: As `JobTask.track`: takes what to go through and a `description`, and yields it.
Track = Callable[..., Iterator[Any]]
#: Takes what is being done, and what there is of the answer so far.
Tell = Callable[[str, str], None]

#: A search brings at most this many results.
RESULTS = 10
#: Characters, at most.
TITLE, URL, CONTENT, ANSWER = 200, 2000, 500, 4000


class SearchFailed(Exception):
    """A search that brought nothing, in a sentence that the visitor may read."""


class Result(NamedTuple):
    """One thing found. Made by `of`, which lets nothing through that a page must not link or a row cannot hold."""

    title: str
    url: str  #: http or https, or empty
    content: str

    @classmethod
    def of(cls, title: str, url: str, content: str) -> "Result":
        """Return a result with its texts cut to length, and without a link that is not to the web."""
        url = web_address(url)
        return cls(clean(title, TITLE) or url or "Untitled", url, clean(content, CONTENT))


@dataclass(frozen=True)
class Found:
    """What a search has brought."""

    provider: str  #: the provider's name, in words that go into a sentence
    results: list[Result] = field(default_factory=list)
    answer: str = ""  #: in plain words, where the provider gives one

    def as_json(self) -> dict[str, Any]:
        """Return all that draws this on the page; `summary` is what a bar says of it."""
        count = {0: "No results", 1: "1 result"}.get(len(self.results), f"{len(self.results)} results")
        return {
            "summary": f"{count} from {self.provider}.",
            "provider": self.provider,
            "count": len(self.results),
            "answer": self.answer,
            "results": [result._asdict() for result in self.results],
        }


class Provider(Protocol):
    """A search engine, as the task uses it."""

    def search(self, query: str, track: Track, tell: Tell) -> Found:
        """Search.

        Args:
            query: what for, in the visitor's words.
            track: wraps what is gone through, to watch how far the search has come.
            tell: is told what is being done, and what there is of the answer so far; at most 10 times a second.

        Raises:
            SearchFailed: it brought nothing, and why.
        """


def clean(text: str, length: int) -> str:
    """Return a text that every database and every browser can hold, of at most `length` characters.

    That is: no NUL, and no half of a surrogate pair.
    """
    text = text.replace("\0", "").encode(errors="replace").decode().strip()
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def web_address(url: str) -> str:
    """Return an address if it leads to the web and a browser may follow it; else nothing."""
    try:
        parts = urlsplit(clean(url, URL + 1))
    except ValueError:
        return ""
    whole = parts.scheme in ("http", "https") and parts.netloc and len(url) <= URL and not any(map(str.isspace, url))
    return parts.geturl() if whole else ""
