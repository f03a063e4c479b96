"""Sessions of every engine are read by sockets, and written by none."""

import asyncio
import copy
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.test import Client
from django.utils import timezone

from HomeApp.models import User
from livejobs import authority
from livejobs.sessions import read_sessions, session_store
from livejobs.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

ENGINES = "django.contrib.sessions.backends"
STORED = [f"{ENGINES}.{name}" for name in ("db", "cached_db", "cache", "file")] + [__name__]
EVERY = [*STORED, f"{ENGINES}.signed_cookies"]


class SessionStore(DatabaseStore):
    """This module is an engine too: a project's own, which loads in its own way."""

    def load(self):
        return super().load()


@pytest.fixture
def engine(request, settings, tmp_path, monkeypatch):
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = request.param, str(tmp_path)
    monkeypatch.delattr(FileStore, "_storage_path", raising=False)
    caches["default"].clear()
    yield request.param
    caches["default"].clear()


@pytest.fixture
def often(monkeypatch):
    """Open sockets are checked all the time."""
    monkeypatch.setattr(authority, "CHECK_EVERY", 0.05)


@pytest.fixture
def ada(engine, transactional_db) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("ada", "ada@example.org", "secret-Fjord-17"))
    return client


def cookies_of(client) -> SimpleNamespace:
    return SimpleNamespace(cookies=copy.deepcopy(client.cookies))


@pytest.mark.parametrize("engine", EVERY, indirect=True)
async def test_a_socket_is_its_sessions(engine, socket, ada, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("a socket has written a session")

    visitor = Client()
    await in_thread(visitor.get, "/")
    for name in ("create", "save", "delete", "cycle_key", "flush"):
        monkeypatch.setattr(session_store(), name, refuse)
    for client in (ada, visitor):
        first, second = await socket(client=client), await socket(client=client)
        await first.send(type="start", kind="count_primes", params={"below": 1000})
        assert (await second.frame())["state"] == "PENDING"


@pytest.mark.parametrize("engine", STORED, indirect=True)
async def test_a_session_that_is_flushed_closes_its_sockets(engine, often, socket, ada):
    page = await socket(client=ada)
    session = session_store()(ada.cookies["sessionid"].value)
    await in_thread(session.flush)
    assert await page.closed() == 4401


@pytest.mark.parametrize("engine", EVERY, indirect=True)
async def test_a_user_who_is_deactivated_loses_the_sockets(engine, often, socket, ada):
    page = await socket(client=ada)
    await User.objects.aupdate(is_active=False)
    assert await page.closed() == 4401


@pytest.mark.parametrize("engine", EVERY, indirect=True)
async def test_a_log_out_closes_the_sockets_that_are_open(engine, often, socket, ada):
    page = await socket(client=ada)
    await asyncio.to_thread(ada.post, "/logout/")
    assert await page.closed() == 4401


@pytest.mark.parametrize("engine", EVERY, indirect=True)
@pytest.mark.parametrize("key", ["unknown" * 4, "../../etc/passwd", "a b", "x" * 5000, "a\x00b" * 4, "eyJ9:1:x"])
async def test_a_key_that_names_no_session_is_refused(engine, socket, key):
    page = await socket(client=SimpleNamespace(cookies={"sessionid": SimpleNamespace(value=key)}))
    assert await page.closed() == 4401


@pytest.mark.parametrize("engine", [f"{ENGINES}.file"], indirect=True)
async def test_an_expired_file_is_left_to_its_owner(engine, socket, ada, settings, tmp_path):
    settings.SESSION_COOKIE_AGE = -1
    before = sorted(path.name for path in tmp_path.iterdir())
    assert await (await socket(client=ada)).closed() == 4401
    assert sorted(path.name for path in tmp_path.iterdir()) == before != []


@pytest.mark.parametrize("engine", [f"{ENGINES}.cache"], indirect=True)
async def test_while_the_cache_is_away_nobody_is_closed(engine, often, socket, ada, monkeypatch):
    tried = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def away(keys):
        loop.call_soon_threadsafe(tried.release)
        raise ConnectionError("away")

    page = await socket(client=ada)
    cache = SimpleNamespace(get_many=away)
    with monkeypatch.context() as outage:
        outage.setattr("livejobs.sessions.caches", {"default": cache})
        for _ in range(3):
            await tried.acquire()
        await page.send(type="ping")
        assert await page.until(type="pong")


@pytest.mark.parametrize("engine", [f"{ENGINES}.db", f"{ENGINES}.cached_db"], indirect=True)
def test_many_sessions_take_one_query(engine, django_assert_num_queries):
    sessions: list[SessionBase] = [session_store()() for _ in range(20)]
    for number, session in enumerate(sessions):
        session["number"] = number
        session.create()
    Session.objects.filter(pk=sessions[-1].session_key).update(expire_date=timezone.now() - timedelta(seconds=1))
    with django_assert_num_queries(1):
        found = read_sessions([str(session.session_key) for session in sessions])
    assert [found[str(session.session_key)].load() for session in sessions[:-1]] == [{"number": n} for n in range(19)]
    assert sessions[-1].session_key not in found
