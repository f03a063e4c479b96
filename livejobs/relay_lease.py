"""One relay at a time: a relay takes replies only while it holds the lease on the reply queue.

Two relays that take the replies of one job side by side tell its percentages out of order, and the percentage that one
has told is not known to the other that tells its end. RabbitMQ has a single active consumer against that; Redis and
the folder broker have nothing. So the database decides, in the same way on every broker: see models/relay_lease.py.
"""

import logging
import math
import time
import uuid

from livejobs.models import RelayLease

logger = logging.getLogger(__name__)

#: Seconds between two renewals by the relay that holds the lease.
EVERY = 0.5
#: Seconds between two looks of a relay that waits for the lease.
LOOK_EVERY = 0.5
#: Seconds of a waiting relay's own successive looks after which a counter that does not move means that its relay died.
#: A relay that is slower than this and lives loses nothing but the lease.
SILENT_FOR = 3.0
#: A waiting relay that did not look for so many seconds was stopped itself, and counts anew.
BLIND_AFTER = 1.5


class Lost(Exception):
    """Another relay has taken the lease."""


class Lease:
    """One relay's claim on a queue.

    Args:
        queue: the queue's name.
    """

    def __init__(self, queue: str) -> None:
        self.queue, self.relay = queue, uuid.uuid4()
        self.next_renewal = 0.0
        self.seen: tuple[uuid.UUID | None, int] | None = None
        self.since, self.last_look = 0.0, -math.inf

    def take(self) -> bool:
        """Look at the lease once, and take it if no living relay holds it.

        Returns:
            Whether this relay holds it now.
        """
        now, last_look = time.monotonic(), self.last_look
        self.last_look = -math.inf  # should the database be out of reach
        row, _ = RelayLease.objects.get_or_create(queue=self.queue)
        self.last_look = now
        held = (row.holder, row.beats)
        if held != self.seen or now - last_look > BLIND_AFTER:
            self.seen, self.since = held, now
        free = row.holder in (None, self.relay)
        if not free and now - self.since < SILENT_FOR:
            return False
        if not RelayLease.objects.take(self.queue, self.relay, *held):
            return False
        if not free:
            logger.warning("Another relay has not renewed its lease for %.0f s: this one takes it", SILENT_FOR)
        self.seen, self.next_renewal = None, now + EVERY
        return True

    def renew(self) -> None:
        """Renew the lease if it is time to.

        Raises:
            Lost: another relay has taken it, as this one had not renewed it for too long.
        """
        now = time.monotonic()
        if now < self.next_renewal:
            return
        if not RelayLease.objects.renew(self.queue, self.relay):
            raise Lost("Another relay has taken the lease.")
        self.next_renewal = now + EVERY

    def release(self) -> None:
        """Give up the lease, if this relay holds it."""
        RelayLease.objects.release(self.queue, self.relay)
