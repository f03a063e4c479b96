"""Starts this web process's hub and relay, and stops them with it."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from HomeApp.hub import hub
from HomeApp.relay import Relay
from HomeApp.snapshot import Snapshot


class RelayMiddleware:
    """Starts this web process's hub and relay when the server first speaks to it.

    The first word is `lifespan` where the server knows it (uvicorn), and the first request or socket elsewhere
    (Daphne). Source: ASGI specification, "Lifespan Protocol".

    Args:
        application: the ASGI application that answers.
    """

    def __init__(self, application: Any) -> None:
        self.application = application
        self.relay: Relay | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass requests and sockets on; answer `lifespan`."""
        if self.relay is None:
            # Each full collection stops all sockets for 0.1 s: what is there by now stays and need not be looked at
            # again, and the rest is looked at less often. Source: Python's gc module, `freeze` and `set_threshold`.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000)
            self.relay = Relay(_publish_to(asyncio.get_running_loop()))
            hub.on_adopted = self.relay.adopt
            await hub.open()
            self.relay.start()
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.relay.stop()
            await hub.close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self.application(scope, receive, send)


def _publish_to(loop: asyncio.AbstractEventLoop) -> Callable[[list[Snapshot]], None]:
    async def show(snapshots: list[Snapshot]) -> None:
        hub.publish(snapshots)

    def publish(snapshots: list[Snapshot]) -> None:
        # Waiting for the event loop keeps the relay from running ahead of it: there is one batch between them.
        asyncio.run_coroutine_threadsafe(show(snapshots), loop).result(timeout=10)

    return publish
