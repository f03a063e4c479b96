"""One relay at a time: how the lease on the reply queue is taken, renewed, released and lost."""

import uuid

import pytest
from django.db import OperationalError

from livejobs import relay_lease
from livejobs.models import RelayLease
from livejobs.models.relay_lease import RelayLeaseQuerySet
from livejobs.relay_lease import BLIND_AFTER, EVERY, LOOK_EVERY, SILENT_FOR, Lease, Lost

pytestmark = pytest.mark.django_db

QUEUE = "replies"


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(relay_lease, "time", clock)
    return clock


@pytest.fixture
def holder(clock) -> Lease:
    """A relay that holds the lease."""
    lease = Lease(QUEUE)
    assert lease.take()
    return lease


@pytest.fixture
def waiting(clock) -> Lease:
    """A relay that waits for the lease."""
    return Lease(QUEUE)


def look(lease, clock, seconds, each=lambda: None):
    """Let a relay look for some seconds. Returns the seconds until it took the lease; None if it did not."""
    began = clock.now
    while clock.now - began <= seconds:
        if lease.take():
            return clock.now - began
        clock.now += LOOK_EVERY
        each()
    return None


def test_the_first_relay_takes_the_lease_and_the_second_one_waits(holder, waiting, clock):
    assert look(waiting, clock, 60, each=holder.renew) is None
    assert RelayLease.objects.get().holder == holder.relay


def test_a_relay_that_dies_is_followed_by_another(holder, waiting, clock):
    assert look(waiting, clock, 60) == SILENT_FOR
    clock.now += EVERY
    with pytest.raises(Lost):
        holder.renew()


def test_a_relay_that_releases_the_lease_is_followed_at_once(holder, waiting):
    assert not waiting.take()
    holder.release()
    assert waiting.take()


def test_only_the_holder_can_release_the_lease(holder, waiting):
    waiting.release()
    assert RelayLease.objects.get().holder == holder.relay


def test_a_relay_takes_its_own_lease_again_after_it_lost_its_connections(holder):
    assert holder.take()
    holder.renew()


def test_a_relay_that_was_stopped_itself_counts_anew(holder, waiting, clock):
    assert not waiting.take()
    clock.now += SILENT_FOR + BLIND_AFTER
    assert not waiting.take()
    assert look(waiting, clock, 60) == SILENT_FOR


def test_a_look_that_could_not_read_the_database_counts_anew(holder, waiting, clock, monkeypatch):
    def refuse(self, **kwargs):
        raise OperationalError("the database is away")

    assert look(waiting, clock, SILENT_FOR - 2 * LOOK_EVERY) is None
    with monkeypatch.context() as away:
        away.setattr(RelayLeaseQuerySet, "get_or_create", refuse)
        with pytest.raises(OperationalError):
            waiting.take()
    clock.now += LOOK_EVERY
    assert look(waiting, clock, 60) == SILENT_FOR


def test_of_two_relays_that_wait_one_takes_the_lease(holder, waiting, clock):
    other = Lease(QUEUE)
    taken = []
    for _ in range(20):
        taken += [lease for lease in (waiting, other) if lease not in taken and lease.take()]
        for lease in taken:
            lease.renew()
        clock.now += LOOK_EVERY
    assert len(taken) == 1


def test_a_lease_is_taken_only_from_the_holder_that_was_seen(holder):
    assert not RelayLease.objects.take(QUEUE, uuid.uuid4(), uuid.uuid4(), 1)
    assert not RelayLease.objects.take(QUEUE, uuid.uuid4(), holder.relay, 0)
    assert RelayLease.objects.get().holder == holder.relay


def test_each_queue_has_a_lease_of_its_own(holder):
    assert Lease("other").take()
    assert RelayLease.objects.count() == 2
