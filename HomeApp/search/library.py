"""The embedded provider: full text over the documentation of Python's own library.

The index is one SQLite file for each version of Python, built in one transaction by the first worker. Another worker
that comes meanwhile waits for that transaction, and a worker that dies in it leaves nothing behind: SQLite's own locks
and journal see to both. Source: SQLite, "FTS5 Extension" and "File Locking And Concurrency".
"""

import logging
import platform
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from HomeApp.search.documentation import Entry, entries, sources
from HomeApp.search.provider import CONTENT, RESULTS, Found, Result, SearchFailed, Tell, Track

logger = logging.getLogger(__name__)

#: To be raised when what is indexed, or how, has changed.
EDITION = 1
#: Seconds to wait for another worker that builds the index.
PATIENCE = 120

UNREADABLE = "The index of Python's documentation cannot be read or built. It has been noted in the site's log."

# `words` has a name's parts, so that "temporary directory" finds TemporaryDirectory.
TABLE = """CREATE VIRTUAL TABLE entries USING fts5(
    name, words, content, url UNINDEXED, tokenize = "porter unicode61"
)"""
# What is asked for by its name comes first; elsewhere, a word in the name weighs more than one in the text.
QUERY = """SELECT name, url, substr(content, 1, ?) FROM entries WHERE entries MATCH ?
    ORDER BY name = ? COLLATE NOCASE DESC, bm25(entries, 8.0, 8.0, 1.0), rowid LIMIT ?"""


class LibrarySearch:
    """Searches the documentation of the installed Python's library.

    Args:
        folder: where the index is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = platform.python_version()

    @property
    def path(self) -> Path:
        """Where the index of this version of Python is, once it has been built."""
        return self.folder / f"python-{self.version}-{EDITION}.sqlite3"

    def search(self, query: str, track: Track, tell: Tell) -> Found:
        """Search; see `HomeApp.search.provider.Provider`."""
        tell("Searching Python's documentation.", "")
        try:
            with self._connect() as index:
                if not _built(index):
                    self._build(index, track)
                results = [Result.of(*row) for row in _matches(index, query)]
        except (sqlite3.Error, OSError):
            logger.exception("The index %s", self.path)
            raise SearchFailed(UNREADABLE) from None
        return Found(f"the documentation of Python {self.version}", results)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # No isolation level: transactions begin and end where it is written.
        with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as index:
            yield index

    def _build(self, index: sqlite3.Connection, track: Track) -> None:
        index.execute("BEGIN IMMEDIATE")  # waits for another worker that builds
        if _built(index):
            index.execute("COMMIT")
            return
        index.execute(TABLE)
        known: set[str] = set()
        for source in track(sources(), description=f"Reading the documentation of Python {self.version}."):
            for entry in entries(source):
                if entry.name not in known:
                    known.add(entry.name)
                    _add(index, entry)
        index.execute("COMMIT")


def _built(index: sqlite3.Connection) -> bool:
    return index.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone() is not None


def _add(index: sqlite3.Connection, entry: Entry) -> None:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", entry.name)
    index.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (entry.name, words, entry.content, entry.url))


def _matches(index: sqlite3.Connection, query: str) -> list[tuple[str, str, str]]:
    """Return title, address and content of the best matches: of all words if there are any, else of some."""
    words = [f'"{word}"' for word in re.findall(r"\w+", query)]
    if not words:
        return []
    for operator in (" AND ", " OR "):
        rows = index.execute(QUERY, (CONTENT + 1, operator.join(words), query, RESULTS)).fetchall()
        if rows:
            break
    return rows
