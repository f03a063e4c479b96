"""What the tests share: a database file, an in-memory broker, and a cast of three."""

import json

import pytest
from celery import current_app
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.test import Client

from CeleryProgressbar.asgi import websocket
from HomeApp.hub import hub
from HomeApp.models import User
from HomeApp.owner import VISITOR
from HomeApp.relay import Relay
from HomeApp.tests.browser import browser, page, site, visitor
from HomeApp.tests.openai_server import openai_process, openai_server
from HomeApp.tests.services import amqp_url, chromium, postgres_url, redis_url
from HomeApp.tests.stage import stage

__all__ = ["amqp_url", "chromium", "postgres_url", "redis_url"]  # fixtures, as all that follow
__all__ += ["browser", "page", "site", "visitor"]
__all__ += ["openai_process", "openai_server", "stage"]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory):
    """A file, as sockets read it from threads of their own, which SQLite's in-memory database serves badly."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


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


class Socket(WebsocketCommunicator):
    """A visitor's socket.

    Args:
        path: the socket's URL.
        client: whose session it has; nobody's unless given.
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
        super().__init__(websocket, path, headers=headers, subprotocols=["bearer", token] if token else None)

    async def frame(self) -> dict:
        """Return the next frame."""
        return json.loads(await self.receive_from(timeout=5))

    async def until(self, **fields) -> dict:
        """Return the first frame with these fields: what was read from a row may be told again as news."""
        while not fields.items() <= (frame := await self.frame()).items():
            continue
        return frame

    async def closed(self) -> int:
        """Return the code with which the server closes."""
        message = await self.receive_output(timeout=5)
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
        accepted, _ = await one.connect(timeout=5)
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
