"""One open socket: who it is, and what it is shown."""

import asyncio
import logging
import time
from typing import Any

from asgiref.sync import async_to_sync
from channels.consumer import get_handler_name
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest

from HomeApp.connection import Connection, connection_under
from HomeApp.hub import hub
from HomeApp.models import Job
from HomeApp.owner import VISITOR, NotSignedIn, bearer_token, owner_of_token, owners_of, session_digest, session_key
from HomeApp.snapshot import Snapshot
from HomeApp.threads import LookUp, in_thread

logger = logging.getLogger(__name__)

#: Close code of whoever is not signed in, or not any more; 4000 to 4999 are for applications (RFC 6455, section 7.4.2).
UNAUTHORIZED = 4401

#: Seconds in which the rest of a socket that has been closed is to be read.
LAST_WORDS = 30

#: Who a session is, for many sockets in one go.
owner_by_session = LookUp(owners_of, None)


class Watcher(AsyncWebsocketConsumer):
    """One open socket, watching one room of the hub.

    What is shown while an earlier frame is still being written waits in `unsent`, the newest of each job and state
    only: a slow reader costs no more than that and what its connection holds, and is cut by the hub when it has not
    read for long.
    """

    room: str | None = None
    session = ""  #: the digest of its session's key, by which a log-out finds it
    expiry: asyncio.TimerHandle | None = None
    writing: float | None = None  #: since when it writes, by `time.monotonic`
    writer: asyncio.Task[Any] | None = None
    is_cut = False
    connection: Connection

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle this socket's messages in turn.

        Unlike `AsyncConsumer`, it opens no channel of its own, as the hub has one for the whole process, and does
        not wait for asgiref's one thread before each message, as no handler here uses that thread's connection.
        """
        self.connection = connection_under(send)
        self.scope, self.base_send = scope, self.connection.send
        self.task = asyncio.current_task()
        self.unsent: dict[tuple[str, str], Snapshot] = {}
        try:
            while True:
                message = await receive()
                await getattr(self, get_handler_name(message))(message)
        except StopConsumer:
            pass
        except asyncio.CancelledError:
            if not self.is_cut:
                raise
        finally:
            self.unsent.clear()
            if self.expiry:
                self.expiry.cancel()
            if self.room:
                hub.leave(self.room, self)
            if self.connection.unread:
                asyncio.get_running_loop().call_later(LAST_WORDS, self.connection.abort)

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """End this consumer; what it holds is let go above, whichever way it ends."""
        raise StopConsumer()

    async def enter(self) -> str | None:
        """Accept the socket. Returns whose it is; None for a socket of nobody.

        With `Sec-WebSocket-Protocol: bearer, <token>` it is the token's user, until the token expires; else the
        session says. A browser can set no other header of a socket, and a token in the URL would be logged.

        Raises:
            NotSignedIn: the token is worth nothing; the socket has been closed with `UNAUTHORIZED`.
        """
        token = bearer_token(self.scope)
        if token is None:
            key = session_key(self.scope)
            self.session = session_digest(key)
            owner = await owner_by_session(key)
            await self.accept()
            return owner
        await self.accept("bearer")
        try:
            owner, seconds = await in_thread(owner_of_token, token)
        except NotSignedIn:
            await self.sign_out()
            raise
        loop = asyncio.get_running_loop()
        self.expiry = loop.call_later(seconds, lambda: loop.create_task(self.sign_out()))
        return owner

    async def sign_out(self) -> None:
        """Close the socket, as it is not signed in any more."""
        await self.close(UNAUTHORIZED)

    def join(self, room: str) -> None:
        """Watch a room of the hub, which this socket's owner may see."""
        self.room = room
        hub.join(room, self)

    def show(self, snapshot: Snapshot) -> None:
        """Take a snapshot to be sent; never waits."""
        key = snapshot.task_id, snapshot.state
        self.unsent.pop(key, None)  # to the end of the line: frames go out in the order of `seq`
        self.unsent[key] = snapshot
        if self.writing is None:
            self.writing = time.monotonic()
            hub.write_soon(self)

    async def write(self) -> None:
        """Send what is unsent."""
        self.writer = asyncio.current_task()
        try:
            while self.unsent:
                snapshot = self.unsent.pop(next(iter(self.unsent)))
                self.writing = time.monotonic()
                await self.connection.send_text(snapshot.text)
                await self.shown(snapshot)
        finally:
            self.writing = self.writer = None

    async def shown(self, snapshot: Snapshot) -> None:
        """Called when a snapshot has been sent."""

    async def refresh(self) -> None:
        """Show the present state once more, as news may have been missed."""

    def is_stuck(self, patience: float) -> bool:
        """Tell whether the other side has taken nothing for so many seconds, or the server waits for it to end."""
        waits = self.writing is not None and self.writing < time.monotonic() - patience
        return waits or self.connection.closing

    def cut(self) -> None:
        """End this socket without a word, as it does not read any."""
        logger.info("A socket that does not read has been cut")
        self.is_cut = True
        self.connection.abort()
        if self.writer:
            self.writer.cancel()
        if self.task:
            self.task.cancel()


@receiver(user_logged_out)
def close_sockets(request: HttpRequest, **kwargs: Any) -> None:
    """Close the sockets of a session that is logged out."""
    if request.session.session_key:
        _everywhere("end_session", session_digest(request.session.session_key))


@receiver(user_logged_in)
def adopt_jobs(request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> None:
    """Let a visitor who logs in keep the jobs started before."""
    visitor, owner = request.session.pop(VISITOR, None), f"user-{user.pk}"
    if visitor and Job.objects.filter(owner=visitor).update(owner=owner):
        _everywhere("adopt", visitor, owner)


@async_to_sync
async def _everywhere(call: str, *arguments: str) -> None:
    hub.everywhere(call, *arguments)
