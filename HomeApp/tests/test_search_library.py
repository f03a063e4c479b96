"""The embedded provider: full text over the documentation of Python's own library."""

import multiprocessing
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from HomeApp.search import documentation, library
from HomeApp.search.library import LibrarySearch
from HomeApp.search.provider import SearchFailed


def tell(*words):
    """Hear nothing."""


def track(items, description=""):
    return iter(items)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the index is, built once for all these tests."""
    folder = tmp_path_factory.mktemp("search")
    LibrarySearch(folder).search("json", track, tell)
    return folder


def titles(folder, query) -> list[str]:
    return [result.title for result in LibrarySearch(folder).search(query, track, tell).results]


# The documentation


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("json", "json"),
        ("sorted", "sorted"),
        ("temporary directory", "tempfile.TemporaryDirectory"),
        ("TemporaryDirectory", "tempfile.TemporaryDirectory"),
        ("square roots", "math.sqrt"),
        ("names of the files in a directory", "os.listdir"),
        ("ordered dictionary", "collections.OrderedDict"),
        ("thread pool executor", "concurrent.futures.ThreadPoolExecutor"),
        ("str.join", "str.join"),
    ],
)
def test_what_is_asked_for_is_found(folder, query, title):
    assert title in titles(folder, query)


def test_what_is_asked_for_by_its_name_comes_first(folder):
    for name in ("json", "sorted", "str.join", "os.listdir", "PATHLIB.PATH.GLOB"):
        assert titles(folder, name)[0].lower() == name.lower()


@pytest.mark.parametrize("query", ["xyzzyqwertz", "???", "'", '"'])
def test_nothing_found_is_no_failure(folder, query):
    assert titles(folder, query) == []


@pytest.mark.parametrize(
    "query", ['json"', "NOT json", "json AND", "json*", "name:json", "(json", "^json", "json NEAR(x"]
)
def test_the_indexs_own_language_means_nothing(folder, query):
    assert titles(folder, query)


def test_where_no_entry_has_all_words_some_are_enough(folder):
    assert "tempfile.TemporaryDirectory" in titles(folder, "temporary directory xyzzyqwertz")


def test_results_are_bounded_and_lead_to_the_documentation(folder):
    results = LibrarySearch(folder).search("return", track, tell).results
    assert len(results) == 10
    for result in results:
        assert result.url.startswith("https://docs.python.org/3.")
        assert 0 < len(result.content) <= 500


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("json", "json.html#module-json"),
        ("json.JSONDecoder", "json.html#json.JSONDecoder"),
        ("sorted", "functions.html#sorted"),
        ("str.join", "stdtypes.html#str.join"),
        ("ValueError", "exceptions.html#ValueError"),
        ("os.path.join", "os.path.html#os.path.join"),
        ("collections.abc.Mapping", "collections.abc.html#collections.abc.Mapping"),
        ("asyncio.gather", "asyncio-task.html#asyncio.gather"),
        ("importlib.util.find_spec", "importlib.html#importlib.util.find_spec"),
        ("decimal.Decimal.sqrt", "decimal.html#decimal.Decimal.sqrt"),
        ("xml.etree.ElementTree.XMLParser", "xml.etree.elementtree.html#xml.etree.ElementTree.XMLParser"),
    ],
)
def test_links_lead_to_the_right_page(folder, name, page):
    [result] = [one for one in LibrarySearch(folder).search(name, track, tell).results if one.title == name]
    assert result.url == documentation.SITE + page


def test_no_inside_of_the_library_is_an_entry(folder):
    with closing(sqlite3.connect(LibrarySearch(folder).path)) as index:
        names = [name for (name,) in index.execute("SELECT name FROM entries")]
    assert len(names) > 3000
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if name.startswith(("_", "test.")) and not name.startswith("__future__")] == []


# The index


def test_the_index_is_built_once_and_its_building_is_tracked(tmp_path):
    tracked = []

    def note(items, description):
        tracked.append((len(items), description))
        return iter(items)

    for _ in range(2):
        LibrarySearch(tmp_path).search("json", note, tell)
    [(modules, description)] = tracked
    assert modules > 100
    assert description.startswith("Reading the documentation of Python 3.")


def test_another_version_of_python_has_another_index(folder, monkeypatch):
    monkeypatch.setattr(library.platform, "python_version", lambda: "3.99.0")
    assert not LibrarySearch(folder).path.exists()


def test_a_worker_that_dies_while_it_builds_leaves_nothing_behind(tmp_path):
    def die(items, description):
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LibrarySearch(tmp_path).search("json", die, tell)
    assert titles(tmp_path, "json")[0] == "json"


def _search(folder, barrier, answers):
    def track(items, description):
        answers.put("built")
        return iter(items)

    barrier.wait()
    answers.put([result.title for result in LibrarySearch(folder).search("json", track, tell).results])


def test_workers_that_build_at_once_build_one_index_and_all_find_the_same(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.Queue()
    workers = [spawn.Process(target=_search, args=(tmp_path, barrier, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    heard = [answers.get(timeout=120) for _ in range(4)]
    for worker in workers:
        worker.join()
    assert heard.count("built") == 1
    found = [answer for answer in heard if answer != "built"]
    assert found == [titles(tmp_path, "json")] * 3


def test_an_index_that_cannot_be_read_is_told(tmp_path, caplog):
    LibrarySearch(tmp_path).path.write_text("This is no database. " * 100)
    with pytest.raises(SearchFailed, match="cannot be read"):
        LibrarySearch(tmp_path).search("json", track, tell)
    assert "file is not a database" in caplog.text
