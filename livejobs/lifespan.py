"""Starts this process's hub and relay, and stops them with it."""

import asyncio
from collections.abc import Callable
from typing import Any

from livejobs.hub import hub
from livejobs.relay import Relay
from livejobs.snapshot import Snapshot


class RelayMiddleware:
    """Starts this web process's hub and relay when the server first speaks to it.

    The first word is `lifespan` if the server knows it (uvicorn), and the first request or socket if not (Daphne).
    Source: ASGI specification, "Lifespan Protocol".

    Args:
        application: the ASGI application that answers.
    """

    #: Whether this process has made one; a system check asks.
    made = False

    def __init__(self, application: Any) -> None:
        RelayMiddleware.made = True
        self.application = application
        self.relay: Relay | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass requests and sockets on; answer `lifespan`."""
        if self.relay is None:
            self.relay = relay = new_relay()
            try:
                await start(relay)
            except BaseException:
                self.relay = None  # the next request tries again; without a hub, no page would be told anything
                raise
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await stop(self.relay)
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self.application(scope, receive, send)


def new_relay() -> Relay:
    """Return a relay that publishes to this process's hub, in the running event loop."""
    return Relay(_publish_to(asyncio.get_running_loop()), hub.newest.get)


async def start(relay: Relay) -> None:
    """Open the hub, and start a relay.

    Raises:
        Exception: the channel layer cannot be reached, or is none.
    """
    hub.on_adopted = relay.adopt
    await hub.open()
    relay.start()


async def stop(relay: Relay) -> None:
    """Stop a relay, and close the hub."""
    relay.stop()
    await hub.close()


def _publish_to(loop: asyncio.AbstractEventLoop) -> Callable[[list[Snapshot]], None]:
    async def show(snapshots: list[Snapshot]) -> None:
        if not hub.is_open:
            raise ConnectionError("This web process closes: another one takes these replies.")
        hub.publish(snapshots)

    def publish(snapshots: list[Snapshot]) -> None:
        # Waiting for the event loop keeps the relay from running ahead of it: there is one batch between them.
        asyncio.run_coroutine_threadsafe(show(snapshots), loop).result(timeout=10)

    return publish
