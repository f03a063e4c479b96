"""A socket ends with its authority: nothing is shown or done for a session or token that is not valid any more."""

import asyncio
import copy
import logging
import os
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from HomeApp.models import User
from livejobs import authority, new_job, watcher
from livejobs.authority import Guard
from livejobs.claims import Authority, owners_of
from livejobs.models import Job, State
from livejobs.owner import page_owner
from livejobs.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

START = {"type": "start", "kind": "count_primes", "params": {"below": 1000}}
PASSWORD = "secret-Fjord-17"

#: How the authority of a user's session ends without a word to this process.
ENDS = {
    "deactivated": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "deleted": lambda user: User.objects.filter(pk=user.pk).delete(),
    "another password": lambda user: User.objects.filter(pk=user.pk).update(password="!"),
    "flushed": lambda user: Session.objects.all().delete(),
    "expired": lambda user: Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1)),
}
#: Those that end the authority of a token too.
ENDS_OF_TOKENS = ["deactivated", "deleted", "another password"]


@pytest.fixture
def often(monkeypatch):
    """Open sockets are checked all the time."""
    monkeypatch.setattr(authority, "CHECK_EVERY", 0.05)


@pytest.fixture
def never(monkeypatch):
    """Open sockets are not checked by themselves while the test runs."""
    monkeypatch.setattr(authority, "CHECK_EVERY", 3600)


@pytest.fixture
def user(transactional_db):
    return User.objects.create_user("ada", "ada@example.org", PASSWORD)


@pytest.fixture
def ada(user) -> Client:
    """The user's browser."""
    client = Client()
    client.force_login(user)
    return client


def with_cookies_of(client: Client) -> SimpleNamespace:
    """The browser as it is now, whatever cookies it gets later."""
    return SimpleNamespace(cookies=copy.deepcopy(client.cookies))


def with_cookie(value: str) -> SimpleNamespace:
    return SimpleNamespace(cookies={"sessionid": SimpleNamespace(value=value)})


