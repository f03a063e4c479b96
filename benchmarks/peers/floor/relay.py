"""The floor: the same broker, and the barest relay there can be. The body of a reply is the frame.

One thread, one loop. The broker's socket is read when there is something to read; no acknowledgements.
"""

import asyncio
import os
from collections import defaultdict

import uvloop
from amqp import Message
from kombu import Connection
from websockets.asyncio.server import ServerConnection, broadcast, serve

sockets: dict[str, set[ServerConnection]] = defaultdict(set)  # task id -> who watches


def on_reply(message: Message) -> None:
    """Send a reply's body to those who watch its task."""
    watching = sockets.get(message.properties["correlation_id"])
    if watching:
        broadcast(watching, message.body, text=True)


async def watch(socket: ServerConnection) -> None:
    """Register a socket under the task id that its path ends with, until it goes."""
    task_id = socket.request.path.strip("/").rpartition("/")[2]
    sockets[task_id].add(socket)
    await socket.wait_closed()
    sockets[task_id].discard(socket)
    if not sockets[task_id]:
        del sockets[task_id]


async def main() -> None:
    """Consume the reply queue and serve, for ever."""
    broker = Connection(os.environ["CELERY_BROKER_URL"], heartbeat=0).connection
    queue = os.environ.get("REPLY_QUEUE", "floor.replies")
    channel = broker.channel()
    channel.queue_declare(queue, durable=True, auto_delete=False)
    channel.basic_consume(queue, no_ack=True, callback=on_reply)
    asyncio.get_running_loop().add_reader(broker.sock, broker.blocking_read)
    async with serve(watch, "127.0.0.1", int(os.environ["PORT"]), compression=None) as server:
        await server.serve_forever()


uvloop.run(main())
