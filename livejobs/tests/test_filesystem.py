"""The broker in a folder: no message is lost, taken twice or out of order, while processes write, read and die."""

import errno
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from celery import current_app
from kombu import Connection, Consumer, Exchange, Queue
from kombu.exceptions import ChannelError

from livejobs.under import filesystem
from livejobs.under.filesystem import queues
from testkit.processes import ROOT

QUEUE = Queue("numbers", Exchange(""), routing_key="numbers")
COUNT = 500


def options(folder) -> dict:
    folders = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], str(folder))
    return {**folders, "polling_interval": 0.001}


def connect(folder) -> Connection:
    current_app.finalize()  # the Celery application brings the repaired transport
    return Connection("filesystem://localhost//", transport_options=options(folder))


def publish(connection, *numbers, queue=QUEUE.name, **properties):
    for number in numbers:
        connection.Producer().publish({"number": number, "weight": "x" * 1000}, routing_key=queue, **properties)


def take(connection, queue=QUEUE.name, no_ack=True) -> list[int]:
    """Take all messages of a queue."""
    bound = Queue(queue, Exchange(""), routing_key=queue)(connection.default_channel)
    return [message.payload["number"] for message in iter(lambda: bound.get(no_ack=no_ack), None)]


def messages_in(folder) -> list[str]:
    """All files of messages, wherever they are, whole or in part."""
    return [path.name for path in folder.glob("**/*") if path.suffix in (".msg", ".part")]


@pytest.fixture
def broker(tmp_path) -> Connection:
    with connect(tmp_path) as connection:
        yield connection


def test_every_message_comes_whole_and_in_order(tmp_path, broker):
    def write():
        with connect(tmp_path) as connection:
            publish(connection, *range(COUNT))

    read = []
    writer = threading.Thread(target=write)
    QUEUE(broker.default_channel).declare()
    with Consumer(broker, [QUEUE], on_message=lambda message: read.append(message.payload), no_ack=True):
        writer.start()
        while len(read) < COUNT:
            broker.drain_events(timeout=5)
    writer.join()
    assert [message["number"] for message in read] == list(range(COUNT))
    assert not messages_in(tmp_path)


def test_the_folder_is_not_listed_for_each_message(broker, monkeypatch):
    publish(broker, *range(COUNT))
    monkeypatch.setattr(queues, "LISTED_FOR", 3600)
    listings, names = [], queues.names
    monkeypatch.setattr(queues, "names", lambda folder: listings.append(folder) or names(folder))
    assert take(broker) == list(range(COUNT))
    assert len(listings) == 2  # for the first message, and after the last one


def test_many_messages_are_acknowledged_at_once(tmp_path):
    with connect(tmp_path) as connection:
        channel = connection.default_channel
        QUEUE(channel).declare()
        publish(connection, *range(5))
        messages = []
        with Consumer(channel, [QUEUE], on_message=messages.append):
            while len(messages) < 5:
                connection.drain_events(timeout=5)
            messages[3].ack(multiple=True)
    with connect(tmp_path) as connection:
        assert take(connection) == [4]


def test_what_is_given_back_keeps_its_place(tmp_path):
    with connect(tmp_path) as connection:
        publish(connection, 0, 1, 2)
        QUEUE(connection.default_channel).get().requeue()
        QUEUE(connection.default_channel).get()  # not acknowledged when the connection closes
    with connect(tmp_path) as connection:
        messages = [QUEUE(connection.default_channel).get() for _ in range(3)]
        assert [message.payload["number"] for message in messages] == [0, 1, 2]
        for message in messages:
            message.ack()
    assert not messages_in(tmp_path)


