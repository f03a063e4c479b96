"""The relay at the reply queue: what it takes up, and when it acknowledges. The broker is a folder."""

import json
import threading
import uuid

import pytest
from celery import current_app
from django.db import OperationalError

from livejobs import relay as relay_module
from livejobs.backend import REPLY_QUEUE
from livejobs.jobs import kinds
from livejobs.models import SEQ_PER_ATTEMPT, Job, RelayLease
from livejobs.relay import Relay
from testkit.processes import wait_until


@pytest.fixture
def job(transactional_db) -> Job:
    return Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")


def reply(broker, job, status="SUCCESS", result=None):
    body = json.dumps({"task_id": str(job.pk), "status": status, "result": result, "traceback": None})
    publish(broker, body)


def publish(broker, body, content_type="application/json"):
    message = broker.prepare_message(body, content_type=content_type, content_encoding="utf-8")
    broker.basic_publish(message, "", REPLY_QUEUE.name)


@pytest.fixture
def queue(tmp_path, transactional_db):
    """A channel to a broker of this test's own."""
    conf = current_app.conf
    usual = {"broker_read_url": conf.broker_read_url, "broker_transport_options": conf.broker_transport_options}
    folders = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], str(tmp_path))
    conf.update(
        broker_read_url="filesystem://localhost//", broker_transport_options={**folders, "polling_interval": 0.01}
    )
    with current_app.connection_for_read() as connection:
        REPLY_QUEUE(connection.default_channel).declare()
        yield connection.default_channel
    conf.update(usual)


@pytest.fixture
def running(queue):
    """Starts relays in threads of their own; stops them."""
    relays, threads = [], []

    def start(publish, listens=True):
        relay = Relay(publish)
        relays.append(relay)
        threads.append(threading.Thread(target=relay.run))
        threads[-1].start()
        assert not listens or relay.listening.wait(5)
        return relay

    yield start
    for relay in relays:
        relay.stop()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


class Heard:
    """Takes snapshots, and lets a test wait for them."""

    def __init__(self):
        self.snapshots, self.arrival = [], threading.Condition()

    def __call__(self, snapshots):
        with self.arrival:
            self.snapshots += snapshots
            self.arrival.notify_all()

    def wait_for(self, count):
        with self.arrival:
            assert self.arrival.wait_for(lambda: len(self.snapshots) >= count, 10), self.snapshots
            return [snapshot.state for snapshot in self.snapshots]


def test_replies_come_from_the_reply_queue(running, queue, job):
    heard = Heard()
    running(heard)
    reply(queue, job, "PROGRESS", {"current": 1, "total": 2, "seq": SEQ_PER_ATTEMPT + 1, "attempt": 1})
    reply(queue, job, "SUCCESS", 25)
    assert heard.wait_for(2) == ["PROGRESS", "SUCCESS"]
    assert Job.objects.get().result == 25


def test_replies_that_came_while_nobody_listened_are_taken_up(running, queue, job):
    reply(queue, job)
    heard = Heard()
    running(heard)
    assert heard.wait_for(1) == ["SUCCESS"]


