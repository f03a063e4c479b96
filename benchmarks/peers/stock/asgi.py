"""Stock Channels, the web side: a thread takes replies, one `group_send` for each, a consumer sends each on.

Settings, all from the environment:

    CELERY_BROKER_URL   the broker
    REPLY_QUEUE         the durable queue of the replies (tasks.py)
    REDIS_URL           the channel layer's Redis; without it the layer is in memory
    RELAY_LOOP          "own": a plain thread, where `async_to_sync` makes an event loop for each call;
                        "main": a thread of `sync_to_async`, where it uses the server's event loop.
                        In memory it is always "main": that layer's queues belong to the server's loop.
"""

import asyncio
import os
import threading
import uuid
from typing import Any

import django
from asgiref.sync import async_to_sync, sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path
from kombu import Connection, Consumer, Message, Queue
from kombu.mixins import ConsumerMixin
from tasks import REPLY_QUEUE, app, report

REDIS_URL = os.environ.get("REDIS_URL")
RELAY_LOOP = os.environ.get("RELAY_LOOP", "own") if REDIS_URL else "main"

settings.configure(
    SECRET_KEY="a benchmark's",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    },
)
django.setup()
urlpatterns = []


class Relay(ConsumerMixin):
    """The thread that takes replies from the queue. It sends each to its job's group, and acknowledges it."""

    def __init__(self) -> None:
        self.connection = Connection(app.conf.broker_url)
        self.group_send = async_to_sync(get_channel_layer().group_send)

    def get_consumers(self, consumer: type[Consumer], channel: Any) -> list[Consumer]:
        """Consume the durable queue of the replies."""
        return [consumer([Queue(REPLY_QUEUE, durable=True)], callbacks=[self.on_reply], accept=["json"])]

    def on_reply(self, reply: dict[str, Any], message: Message) -> None:
        """Send one reply to its job's group.

        Args:
            reply: what Celery's rpc backend has put into the queue.
            message: the message that it came in.
        """
        task_id = reply["task_id"]
        event = {"type": "job.report", "task_id": task_id, "state": reply["status"], "info": reply["result"]}
        self.group_send(f"job_{task_id}", event)
        message.ack()


class JobConsumer(AsyncJsonWebsocketConsumer):
    """`ws/<task_id>/` watches one task. `ws/start/` starts a task and watches it."""

    async def connect(self) -> None:
        """Join the task's group, where the path tells it."""
        self.jobs = []
        if "task_id" in self.scope["url_route"]["kwargs"]:
            await self.watch(self.scope["url_route"]["kwargs"]["task_id"])
        await self.accept()

    async def watch(self, task_id: str) -> None:
        """Join a task's group."""
        self.jobs.append(f"job_{task_id}")
        await self.channel_layer.group_add(f"job_{task_id}", self.channel_name)

    async def receive_json(self, content: dict[str, Any]) -> None:
        """Start a task. The group is joined first, so that no report is missed."""
        task_id = str(uuid.uuid4())
        await self.watch(task_id)
        arguments = (content["count"], content["rate"])
        await sync_to_async(report.apply_async)(arguments, task_id=task_id, reply_to=REPLY_QUEUE)

    async def job_report(self, event: dict[str, Any]) -> None:
        """Send a report on to the browser."""
        await self.send_json({"task_id": event["task_id"], "state": event["state"], "info": event["info"]})

    async def disconnect(self, code: int) -> None:
        """Leave the groups."""
        for job in self.jobs:
            await self.channel_layer.group_discard(job, self.channel_name)


router = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [path("ws/start/", JobConsumer.as_asgi()), path("ws/<uuid:task_id>/", JobConsumer.as_asgi())]
        ),
    }
)
relaying = None  # in the server's loop

if RELAY_LOOP == "own":
    threading.Thread(target=Relay().run, daemon=True).start()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve; with RELAY_LOOP "main", begin to relay at the first request, as Daphne tells of no start."""
    global relaying
    if RELAY_LOOP == "main" and relaying is None:
        relaying = asyncio.create_task(sync_to_async(Relay().run, thread_sensitive=False)())
    await router(scope, receive, send)
