"""What is taken from the broker in one go. The broker is RabbitMQ, and a folder."""

import socket
import time
import uuid

import pytest
from kombu import Connection, Queue

from livejobs.under.drain import drain, read_ahead


@pytest.fixture(params=["RabbitMQ", "a folder"])
def broker(request, tmp_path):
    """A connection to a broker, with a queue."""
    options = {"data_folder_in": tmp_path, "data_folder_out": tmp_path, "control_folder": tmp_path}
    url = request.getfixturevalue("amqp_url") if request.param == "RabbitMQ" else "filesystem://"
    with Connection(url, transport_options={} if "amqp" in url else options | {"polling_interval": 0.01}) as broker:
        broker.queue = Queue(uuid.uuid4().hex, durable=False)
        broker.queue(broker.default_channel).declare()
        yield broker


@pytest.fixture
def messages(broker):
    """What has come."""
    messages = []
    read_ahead(broker)
    with broker.Consumer([broker.queue], on_message=messages.append):
        yield messages


def publish(broker, count, first=0):
    with broker.clone() as other, other.Producer() as producer:
        for number in range(first, first + count):
            producer.publish({"number": number, "weight": "x" * 1000}, routing_key=broker.queue.name)


def until(broker, messages, count, most):
    """Drain until so many have come, as what was published takes its time."""
    deadline = time.monotonic() + 60
    while len(messages) < count:
        assert time.monotonic() < deadline, messages
        drain(broker, messages, most, timeout=1)


def test_no_more_are_taken_than_asked_for_and_none_is_lost(broker, messages):
    publish(broker, 50)
    taken = []
    while len(taken) < 50:
        until(broker, messages, 1, most=7)
        assert len(messages) <= 7
        taken += messages
        messages.clear()
    assert [message.payload["number"] for message in taken] == list(range(50))


def test_it_waits_for_the_first_one_alone(broker, messages, monkeypatch):
    drain(broker, messages, 10, timeout=0.05)
    assert messages == []
    publish(broker, 1)
    until(broker, messages, 1, most=10)
    waits, drain_events = [], broker.drain_events
    monkeypatch.setattr(broker, "drain_events", lambda timeout: waits.append(timeout) or drain_events(timeout=timeout))
    drain(broker, messages, 10, timeout=60)
    assert 60 not in waits
    assert len(messages) == 1


def test_the_connection_waits_as_ever_afterwards(broker, messages):
    publish(broker, 3)
    until(broker, messages, 3, most=10)
    with pytest.raises(TimeoutError):
        broker.drain_events(timeout=0.05)
    publish(broker, 3, first=3)
    until(broker, messages, 6, most=10)


@pytest.mark.parametrize("broker", ["RabbitMQ"], indirect=True)
def test_a_broken_connection_is_no_pause(broker, messages):
    broker.connection.transport.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match=r"closed|reset"):
        drain(broker, messages, 10, timeout=5)


@pytest.mark.parametrize("broker", ["a folder"], indirect=True)
def test_a_file_that_is_no_message_is_passed_over(broker, messages, tmp_path):
    publish(broker, 2)
    (tmp_path / f"{broker.queue.name}.queue" / "1-0-poison.msg").write_text("{")
    publish(broker, 2, first=2)
    drain(broker, messages, 10, timeout=5)
    assert [message.payload["number"] for message in messages] == [0, 1, 2, 3]
