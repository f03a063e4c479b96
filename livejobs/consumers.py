"""The sockets. A consumer decides which room of the hub a socket joins, and turns client frames into jobs."""

import json
import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from livejobs import jobs
from livejobs.conf import conf
from livejobs.hub import hub
from livejobs.models import Job
from livejobs.owner import new_visitor
from livejobs.refused import NotSignedIn
from livejobs.snapshot import Snapshot
from livejobs.threads import LookUp, in_thread
from livejobs.watcher import Watcher

logger = logging.getLogger(__name__)

#: A client frame is at most this many bytes. The page checks it too, in socket.js.
FRAME_BYTES = 32 * 1024
#: What names the start or the job in a frame that is not read, as it is too large or no JSON.
NAMED = re.compile(r'"(ref|task_id)" ?: ?"([0-9A-Fa-f-]{36})"')
#: Close codes of this site; 4000 to 4999 are for applications (RFC 6455, section 7.4.2).
NOT_FOUND, TOO_MANY_SOCKETS = 4404, 4429

TOO_MANY_PAGES = "You have {} pages open here, the most there may be. Close one of them."
TOO_LARGE = f"A frame has at most {FRAME_BYTES} bytes. Send a shorter one, or send it over HTTP."
UNANSWERED = "Something went wrong here. Send the same frame with the same ref again: it starts one job at most."

#: What a client frame asks for, by its type.
ASK: dict[str, Callable[[Watcher, dict[str, Any]], Job]] = {
    "start": lambda socket, frame: jobs.start(
        socket.owner or "",
        frame.get("kind"),
        frame.get("params", {}),
        frame["ref"],
        is_authorised=socket.has_its_owner,
    ),
    "cancel": lambda socket, frame: jobs.cancel(socket.owner, frame.get("task_id")),
    "retry": lambda socket, frame: jobs.retry(
        socket.owner, frame.get("task_id"), frame["ref"], is_authorised=socket.has_its_owner
    ),
}

#: What an owner may see, for many sockets in one go.
jobs_by_owner: LookUp[str, list[Snapshot]] = LookUp(lambda owners: _visible_to(owners), [])


class JobsConsumer(Watcher):
    """`ws/jobs/`: all jobs of one owner, and the way to start one."""

    owner: str

    async def connect(self) -> None:
        """Let the owner in: the present state of all that may be seen, then every change."""
        try:
            self.owner = await self.enter() or new_visitor()
        except NotSignedIn:
            return
        if len(hub.rooms.get(self.owner, ())) >= conf.SOCKETS_PER_OWNER:
            await self.refuse(jobs.Refused("too_many_sockets", TOO_MANY_PAGES.format(conf.SOCKETS_PER_OWNER)))
            await self.close(TOO_MANY_SOCKETS)
        else:
            self.join(self.owner)
            await self.refresh()

    async def refresh(self) -> None:
        """Show the present state of all that may be seen."""
        for snapshot in await jobs_by_owner(self.owner):
            self.show(hub.latest(snapshot))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take a client frame. A bad one is answered with an error frame, and nothing else happens.

        A frame that acts is done only if the socket's session or token is still valid; if not, then it is not answered
        and the socket is closed. It is not done either if its connection was lost meanwhile: the page has sent it again
        over another connection, and may have been refused there.
        """
        frame: dict[str, Any] = {}
        try:
            frame = _read(text_data)
            if str(frame.get("type")) not in ASK or (await self.is_authorised() and not self.connection.lost):
                await self._handle(frame)
        except NotSignedIn:
            await self.sign_out()
        except jobs.Refused as refused:
            await self.refuse(refused, frame or dict(NAMED.findall(text_data or "")))
        except Exception:
            logger.exception("A frame could not be answered: %.200r", text_data)
            await self.refuse(jobs.Refused("internal", UNANSWERED), frame)

    async def _handle(self, frame: dict[str, Any]) -> None:
        if frame.get("type") == "ping":  # a page cannot send the protocol's own
            await self.send('{"type":"pong"}')
            return
        ask = ASK.get(str(frame.get("type")))
        if ask is None:
            raise jobs.Refused("unknown_type", f"type: there is no such frame. Known: {', '.join(ASK)}.", "type")
        if frame.get("ref") is None:
            frame = {**frame, "ref": str(uuid.uuid4())}  # should it be asked twice, it is the same start
        job = await in_thread(ask, self, frame)
        if job.repeated or job.cancelling:  # all else has been announced to all sockets, this one too
            self.show(hub.latest(Snapshot.of(job)))

    async def refuse(self, refused: jobs.Refused, frame: dict[str, Any] | None = None) -> None:
        """Send an error frame, which names the start or the job that the client's frame has named."""
        about = frame or {}
        await self.send(json.dumps(refused.as_frame(about.get("ref"), about.get("task_id"))))


class NoSuchSocket(Watcher):
    """Any other path: closed at once."""

    async def connect(self) -> None:
        """Close with `NOT_FOUND`; a browser is told the code of an accepted socket only."""
        logger.info("There is no socket at %.200r", self.scope["path"])
        await self.accept()
        await self.close(NOT_FOUND)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore what was sent before the close arrived."""


class TaskStatusConsumer(Watcher):
    """`ws/task_status/<task_id>/`: one job, for its owner; closed by the server after the final state."""

    async def connect(self) -> None:
        """Let the job's owner in; to all others it is as if there were no such job."""
        task_id = self.scope["url_route"]["kwargs"]["task_id"]
        try:
            self.owner = await self.enter()
            job = await in_thread(jobs.job_of, self.owner, task_id)
        except NotSignedIn:
            return
        except jobs.Refused:
            await self.close(NOT_FOUND)
        else:
            self.join(str(job.pk))
            self.show(hub.latest(Snapshot.of(job)))

    async def refresh(self) -> None:
        """Show the present state of the job."""
        job = await in_thread(jobs.job_of, self.owner, self.room)
        self.show(hub.latest(Snapshot.of(job)))

    async def shown(self, snapshot: Snapshot) -> None:
        """Close after the final state."""
        if snapshot.final:
            await self.close()


def _read(text: str | None) -> dict[str, Any]:
    if text is None:
        raise jobs.Refused("bad_frame", "Send text frames with JSON; binary frames are not understood.")
    if len(text.encode(errors="replace")) > FRAME_BYTES:
        raise jobs.Refused("frame_too_large", TOO_LARGE)
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise jobs.Refused("bad_json", f"This is not JSON: {problem}.") from None
    if not isinstance(frame, dict):
        raise jobs.Refused("bad_frame", 'Send a JSON object, for example {"type": "start", "kind": "count_primes"}.')
    return frame


def _visible_to(owners: list[str]) -> dict[str, list[Snapshot]]:
    visible = Job.objects.visible_to(owners, conf.RECENT)
    return {owner: [Snapshot.of(job) for job in mine] for owner, mine in visible.items()}