def test_what_another_process_gives_back_comes_before_what_was_listed_already(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(queues, "LISTED_FOR", 0)
    publish(broker, 0, 1, 2)
    with connect(tmp_path) as other:
        first = QUEUE(other.default_channel).get()
        assert QUEUE(broker.default_channel).get(no_ack=True).payload["number"] == 1
        first.requeue()
        assert take(broker) == [0, 2]


def test_a_channel_gives_back_only_what_it_has_taken_itself(tmp_path, broker):
    publish(broker, 0, 1, 2)
    one, other = broker.channel(), broker.channel()
    QUEUE(one).get()
    kept = QUEUE(other).get()
    one.close()
    assert take(broker) == [0, 2]
    kept.ack()
    assert not messages_in(tmp_path)


def test_an_acknowledgement_of_an_earlier_delivery_does_not_delete_the_message(tmp_path, broker):
    publish(broker, 0)
    channel = broker.channel()
    early = QUEUE(channel).get()
    channel.close()
    late = QUEUE(broker.default_channel).get()
    early.ack()
    assert len(messages_in(tmp_path)) == 1
    late.ack()
    assert not messages_in(tmp_path)


def test_a_message_that_comes_when_its_consumer_has_gone_waits_for_the_next_one(broker):
    one, other = broker.channel(), broker.channel()
    with Consumer(one, [QUEUE], on_message=print) as first, Consumer(other, [QUEUE], on_message=print):
        first.cancel()  # kombu forgets the callback of the other one too
        publish(broker, 0)
        broker.drain_events(timeout=5)
    assert take(broker) == [0]


def test_a_queue_of_which_nothing_is_acknowledged_may_be_consumed_with_acknowledgements_later(tmp_path, broker):
    read = []
    with Consumer(broker, [QUEUE], on_message=read.append, no_ack=True):
        publish(broker, 0)
        broker.drain_events(timeout=5)
    assert not messages_in(tmp_path)
    with Consumer(broker, [QUEUE], on_message=read.append):
        publish(broker, 1)
        broker.drain_events(timeout=5)
    assert len(messages_in(tmp_path)) == 1
    read[-1].ack()
    assert not messages_in(tmp_path)


def test_old_messages_expire(tmp_path, broker):
    publish(broker, 0, expiration=0)
    publish(broker, 1, expiration=3600)
    publish(broker, 2)
    assert take(broker) == [1, 2]
    assert not messages_in(tmp_path)


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a", "a.b", "worker@host.pidbox", "ü,%2F", "a.queue"])
def test_a_queue_may_have_any_name(tmp_path, broker, name):
    publish(broker, 1, queue=name)
    publish(broker, 2, queue=name + ".b")
    assert take(broker, name, no_ack=False) == [1]
    broker.default_channel.qos.restore_unacked()
    assert broker.default_channel.queue_purge(name) == 1
    assert take(broker, name + ".b") == [2]
    assert not messages_in(tmp_path)
    assert len(list(tmp_path.glob("*.queue"))) == 1  # beside the one that was purged


TAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from kombu import Connection, Consumer, Queue
from kombu.transport import TRANSPORT_ALIASES
TRANSPORT_ALIASES["filesystem"] = "livejobs.under.filesystem:Transport"
with Connection("filesystem://localhost//", transport_options=eval(sys.argv[2])) as connection:
    queue = Queue("numbers")(connection.default_channel)
    print("ready", flush=True)
    sys.stdin.readline()
    for message in iter(queue.get, None):
        print(message.payload["number"], flush=True)
        message.ack()
"""


def test_two_processes_never_take_the_same_message(tmp_path, broker):
    publish(broker, *range(COUNT))
    command = [sys.executable, "-c", TAKE, str(ROOT), repr(options(tmp_path))]
    with ExitStack() as stack:
        takers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        for taker in takers:
            assert taker.stdout.readline() == "ready\n"
        for taker in takers:
            taker.stdin.write("\n")
            taker.stdin.flush()
        taken = [[int(line) for line in taker.stdout] for taker in takers]
    assert Counter(taken[0] + taken[1]) == Counter(range(COUNT))
    assert all(numbers and numbers == sorted(numbers) for numbers in taken)
    assert not messages_in(tmp_path)


def test_a_message_that_the_disk_does_not_take_is_refused_and_leaves_nothing(tmp_path, broker):
    publish(broker, 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as a full disk: a part can be written
    try:
        with pytest.raises(ChannelError):
            publish(broker, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(messages_in(tmp_path)) == 1
    assert take(broker) == [0]


def test_a_process_that_can_open_no_more_files_rejects_no_message(tmp_path, broker, monkeypatch):
    publish(broker, 0)

    def refuse(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "open", refuse, raising=False)
        with pytest.raises(OSError, match="Too many open files"):
            take(broker)
    assert take(broker) == [0]


def test_the_broker_goes_on_when_somebody_has_emptied_its_folder(tmp_path, broker):
    publish(broker, 0, 1)
    message = QUEUE(broker.default_channel).get()
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)
    message.ack()
    publish(broker, 2, 3)
    assert take(broker) == [2, 3]
    assert broker.default_channel.restore_abandoned() == 0