def errors(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def log_in(client):
    answer = await asyncio.to_thread(client.post, "/login/", {"username": "ada", "password": PASSWORD})
    assert answer.status_code == 302


async def make(owner, **fields) -> Job:
    return await Job.objects.acreate(owner=owner, kind="count_primes", title="Primes", **fields)


# While it is open


@pytest.mark.parametrize("end", ENDS)
async def test_every_socket_of_a_session_that_ends_is_closed(often, socket, user, ada, end):
    job = await make(f"user-{user.pk}")
    opened = [await socket(path, client=ada) for path in ("/ws/jobs/", f"/ws/task_status/{job.pk}/")]
    for one in opened:
        await one.until(task_id=str(job.pk))
    await in_thread(ENDS[end], user)
    for one in opened:
        async for frame in frames_until_closed(one, 4401):  # the second socket's look-up may be told to the first
            assert str(job.pk) in frame["text"]


@pytest.mark.parametrize("end", ENDS_OF_TOKENS)
async def test_every_socket_of_a_token_that_ends_is_closed(often, socket, user, end):
    page = await socket(token=str(await in_thread(AccessToken.for_user, user)))
    await in_thread(ENDS[end], user)
    assert await page.closed() == 4401


async def test_a_socket_of_a_valid_authority_stays_open(often, socket, user, ada, owner, monkeypatch):
    checked = asyncio.Semaphore(0)

    class Seen(Guard):
        async def _check(self, authorities):
            await super()._check(authorities)
            checked.release()

    monkeypatch.setattr(watcher, "guard", Seen())
    token = str(await in_thread(AccessToken.for_user, user))
    opened = [await socket(client=ada), await socket(client=owner), await socket(), await socket(token=token)]
    for _ in range(3):
        await checked.acquire()
    for one in opened:
        await one.send(type="ping")
        assert await one.frame() == {"type": "pong"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("act", ["start", "cancel", "retry"])
async def test_nothing_is_done_for_an_authority_that_has_ended(never, socket, user, ada, end, act):
    job = await make(f"user-{user.pk}")
    if act == "retry":
        await in_thread(job.end, State.FAILURE)
        await job.asave()
    page = await socket(client=ada)
    await page.until(task_id=str(job.pk))
    before = [row async for row in Job.objects.values()]
    await in_thread(ENDS[end], user)
    await page.send(**{**START, "type": act, "task_id": str(job.pk)})
    assert await page.closed() == 4401
    assert [row async for row in Job.objects.values()] == before


async def test_a_frame_sent_behind_the_one_that_was_refused_does_nothing_either(never, socket, user, ada):
    page = await socket(client=ada)
    await in_thread(ENDS["flushed"], user)
    for frame in (START, START, {"type": "ping"}):
        await page.send(**frame)
    assert await page.closed() == 4401
    assert await page.receive_nothing()
    assert not await Job.objects.aexists()


async def test_a_socket_that_is_closed_is_shown_nothing_more(never, socket, the_hub, user, ada):
    page = await socket(client=ada)
    assert the_hub.rooms
    await in_thread(ENDS["flushed"], user)
    await page.send(**START)
    assert await page.closed() == 4401
    assert not the_hub.rooms
    assert not watcher.guard.watchers


# While it connects


async def test_a_session_that_ends_while_its_socket_connects_closes_it(often, socket, user, ada, monkeypatch):
    accept = watcher.Watcher.accept

    async def end_and_accept(self, *args, **kwargs):
        await in_thread(ENDS["flushed"], user)
        await accept(self, *args, **kwargs)

    monkeypatch.setattr(watcher.Watcher, "accept", end_and_accept)
    job = await make(f"user-{user.pk}")
    for path in ("/ws/jobs/", f"/ws/task_status/{job.pk}/"):
        page = await socket(path, client=ada)
        async for _ in frames_until_closed(page, 4401):
            pass
        await in_thread(ada.force_login, user)


async def frames_until_closed(page, code):
    """Yield the frames before the close."""
    while (message := await page.receive_output(timeout=30))["type"] != "websocket.close":
        yield message
    assert message["code"] == code


@pytest.mark.parametrize("path", ["/ws/jobs/", "/ws/task_status/0b0ae3a6-9a0c-4c9b-8d5f-0f6b0f3b8a11/"])
@pytest.mark.parametrize("cookie", ["unknown" * 4, "short", "with space", "x" * 5000, "\u00e9\u00e9" * 8, "a\x00b" * 4])
async def test_a_cookie_that_names_no_session_is_refused(socket, path, cookie, caplog):
    page = await socket(path, client=with_cookie(cookie))
    await page.send(**START)
    assert await page.closed() == 4401
    await page.disconnect()
    assert not await Job.objects.aexists()
    assert not errors(caplog)


async def test_a_session_that_has_ended_is_refused(socket, user, ada):
    await in_thread(ENDS["expired"], user)
    assert await (await socket(client=ada)).closed() == 4401


async def test_a_session_that_is_nobodys_is_refused(socket):
    session = SessionStore()
    session["cart"] = [1]
    await in_thread(session.create)
    assert await (await socket(client=with_cookie(session.session_key))).closed() == 4401


async def test_without_a_cookie_a_socket_is_a_new_visitors_unless_it_names_an_owner(socket, caplog):
    program = await socket()
    await program.send(**START)
    assert (await program.frame())["state"] == "PENDING"
    page = await socket(f"/ws/jobs/?owner={page_owner('visitor-1')}")
    await page.send(**START)
    assert await page.closed() == 4401
    await page.disconnect()
    assert await Job.objects.acount() == 1
    assert not errors(caplog)


# Log-in


@pytest.mark.parametrize("told", [True, False], ids=["told at once", "found by the check"])
async def test_after_a_log_in_the_other_tabs_go_on_as_the_user(often, socket, owner, user, told, monkeypatch):
    if not told:
        monkeypatch.setattr(watcher, "_everywhere", lambda *args: None)
    job = await make(owner.owner)
    old_tab = await socket(client=owner)
    await old_tab.until(task_id=str(job.pk))
    await log_in(owner)
    async for frame in frames_until_closed(old_tab, 4401):
        assert str(job.pk) in frame["text"]
    new = await socket(client=owner)
    assert (await new.frame())["task_id"] == str(job.pk)
    assert (await Job.objects.aget(pk=job.pk)).owner == f"user-{user.pk}"


async def test_a_start_pressed_in_an_old_tab_after_the_log_in_becomes_the_users_once(
    never, socket, owner, user, monkeypatch
):
    monkeypatch.setattr(watcher, "_everywhere", lambda *args: None)  # it has not yet come through
    old_tab = await socket(client=owner)
    await log_in(owner)
    frame = {**START, "ref": str(uuid.uuid4())}
    await old_tab.send(**frame)
    assert await old_tab.closed() == 4401
    for _ in range(2):  # the page connects again, and sends what was not answered
        await (new := await socket(client=owner)).send(**frame)
        await new.until(ref=frame["ref"])
    assert [job.owner async for job in Job.objects.all()] == [f"user-{user.pk}"]


@pytest.mark.parametrize("frame", ["start", "retry"])
async def test_nothing_is_started_for_a_visitor_who_logs_in_after_the_frame_was_checked(
    never, socket, owner, user, frame, monkeypatch
):
    """The socket's own check has passed; the log-in adopts the visitor's jobs a moment before the start."""
    ended = await sync_to_async(Job.objects.create)(
        owner=owner.owner, kind="count_primes", title="Primes", state="REVOKED", finished_at=timezone.now()
    )
    one = await socket(client=with_cookies_of(owner))
    check = new_job.cleaned_params

    def log_in_meanwhile(*args):
        owner.login(username=user.username, password=PASSWORD)
        return check(*args)

    monkeypatch.setattr(new_job, "cleaned_params", log_in_meanwhile)
    await one.send(**(START if frame == "start" else {"type": "retry", "task_id": str(ended.pk)}))
    while (await one.receive_output(timeout=30))["type"] != "websocket.close":
        pass
    assert [job.owner async for job in Job.objects.all()] == [f"user-{user.pk}"]


@pytest.mark.parametrize("what", ["the API", "the search page"])
def test_nothing_is_started_over_http_for_a_visitor_who_logs_in_meanwhile(owner, user, what, monkeypatch):
    check = new_job.cleaned_params

    def log_in_meanwhile(*args):
        monkeypatch.setattr(new_job, "cleaned_params", check)
        other_tab = Client()
        other_tab.cookies = copy.deepcopy(owner.cookies)
        assert other_tab.login(username=user.username, password=PASSWORD)
        return check(*args)

    monkeypatch.setattr(new_job, "cleaned_params", log_in_meanwhile)
    if what == "the API":
        answer = owner.post("/api/jobs/", {"kind": "count_primes"}, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (401, "signed_out")
    else:
        assert "Load the page again." in owner.post("/search/", {"query": "list"}).content.decode()
    assert not Job.objects.exists()


async def test_the_holder_of_the_key_before_the_log_in_does_not_become_the_user(never, socket, owner, user):
    planted = with_cookies_of(owner)
    before = await socket(client=planted)
    await log_in(owner)
    assert await before.closed() == 4401
    assert await (await socket(client=planted)).closed() == 4401


async def test_a_log_in_as_another_user_closes_the_first_users_sockets(never, socket, user, ada):
    await in_thread(lambda: User.objects.create_user("bob", "bob@example.org", PASSWORD, is_staff=True))
    page = await socket(client=ada)
    await asyncio.to_thread(ada.post, "/admin/login/", {"username": "bob", "password": PASSWORD})
    assert await page.closed() == 4401


async def test_a_page_shows_its_own_owner_or_the_user_whom_its_visitor_has_become(socket, owner, user, ada):
    ours, users = page_owner(owner.owner), page_owner(f"user-{user.pk}")
    for page, client in ((ours, owner), (users, ada), (ours, ada)):
        one = await socket(f"/ws/jobs/?owner={page}", client=client)
        await one.send(type="ping")
        assert (await one.frame())["type"] == "pong"
    for page, client in ((users, owner), (page_owner("visitor-1"), owner), (page_owner("user-0"), ada), ("?", ada)):
        one = await socket(f"/ws/jobs/?owner={page}", client=client)
        await one.send(**START)
        assert await one.closed() == 4410
    assert not await Job.objects.aexists()


async def code_of(page) -> int:
    """Return the code with which a socket that is shown nothing is closed, with the check's own pause."""
    return (await page.receive_output(timeout=30))["code"]


LOG_OUTS = int(os.environ.get("LOG_OUTS", "200"))


async def test_no_socket_survives_the_log_out_beside_which_it_was_opened(socket, caplog):
    users = [User(username=f"user-{number}") for number in range(LOG_OUTS)]
    await User.objects.abulk_create(users)
    at_once = asyncio.Semaphore(10)

    async def log_out(user):
        async with at_once:
            client = Client()
            await in_thread(client.force_login, user)
            cookies = with_cookies_of(client)
            opened = [await socket(client=cookies)]
            leaving = asyncio.create_task(asyncio.to_thread(client.post, "/logout/"))
            opened += await asyncio.gather(*(socket(client=cookies) for _ in range(3)))
            await leaving
            opened.append(await socket(client=cookies))
        await opened[1].send(**START)  # some act, and some only listen
        return [await code_of(one) for one in opened]

    users = [user async for user in User.objects.filter(username__startswith="user-")]
    codes = await asyncio.gather(*(log_out(user) for user in users))
    assert codes == [[4401] * 5] * LOG_OUTS
    assert not await Job.objects.aexists()
    assert not errors(caplog)


# What is read


def session_of(user, **changes) -> str:
    """Write a session of a user. Returns its key."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.update(changes)
    session.create()
    return session.session_key


def owner_by(key: str):
    return owners_of([Authority(session=key)])[Authority(session=key)]


async def test_a_session_signed_with_an_old_secret_is_read_and_stays_as_it_is(often, socket, settings, user, ada):
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new one"
    before = [row async for row in Session.objects.values()]
    page = await socket(client=ada)
    await page.send(**START)
    assert (await page.frame())["type"] == "job"
    assert (await Job.objects.aget()).owner == f"user-{user.pk}"
    assert [row async for row in Session.objects.values()] == before


async def test_a_session_with_another_passwords_hash_is_refused_and_stays_as_it_is(socket, user, ada):
    await in_thread(ENDS["another password"], user)
    before = [row async for row in Session.objects.values()]
    assert await (await socket(client=ada)).closed() == 4401
    assert [row async for row in Session.objects.values()] == before


@pytest.mark.parametrize(
    "changes",
    [
        {HASH_SESSION_KEY: ""},
        {HASH_SESSION_KEY: None},
        {HASH_SESSION_KEY: ["?"]},
        {SESSION_KEY: "ada"},
        {SESSION_KEY: "0"},
        {BACKEND_SESSION_KEY: "no.such.Backend"},
        {BACKEND_SESSION_KEY: None},
    ],
)
def test_what_proves_nothing_is_nobodys(user, changes):
    assert owner_by(session_of(user, **changes)) is None


def test_an_inactive_users_session_is_its_visitors_as_requests_have_it(user):
    key = session_of(user, visitor="visitor-1")
    assert owner_by(key) == f"user-{user.pk}"
    ENDS["deactivated"](user)
    assert owner_by(key) == "visitor-1"


def test_a_backend_that_lets_inactive_users_in_is_asked(user, settings):
    settings.AUTHENTICATION_BACKENDS = [path := "django.contrib.auth.backends.AllowAllUsersModelBackend"]
    ENDS["deactivated"](user)
    assert owner_by(session_of(user, **{BACKEND_SESSION_KEY: path})) == f"user-{user.pk}"


class Moody(ModelBackend):
    """A backend that finds its users itself."""

    problem: Exception | None = None

    def get_user(self, user_id):
        if self.problem:
            raise self.problem
        return super().get_user(user_id)


def test_a_backend_with_a_get_user_of_its_own_is_asked(user, settings):
    settings.AUTHENTICATION_BACKENDS = [path := f"{__name__}.Moody"]
    key = session_of(user, **{BACKEND_SESSION_KEY: path})
    assert owner_by(key) == f"user-{user.pk}"
    ENDS["deactivated"](user)
    assert owner_by(key) is None


def many(number):
    """Write users, and a session and a token of each. Returns their authorities, sessions first."""
    users = [User.objects.create(username=f"user-{each}") for each in range(number)]
    sessions = [Authority(session=session_of(user)) for user in users]
    return users, sessions + [Authority(token=str(AccessToken.for_user(user))) for user in users]


def test_many_are_looked_up_in_a_query_for_each_table(django_assert_num_queries, db):
    users, authorities = many(20)
    with django_assert_num_queries(3):  # sessions, their users, the tokens' users
        owners = owners_of([*authorities, Authority(session="unknown" * 3)])
    assert [owners[each] for each in authorities] == [f"user-{user.pk}" for user in users * 2]


def test_unchanged_data_is_decoded_once(user, monkeypatch):
    decode, decoded = SessionStore.decode, []
    monkeypatch.setattr(SessionStore, "decode", lambda self, data: decoded.append(data) or decode(self, data))
    one = Authority(session=session_of(user))
    for _ in range(3):
        assert owners_of([one])[one] == f"user-{user.pk}"
    assert len(decoded) == 1
    session = SessionStore(one.session)
    del session[SESSION_KEY]
    session.save()
    assert owners_of([one])[one] is None


# What goes wrong


async def test_while_the_database_is_away_nobody_is_closed_and_afterwards_all_is_made_good(
    often, socket, user, ada, monkeypatch, caplog
):
    tries = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def away(authorities):
        loop.call_soon_threadsafe(tries.release)
        raise OperationalError("away")

    page = await socket(client=ada)
    with monkeypatch.context() as outage, caplog.at_level(logging.WARNING, "livejobs.authority"):
        outage.setattr(authority, "owners_of", away)
        await in_thread(ENDS["deactivated"], user)
        for _ in range(6):
            await tries.acquire()
        await page.send(type="ping")
        assert await page.until(type="pong")
    assert caplog.text.count("cannot be read") == 1
    assert await page.closed() == 4401


async def test_one_that_cannot_be_looked_up_stays_open_and_the_others_are_checked(
    often, socket, user, ada, settings, monkeypatch
):
    settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, path := f"{__name__}.Moody"]
    bob = await in_thread(User.objects.create_user, "bob")
    moody = await socket(client=with_cookie(await in_thread(lambda: session_of(bob, **{BACKEND_SESSION_KEY: path}))))
    other = await socket(client=ada)
    monkeypatch.setattr(Moody, "problem", ValueError("not today"))
    await in_thread(ENDS["deactivated"], user)
    assert await other.closed() == 4401
    await moody.send(**START)
    assert (await moody.frame())["code"] == "internal"
    assert not await Job.objects.aexists()


class Open:
    """An open socket."""

    owner = "me"

    def __init__(self, session):
        self.authority = Authority(session=session)


async def test_all_of_many_sockets_are_checked_in_turn(often, monkeypatch):
    batches: list[list[Authority]] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    watchers = [Open(f"key-{number}") for number in range(450)]

    def owners(authorities):
        batches.append(authorities)
        if len(batches) == 5:
            loop.call_soon_threadsafe(done.set)
        return dict.fromkeys(authorities, "me")

    monkeypatch.setattr(authority, "owners_of", owners)
    guard = Guard()
    for each in watchers:
        guard.join(each)
    async with asyncio.timeout(30):
        await done.wait()
    for each in watchers:
        guard.leave(each)
    assert [len(batch) for batch in batches[:5]] == [200] * 5
    assert {each for batch in batches[:3] for each in batch} == {each.authority for each in watchers}
