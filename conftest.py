"""What the tests share: a database file, an in-memory broker, and a cast of three."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest
from celery import current_app
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.db.backends.signals import connection_created
from django.test import Client

from CeleryProgressbar.asgi import application
from HomeApp.models import User
from livejobs import earlier_runs
from livejobs.hub import hub
from livejobs.owner import VISITOR
from livejobs.pytest_plugin import run_job
from livejobs.relay import Relay
from testkit import all_ran
from testkit.browser import browser, page, scriptless, site, visitor
from testkit.kinds import new_kind
from testkit.openai_server import openai_process, openai_server
from testkit.own_services import own_services
from testkit.pages import open_page, whole
from testkit.services import amqp_url, chromium, postgres_url, redis_broker_url, redis_url
from testkit.stage import stage

__all__ = ["amqp_url", "chromium", "postgres_url", "redis_broker_url", "redis_url"]  # fixtures, as all that follow
__all__ += ["browser", "page", "scriptless", "site", "visitor"]
__all__ += ["openai_process", "openai_server"]
__all__ += ["new_kind", "open_page", "own_services", "run_job", "stage", "whole"]

#: Fixtures that start processes, a browser or a service, or need one.
SLOW_FIXTURES = {"amqp_url", "browser", "chromium", "postgres_url", "redis_broker_url", "redis_url", "site", "stage"}


def pytest_configure(config):
    """Fail the run if a test that was collected has not run. Passwords are hashed in a moment, in these processes."""
    all_ran.register(config)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_modifyitems(items):
    """Mark the slow tests, and put their files first: with pytest-xdist the quick ones fill the gaps at the end.

    Slow is what uses a slow fixture, and whatever is in a file that starts a `Site` itself.
    """
    for item in items:
        if not SLOW_FIXTURES.isdisjoint(item.fixturenames) or hasattr(item.module, "Site"):
            item.add_marker(pytest.mark.slow)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


#: Lines of each process's log that are shown beside a failure.
LOG_LINES = 25


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Show what the processes of a failed test have printed last: their folder is deleted sooner or later."""
    report = yield
    if report.failed:
        folders = {
            folder for used in item.funcargs.values() if isinstance(folder := getattr(used, "folder", None), Path)
        }
        for log in sorted(log for folder in folders for log in folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            report.sections.append((f"the end of {log.name}", "\n".join(lines)))
    return report


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory):
    """A file, as sockets read it from threads of their own, which SQLite's in-memory database serves badly."""
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(scope="session")
def opened_in_executors():
    """The database connections that threads of executors have opened, each with its thread."""
    opened = []

    def note(connection, **_):
        thread = threading.current_thread()
        if thread.name.startswith(("asyncio_", "ThreadPoolExecutor")):
            opened.append((thread, connection))

    connection_created.connect(note)
    yield opened
    connection_created.disconnect(note)


@pytest.fixture(autouse=True)
def no_connection_outlives_its_executor(opened_in_executors):
    """Close what tests have opened by `asyncio.to_thread` and the like: Python 3.13 warns of each connection left open.

    Threads of the engine have names of their own, and close their connections themselves.
    """
    yield
    for thread, connection in list(opened_in_executors):
        if not thread.is_alive():
            opened_in_executors.remove((thread, connection))
            connection.inc_thread_sharing()
            connection.close()


@pytest.fixture(autouse=True)
def no_earlier_runs():
    """Let no test find the runs of another one."""
    earlier_runs.forget()


@pytest.fixture(scope="session", autouse=True)
def memory_broker():
    """kombu's in-memory twin of a broker, for every test that does not start processes of its own."""
    current_app.conf.update(broker_url="memory://", broker_transport_options={"polling_interval": 0.01})


@pytest.fixture
async def the_hub():
    """The process's hub, open and knowing nothing."""
    channel_layers.backends.clear()
    hub.rooms.clear()
    hub.newest.clear()
    hub.remembered = 0
    await hub.open()
    yield hub
    await hub.close()


#: Seconds that a frame may take: the machine may be slow.
PATIENCE = 20


class Socket(WebsocketCommunicator):
    """A visitor's socket.

    Args:
        path: the socket's URL.
        client: the client of Django whose session cookie the socket sends; no cookie unless given.
        token: a JWT that it brings.
    """

    def __init__(
        self,
        path: str = "/ws/jobs/",
        client: Client | None = None,
        origin: str | None = None,
        token: str | None = None,
    ):
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items()) if client else ""
        headers = [(b"cookie", cookies.encode())] if cookies else []
        if origin:
            headers.append((b"origin", origin.encode()))
        super().__init__(
            application.application, path, headers=headers, subprotocols=["bearer", token] if token else None
        )

    async def frame(self) -> dict:
        """Return the next frame."""
        return json.loads(await self.receive_from(timeout=PATIENCE))

    async def until(self, **fields) -> dict:
        """Return the first frame with these fields: what was read from a row may be told again as news."""
        while not fields.items() <= (frame := await self.frame()).items():
            continue
        return frame

    async def closed(self) -> int:
        """Return the code with which the server closes."""
        message = await self.receive_output(timeout=PATIENCE)
        assert message["type"] == "websocket.close", message
        return message["code"] if message.get("code") else 1000

    async def send(self, **frame):
        """Send a frame."""
        await self.send_to(text_data=json.dumps(frame))


@pytest.fixture
async def socket(the_hub):
    """Opens sockets, and closes them at the end."""
    opened = []

    async def open_socket(*args, **kwargs) -> Socket:
        one = Socket(*args, **kwargs)
        opened.append(one)
        accepted, _ = await one.connect(timeout=PATIENCE)
        assert accepted
        return one

    yield open_socket
    for one in opened:
        if not one.future.done():
            await one.disconnect()


@pytest.fixture
def owner(transactional_db) -> Client:
    """The one who starts the jobs."""
    client = Client()
    client.get("/")
    client.owner = client.session[VISITOR]
    return client


@pytest.fixture
def another_user(transactional_db) -> Client:
    """Somebody else, who is logged in."""
    client = Client()
    client.force_login(User.objects.create_user("another"))
    return client


@pytest.fixture
def stranger() -> Client:
    """Somebody without any session."""
    return Client()


@pytest.fixture
def relay() -> Relay:
    """A relay with no broker, and what it has published."""
    published = []
    relay = Relay(published.extend)
    relay.published = published
    return relay