@pytest.mark.parametrize("ended_by", ["a lost connection", "a stop", "a lost connection while the database is away"])
def test_what_was_told_is_saved_before_another_relay_goes_on(running, queue, job, monkeypatch, ended_by):
    heard = Heard()
    relay = running(heard)
    monkeypatch.setattr(relay.cache, "save_percentages", lambda: None)  # its time has not come
    monkeypatch.setattr(relay_module, "RETRY_AFTER", 0.01)
    for number in (1, 59):
        report = {"current": number, "total": 100, "seq": SEQ_PER_ATTEMPT + number, "attempt": 1}
        reply(queue, job, "PROGRESS", report)
        heard.wait_for(number // 58 + 1)
    assert Job.objects.get().current == 1
    if "database" in ended_by:
        save, faults = relay.cache.clear, iter([OperationalError("gone")])
        monkeypatch.setattr(relay.cache, "clear", lambda: raise_next(faults) or save())
    if ended_by == "a stop":
        relay.stop()
    else:
        faults_of_broker = iter([ConnectionResetError()])
        monkeypatch.setattr(relay, "sweep", lambda connection: raise_next(faults_of_broker) or [])
    wait_until(lambda: Job.objects.get().current == 59, "what was told is saved")


def raise_next(faults):
    """Raise the next of these, until there are no more."""
    for fault in faults:
        raise fault


def test_a_second_relay_waits_until_the_first_one_stops(running, queue, job):
    first, second = Heard(), Heard()
    relay = running(first)
    successor = running(second, listens=False)
    reply(queue, job, "PROGRESS", {"current": 1, "total": 2, "seq": SEQ_PER_ATTEMPT + 1, "attempt": 1})
    assert first.wait_for(1) == ["PROGRESS"]
    assert not successor.listening.is_set()
    relay.stop()
    assert successor.listening.wait(5)
    reply(queue, job)
    assert second.wait_for(1) == ["SUCCESS"]


def test_a_relay_that_was_stopped_takes_no_replies_beside_its_successor(running, queue, job):
    stopped, heard = Heard(), Heard()
    relay = running(stopped)
    successor = uuid.uuid4()
    lease = RelayLease.objects.get()
    assert RelayLease.objects.filter(holder=relay.lease.relay).update(holder=successor)
    relay.lease.next_renewal = 0  # it was stopped for longer than a renewal may take
    reply(queue, job)
    wait_until(lambda: not relay.listening.is_set(), "the relay has given way")
    assert (stopped.snapshots, Job.objects.get().state) == ([], "PENDING")
    RelayLease.objects.release(lease.queue, successor)
    running(heard, listens=False)
    wait_until(lambda: Job.objects.get().state == "SUCCESS", "the reply was delivered again")


@pytest.mark.parametrize("junk", ["not json", "[]", '{"status": "SUCCESS"}', '{"task_id": "1", "status": "?"}', "null"])
def test_junk_in_the_queue_stops_nobody(running, queue, job, junk):
    publish(queue, junk)
    reply(queue, job)
    heard = Heard()
    running(heard)
    assert heard.wait_for(1) == ["SUCCESS"]


def test_nothing_is_acknowledged_until_it_is_written(running, queue, job, monkeypatch):
    monkeypatch.setattr(relay_module, "RETRY_AFTER", 0.01)
    failures = iter([OperationalError("the database is gone"), ConnectionError("the layer is gone")])
    save_end = Job.save_end

    def fail_twice(self):
        for failure in failures:
            raise failure
        return save_end(self)

    monkeypatch.setattr(Job, "save_end", fail_twice)
    heard = Heard()
    running(heard)
    reply(queue, job)
    assert heard.wait_for(1) == ["SUCCESS"]
    assert Job.objects.get().state == "SUCCESS"


def test_the_reply_queue_is_durable_and_has_one_consumer_at_a_time():
    assert REPLY_QUEUE.durable
    assert REPLY_QUEUE.queue_arguments == {"x-single-active-consumer": True}


def test_a_reply_that_comes_while_the_last_ones_are_dealt_with_is_dealt_with_too(queue, running, job, monkeypatch):
    other = Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")
    heard, swept = Heard(), []

    def sweep(self, broker):
        if not swept:
            swept.append(True)
            reply(queue, other)
            broker.drain_events(timeout=5)  # as opening another channel does, or a heartbeat
        return []

    monkeypatch.setattr(relay_module.Sweep, "__call__", sweep)
    reply(queue, job)
    running(heard)
    heard.wait_for(2)
    assert {snapshot.task_id for snapshot in heard.snapshots} == {str(job.pk), str(other.pk)}
    assert Job.objects.filter(state="SUCCESS").count() == 2


def test_a_sweep_of_many_jobs_does_not_cost_the_lease(queue, running, job, monkeypatch):
    heard, renewed, renew = Heard(), [], relay_module.Lease.renew
    swept = [Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes") for _ in range(3)]

    def sweep(self, broker):
        while swept:
            yield swept.pop()

    def noted(self):
        renewed.append(len(swept))
        renew(self)

    monkeypatch.setattr(relay_module.Sweep, "__call__", sweep)
    monkeypatch.setattr(relay_module.Lease, "renew", noted)
    running(heard)
    heard.wait_for(3)
    wait_until(lambda: renewed.count(0) >= 1, "the sweep is over")
    assert {1, 2} <= set(renewed), "it is renewed between the jobs of a sweep"


def test_nobody_but_a_relay_takes_replies_off_the_queue(job):
    """A worker that is to revoke a task asks the result backend for its state."""
    with current_app.pool.acquire(block=True) as connection:
        waiting = REPLY_QUEUE(connection.default_channel)
        waiting.declare()
        waiting.purge()
        reply(connection.default_channel, job)
        result = kinds()["count_primes"].AsyncResult(str(job.pk))
        assert result.backend.get_state(str(job.pk)) == "STARTED"
        assert result.state == "PENDING"
        assert waiting.get(no_ack=True).payload["task_id"] == str(job.pk)


def test_a_relay_beside_a_living_one_tells_of_the_in_memory_layer(running, queue, job, monkeypatch, caplog):
    monkeypatch.setattr(relay_module, "BESIDE", 3)
    monkeypatch.setattr(relay_module, "LOOK_EVERY", 0.01)
    running(Heard())
    running(Heard(), listens=False)
    wait_until(lambda: relay_module.ONE_PROCESS in caplog.messages, "the second relay tells of the layer")
    assert caplog.messages.count(relay_module.ONE_PROCESS) == 1
