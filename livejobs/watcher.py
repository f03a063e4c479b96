"""One open socket: its owner, and what it is shown."""

import asyncio
import logging
import time
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import async_to_sync
from channels.consumer import get_handler_name
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from livejobs import jobs
from livejobs.authority import guard, owner_by_authority
from livejobs.claims import Authority, owner_now
from livejobs.hub import hub
from livejobs.owner import (
    VISITOR,
    bearer_token,
    page_may_show,
    session_digest,
    session_key,
    user_owner,
)
from livejobs.refused import NotSignedIn
from livejobs.snapshot import Snapshot
from livejobs.under.connection import Connection, connection_under

logger = logging.getLogger(__name__)

#: Close codes, of those for applications (RFC 6455, section 7.4.2): a session or token that is not valid, or not any
#: more; a session that is valid, of another owner than the page's.
UNAUTHORIZED, OTHER_OWNER = 4401, 4410

#: Seconds in which the rest of a socket that has been closed is to be read.
LAST_WORDS = 30


class Watcher(AsyncWebsocketConsumer):
    """One open socket, watching one room of the hub.

    What is shown while an earlier frame is still being written waits in `unsent`, the newest of each job and state
    only: a slow reader costs no more than that and what its connection holds, and is cut by the hub when it has not
    read for long.
    """

    room: str | None = None
    authority: Authority | None = None  #: what it was opened with; None for a socket without a session or token
    owner: str | None = None  #: whose it is; None until that has been looked up
    session = ""  #: the digest of its session's key, by which a log-out finds it
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
            guard.leave(self)
            if self.room:
                hub.leave(self.room, self)
            if self.connection.unread:
                asyncio.get_running_loop().call_later(LAST_WORDS, self.connection.abort)

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """End this consumer; what it holds is let go above, whichever way it ends."""
        raise StopConsumer()

    async def enter(self) -> str | None:
        """Accept the socket. Returns whose it is; None for a socket that brings neither a session nor a token.

        With `Sec-WebSocket-Protocol: bearer, <token>` it is the token's user; else the session says. A browser can set
        no other header of a socket, and a token in the URL would be logged. From here on `guard` checks again and again
        that the session or token is still valid, and of the same owner.

        A page has `?owner=` in the address, with its `page_owner`: it requires a session, of an owner whose jobs it may
        show.

        Raises:
            NotSignedIn: the token or the session is worth nothing, or is not the page's; the socket has been closed.
        """
        token, key = bearer_token(self.scope), session_key(self.scope)
        if token is not None:
            self.authority = Authority(token=token)
        elif key:
            self.authority, self.session = Authority(session=key), session_digest(key)
        if self.authority:
            guard.join(self)
            self.owner = await owner_by_authority(self.authority)
        await self.accept(None if token is None else "bearer")
        page = parse_qs(self.scope.get("query_string", b"").decode("latin1")).get("owner", [""])[0]
        if self.owner is None and (self.authority or page):
            await self.sign_out()
            raise NotSignedIn
        if self.owner and page and not page_may_show(page, self.owner):
            await self.sign_out(OTHER_OWNER)
            raise NotSignedIn
        return self.owner

    async def is_authorised(self) -> bool:
        """Tell whether a frame may act: the session or token is valid now, and of the same owner; if not, sign out."""
        if self.authority and await owner_by_authority(self.authority) != self.owner:
            await self.sign_out()
        return not self.connection.farewell

    def has_its_owner(self) -> bool:
        """Tell whether the session or token is valid now, and of the same owner; called in a thread."""
        return self.authority is None or owner_now(self.authority) == self.owner

    async def sign_out(self, code: int = UNAUTHORIZED) -> None:
        """Close the socket, as its session or token is not valid any more, or of another owner. It is shown no more."""
        guard.leave(self)
        if self.room:
            hub.leave(self.room, self)
        await self.close(code)

    def join(self, room: str) -> None:
        """Watch a room of the hub, which this socket's owner may see; not if the socket was closed meanwhile."""
        if not self.connection.farewell:
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
    _end_session(request.session.session_key)


@receiver(user_logged_in)
def adopt_jobs(request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> None:
    """Let a visitor who logs in keep the jobs started before.

    The log-in has given the session another key. Sockets of the old key are closed, and their pages connect again with
    the new one. The sockets keep their owner: an attacker who had planted the old key would otherwise become the user.
    Source: OWASP, "Session fixation".
    """
    visitor, owner = request.session.pop(VISITOR, None), user_owner(user)
    if visitor:
        jobs.adopt(visitor, owner)
    brought = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if brought != request.session.session_key:
        _end_session(brought)


def _end_session(key: str | None) -> None:
    if key:
        transaction.on_commit(partial(_everywhere, "end_session", session_digest(key)))


@async_to_sync
async def _everywhere(call: str, *arguments: str) -> None:
    hub.everywhere(call, *arguments)
