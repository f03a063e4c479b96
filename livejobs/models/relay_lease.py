"""The relay's lease on the reply queue: one relay of all web processes takes the replies, on every broker."""

import uuid

from django.db import models
from django.db.models import F


class RelayLeaseQuerySet(models.QuerySet["RelayLease"]):
    """Leases on reply queues, by the statements that move them. Each is one compare-and-set."""

    def take(self, queue: str, relay: uuid.UUID, holder: uuid.UUID | None, beats: int) -> bool:
        """Take the lease on a queue from a relay that has released it, or whose counter stands still.

        Args:
            queue: the queue's name.
            relay: the id of the relay that takes it.
            holder: the relay that holds it; None if none does.
            beats: the counter that did not move.

        Returns:
            Whether it was taken: another relay may have been quicker.
        """
        unmoved = self.filter(queue=queue, holder=holder, beats=beats)
        return bool(unmoved.update(holder=relay, beats=F("beats") + 1))

    def renew(self, queue: str, relay: uuid.UUID) -> bool:
        """Advance the counter of the lease on a queue.

        Args:
            queue: the queue's name.
            relay: the id of the relay that holds it.

        Returns:
            False if another relay has taken it.
        """
        return bool(self.filter(queue=queue, holder=relay).update(beats=F("beats") + 1))

    def release(self, queue: str, relay: uuid.UUID) -> None:
        """Give up the lease on a queue, so that another relay takes it at once.

        Args:
            queue: the queue's name.
            relay: the id of the relay that holds it.
        """
        self.filter(queue=queue, holder=relay).update(holder=None)


class RelayLease(models.Model):
    """The lease on one reply queue. Its counter proves that the holder lives: no clock is compared."""

    queue = models.CharField(max_length=255, primary_key=True)
    holder = models.UUIDField(null=True, help_text="The id of the relay that takes the replies; empty if none does.")
    beats = models.PositiveBigIntegerField(default=0, help_text="Grows while the relay lives.")

    objects = RelayLeaseQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.queue}: {self.holder}"
